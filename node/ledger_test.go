package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

// openLedger makes accounts of a service with an amount on each.
func (c *trio) openLedger(amount int64, accounts ...string) {
	c.t.Helper()
	for i, id := range accounts {
		admin := c.client(i%len(c.nodes), c.admin) // a follower as well as the leader
		if _, err := admin.SetAccount(c.t.Context(), client.AccountRequest{ID: id, Kind: "service", Owner: "t"}); err != nil {
			c.t.Fatal(err)
		}
		if _, err := admin.Transfer(c.t.Context(), client.TransferRequest{Debit: ledger.Issuance, Credit: id, Amount: amount}); err != nil {
			c.t.Fatal(err)
		}
	}
}

// paid are the operations that were acknowledged, by id.
type paid struct {
	mu   sync.Mutex
	acks map[string]client.LedgerResult
	maybe,
	refused int
}

func (p *paid) note(t *testing.T, r client.LedgerResult, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := (*client.Error)(nil)
	switch {
	case err == nil && r.OK():
		if was, again := p.acks[r.ID]; again && was.Index != r.Index {
			t.Errorf("%s took effect at %d and at %d", r.ID, was.Index, r.Index)
		}
		p.acks[r.ID] = r
	case err == nil:
		p.refused++
	case errors.As(err, &e) && e.Code == client.CodeUnknownOutcome:
		p.maybe++
	case errors.As(err, &e):
		p.refused++
	}
}

// pay moves money between accounts through one node until told to stop.
func (c *trio) pay(ctx context.Context, i int, accounts []string, p *paid) {
	cl := c.client(i, c.admin)
	rng := rand.New(rand.NewPCG(uint64(i), 9))
	for k := 0; ctx.Err() == nil; k++ {
		from, to := rng.IntN(len(accounts)), rng.IntN(len(accounts))
		if from == to {
			continue
		}
		id := client.NewLedgerID()
		switch k % 3 {
		case 0:
			r, err := cl.Transfer(ctx, client.TransferRequest{ID: id, Debit: accounts[from], Credit: accounts[to], Amount: rng.Int64N(500) + 1})
			p.note(c.t, r, err)
		case 1:
			h, err := cl.Hold(ctx, client.HoldRequest{ID: id, Debit: accounts[from], Credit: accounts[to], Amount: 100, TTLMs: 3_000})
			p.note(c.t, h, err)
			if err == nil && k%2 == 0 {
				r, err := cl.PostHold(ctx, id, client.HoldEnd{Amount: 40})
				p.note(c.t, r, err)
			}
		case 2:
			b := client.LedgerBatch{Linked: k%2 == 0}
			for range 5 {
				b.Entries = append(b.Entries, client.LedgerEntry{ID: client.NewLedgerID(), Debit: accounts[from], Credit: accounts[to], Amount: 7})
			}
			out, err := cl.MoveLedger(ctx, b)
			if err != nil {
				p.note(c.t, client.LedgerResult{}, err)
			}
			for _, r := range out.Results {
				p.note(c.t, r, nil)
			}
		}
	}
}

// TestP7LedgerWhileLeadersDie: money moves through all nodes while the leader is
// taken away; afterwards all agree, every balance follows from the records, and what
// was acknowledged is there, once.
func TestP7LedgerWhileLeadersDie(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	accounts := []string{"a", "b", "c", "d", "e"}
	c.openLedger(10_000, accounts...)
	c.everyNodePassesOn()
	p := &paid{acks: map[string]client.LedgerResult{}}
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range c.nodes {
		for range 2 {
			all.Go(func() { c.pay(ctx, i, accounts, p) })
		}
	}
	acknowledged := func(n int) func() bool {
		return func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.acks) > n }
	}
	c.eventually("money moves", acknowledged(50))
	lead := c.leader()
	if err := c.nodes[lead].shutdown(); err != nil {
		t.Fatal(err)
	}
	c.nodes[lead] = nil
	c.eventually("another one leads", func() bool { return c.leader() >= 0 })
	c.eventually("it goes on", acknowledged(len(p.all())+50))
	c.start(lead)
	c.eventually("all are back", c.allReady)
	stop()
	all.Wait()
	if len(p.acks) == 0 {
		t.Fatal("nothing was acknowledged")
	}
	c.ledgerIsSound(p)
}

