package fsm

import (
	"errors"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/dcbor"
	"github.com/edgecoder/edgecoder/ledger"
)

// LevelLedger is the feature level from which the log may carry the commands of the
// ledger, and states may hold one.
const LevelLedger = 7

// LedgerPolicySet replaces the policy of the ledger if its version is still
// IfVersion, which is 0 before the ledger is open: then this opens it.
type LedgerPolicySet struct {
	IfVersion uint64        `cbor:"1,keyasint"`
	Policy    ledger.Policy `cbor:"2,keyasint"`
}

// LedgerAccountSet makes an account, or changes its floor and whether it is frozen:
// kind and owner stay for ever.
type LedgerAccountSet struct {
	ID     string             `cbor:"1,keyasint"`
	Kind   ledger.AccountKind `cbor:"2,keyasint"`
	Owner  string             `cbor:"3,keyasint"`
	Floor  int64              `cbor:"4,keyasint"` // micro-credits
	Frozen bool               `cbor:"5,keyasint,omitempty"`
}

// LedgerReports are contribution reports. Their signatures were verified before
// this was proposed; whether each key is the agent's now is asked in Apply. The
// agents speak for themselves, so no token is needed.
type LedgerReports struct {
	Reports []ledger.SignedReport `cbor:"1,keyasint"`
}

// LedgerConfirm has reports count in the open epoch, or rejects them. By is the
// agent that asks, if it is one: the proposing node has verified its signature.
type LedgerConfirm struct {
	By      LedgerCaller `cbor:"1,keyasint"`
	Reports []ReportName `cbor:"2,keyasint"`
	Reject  bool         `cbor:"3,keyasint,omitempty"`
}

// ReportName says which report is meant, and what stands in it: whoever gives a verdict
// gives it on that and nothing else.
type ReportName struct {
	_       struct{} `cbor:",toarray"`
	AgentID string
	ID      ledger.ID   // one of the agent's
	Sum     crypto.Hash // see ledger.Report.Sum
}

// LedgerEpochClose finalises the oldest epoch that is open, once its hour is over.
// Load is what the leader measured of the mesh; everything else follows from the state.
type LedgerEpochClose struct {
	WindowMs int64       `cbor:"1,keyasint"` // beginning of the epoch, which is its name
	Load     ledger.Load `cbor:"2,keyasint"`
}

// LedgerBatch moves money: what callers asked for while the last entry was in
// flight. Each entry is decided by itself and has an answer of its own, in order,
// but those linked to the next one take effect together or not at all. Entries
// name accounts by their place in Accounts.
type LedgerBatch struct {
	Callers  []LedgerCaller
	Accounts []string
	Entries  []LedgerEntry
}

// LedgerCaller is who asks: an API token, or an agent by a request that it signed,
// which is admitted here as any claim is: once, whatever became of what it asks for.
type LedgerCaller struct {
	_       struct{} `cbor:",toarray"`
	TokenID string
	AgentID string
	// Of the agent's request, see Claim.
	Key         KeyRef
	TimestampMs int64
	Nonce       string
	Tag         ClaimTag
}

// claim is the agent's request as one that it asks for itself.
func (c *LedgerCaller) claim() *Claim {
	return &Claim{AgentID: c.AgentID, Key: c.Key, TimestampMs: c.TimestampMs, Nonce: c.Nonce, Tag: c.Tag, Self: true}
}

// LedgerOp is what an entry does. Numbers are part of the log and never reused.
type LedgerOp uint8

// The operations.
const (
	LedgerTransfer LedgerOp = 1 // moves Amount from Debit to Credit
	LedgerHold     LedgerOp = 2 // sets Amount of Debit aside for Credit until ExpiresMs
	LedgerPost     LedgerOp = 3 // moves Amount of Hold, 0 is all of it, and gives the rest back
	LedgerVoid     LedgerOp = 4 // gives all of Hold back
)

// LedgerEntry is one operation.
type LedgerEntry struct {
	Caller    uint16
	Op        LedgerOp
	Linked    bool // with the next entry, which is of the same caller
	ID        ledger.ID
	Ref       string // of the caller's: what it is for; may be empty
	Debit     uint16 // transfer, hold
	Credit    uint16 // transfer, hold
	Amount    int64  // transfer, hold, post: micro-credits
	ExpiresMs int64  // hold: first moment at which it is none any more, cluster clock
	Hold      ledger.ID
}

// errLedgerBatch refuses bytes that are no batch in its one spelling.
var errLedgerBatch = errors.New("a batch of the ledger is not in canonical form")

// Sizes of items whose texts are empty: a count that the bytes cannot hold makes
// no room for them.
const (
	leastEntryBytes  = 1 + 1 + 1 + 1 + 17 + 1 + 1 + 1 + 1 // a transfer
	leastCallerBytes = 1 + 1 + 1 + 34 + 1 + 1 + 17
)

// entryMembers is how many items an entry of each operation has.
var entryMembers = [...]int{LedgerTransfer: 8, LedgerHold: 9, LedgerPost: 7, LedgerVoid: 6}

