package chaos

import (
	"context"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
	"github.com/edgecoder/edgecoder/client"
)

// move does one thing with money. Amounts are drawn so that some of it is more
// than there is.
func (w *worker) move(ctx context.Context) {
	k := w.rng.IntN(100)
	switch {
	case k < 12:
		if m, ok := w.money.again(w.rng); ok {
			w.sendMove(ctx, m, w.node(""))
		}
	case k < 15:
		w.forge(ctx)
	case k < 35:
		if shore := w.money.island(); shore != nil {
			w.sendMove(ctx, one(w.transferAmong(shore)), w.node(""))
		}
	case k < 45:
		w.sendMove(ctx, one(w.newHold()), w.node(""))
	case k < 60:
		if h, ok := w.money.hold(w.rng); ok {
			w.sendMove(ctx, one(w.endOf(h)), w.node(""))
		}
	case k < 70:
		w.sendMove(ctx, w.linked(), w.node(""))
	case k < 78:
		w.sendMove(ctx, w.loose(), w.node(""))
	default:
		w.sendMove(ctx, one(w.transferAmong(w.money.accounts)), w.node(""))
	}
}

func one(e judge.Entry) judge.Move { return judge.Move{Entries: []judge.Entry{e}} }

// between draws two accounts.
func (w *worker) between(accounts []string) (debit, credit string) {
	from := w.rng.IntN(len(accounts))
	to := (from + 1 + w.rng.IntN(len(accounts)-1)) % len(accounts)
	return accounts[from], accounts[to]
}

func (w *worker) transferAmong(accounts []string) judge.Entry {
	debit, credit := w.between(accounts)
	return judge.Entry{Op: client.OpTransfer, ID: client.NewLedgerID(), Debit: debit, Credit: credit, Amount: 1 + w.rng.Int64N(startMoney)}
}

func (w *worker) newHold() judge.Entry {
	e := w.transferAmong(w.money.accounts)
	e.Op = client.OpHold
	life := holdLeast + time.Duration(w.rng.Int64N(int64(holdMost-holdLeast)))
	e.ExpiresMs = time.Now().Add(life).UnixMilli()
	return e
}

// endOf posts a hold, all or a part of it, or voids it.
func (w *worker) endOf(h hold) judge.Entry {
	e := judge.Entry{Op: client.OpPost, ID: client.NewLedgerID(), Hold: h.id}
	switch w.rng.IntN(3) {
	case 0:
		e.Op = client.OpVoid
	case 1:
		e.Amount = 1 + w.rng.Int64N(h.amount)
	}
	return e
}

// linked is a chain of transfers of which the last may be too much: then none is to happen.
func (w *worker) linked() judge.Move {
	m := judge.Move{Linked: true}
	for range 1 + w.rng.IntN(4) {
		e := w.transferAmong(w.money.accounts)
		e.Amount = 1 + e.Amount/8
		m.Entries = append(m.Entries, e)
	}
	m.Entries = append(m.Entries, w.transferAmong(w.money.accounts))
	return m
}

// loose is a batch of which each is decided by itself.
func (w *worker) loose() judge.Move {
	var m judge.Move
	for range 2 + w.rng.IntN(9) {
		m.Entries = append(m.Entries, w.transferAmong(w.money.accounts))
	}
	if h, ok := w.money.hold(w.rng); ok {
		m.Entries = append(m.Entries, w.endOf(h))
	}
	return m
}

// forge asks for another amount under the id of a transfer: whichever took effect
// first, the other must not.
func (w *worker) forge(ctx context.Context) {
	m, ok := w.money.again(w.rng)
	if !ok || len(m.Entries) > 1 || m.Entries[0].Op != client.OpTransfer {
		return
	}
	e := m.Entries[0]
	e.Amount++
	w.sendMove(ctx, one(e), w.node(""))
}

func (w *worker) accountRead(ctx context.Context) {
	if w.rng.IntN(2) == 0 {
		if shore := w.money.island(); shore != nil {
			w.readAccount(ctx, shore[w.rng.IntN(len(shore))], w.node(""), true, []client.Option{client.Strong()})
			return
		}
	}
	strong, opts := w.level()
	w.readAccount(ctx, w.money.accounts[w.rng.IntN(len(w.money.accounts))], w.node(""), strong, opts)
}

func (w *worker) readAccount(ctx context.Context, account, node string, strong bool, opts []client.Option) judge.Op {
	op := judge.Op{Kind: judge.KindAccount, Node: node, Strong: strong, Account: &judge.AccountRead{Account: account}}
	return w.ask(ctx, op, func(ctx context.Context, c *client.Client, op *judge.Op) error {
		a, err := c.Account(ctx, account, append(opts, client.Index(&op.Index))...)
		op.Account.Balance, op.Account.Held, op.Account.Available = a.Balance, a.Held, a.Available
		return err
	})
}

// sweepMoney has what is unknown settled, and money moved and shown by every node.
func (w *worker) sweepMoney(ctx context.Context, members []string) {
	if len(w.money.accounts) == 0 {
		return
	}
	strong := []client.Option{client.Strong()}
	for i, m := range w.money.open() {
		w.persist(ctx, func() judge.Op { return w.sendMove(ctx, m, members[i%len(members)]) })
	}
	for i, n := range members {
		fresh := one(w.transferAmong(w.money.accounts))
		w.persist(ctx, func() judge.Op { return w.sendMove(ctx, fresh, n) })
		w.persist(ctx, func() judge.Op { return w.readAccount(ctx, w.money.accounts[i%len(w.money.accounts)], n, true, strong) })
	}
	for i, shore := range w.money.islands {
		for _, account := range shore {
			w.readAccount(ctx, account, members[i%len(members)], true, strong)
		}
	}
}
