package e2e

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/edgecoder/edgecoder/client"
)

const (
	moneyAccounts = 100
	moneyWorkers  = 6
	moneyStart    = 1_000
)

// till is what clients were told of money: it must all be there afterwards, once.
type till struct {
	mu    sync.Mutex // guards what follows
	acked map[string]paid
	maybe int // calls whose outcome stayed unknown
}

// paid is one operation that was acknowledged.
type paid struct {
	entry client.LedgerEntry
	index uint64
}

func (l *till) took(e client.LedgerEntry, r client.LedgerResult, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil && r.OK():
		l.acked[e.ID] = paid{e, r.Index}
	case err != nil && codeOf(err) == client.CodeUnknownOutcome:
		l.maybe++
	}
}

func (l *till) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

func accountName(i int) string { return fmt.Sprintf("account-%03d", i) }

// openMoney makes the accounts and pays them in.
func (m *mesh) openMoney() {
	m.t.Helper()
	cl := m.any(m.admin)
	var pay []client.LedgerEntry
	for i := range moneyAccounts {
		if _, err := cl.SetAccount(m.t.Context(), client.AccountRequest{ID: accountName(i), Kind: "agent", Owner: "somebody"}); err != nil {
			m.t.Fatal(err)
		}
		pay = append(pay, client.LedgerEntry{Debit: "@issuance", Credit: accountName(i), Amount: moneyStart})
	}
	out, err := cl.MoveLedger(m.t.Context(), client.LedgerBatch{Entries: pay, Linked: true})
	if err != nil || !out.Results[0].OK() {
		m.t.Fatalf("pay in: %+v, %v", out, err)
	}
}

// moveMoney moves money through all nodes until stop is closed.
func (m *mesh) moveMoney(stop chan struct{}) (*till, *sync.WaitGroup) {
	l := &till{acked: map[string]paid{}}
	var all sync.WaitGroup
	for i := range moneyWorkers {
		cl := m.any(m.admin)
		rng := rand.New(rand.NewPCG(7, uint64(i)))
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					m.moveOnce(cl, rng, l)
				}
			}
		})
	}
	return l, &all
}

// moveOnce does one of the things that are done with money. The client asks again
// under the same ids until it is decided.
func (m *mesh) moveOnce(cl *client.Client, rng *rand.Rand, l *till) {
	ctx := m.t.Context()
	e := drawEntry(rng)
	switch k := rng.IntN(10); {
	case k < 5:
		r, err := cl.Transfer(ctx, client.TransferRequest{ID: e.ID, Debit: e.Debit, Credit: e.Credit, Amount: e.Amount})
		l.took(e, r, err)
	case k < 8:
		e.Op = client.OpHold
		r, err := cl.Hold(ctx, client.HoldRequest{ID: e.ID, Debit: e.Debit, Credit: e.Credit, Amount: e.Amount, TTLMs: 60_000})
		if l.took(e, r, err); err != nil || !r.OK() {
			return
		}
		end := client.LedgerEntry{Op: client.OpPost, ID: client.NewLedgerID(), Hold: e.ID, Amount: 1 + rng.Int64N(e.Amount)}
		if k == 5 {
			end = client.LedgerEntry{Op: client.OpVoid, ID: end.ID, Hold: e.ID}
			r, err = cl.VoidHold(ctx, e.ID, client.HoldEnd{ID: end.ID})
		} else {
			r, err = cl.PostHold(ctx, e.ID, client.HoldEnd{ID: end.ID, Amount: end.Amount})
		}
		l.took(end, r, err)
	default:
		chain := []client.LedgerEntry{e, drawEntry(rng), drawEntry(rng)}
		out, err := cl.MoveLedger(ctx, client.LedgerBatch{Entries: chain, Linked: true})
		for i, entry := range chain {
			r := client.LedgerResult{}
			if i < len(out.Results) {
				r = out.Results[i]
			}
			l.took(entry, r, err)
		}
	}
}

