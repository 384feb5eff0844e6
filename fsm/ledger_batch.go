package fsm

import (
	"slices"

	"github.com/edgecoder/edgecoder/ledger"
)

// LedgerResult is the answer to one entry, report or confirmation.
type LedgerResult struct {
	_        struct{} `cbor:",toarray"`
	Code     Code
	Field    string // that the code is about, if one is
	Index    uint64 // of the log entry that decided it first
	ClockMs  int64  // the state's clock at that entry
	Repeated bool   // it took effect in an earlier entry
}

// applyLedgerBatch decides the entries of a batch in order, chain by chain. A chain
// ends with its caller's entries at the latest: each caller here is one batch that
// somebody sent, and what it leaves linked is no matter of the next one's.
func (s *State) applyLedgerBatch(c *change, b LedgerBatch) Result {
	if len(b.Entries) > MaxLedgerEntries || len(b.Callers) > MaxCallers || len(b.Accounts) > 2*MaxLedgerEntries {
		return refuse(CodeTooLarge, "entries", "%d entries of %d callers on %d accounts, at most %d of %d on %d",
			len(b.Entries), len(b.Callers), len(b.Accounts), MaxLedgerEntries, MaxCallers, 2*MaxLedgerEntries)
	}
	if c.keyed && len(b.Entries) != 1 {
		return refuse(CodeInvalid, "entries", "%d entries under an idempotency key, which stands for one: several are told apart by their ids", len(b.Entries))
	}
	if c.keyed && slices.ContainsFunc(b.Callers, func(by LedgerCaller) bool { return by.AgentID != "" }) {
		return refuse(CodeInvalid, "callers", "an agent's request under an idempotency key: what agents sign is told apart by their nonces and ids")
	}
	if res, ok := s.ledgerOpen(); !ok {
		return res
	}
	s.releaseHolds(c, MaxReleases/2) // the other half is for those who need theirs
	c.records = slices.Grow(c.records, len(b.Entries))
	c.sealed = slices.Grow(c.sealed, sealedBytes*len(b.Entries))
	r := ledgerRun{s: s, c: c, batch: &b, out: make([]LedgerResult, len(b.Entries)), keys: make([]nonceKey, len(b.Entries)), rows: make([]*ledgerRow, len(b.Accounts))}
	for i, id := range b.Accounts {
		r.rows[i] = s.ledger.accounts.get(id)
	}
	for _, caller := range b.Callers {
		r.callers = append(r.callers, s.ledgerCaller(c, &caller))
	}
	for from := 0; from < len(b.Entries); {
		to := from + 1
		for to < len(b.Entries) && b.Entries[to-1].Linked && b.Entries[to].Caller == b.Entries[from].Caller {
			to++
		}
		r.decideChain(from, to)
		from = to
	}
	if c.keyed { // what was refused is not remembered
		return Result{Code: r.out[0].Code, Field: r.out[0].Field, ID: b.Entries[0].ID.String(), Ledger: r.out}
	}
	return Result{Code: CodeOK, Ledger: r.out}
}

// sealedBytes is what the record of a transfer takes with ids of usual length.
const sealedBytes = 256

// standing is what a caller may do at this index.
type standing struct {
	code            Code   // CodeOK if it may ask at all
	replay          bool   // an agent's request that was decided before: it gets its first answers, and no other takes effect
	name            string // whoever it is, its standing apart
	actor           string // as records name it: standing and id
	ids             idCaller
	tokenID         string
	agentID         string
	operator, admin bool
}

// ledgerCaller tells who asks, and admits the request that an agent signed: whatever
// becomes of it, who captured it has nothing of it, now or later.
func (s *State) ledgerCaller(c *change, caller *LedgerCaller) standing {
	if caller.AgentID != "" {
		if caller.TokenID != "" {
			return standing{code: CodeInvalid}
		}
		name, res := agentName(caller.AgentID), s.takeClaim(c, caller.claim())
		return standing{code: res.Code, replay: res.Repeated, name: name, actor: name, ids: idCallerOf(name), agentID: caller.AgentID}
	}
	t, ok := s.tokens.get(caller.TokenID)
	if !ok || !t.inForce(c.atMs) {
		return standing{code: CodeUnauthorized}
	}
	name := ledger.ByToken + ":" + t.ID
	return standing{code: CodeOK, name: name, actor: tokenStanding(t.Role) + ":" + t.ID, ids: idCallerOf(name), tokenID: t.ID, operator: t.Role.Can(CapOperate), admin: t.Role.Can(CapAdmin)}
}

