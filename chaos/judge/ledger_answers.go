package judge

import (
	"cmp"
	"slices"

	"github.com/edgecoder/edgecoder/client"
)

// checkLedgerAnswers holds every answer on money against the records at the index
// that it names: what a read shows is what the records come to there, on whatever
// node, and each refusal has its reason there. That strong reads are recent, and that
// the log follows time, is checkOrder's to say: both together are linearizability.
func checkLedgerAnswers(c *court) {
	b := c.books.longest
	if b == nil || b.broken || b.strange {
		return // checkBooks doubts it
	}
	for i := range c.run.Ops {
		op := &c.run.Ops[i]
		switch {
		case op.Outcome != OK:
		case op.Kind == KindAccount:
			c.Examined++
			checkAccountRead(c, b, op)
		case op.Kind == KindMove:
			c.Examined++
			checkRefused(c, b, op)
		}
	}
}

func checkAccountRead(c *court, b *ledgerBook, op *Op) {
	read := op.Account
	a := b.accounts[read.Account]
	if a == nil {
		c.fail([]*Op{op}, "a read shows the account %s, of which no record tells", read.Account)
		return
	}
	if len(b.records) > 0 && op.Index > b.records[len(b.records)-1].index && !c.run.About.Healed {
		return // the node that knew more did not give its records
	}
	if is := a.at(op.Index); op.Index > 0 && (read.Balance != is.balance || read.Held != is.held || read.Available != is.available()) {
		c.fail([]*Op{op}, "a read at index %d shows %d (%d held, %d available), the records come to %d (%d held, %d available) there",
			op.Index, read.Balance, read.Held, read.Available, is.balance, is.held, is.available())
	}
}

// checkRefused holds that what was not done could not be done.
func checkRefused(c *court, b *ledgerBook, op *Op) {
	for i := range op.Move.Entries {
		ended, moved := op.result(i)
		if ended != OK || moved.Code == client.LedgerOK || moved.Index == 0 {
			continue
		}
		if why := b.unjust(op, i, moved, c.run.About.IDWindowMs); why != "" {
			c.fail([]*Op{op}, "%s was refused with %s at index %d, %s", &op.Move.Entries[i], moved.Code, moved.Index, why)
		}
	}
}

// unjust says why there was no reason to refuse entry i, or "".
func (b *ledgerBook) unjust(op *Op, i int, moved Moved, windowMs int64) string {
	e := &op.Move.Entries[i]
	clock := cmp.Or(moved.ClockMs, op.wallEndMs()+clockSlackMs) // not every refusal tells it
	switch moved.Code {
	case client.LedgerInsufficient:
		a := b.accounts[e.Debit]
		if a == nil {
			return "but nobody knows the account"
		}
		before := op.Move.chainBefore(i)
		enough := func(on onAccount) bool { return on.available()+before >= e.Amount }
		if all := a.during(moved.Index); !slices.ContainsFunc(all, func(on onAccount) bool { return !enough(on) }) {
			return "where there was enough"
		}
	case client.LedgerHoldExpired:
		if h, ok := b.holds[e.Hold]; ok && clock < h.expiresMs {
			return "before the hold was over"
		}
	case client.CodeNotFound:
		if h, ok := b.holds[e.Hold]; e.Hold == "" || ok && h.index <= moved.Index && (!h.ended || h.endedAt > moved.Index) {
			return "where it was"
		}
	case client.CodeConflict:
		if at, ok := b.byID[e.ID]; !ok || b.records[at].index > moved.Index {
			return "although nothing had used its id"
		} else if b.records[at].does(e, b) && !op.Move.Linked {
			return "although it was the same"
		}
	case client.LedgerIDExpired:
		made, _ := idTime(e.ID) // checked when the history was read
		if windowMs > 0 && clock-made <= windowMs {
			return "within the window"
		}
	case client.LedgerLinkedFailed:
		if !slices.ContainsFunc(op.Move.Results, func(r Moved) bool { return r.Code != client.LedgerOK && r.Code != client.LedgerLinkedFailed }) {
			return "although no entry failed it"
		}
	case client.CodeInvalid:
		if e.Op != client.OpHold || clock < e.ExpiresMs {
			return "which is no reason for what was asked"
		}
	case client.CodeOverloaded:
	default:
		return "which is no reason for what was asked"
	}
	return ""
}

// chainBefore is what the linked entries before entry i bring to its debit account.
func (m *Move) chainBefore(i int) (sum int64) {
	if !m.Linked {
		return 0
	}
	account := m.Entries[i].Debit
	for _, e := range m.Entries[:i] {
		switch account {
		case e.Debit:
			sum -= e.Amount
		case e.Credit:
			sum += e.Amount
		}
	}
	return sum
}
