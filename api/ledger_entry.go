package api

import (
	"fmt"
	"io"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

// ledgerOps are the operations by their name on the wire; absent is a transfer.
var ledgerOps = map[string]fsm.LedgerOp{
	"": fsm.LedgerTransfer, client.OpTransfer: fsm.LedgerTransfer, client.OpHold: fsm.LedgerHold, client.OpPost: fsm.LedgerPost, client.OpVoid: fsm.LedgerVoid,
}

// moves are operations of one caller on their way into one batch.
type moves struct {
	fsm.LedgerBatch
	places map[string]uint16 // of accounts in the batch
	issued *issued           // on accounts that are not the caller's own; else nil
}

func newMoves(caller fsm.LedgerCaller, n int) *moves {
	return &moves{LedgerBatch: fsm.LedgerBatch{Callers: []fsm.LedgerCaller{caller}, Entries: make([]fsm.LedgerEntry, 0, n)}, places: map[string]uint16{}}
}

// add puts an operation into the batch.
func (m *moves) add(c *call, e *client.LedgerEntry) error {
	op, known := ledgerOps[e.Op]
	if !known {
		return invalid("op", quote(e.Op)+" is not one of transfer, hold, post, void")
	}
	id, err := c.operationID(e.ID, e.TimestampMs)
	if err != nil {
		return err
	}
	if e.Amount > ledger.MaxMicro || e.Amount < 1 && (op == fsm.LedgerTransfer || op == fsm.LedgerHold || e.Amount != 0) {
		return invalid("amount", fmt.Sprintf("%d is outside 1..%d micro-credits", e.Amount, int64(ledger.MaxMicro)))
	}
	out := fsm.LedgerEntry{Op: op, Linked: e.Linked, ID: id, Ref: e.Ref, Amount: e.Amount}
	if op == fsm.LedgerTransfer || op == fsm.LedgerHold {
		err = m.sides(e, &out)
	} else {
		err = holdOf(e, &out)
	}
	if err != nil {
		return err
	}
	if out.ExpiresMs, err = expiryOf(e, op, id); err != nil {
		return err
	}
	m.Entries = append(m.Entries, out)
	return nil
}

func (m *moves) sides(e *client.LedgerEntry, out *fsm.LedgerEntry) (err error) {
	if e.Hold != "" {
		return invalid("hold", "a transfer or hold ends no other hold")
	}
	if out.Debit, err = m.place("debit", e.Debit); err != nil {
		return err
	}
	out.Credit, err = m.place("credit", e.Credit)
	return err
}

func (m *moves) place(field, id string) (uint16, error) {
	if at, known := m.places[id]; known {
		return at, nil
	}
	if err := crypto.CheckID(id); err != nil {
		return 0, invalid(field, err.Error())
	}
	at := uint16(len(m.Accounts))
	m.places[id] = at
	m.Accounts = append(m.Accounts, id)
	return at, nil
}

// holdOf takes what is of a post or void. The amount of a void is the hold's.
func holdOf(e *client.LedgerEntry, out *fsm.LedgerEntry) error {
	if e.Debit != "" || e.Credit != "" {
		return invalid("debit", "the hold says between which accounts it is")
	}
	hold, err := ledger.ParseID(e.Hold)
	if err != nil {
		return invalid("hold", err.Error())
	}
	if out.Op == fsm.LedgerVoid && e.Amount != 0 {
		return invalid("amount", "a void gives back all of its hold: leave the amount out")
	}
	out.Hold = hold
	return nil
}

// expiryOf returns the end of a hold. A life counts from the time of the id, or a
// call that is made again would ask for another hold.
func expiryOf(e *client.LedgerEntry, op fsm.LedgerOp, id ledger.ID) (int64, error) {
	switch {
	case op != fsm.LedgerHold && (e.ExpiresAtMs != 0 || e.TTLMs != 0):
		return 0, invalid("expires_at_ms", "only a hold ends by itself")
	case op != fsm.LedgerHold:
		return 0, nil
	case (e.ExpiresAtMs == 0) == (e.TTLMs == 0):
		return 0, invalid("expires_at_ms", "give the end of the hold in expires_at_ms or its life in ttl_ms")
	case e.TTLMs < 0 || e.TTLMs > ledger.MaxLifeMs:
		return 0, invalid("ttl_ms", fmt.Sprintf("%d is outside 1..%d", e.TTLMs, int64(ledger.MaxLifeMs)))
	case e.TTLMs != 0:
		return id.TimeMs() + e.TTLMs, nil
	}
	return e.ExpiresAtMs, nil
}

// operationID reads the id of an operation, makes it of a time and a name, or of a time
// and the call's idempotency key. Only a call that cannot be asked again gets one of
// the cluster's time: with a key it would be another one each time that the key was
// forgotten.
func (c *call) operationID(text string, timestampMs int64) (ledger.ID, error) {
	name := text
	if timestampMs != 0 && text == "" && c.hasKey() {
		if err := c.settleKey(); err != nil {
			return ledger.ID{}, err
		}
		name = hashParts("edgecoder ledger key v1", c.token.ID, c.r.Method, c.r.URL.EscapedPath(), c.key).String()
	}
	switch {
	case timestampMs != 0 && name == "":
		return ledger.ID{}, invalid("id", "with timestamp_ms goes an id of your own, unique at that time, or an "+client.HeaderIdempotencyKey)
	case timestampMs != 0:
		id, err := ledger.NamedID(timestampMs, name)
		if err != nil {
			return id, invalid("timestamp_ms", err.Error())
		}
		return id, nil
	case text != "":
		id, err := ledger.ParseID(text)
		if err != nil {
			return id, invalid("id", err.Error()+"; an id of another form goes with timestamp_ms")
		}
		return id, nil
	case c.token.ID == "":
		return ledger.ID{}, invalid("id", "what an agent signs carries an id, or timestamp_ms and a name: whoever sends it again then moves nothing")
	case c.hasKey():
		return ledger.ID{}, invalid("id", "with an "+client.HeaderIdempotencyKey+" goes an id, or timestamp_ms: the time of the first try, the same in each; keys alone are forgotten")
	}
	return c.freshID()
}

func (c *call) hasKey() bool {
	_, keyed := c.r.Header[client.HeaderIdempotencyKey]
	return keyed
}

// freshID makes an id of the cluster's time.
func (c *call) freshID() (ledger.ID, error) {
	var random [10]byte
	if _, err := io.ReadFull(c.s.cfg.Rand, random[:]); err != nil {
		return ledger.ID{}, err
	}
	var now int64
	err := c.readAt(ReadOptions{}, func(s *fsm.State) { now = s.ClockMs() })
	return ledger.NewID(now, random), err
}