// drawEntry draws a transfer that may well be more than there is.
func drawEntry(rng *rand.Rand) client.LedgerEntry {
	from := rng.IntN(moneyAccounts)
	to := (from + 1 + rng.IntN(moneyAccounts-1)) % moneyAccounts
	return client.LedgerEntry{Op: client.OpTransfer, ID: client.NewLedgerID(), Debit: accountName(from), Credit: accountName(to), Amount: 1 + rng.Int64N(moneyStart)}
}

// checkMoney asks a node for its records and accounts.
func (m *mesh) checkMoney(name string, l *till) {
	m.t.Helper()
	cl := m.client(m.admin, 20, name)
	if _, err := cl.Ledger(m.t.Context(), client.Strong()); err != nil { // it has caught up
		m.t.Fatalf("%s: %v", name, err)
	}
	seen := map[string]client.LedgerRecord{}
	for from := uint64(1); from != 0; {
		page, err := cl.LedgerRecords(m.t.Context(), from, "", client.Page("", 1000))
		if err != nil {
			m.t.Fatalf("%s: %v", name, err)
		}
		for _, r := range page.Records {
			if first, twice := seen[r.ID]; twice && r.ID != "" {
				m.t.Errorf("%s: id %s moved money in records %d and %d", name, r.ID, first.Seq, r.Seq)
			}
			seen[r.ID] = r
		}
		from = page.Next
	}
	for id, p := range l.acked {
		r, ok := seen[id]
		if same := r.Kind == p.entry.Op && r.Index == p.index && r.Hold == p.entry.Hold && (p.entry.Hold != "" || r.Debit == p.entry.Debit && r.Credit == p.entry.Credit) &&
			r.Amount == p.entry.Amount; !ok || !same {
			m.t.Errorf("%s: %+v was acknowledged at %d, its record (there: %t) is %+v", name, p.entry, p.index, ok, r)
		}
	}
	m.checkSum(name, cl)
}

// checkSum wants the sum of all accounts to be zero, none below its floor, and the
// node's own verdict on its records to be good.
func (m *mesh) checkSum(name string, cl *client.Client) {
	m.t.Helper()
	all, err := cl.Accounts(m.t.Context(), client.Page("", 1000))
	if err != nil || len(all.Accounts) != moneyAccounts+2 {
		m.t.Fatalf("%s: %d accounts, %v", name, len(all.Accounts), err)
	}
	sum := int64(0)
	for _, a := range all.Accounts {
		sum += a.Balance
		if a.Available < 0 {
			m.t.Errorf("%s: %s is below its floor: %+v", name, a.ID, a)
		}
	}
	if sum != 0 {
		m.t.Errorf("%s: the sum of all accounts is %d", name, sum)
	}
	if v, err := cl.VerifyLedger(m.t.Context()); err != nil || !v.OK {
		m.t.Errorf("%s: verified as %+v, %v", name, v, err)
	}
}

// TestP7KillLeadersWhileMoneyMoves: transfers, holds and linked batches among a
// hundred accounts through all nodes while whoever leads is killed, twice; then every
// node has all that was acknowledged, once, and the sum is zero. The scenario
// "money" of package chaos does the same for longer.
func TestP7KillLeadersWhileMoneyMoves(t *testing.T) {
	m := up(t)
	m.openMoney()
	stop := make(chan struct{})
	l, all := m.moveMoney(stop)
	flows := func(more int) {
		seen := l.count()
		m.eventually("money moves", func() bool { return l.count() >= seen+more })
	}
	flows(50)
	for range 2 {
		victim := m.leader()
		m.kill(victim)
		flows(100)
		m.restart(victim)
	}
	flows(50)
	close(stop)
	all.Wait()
	t.Logf("%d operations acknowledged, %d calls unknown to the end", len(l.acked), l.maybe)
	for _, name := range m.names() {
		m.checkMoney(name, l)
	}
	m.agree()
}
