package ledger

import (
	"errors"
	"fmt"

	"github.com/edgecoder/edgecoder/crypto"
)

// Kind says what a record tells. Numbers are part of stored records and never reused.
type Kind uint8

// The kinds; the package comment has their members.
const (
	KindPolicy   Kind = 1
	KindAccount  Kind = 2
	KindTransfer Kind = 3
	KindHold     Kind = 4
	KindPost     Kind = 5
	KindVoid     Kind = 6
	KindExpire   Kind = 7
	KindReport   Kind = 8
	KindConfirm  Kind = 9
	KindReject   Kind = 10
	KindEpoch    Kind = 11
	KindShare    Kind = 12
	KindRecovery Kind = 13
	KindKey      Kind = 14
)

var recordNames = [...]string{KindPolicy: "policy", KindAccount: "account", KindTransfer: "transfer", KindHold: "hold",
	KindPost: "post", KindVoid: "void", KindExpire: "expire", KindReport: "report", KindConfirm: "confirm",
	KindReject: "reject", KindEpoch: "epoch", KindShare: "share", KindRecovery: "recovery", KindKey: "key"}

// String returns the name of the kind.
func (k Kind) String() string {
	if k > 0 && int(k) < len(recordNames) {
		return recordNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// MaxRecordBytes bounds a record: the longest has six ids of 128 bytes.
const MaxRecordBytes = 2 << 10

// recordLabel begins what is hashed, so that the hash is of nothing else.
const recordLabel = "edgecoder ledger record v1\n"

// Genesis is what the first record of a ledger follows: a hash of the cluster in
// which it was opened, so that no record is of two ledgers.
func Genesis(clusterID string) crypto.Hash {
	return crypto.Sum([]byte("edgecoder ledger genesis v1\n" + clusterID))
}

// Record is one change that took effect. Which members mean something depends on
// the kind; the others are zero. Amounts and balances are micro-credits.
type Record struct {
	Seq   uint64
	Index uint64 // log entry it came from
	AtMs  int64  // cluster clock
	Kind  Kind
	Prev  crypto.Hash
	Actor string

	ID   ID     // transfer, hold, post, void; of a confirm and a reject the report
	Hold ID     // that a post, void or expire ends
	Ref  string // of the caller's: what it is for

	Debit, Credit               string // accounts that give and take; of a confirm, a reject and a share Credit earns, or would have
	Amount                      int64
	DebitBalance, CreditBalance int64 // right after
	DebitHeld                   int64 // sum of the holds on the debit account, right after
	ExpiresMs                   int64 // first moment at which the hold is none any more

	Key      crypto.PublicKey // of a key
	Withheld Withheld         // of a share

	Weight   int64 // of a report, an account or an epoch, in millionths of a second
	WindowMs int64 // beginning of the epoch

	Policy   *Policy       // of a policy
	Account  *Account      // of an account
	Report   *SignedReport // of a report
	Epoch    *Epoch        // of an epoch
	Recovery *Recovery     // of a recovery

	Hash crypto.Hash
}

// Epoch is what the shares of an epoch follow from.
type Epoch struct {
	Load     Load
	Smoothed int64 // load index, millionths
	Pool     int64
	Accounts uint64 // that earn in it
}

// Withheld says why an account was not paid its share, which went to the reserve.
// Numbers are part of stored records and never reused.
type Withheld uint8

// The reasons.
const (
	NotWithheld    Withheld = 0
	WithheldFrozen Withheld = 1 // the account was frozen when its epoch was closed
	WithheldAgent  Withheld = 2 // its agent was not active then, or banned; the ledger's word, for bans have records of their own
)

var withheldNames = [...]string{NotWithheld: "no", WithheldFrozen: "account_frozen", WithheldAgent: "agent_may_not_act"}

// String returns the name of the reason.
func (w Withheld) String() string {
	if int(w) < len(withheldNames) {
		return withheldNames[w]
	}
	return fmt.Sprintf("reason %d", uint8(w))
}

// Recovery opens a recovery epoch. The cluster may be another one: the ledger was restored in it.
type Recovery struct {
	Epoch     uint64
	FloorMs   int64  // ids of up to then are refused from now on
	WasMs     int64  // cluster clock until now: what was over by it stays so
	ClusterID string // that reports are signed for from now on
}

// Append appends the record with its hash to dst, which may be shared by many:
// bodies are hashed where they lie. It sets Hash, and returns what it appended.
func (r *Record) Append(dst []byte) (all, record []byte) {
	from := len(dst)
	c := codec{out: append(dst, recordLabel...)}
	r.walk(&c)
	r.Hash = crypto.Sum(c.out[from:])
	c.fixed(r.Hash[:])
	return c.out, c.out[from+len(recordLabel) : len(c.out) : len(c.out)]
}

// ErrRecord is wrapped by every refusal of bytes that are no record.
var ErrRecord = errors.New("ledger: bad record")

// ParseRecord reads a record, strictly, and checks its hash. Whether it follows
// from the records before it is for a Verifier.
func ParseRecord(data []byte) (Record, error) {
	if len(data) > MaxRecordBytes {
		return Record{}, fmt.Errorf("%w: %d bytes, at most %d", ErrRecord, len(data), MaxRecordBytes)
	}
	var r Record
	c := readingCodec(data)
	r.walk(&c)
	body := len(data) - c.in.Left()
	c.fixed(r.Hash[:])
	if !c.in.Done() {
		return Record{}, fmt.Errorf("%w: not in canonical form", ErrRecord)
	}
	var room [512]byte // on the stack: most records fit
	text := append(append(room[:0], recordLabel...), data[:body]...)
	if crypto.Sum(text) != r.Hash {
		return r, fmt.Errorf("%w: record %d does not have the hash that it states: it was changed", ErrRecord, r.Seq)
	}
	return r, nil
}

// HashOf returns the hash that a record states, which is all that the next one says of
// it. Whether it is the record's, ParseRecord checks.
func HashOf(data []byte) (crypto.Hash, error) {
	if len(data) <= crypto.HashSize {
		return crypto.Hash{}, fmt.Errorf("%w: %d bytes", ErrRecord, len(data))
	}
	return crypto.Hash(data[len(data)-crypto.HashSize:]), nil
}

// walk is the one description of the format: it writes the record or reads it.
func (r *Record) walk(c *codec) {
	members := 6
	if !c.reading {
		members += memberCounts[r.Kind]
	}
	members = c.list(members)
	c.unsigned(&r.Seq)
	c.unsigned(&r.Index)
	c.signed(&r.AtMs)
	c.byte((*uint8)(&r.Kind))
	c.fixed(r.Prev[:])
	c.text(&r.Actor)
	if int(r.Kind) >= len(memberCounts) || members != 6+memberCounts[r.Kind] || r.Kind == 0 {
		c.fail()
		return
	}
	r.walkKind(c)
}

// memberCounts is how many members a kind adds to the six that all have.
var memberCounts = [...]int{KindPolicy: 11, KindAccount: 5, KindTransfer: 7, KindHold: 7, KindPost: 9, KindVoid: 5, KindExpire: 3,
	KindReport: 11, KindConfirm: 4, KindReject: 2, KindEpoch: 9, KindShare: 6, KindRecovery: 4, KindKey: 2}

func (r *Record) walkKind(c *codec) {
	switch r.Kind {
	case KindPolicy:
		r.Policy = made(c, r.Policy)
		r.Policy.walk(c)
	case KindAccount:
		r.Account = made(c, r.Account)
		r.Account.walk(c)
	case KindTransfer, KindHold, KindPost, KindVoid, KindExpire:
		r.walkMoney(c)
	case KindReport:
		r.Report = made(c, r.Report)
		r.Report.walk(c)
	case KindConfirm:
		c.fixed(r.ID[:])
		c.text(&r.Credit)
		c.signed(&r.Weight)
		c.signed(&r.WindowMs)
	case KindReject:
		c.fixed(r.ID[:])
		c.text(&r.Credit)
	case KindEpoch:
		r.Epoch = made(c, r.Epoch)
		c.signed(&r.WindowMs)
		r.Epoch.walk(c)
		c.signed(&r.Weight)
		c.unsigned(&r.Epoch.Accounts)
	case KindShare:
		c.signed(&r.WindowMs)
		c.text(&r.Credit)
		c.signed(&r.Weight)
		c.signed(&r.Amount)
		c.signed(&r.CreditBalance)
		c.byte((*uint8)(&r.Withheld))
	case KindKey:
		c.text(&r.Credit)
		c.fixed(r.Key[:])
	case KindRecovery:
		r.Recovery = made(c, r.Recovery)
		c.unsigned(&r.Recovery.Epoch)
		c.signed(&r.Recovery.FloorMs)
		c.signed(&r.Recovery.WasMs)
		c.text(&r.Recovery.ClusterID)
	}
}

// made is what is written, or room for what is read.
func made[T any](c *codec, v *T) *T {
	if c.reading {
		return new(T)
	}
	return v
}

func (r *Record) walkMoney(c *codec) {
	k := r.Kind
	if k != KindExpire {
		c.fixed(r.ID[:])
		c.text(&r.Ref)
	}
	if k == KindPost || k == KindVoid || k == KindExpire {
		c.fixed(r.Hold[:])
	}
	c.text(&r.Debit)
	if k == KindTransfer || k == KindHold || k == KindPost {
		c.text(&r.Credit)
		c.signed(&r.Amount)
	}
	if k == KindHold {
		c.signed(&r.ExpiresMs)
	}
	if k == KindTransfer || k == KindPost {
		c.signed(&r.DebitBalance)
	}
	if k != KindTransfer {
		c.signed(&r.DebitHeld)
	}
	if k == KindTransfer || k == KindPost {
		c.signed(&r.CreditBalance)
	}
}

func (p *Policy) walk(c *codec) {
	c.unsigned(&p.Version)
	c.signed(&p.IDWindowMs)
	c.signed(&p.HoldMaxMs)
	c.signed(&p.ReportKeepMs)
	c.byte((*uint8)(&p.Confirm))
	for _, n := range []*int64{&p.BaseDaily, &p.MinDaily, &p.MaxDaily, &p.SlopeMicro, &p.AlphaMicro, &p.MaxWeight} {
		c.signed(n)
	}
}

func (e *Epoch) walk(c *codec) {
	for _, n := range []*int64{&e.Load.Queued, &e.Load.Agents, &e.Load.CPU, &e.Load.GPU, &e.Smoothed, &e.Pool} {
		c.signed(n)
	}
}

func (a *Account) walk(c *codec) {
	c.text(&a.ID)
	c.byte((*uint8)(&a.Kind))
	c.text(&a.Owner)
	c.signed(&a.Floor)
	c.bool(&a.Frozen)
}

func (s *SignedReport) walk(c *codec) {
	c.fixed(s.Report.ID[:])
	for _, text := range []*string{&s.Report.AgentID, &s.Report.Account, &s.Report.Payer, &s.Report.Task} {
		c.text(text)
	}
	c.byte((*uint8)(&s.Report.Class))
	c.signed(&s.Report.DurationMs)
	c.bool(&s.Report.OK)
	c.fixed(s.Key[:])
	c.fixed(s.Signature[:])
	c.text(&s.ClusterID)
}
