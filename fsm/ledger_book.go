package fsm

import (
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/ledger"
)

// ledgerState is the tenant of the ledger: fields of State that only it uses.
type ledgerState struct {
	book     *lateCell[LedgerBook]
	accounts *ledgerAccounts
	holds    *table[PendingHold]
	ids      *idWindow // of everything that took effect and could be asked for again
	reports  *table[PendingReport]
	epochs   *table[OpenEpoch]
	weights  *table[EpochWeight]

	holdEnds   *endIndex // derived, rebuilt by restore
	reportEnds *endIndex // likewise
	owed       idList    // likewise: reports that wait for a verdict, by payer
}

// LedgerBook is the ledger's own bookkeeping.
type LedgerBook struct {
	Size      uint64        `cbor:"1,keyasint"` // records in StreamLedger
	Head      crypto.Hash   `cbor:"2,keyasint"` // hash of the newest
	Policy    ledger.Policy `cbor:"3,keyasint"`
	IDFloorMs int64         `cbor:"4,keyasint"` // ids of up to then are refused: they may have been forgotten
	Smoothed  int64         `cbor:"5,keyasint"` // load index in millionths, 0 before the first epoch
	// Finalised are the epochs that were closed. What is confirmed counts in none of
	// them, wherever the clock was set back to.
	Finalised ledger.Windows `cbor:"6,keyasint,omitempty"`
	// Closed are ranges of times whose ids a clock that ran ahead made the state
	// forget, see Meta.Closed: such ids are refused for ever.
	Closed []TimeRange `cbor:"7,keyasint,omitempty"`
	// Origin is the cluster in which the ledger was opened. Its records are linked to
	// that, also where a backup of it was restored. What agents sign is for the cluster
	// of now alone (Meta.ClusterID).
	Origin string `cbor:"8,keyasint"`
	// Recent are the epochs that were closed last, the newest last.
	Recent []ClosedEpoch `cbor:"9,keyasint,omitempty"`
}

// NewestEpoch is the beginning of the epoch that was closed last, 0 before the first.
func (b *LedgerBook) NewestEpoch() int64 {
	if len(b.Recent) == 0 {
		return 0
	}
	return b.Recent[len(b.Recent)-1].WindowMs
}

// ClosedEpoch is an epoch that was finalised.
type ClosedEpoch struct {
	WindowMs int64  `cbor:"1,keyasint"` // its beginning
	Seq      uint64 `cbor:"2,keyasint"` // of its record; its shares follow
	Index    uint64 `cbor:"3,keyasint"` // log entry that closed it
	AtMs     int64  `cbor:"4,keyasint"` // cluster clock then
	Weight   int64  `cbor:"5,keyasint"`
	Accounts uint64 `cbor:"6,keyasint"`
	Smoothed int64  `cbor:"7,keyasint"` // load index, millionths
	Pool     int64  `cbor:"8,keyasint"` // micro-credits
}

func newLedgerState() *ledgerState {
	return &ledgerState{
		book:     &lateCell[LedgerBook]{cell: newCell("ledger_book", LedgerBook{})},
		accounts: newLedgerAccounts(),
		holds:    newTable[PendingHold]("ledger_holds", MaxLedgerHolds),
		ids:      newIDWindow(MaxLedgerIDs),
		reports:  newTable[PendingReport]("ledger_reports", MaxLedgerReports),
		epochs:   newTable[OpenEpoch]("ledger_epochs", MaxOpenEpochs),
		weights:  newTable[EpochWeight]("ledger_weights", MaxEpochWeights),

		holdEnds:   newEndIndex(),
		reportEnds: newEndIndex(),
	}
}

func (l *ledgerState) fields() []field {
	return []field{l.book, l.accounts, l.holds, l.ids, l.reports, l.epochs, l.weights}
}

// lateCell is a cell that came after the first release: until it is set it is no
// part of the digest, so that replicas that do not know it agree.
type lateCell[T any] struct {
	*cell[T]
	known bool
}

func (c *lateCell[T]) set(v T) { c.v, c.known = v, true }

func (c *lateCell[T]) size() int {
	if c.known {
		return 1
	}
	return 0
}

func (c *lateCell[T]) freeze() frozen {
	if !c.known {
		return frozenRows{}
	}
	return c.cell.freeze()
}

func (c *lateCell[T]) load(row []byte) error {
	c.known = true
	return c.cell.load(row)
}