// MarshalCBOR encodes a batch by hand, as AdmitBatch is: entries are nearly all
// that the log of a busy ledger carries. It is the array of callers, accounts and
// entries; an entry is [caller, op, linked, id, ref] and what its operation needs.
func (b LedgerBatch) MarshalCBOR() ([]byte, error) {
	size := 16
	for _, id := range b.Accounts {
		size += 3 + len(id)
	}
	for i := range b.Callers {
		size += leastCallerBytes + 16 + len(b.Callers[i].TokenID) + len(b.Callers[i].AgentID) + len(b.Callers[i].Nonce)
	}
	for i := range b.Entries {
		size += leastEntryBytes + 40 + len(b.Entries[i].Ref)
	}
	out := dcbor.AppendArray(make([]byte, 0, size), 3, false)
	out = dcbor.AppendArray(out, len(b.Callers), false)
	for i := range b.Callers {
		c := &b.Callers[i]
		out = dcbor.AppendArray(out, 6, false)
		out = dcbor.AppendText(out, c.TokenID)
		out = dcbor.AppendText(out, c.AgentID)
		out = dcbor.AppendBytes(out, c.Key[:])
		out = dcbor.AppendSigned(out, c.TimestampMs)
		out = dcbor.AppendText(out, c.Nonce)
		out = dcbor.AppendBytes(out, c.Tag[:])
	}
	out = dcbor.AppendArray(out, len(b.Accounts), false)
	for _, id := range b.Accounts {
		out = dcbor.AppendText(out, id)
	}
	out = dcbor.AppendArray(out, len(b.Entries), false)
	for i := range b.Entries {
		if int(b.Entries[i].Op) >= len(entryMembers) || b.Entries[i].Op == 0 {
			return nil, errLedgerBatch
		}
		out = appendEntry(out, &b.Entries[i])
	}
	return out, nil
}

func appendEntry(dst []byte, e *LedgerEntry) []byte {
	linked := uint64(0)
	if e.Linked {
		linked = 1
	}
	dst = dcbor.AppendArray(dst, entryMembers[e.Op], false)
	dst = dcbor.AppendUnsigned(dst, uint64(e.Caller))
	dst = dcbor.AppendUnsigned(dst, uint64(e.Op))
	dst = dcbor.AppendUnsigned(dst, linked)
	dst = dcbor.AppendBytes(dst, e.ID[:])
	dst = dcbor.AppendText(dst, e.Ref)
	switch e.Op {
	case LedgerTransfer, LedgerHold:
		dst = dcbor.AppendUnsigned(dst, uint64(e.Debit))
		dst = dcbor.AppendUnsigned(dst, uint64(e.Credit))
	case LedgerPost, LedgerVoid:
		dst = dcbor.AppendBytes(dst, e.Hold[:])
	}
	if e.Op != LedgerVoid {
		dst = dcbor.AppendSigned(dst, e.Amount)
	}
	if e.Op == LedgerHold {
		dst = dcbor.AppendSigned(dst, e.ExpiresMs)
	}
	return dst
}

// UnmarshalCBOR reads what MarshalCBOR writes, and nothing else.
func (b *LedgerBatch) UnmarshalCBOR(data []byte) error {
	d := dcbor.NewReader(data)
	d.List(3)
	out := LedgerBatch{Callers: make([]LedgerCaller, d.Count(leastCallerBytes))}
	for i := range out.Callers {
		c := &out.Callers[i]
		d.List(6)
		c.TokenID, c.AgentID = d.Text(), d.Text()
		d.Fill(c.Key[:])
		c.TimestampMs, c.Nonce = d.Signed(), d.Text()
		d.Fill(c.Tag[:])
	}
	out.Accounts = make([]string, d.Count(1))
	for i := range out.Accounts {
		out.Accounts[i] = d.Text()
	}
	out.Entries = make([]LedgerEntry, d.Count(leastEntryBytes))
	for i := range out.Entries {
		readEntry(&d, &out.Entries[i])
	}
	if !d.Done() {
		return errLedgerBatch
	}
	*b = out
	return nil
}

func readEntry(d *dcbor.Reader, e *LedgerEntry) {
	members := d.Count(1)
	e.Caller = uint16(d.UnsignedTo(1<<16 - 1))
	e.Op = LedgerOp(d.UnsignedTo(uint64(len(entryMembers) - 1)))
	e.Linked = d.UnsignedTo(1) == 1
	d.Fill(e.ID[:])
	e.Ref = d.Text()
	if d.Want(e.Op != 0 && members == entryMembers[e.Op]); d.Bad() {
		return
	}
	switch e.Op {
	case LedgerTransfer, LedgerHold:
		e.Debit, e.Credit = uint16(d.UnsignedTo(1<<16-1)), uint16(d.UnsignedTo(1<<16-1))
	case LedgerPost, LedgerVoid:
		d.Fill(e.Hold[:])
	}
	if e.Op != LedgerVoid {
		e.Amount = d.Signed()
	}
	if e.Op == LedgerHold {
		e.ExpiresMs = d.Signed()
	}
}