func agentName(id string) string { return ledger.ByAgent + ":" + id }

// owns tells whether an account is the caller's own.
func (p *standing) owns(a *ledgerRow) bool {
	switch a.Kind {
	case ledger.KindAgent:
		return p.agentID != "" && p.agentID == a.Owner
	case ledger.KindService:
		return p.tokenID != "" && p.tokenID == a.Owner
	}
	return false
}

// mayDebit tells whether the caller may take from an account: its owner, any
// operator, and from the cluster's own accounts admins alone.
func (p *standing) mayDebit(a *ledgerRow) bool {
	return p.admin || p.operator && a.Kind != ledger.KindSystem || p.owns(a)
}

// ledgerRun decides one batch.
type ledgerRun struct {
	s       *State
	c       *change
	batch   *LedgerBatch
	rows    []*ledgerRow // of the batch's accounts; nil for one that does not exist
	callers []standing
	out     []LedgerResult
	keys    []nonceKey // of the entries' ids; zero until it is asked for

	chain chainUndo
}

// chainUndo is what the chain that is being decided has changed so far.
type chainUndo struct {
	rows    []rowBefore
	holds   []holdBefore
	ids     []idUse
	used    map[ledger.ID]bool // ids, to find one that comes twice; nil for a chain of one
	fresh   bool               // the one id of a chain of one is not used: it was just looked up
	records int
	sealed  int
	book    LedgerBook
}

type rowBefore struct {
	row           *ledgerRow
	balance, held int64
}

type holdBefore struct {
	hold PendingHold
	was  bool // it was pending; else the chain made it
}

type idUse struct {
	id  ledger.ID
	key nonceKey
	tag ClaimTag
}

// decideChain decides the entries from..to-1, which take effect together or not at all.
func (r *ledgerRun) decideChain(from, to int) {
	r.chain.fresh = false
	if r.repeatedChain(from, to) {
		return
	}
	r.releaseFor(from, to)
	r.begin(to - from)
	for i := from; i < to; i++ {
		code, field := r.decide(i, i+1 == to)
		if code == CodeOK {
			continue
		}
		if !plantLedgerHalf {
			r.rollBack()
		}
		for j := from; j < to; j++ {
			r.out[j] = LedgerResult{Code: CodeLinkedFailed, Index: r.c.index, ClockMs: r.c.atMs}
		}
		r.out[i].Code, r.out[i].Field = code, field
		return
	}
	for _, use := range r.chain.ids {
		if plantLedgerTwice {
			break // planted
		}
		r.s.ledger.ids.insert(use.id.TimeMs(), nonceRow{key: use.key, tag: use.tag, index: r.c.index, clockMs: r.c.atMs})
	}
	for i := from; i < to; i++ {
		r.out[i] = LedgerResult{Code: CodeOK, Index: r.c.index, ClockMs: r.c.atMs}
	}
}

// repeatedChain gives the first answers again if every entry took effect before,
// with the same content. A chain of which a part did is another chain: its entries
// are decided, and the id that was used fails it. If an entry is older than ids are
// remembered the chain may have taken effect, all of it: so says each answer.
func (r *ledgerRun) repeatedChain(from, to int) bool {
	repeated, forgotten := 0, false
	for i := from; i < to; i++ {
		e := &r.batch.Entries[i]
		if int(e.Caller) >= len(r.callers) || r.callers[e.Caller].code != CodeOK {
			return false
		}
		row, used := r.s.ledger.ids.find(e.ID.TimeMs(), r.key(i))
		if used && row.tag == r.tag(e) {
			r.out[i] = LedgerResult{Code: CodeOK, Index: row.index, ClockMs: row.clockMs, Repeated: true}
			repeated++
			continue
		}
		r.chain.fresh = !used && to-from == 1
		code, _ := r.s.ledgerIDTimeCode(e.ID, r.c.atMs)
		forgotten = forgotten || !used && code == CodeIDExpired
	}
	if repeated == to-from {
		return true
	}
	if !forgotten || to-from == 1 {
		return false
	}
	for i := from; i < to; i++ {
		r.out[i] = LedgerResult{Code: CodeIDExpired, Field: "id", Index: r.c.index, ClockMs: r.c.atMs}
	}
	return true
}