// dropIDs forgets the ids whose time has left the window. From then on all that are
// as old are refused.
func (s *State) dropIDs() {
	if b := &s.ledger.book.v; s.ledger.book.known {
		b.IDFloorMs = max(b.IDFloorMs, s.ledger.ids.dropBefore(s.meta.v.ClockMs-b.Policy.IDWindowMs))
	}
}

// ledgerOpen refuses what comes before the first account and the first policy.
func (s *State) ledgerOpen() (Result, bool) {
	if !s.ledger.book.known {
		return refuse(CodeConflict, "", "the ledger is not open: the first account opens it, or its first policy"), false
	}
	return Result{}, true
}

// LedgerBook returns the ledger's bookkeeping; false before it is open.
func (s *State) LedgerBook() (LedgerBook, bool) { return s.ledger.book.v, s.ledger.book.known }

// LedgerSizes are how many there are in the ledger.
type LedgerSizes struct{ Accounts, Holds, Reports int }

// LedgerSizes counts what the ledger has.
func (s *State) LedgerSizes() LedgerSizes {
	l := s.ledger
	return LedgerSizes{Accounts: l.accounts.size(), Holds: l.holds.size(), Reports: l.reports.size()}
}

// LedgerSum adds all balances up: it is zero, or P7 is broken. It may wrap around on
// its way, and comes back.
func (s *State) LedgerSum() (sum int64) {
	for _, row := range s.ledger.accounts.m {
		sum += row.Balance
	}
	return sum
}

// principal is who asks, as records of the ledger name it.
func (s *State) principal(a Actor) string {
	if a.TokenID == "" && a.NodeID != "" {
		return ledger.ByNode + ":" + a.NodeID
	}
	t, _ := s.tokens.get(a.TokenID)
	return tokenStanding(t.Role) + ":" + a.TokenID
}

// tokenStanding is what a token may do in the ledger.
func tokenStanding(r Role) string {
	switch {
	case r.Can(CapAdmin):
		return ledger.ByAdmin
	case r.Can(CapOperate):
		return ledger.ByOperator
	}
	return ledger.ByToken
}

// seal links a record to the head, and hands it to history. Records of one command
// share one piece of memory.
func (s *State) seal(c *change, r *ledger.Record) {
	b := &s.ledger.book.v
	r.Seq, r.Index, r.AtMs, r.Prev = b.Size+1, c.index, c.atMs, b.Head
	var data []byte
	c.sealed, data = r.Append(c.sealed)
	b.Size, b.Head = r.Seq, r.Hash
	c.records = append(c.records, Record{Stream: StreamLedger, Seq: r.Seq, Index: c.index, Data: data})
}

func (s *State) applyLedgerPolicySet(c *change, b LedgerPolicySet) Result {
	if res, ok := s.actorCan(c, CapAdmin); !ok {
		return res
	}
	have := s.ledger.book.v.Policy.Version // 0 before the ledger is open
	if b.IfVersion != have {
		return refuse(CodeConflict, "version", "the policy of the ledger is at version %d, not %d: read it again", have, b.IfVersion)
	}
	if field, fault := b.Policy.Fault(); fault != "" {
		return refuse(CodeInvalid, field, "%s", fault)
	}
	s.setLedgerPolicy(c, b.Policy)
	return Result{Code: CodeOK, ID: ledgerPolicyID}
}

// setLedgerPolicy sets the next version of the policy. The first one opens the ledger.
func (s *State) setLedgerPolicy(c *change, next ledger.Policy) {
	book := s.ledger.book.v
	next.Version = book.Policy.Version + 1
	if !s.ledger.book.known {
		for _, a := range ledger.SystemAccounts() {
			s.ledger.accounts.add(LedgerAccount{Account: a})
		}
		book.Origin, book.Head = s.meta.v.ClusterID, ledger.Genesis(s.meta.v.ClusterID)
		book.IDFloorMs = s.meta.v.NonceFloorMs // nothing was ever used; what a recovery closed stays closed
	}
	book.Policy = next
	s.ledger.book.set(book)
	s.seal(c, &ledger.Record{Kind: ledger.KindPolicy, Actor: s.principal(c.actor), Policy: &next})
}

// ledgerPolicyID is the id that answers name for the one policy there is.
const ledgerPolicyID = "ledger-policy"