func (p *paid) all() map[string]client.LedgerResult {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]client.LedgerResult{}
	for id, r := range p.acks {
		out[id] = r
	}
	return out
}

// ledgerIsSound holds every node against the records, and these against what
// clients were told.
func (c *trio) ledgerIsSound(p *paid) {
	c.t.Helper()
	for i := range c.nodes {
		cl := c.client(i, c.admin)
		v, err := cl.VerifyLedger(c.t.Context(), client.Strong())
		if err != nil || !v.OK {
			c.t.Fatalf("node %d: %+v, %v", i, v, err)
		}
		seen := map[string]uint64{}
		for from := uint64(1); from != 0; {
			page, err := cl.LedgerRecords(c.t.Context(), from, "", client.Strong(), client.Page("", 1000))
			if err != nil {
				c.t.Fatal(err)
			}
			for _, r := range page.Records {
				if r.Kind == ledger.KindConfirm.String() {
					continue // it has the id of its report
				}
				if r.ID != "" && seen[r.ID] != 0 {
					c.t.Errorf("node %d: %s twice", i, r.ID)
				}
				seen[r.ID] = r.Index
			}
			from = page.Next
		}
		for id, r := range p.all() {
			if seen[id] != r.Index {
				c.t.Errorf("node %d: %s was acknowledged at %d, in the records it is at %d", i, id, r.Index, seen[id])
			}
		}
	}
	c.digestsAgree()
}

// everyNodePassesOn has each node take each kind of change, whoever leads.
func (c *trio) everyNodePassesOn() {
	c.t.Helper()
	ctx := c.t.Context()
	a := c.enroll(0, "worker")
	id := client.NewLedgerID()
	for i := range c.nodes {
		cl := c.client(i, c.admin)
		p, err := cl.LedgerPolicy(ctx, client.Strong())
		if err == nil {
			_, err = cl.SetLedgerPolicy(ctx, p.Version, client.LedgerPolicyUpdate{})
		}
		if err == nil {
			_, err = cl.SetAccount(ctx, client.AccountRequest{ID: a.id, Kind: "agent", Owner: a.id})
		}
		if err == nil {
			_, err = cl.Transfer(ctx, client.TransferRequest{ID: id, Debit: "a", Credit: "b", Amount: 1}, client.IdempotencyKey("key"))
		}
		var work client.Contribution
		if err == nil {
			work, err = client.SignContribution(a.key, c.nodes[0].id.ClusterID, client.Contribution{ID: client.NewLedgerID(), AgentID: a.id, Account: a.id, Payer: "a", Task: "t",
				Class: "cpu", DurationMs: 5, OK: true})
		}
		if err != nil {
			c.t.Fatalf("node %d: %v", i, err)
		}
		out, err := c.client(i, "").ReportContributions(ctx, client.ContributionReports{Reports: []client.Contribution{work}})
		if err != nil || !out.Results[0].OK() {
			c.t.Fatalf("node %d: %+v, %v", i, out, err)
		}
		c.nodes[i].machine.Read(func(s *fsm.State) {
			if load := loadOf(s); load.Queued != 0 || load.Agents == 0 { // or whoever reports raises the pool
				c.t.Errorf("node %d: %+v", i, load)
			}
		})
		if out, err = cl.ConfirmContributions(ctx, client.ContributionVerdict{Reports: []client.ContributionName{workName(c.t, work)}}); err != nil || !out.Results[0].OK() {
			c.t.Fatalf("node %d: %+v, %v", i, out, err)
		}
	}
	if got, err := c.client(0, c.admin).Account(ctx, "a", client.Strong()); err != nil || got.Balance != 9_999 {
		c.t.Fatalf("one key moved money more than once: %+v, %v", got, err)
	}
}