// key is that of the id of an entry whose caller is known.
func (r *ledgerRun) key(i int) nonceKey {
	if r.keys[i] == (nonceKey{}) {
		e := &r.batch.Entries[i]
		r.keys[i] = r.callers[e.Caller].ids.key(e.ID)
	}
	return r.keys[i]
}

// releaseFor gives back what has ended on the accounts that a chain takes from, as
// far as it needs it: a hold that is over holds nothing, however many stand in front
// of it. It is no part of the chain, and stands if that is refused.
func (r *ledgerRun) releaseFor(from, to int) {
	if to-from == 1 {
		if row := r.debitOf(&r.batch.Entries[from]); row != nil {
			r.s.releaseOf(r.c, row, r.batch.Entries[from].Amount)
		}
		return
	}
	need := map[*ledgerRow]int64{}
	for i := from; i < to; i++ {
		e := &r.batch.Entries[i]
		if row := r.debitOf(e); row != nil {
			need[row] = min(need[row]+e.Amount, 2*ledger.MaxMicro) // more than any account has above its floor
			r.s.releaseOf(r.c, row, need[row])
		}
	}
}

// debitOf returns the account that a transfer or hold takes from, or nil if it may not.
func (r *ledgerRun) debitOf(e *LedgerEntry) *ledgerRow {
	if e.Op != LedgerTransfer && e.Op != LedgerHold || int(e.Debit) >= len(r.rows) || int(e.Caller) >= len(r.callers) || !amountAllowed(e.Amount) {
		return nil
	}
	row, caller := r.rows[e.Debit], &r.callers[e.Caller]
	if row == nil || caller.code != CodeOK || !caller.mayDebit(row) {
		return nil
	}
	return row
}

func (r *ledgerRun) begin(entries int) {
	u := &r.chain
	u.rows, u.holds, u.ids, u.used = u.rows[:0], u.holds[:0], u.ids[:0], nil
	if entries > 1 {
		u.used = make(map[ledger.ID]bool, entries)
	}
	u.records, u.sealed, u.book = len(r.c.records), len(r.c.sealed), r.s.ledger.book.v
}

// rollBack makes everything as it was before the chain, the last change first.
func (r *ledgerRun) rollBack() {
	u, l := &r.chain, r.s.ledger
	for i := len(u.rows) - 1; i >= 0; i-- {
		u.rows[i].row.Balance, u.rows[i].row.Held = u.rows[i].balance, u.rows[i].held
	}
	for i := len(u.holds) - 1; i >= 0; i-- {
		if h := u.holds[i]; h.was {
			l.putHold(h.hold)
		} else {
			l.dropHold(h.hold)
		}
	}
	r.c.records, r.c.sealed, l.book.v = r.c.records[:u.records], r.c.sealed[:u.sealed], u.book
}

// touch is to be called before a row changes.
func (r *ledgerRun) touch(row *ledgerRow) {
	r.chain.rows = append(r.chain.rows, rowBefore{row, row.Balance, row.Held})
	r.s.ledger.accounts.changed(row)
}

// tag stands for the content of an entry: what makes two with one id the same.
// Whether it was linked is not part of it.
func (r *ledgerRun) tag(e *LedgerEntry) ClaimTag {
	var room [512]byte // on the stack; the longest texts grow out of it
	buf := append(room[:0], "edgecoder ledger entry v1\n"...)
	buf = append(buf, byte(e.Op))
	buf = appendPart(buf, r.callers[e.Caller].name)
	switch e.Op {
	case LedgerTransfer, LedgerHold:
		buf = appendPart(buf, r.accountID(e.Debit))
		buf = appendPart(buf, r.accountID(e.Credit))
	case LedgerPost, LedgerVoid:
		buf = append(buf, e.Hold[:]...)
	}
	buf = appendNumber(appendNumber(buf, e.Amount), e.ExpiresMs)
	return shortTag(append(buf, e.Ref...))
}

func (r *ledgerRun) accountID(at uint16) string {
	if int(at) >= len(r.batch.Accounts) {
		return ""
	}
	return r.batch.Accounts[at]
}