// TestLedgerEpochsAreClosed: an hour after work was confirmed its epoch is paid, once,
// by whoever leads then.
func TestLedgerEpochsAreClosed(t *testing.T) {
	heavy(t)
	t.Parallel()
	var ahead atomic.Int64
	c := &trio{t: t, adjust: func(_ int, cfg *Config) { cfg.Now = shifted(&ahead) }}
	t.TempDir() // first, so that it is removed last
	t.Cleanup(c.stopAll)
	c.grow(1)
	c.openLedger(1_000, "shop")
	a := c.enroll(0, "worker")
	admin := c.client(0, c.admin)
	if _, err := admin.SetAccount(t.Context(), client.AccountRequest{ID: a.id, Kind: "agent", Owner: a.id}); err != nil {
		t.Fatal(err)
	}
	work, err := client.SignContribution(a.key, c.nodes[0].id.ClusterID, client.Contribution{ID: client.NewLedgerID(), AgentID: a.id, Account: a.id, Payer: "shop", Task: "t",
		Class: "gpu", DurationMs: 5_000, OK: true})
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.client(0, "").ReportContributions(t.Context(), client.ContributionReports{Reports: []client.Contribution{work}})
	if err != nil || !out.Results[0].OK() {
		t.Fatalf("%+v, %v", out, err)
	}
	if out, err := admin.ConfirmContributions(t.Context(), client.ContributionVerdict{Reports: []client.ContributionName{workName(c.t, work)}}); err != nil || !out.Results[0].OK() {
		t.Fatalf("%+v, %v", out, err)
	}
	if err := c.nodes[0].shutdown(); err != nil {
		t.Fatal(err)
	}
	ahead.Store(int64(time.Hour + time.Minute))
	c.start(0)
	var e client.Epochs
	c.eventually("the epoch is paid", func() bool {
		e, err = admin.Epochs(t.Context())
		return err == nil && len(e.Closed) == 1 && len(e.Open) == 0
	})
	got, err := admin.Account(t.Context(), a.id)
	if err != nil || got.Balance != e.Closed[0].Pool {
		t.Errorf("%+v of %+v, %v", got, e.Closed[0], err)
	}
	if v, err := admin.VerifyLedger(t.Context()); err != nil || !v.OK {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestBackupWithAForgedLedgerIsRefused: good checksums do not help.
func TestBackupWithAForgedLedgerIsRefused(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 1)
	c.openLedger(1_000, "a", "b")
	admin := c.client(0, c.admin)
	if _, err := admin.Transfer(t.Context(), client.TransferRequest{Debit: "a", Credit: "b", Amount: 10}); err != nil {
		t.Fatal(err)
	}
	path := c.save(0)
	report, err := VerifyBackup(path, nil)
	if err != nil || report.LedgerRecords == 0 || report.LedgerRecords != report.LedgerSize {
		t.Fatalf("%+v, %v", report, err)
	}
	more := func(r fsm.Record) fsm.Record {
		if r.Stream != fsm.StreamLedger || r.Seq != report.LedgerSize {
			return r
		}
		rec, err := ledger.ParseRecord(r.Data)
		if err != nil {
			t.Fatal(err)
		}
		rec.Amount++
		_, r.Data = rec.Append(nil)
		return r
	}
	forged := filepath.Join(t.TempDir(), "forged")
	if err := os.WriteFile(forged, c.forged(path, more), 0o600); err != nil {
		t.Fatal(err)
	}
	report, err = VerifyBackup(forged, nil)
	if !errors.Is(err, ErrBackup) || report.LedgerFault == nil || report.LedgerFault.Seq != report.LedgerSize || report.LedgerFault.Code != ledger.FaultBalance {
		t.Errorf("%+v, %v", report.LedgerFault, err)
	}
	if _, err := admin.Transfer(t.Context(), client.TransferRequest{Debit: "a", Credit: "b", Amount: 10}); err != nil {
		t.Fatal(err)
	}
	plan, err := admin.RestorePlan(t.Context(), c.open(path))
	if err != nil || !plan.Older || plan.LedgerLost != 1 || plan.LedgerThen != report.LedgerSize || plan.Forked {
		t.Errorf("%+v, %v", plan, err)
	}
	if _, err := admin.RestorePlan(t.Context(), c.open(forged)); err == nil || !strings.Contains(fmt.Sprint(err), ledger.FaultBalance) {
		t.Errorf("a forged backup is planned: %v", err)
	}
	c.restore(path, true)
	if got, err := admin.Account(t.Context(), "b", client.Strong()); err != nil || got.Balance != 1_010 {
		t.Errorf("%+v, %v", got, err)
	}
	if v, err := admin.VerifyLedger(t.Context(), client.Strong()); err != nil || !v.OK {
		t.Errorf("%+v, %v", v, err)
	}
}

func workName(t testing.TB, work client.Contribution) client.ContributionName {
	t.Helper()
	name, err := work.Name()
	if err != nil {
		t.Fatal(err)
	}
	return name
}
