package fsm

import (
	"fmt"
	"testing"

	"github.com/edgecoder/edgecoder/ledger"
)

// earn has an agent report work that an operator confirms.
func (w *world) earn(agent string, durationMs int64) {
	w.t.Helper()
	r := w.workOf(agent, durationMs)
	w.wantEntry(w.report(r)[0], CodeOK)
	w.wantEntry(w.confirm(operator, r.Report.ID)[0], CodeOK)
}

// toNextEpoch moves the clock to the beginning of the next hour.
func (w *world) toNextEpoch() {
	w.t.Helper()
	w.pass(ledger.WindowOf(w.wallMs) + ledger.EpochMs - w.wallMs)
}

func TestP7LedgerReports(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	change := func(f func(*ledger.Report)) ledger.SignedReport {
		r := w.workOf("a", 1_000).Report
		f(&r)
		return r.Sign(privateKey("a"), w.s.Meta().ClusterID)
	}
	for name, tt := range map[string]struct {
		r     ledger.SignedReport
		code  Code
		field string
	}{
		"duration":           {change(func(r *ledger.Report) { r.DurationMs = 0 }), CodeInvalid, "duration_ms"},
		"too long":           {change(func(r *ledger.Report) { r.DurationMs = ledger.MaxReportMs + 1 }), CodeInvalid, "duration_ms"},
		"class":              {change(func(r *ledger.Report) { r.Class = 3 }), CodeInvalid, "class"},
		"id":                 {change(func(r *ledger.Report) { r.ID = ledger.ID{} }), CodeInvalid, "id"},
		"old":                {change(func(r *ledger.Report) { r.ID = idAt(w.wallMs-ledger.DefaultPolicy().IDWindowMs-1, 9) }), CodeIDExpired, "id"},
		"task":               {change(func(r *ledger.Report) { r.Task = "\n" }), CodeInvalid, "task"},
		"account of another": {change(func(r *ledger.Report) { r.Account = "b" }), CodeForbidden, "account"},
		"no account":         {change(func(r *ledger.Report) { r.Account = "x" }), CodeNotFound, "account"},
		"of a service":       {change(func(r *ledger.Report) { r.Account = "shop" }), CodeForbidden, "account"},
		"no payer":           {change(func(r *ledger.Report) { r.Payer = "x" }), CodeNotFound, "payer"},
		"pays itself":        {change(func(r *ledger.Report) { r.Payer = "a" }), CodeInvalid, "payer"},
		"another agent":      {change(func(r *ledger.Report) { r.AgentID = "b" }), CodeInvalidSignature, "agent_id"},
		"nobody":             {change(func(r *ledger.Report) { r.AgentID = "x" }), CodeUnknownAgent, "agent_id"},
	} {
		if got := w.report(tt.r)[0]; got.Code != tt.code || got.Field != tt.field {
			t.Errorf("%s: %+v, want %s of %s", name, got, tt.code, tt.field)
		}
	}
	good := w.workOf("a", 1_000)
	first := w.wantEntry(w.report(good)[0], CodeOK)
	if got := w.report(good)[0]; !got.Repeated || got.Index != first.Index {
		t.Errorf("once more: %+v", got)
	}
	other := good.Report
	other.DurationMs++
	if got := w.report(other.Sign(privateKey("a"), w.s.Meta().ClusterID))[0]; got.Code != CodeConflict {
		t.Errorf("the same id, another report: %+v", got)
	}
	if _, open := w.s.OldestEpoch(); open {
		t.Error("a report counts that nobody confirmed")
	}
	w.soundLedger()
}

// Who confirms: the payer, an operator, or by policy nobody. Nobody does it twice.
func TestP7LedgerConfirmations(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	payer := Actor{TokenID: "verifier"} // the shop's
	w.confirmedBy(ledger.ConfirmPayer)
	agent := func(id string, ids ...ledger.ID) LedgerResult {
		return w.must(w.do(Actor{NodeID: "n0"}, LedgerConfirm{By: signedBy(id, w.newID()), Reports: w.names(ids...)})).Ledger[0]
	}
	reject := func(by Actor, id ledger.ID) LedgerResult {
		return w.must(w.do(by, LedgerConfirm{Reports: w.names(id), Reject: true})).Ledger[0]
	}
	taken := func() ledger.ID {
		r := w.workOf("a", 1_000)
		w.wantEntry(w.report(r)[0], CodeOK)
		return r.Report.ID
	}
	one := taken()
	w.wantEntry(agent("a", one), CodeForbidden)
	w.wantEntry(agent("b", one), CodeForbidden)
	w.wantEntry(w.confirm(Actor{TokenID: "viewer"}, one)[0], CodeForbidden)
	w.want(w.do(Actor{TokenID: "none"}, LedgerConfirm{Reports: w.names(one)}), CodeUnauthorized)
	first := w.wantEntry(w.confirm(payer, one)[0], CodeOK)
	if again := w.confirm(operator, one)[0]; !again.Repeated || again.Index != first.Index {
		t.Errorf("confirmed again: %+v", again)
	}
	w.wantEntry(reject(payer, one), CodeConflict)
	two := taken()
	w.wantEntry(reject(payer, two), CodeOK)
	w.wantEntry(w.confirm(operator, two)[0], CodeConflict)
	w.wantEntry(w.confirm(operator, w.newID())[0], CodeNotFound)
	if e, _ := w.s.OldestEpoch(); e.Weight != 1_000_000 || e.Accounts != 1 {
		t.Errorf("the epoch is %+v", e)
	}

	p := w.confirmedBy(ledger.ConfirmOperator)
	three := taken()
	w.wantEntry(w.confirm(payer, three)[0], CodeForbidden)
	w.wantEntry(w.confirm(operator, three)[0], CodeOK)
	w.wantEntry(reject(payer, taken()), CodeOK)

	late := taken()
	w.pass(p.ReportKeepMs)
	w.wantEntry(w.confirm(operator, late)[0], CodeOK) // the last moment
	late = taken()
	w.pass(p.ReportKeepMs + 1)
	w.wantEntry(w.confirm(operator, late)[0], CodeNotFound)
	w.mark()
	if n := w.s.Sizes()["ledger_reports"]; n != 0 {
		t.Errorf("%d reports are left", n)
	}

	w.confirmedBy(ledger.ConfirmNobody)
	id := taken()
	if r, ok := w.s.LedgerReport("a", id, w.wallMs); !ok || r.Verdict != ReportConfirmed {
		t.Errorf("by policy it counts at once: %+v", r)
	}
	if open := w.s.OpenEpochs(); len(open) < 2 || open[len(open)-1].Weight != 1_000_000 {
		t.Errorf("open are %+v", open)
	}
	w.soundLedger()
}

// The figures of the reference, its tokens in micro-credits: shares round down, and
// the remainder goes to the reserve.
func TestP7LedgerEpoch(t *testing.T) {
	w := ledgerWorld(t, "acct-1", "acct-2")
	window := ledger.WindowOf(w.wallMs)
	load := ledger.Load{Queued: 10, Agents: 2, CPU: 4, GPU: 1} // index 2; with the reference's pool of 1.25 the shares are below
	w.earn("acct-1", 150_000)
	w.earn("acct-2", 100_000)
	w.earn("acct-1", 50_000)
	closing := LedgerEpochClose{WindowMs: window, Load: load}
	node := Actor{NodeID: "n0"}
	w.want(w.do(node, closing), CodeConflict) // it is not over
	w.toNextEpoch()
	w.want(w.do(operator, closing), CodeForbidden)
	w.want(w.do(Actor{NodeID: "x"}, closing), CodeForbidden)
	w.want(w.do(node, LedgerEpochClose{WindowMs: window, Load: ledger.Load{CPU: -1}}), CodeInvalid)
	w.want(w.do(node, LedgerEpochClose{WindowMs: window + ledger.EpochMs}), CodeConflict)
	w.must(w.do(node, closing))
	w.want(w.do(node, closing), CodeConflict) // at most once
	w.want(w.do(admin, closing), CodeConflict)
	pool := int64(13_500 * ledger.Micro / 24) // 562.5 credits
	w.wantMoney("acct-1", 1_000_000+375_000_000, 0)
	w.wantMoney("acct-2", 1_000_000+187_500_000, 0)
	w.wantMoney(ledger.Reserve, 0, 0)
	w.wantMoney(ledger.Issuance, -3_000_000-pool, 0)

	// The next hour, with thirds, and the smoothed index.
	w.earn("acct-1", 1)
	w.earn("acct-2", 2)
	next := ledger.WindowOf(w.wallMs)
	w.toNextEpoch()
	w.must(w.do(node, LedgerEpochClose{WindowMs: next, Load: ledger.Load{CPU: 1, GPU: 1}})) // index 0.333333, smoothed 1.416667
	book, _ := w.s.LedgerBook()
	if book.Smoothed != 1_416_667 || book.NewestEpoch() != next {
		t.Errorf("the book is %+v", book)
	}
	pool2 := int64(11_458_334_500) / 24 // 10000 × (1 + 0.416667 × 0.35) credits a day
	w.wantMoney("acct-1", 376_000_000+pool2/3, 0)
	w.wantMoney("acct-2", 188_500_000+pool2*2/3, 0)
	w.wantMoney(ledger.Reserve, pool2-pool2/3-pool2*2/3, 0)
	w.want(w.do(node, LedgerEpochClose{WindowMs: next + ledger.EpochMs}), CodeConflict) // nothing was done in it
	w.soundLedger()
}

// Epochs that nobody closed wait in order; each report counts in the one of its confirmation.
func TestP7LedgerEpochsWaitInOrder(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	first := ledger.WindowOf(w.wallMs)
	w.earn("a", 1_000)
	w.toNextEpoch()
	w.earn("b", 1_000)
	w.toNextEpoch()
	node := Actor{NodeID: "n0"}
	w.want(w.do(node, LedgerEpochClose{WindowMs: first + ledger.EpochMs}), CodeConflict)
	for i := range int64(2) {
		w.must(w.do(node, LedgerEpochClose{WindowMs: first + i*ledger.EpochMs}))
	}
	a, _ := w.s.LedgerAccount("a")
	b, _ := w.s.LedgerAccount("b")
	if a.Balance != b.Balance || a.Balance <= 1_000_000 {
		t.Errorf("a has %d, b %d", a.Balance, b.Balance)
	}
	w.soundLedger()
}

func TestP7LedgerEpochsAreBounded(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	for range MaxOpenEpochs {
		w.earn("a", 1)
		w.toNextEpoch()
	}
	r := w.workOf("a", 1)
	w.report(r)
	if got := w.confirm(operator, r.Report.ID)[0]; got.Code != CodeOverloaded || got.Field != "epochs" {
		t.Errorf("with %d open epochs: %+v", MaxOpenEpochs, got)
	}
	oldest, _ := w.s.OldestEpoch()
	w.must(w.do(admin, LedgerEpochClose{WindowMs: oldest.WindowMs}))
	w.wantEntry(w.confirm(operator, r.Report.ID)[0], CodeOK)
	w.soundLedger()
}

// manyEarners has accounts that earned different weights in the present hour, put
// there directly.
func manyEarners(w *world, n int) {
	window := ledger.WindowOf(w.s.ClockMs())
	e := OpenEpoch{WindowMs: window, Accounts: uint64(n)}
	for i := range n {
		id := fmt.Sprintf("account-%05d", i)
		w.s.agents.put(id, Agent{ID: id, State: AgentActive})
		w.s.ledger.accounts.add(LedgerAccount{Account: ledger.Account{ID: id, Kind: ledger.KindAgent, Owner: id}})
		weight := int64(i)*7_919 + 1
		e.Weight += weight
		w.s.ledger.weights.put(epochKey(window)+id, EpochWeight{Account: id, Weight: weight})
	}
	w.s.ledger.epochs.put(epochKey(window), e)
}

// The largest epoch is one entry: its shares and the remainder are its pool, to the
// last micro-credit.
func TestP7LedgerRemaindersSumExactly(t *testing.T) {
	w := ledgerWorld(t, "a")
	manyEarners(w, MaxEpochAccounts)
	r := w.workOf("a", 1)
	w.report(r)
	if got := w.confirm(operator, r.Report.ID)[0]; got.Code != CodeOverloaded || got.Field != "accounts" {
		t.Errorf("one more account: %+v", got)
	}
	issued, _ := w.s.LedgerAccount(ledger.Issuance)
	e, _ := w.s.OldestEpoch()
	w.toNextEpoch()
	w.must(w.do(admin, LedgerEpochClose{WindowMs: e.WindowMs, Load: ledger.Load{Queued: 7, CPU: 3}}))
	pool := ledger.DefaultPolicy().Pool(2_333_333)
	var paid, least int64
	for _, a := range w.s.LedgerAccounts("account-", MaxEpochAccounts) {
		paid += a.Balance
		if a.Balance == 0 {
			least++
		}
	}
	reserve, _ := w.s.LedgerAccount(ledger.Reserve)
	after, _ := w.s.LedgerAccount(ledger.Issuance)
	if paid+reserve.Balance != pool || issued.Balance-after.Balance != pool || reserve.Balance < 1 || reserve.Balance >= MaxEpochAccounts || least != 1 {
		t.Errorf("paid %d and %d to the reserve of a pool of %d, issued %d; %d earned nothing", paid, reserve.Balance, pool, issued.Balance-after.Balance, least)
	}
	if err := w.s.ledgerFaults(); err != nil || w.s.Digest() != w.s.FullDigest() {
		t.Error(err)
	}
	if n := w.s.Sizes(); n["ledger_weights"] != 0 || n["ledger_epochs"] != 0 {
		t.Errorf("left are %v", n)
	}
}

// What cannot be issued is not: the pool is what is left.
func TestP7LedgerEpochBeyondAllMoney(t *testing.T) {
	w := ledgerWorld(t, "a")
	w.earn("a", 1_000)
	e, _ := w.s.OldestEpoch()
	w.toNextEpoch()
	w.wantEntry(w.issue("shop", ledger.MaxMicro-2_000_000-5), CodeOK)
	left, _ := w.s.LedgerAccount(ledger.Issuance)
	w.must(w.do(admin, LedgerEpochClose{WindowMs: e.WindowMs}))
	w.wantMoney("a", 1_000_000+left.Available(), 0)
	w.earn("a", 1_000)
	w.pass(ledger.EpochMs)
	e, _ = w.s.OldestEpoch()
	w.must(w.do(admin, LedgerEpochClose{WindowMs: e.WindowMs})) // a pool of nothing
	w.soundLedger()
}

// confirmedBy sets who confirms reports.
func (w *world) confirmedBy(who ledger.Confirm) ledger.Policy {
	w.t.Helper()
	book, _ := w.s.LedgerBook()
	p := book.Policy
	p.Confirm = who
	w.must(w.do(admin, LedgerPolicySet{IfVersion: p.Version, Policy: p}))
	p.Version++
	return p
}

// closeOldest closes the oldest epoch when it is over.
func (w *world) closeOldest() OpenEpoch {
	w.t.Helper()
	e, open := w.s.OldestEpoch()
	if !open {
		w.t.Fatal("no epoch is open")
	}
	w.pass(max(0, e.WindowMs+ledger.EpochMs-w.wallMs))
	w.must(w.do(admin, LedgerEpochClose{WindowMs: e.WindowMs}))
	return e
}

// An epoch has one name for ever: what is confirmed after the clock was set back
// counts in none that was closed while it ran ahead.
func TestP7LedgerEpochIsClosedOnce(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	w.s.meta.v.Level = LevelLedger
	start := w.wallMs
	w.jump(start + 2*ledger.EpochMs)
	w.mark()
	w.earn("a", 1_000)
	first := w.closeOldest()
	w.must(w.setBack(start + 5_000))
	for w.wallMs < first.WindowMs+1_000 {
		w.pass(ledger.EpochMs / 4)
	}
	w.earn("b", 1_000)
	if again := w.closeOldest(); again.WindowMs != first.WindowMs+ledger.EpochMs {
		t.Errorf("the epoch of %d was closed, and work counts in that of %d", first.WindowMs, again.WindowMs)
	}
	w.soundLedger()
}

// A clock that ran hours ahead for two of them leaves the hours between open: what is
// confirmed in each of them counts there.
func TestP7LedgerIssuanceGoesOnAfterASetBack(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	w.raiseTo(LevelLedger)
	first := ledger.WindowOf(w.s.ClockMs())
	w.earn("a", 1_000)
	w.closeOldest()
	w.jump(first + 21*ledger.EpochMs)
	w.earn("a", 1_000)
	w.closeOldest()
	w.must(w.setBack(first + ledger.EpochMs + 300_000))
	for h := range int64(3) {
		w.jump(first + (h+1)*ledger.EpochMs + 1_200_000)
		w.earn("a", 1_000)
		if e := w.closeOldest(); e.WindowMs != first+(h+1)*ledger.EpochMs {
			t.Errorf("hour %d counts in that of %d", h+1, (e.WindowMs-first)/ledger.EpochMs)
		}
	}
	w.soundLedger()
}

// What was confirmed while the clock ran years ahead is paid when it is set back.
func TestP7LedgerEpochsAheadAreBroughtBack(t *testing.T) {
	const yearMs = 365 * 24 * ledger.EpochMs
	w := ledgerWorld(t, "a", "b")
	w.s.meta.v.Level = LevelLedger
	start := w.wallMs
	w.earn("b", 1_000)
	w.jump(start + 10*yearMs)
	w.mark()
	w.earn("a", 1_000)
	w.pass(ledger.EpochMs)
	w.earn("a", 2_000)
	w.must(w.setBack(start + 5_000))
	for i, e := range w.s.OpenEpochs() {
		if want := ledger.WindowOf(start) + int64(i)*ledger.EpochMs; e.WindowMs != want {
			t.Errorf("open epoch %d is that of %d, want %d", i, e.WindowMs, want)
		}
	}
	for range 3 {
		w.closeOldest()
	}
	if a, _ := w.s.LedgerAccount("a"); a.Balance <= 1_000_000 {
		t.Error("a was not paid")
	}
	w.soundLedger()
}

// An account that cannot take its share keeps nobody from being paid.
func TestP7LedgerFullAccountStopsNobody(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	w.must(w.do(admin, LedgerAccountSet{ID: "credit", Kind: ledger.KindService, Owner: "verifier", Floor: -ledger.MaxMicro}))
	w.wantEntry(w.entry(w.transferOf("credit", "a", ledger.MaxMicro-1_000_005)), CodeOK)
	w.earn("a", 1_000)
	w.earn("b", 1_000)
	w.closeOldest()
	w.wantMoney("a", ledger.MaxMicro, 0)
	pool := ledger.DefaultPolicy().Pool(200_000)
	w.wantMoney("b", 1_000_000+pool/2, 0)
	w.wantMoney(ledger.Reserve, pool-pool/2-5, 0)
	w.soundLedger()
}

// The cluster's own accounts pay for nothing: nobody speaks for them.
func TestP7LedgerSystemAccountsPayForNothing(t *testing.T) {
	w := ledgerWorld(t, "a")
	for _, payer := range []string{ledger.Reserve, ledger.Issuance} {
		r := w.workOf("a", 1_000).Report
		r.Payer = payer
		if got := w.report(r.Sign(privateKey("a"), w.s.Meta().ClusterID))[0]; got.Code != CodeInvalid || got.Field != "payer" {
			t.Errorf("%s pays: %+v", payer, got)
		}
	}
}

// A payer that has nothing and an agent of its own take no more of an epoch than one
// account may count, and never shut out anybody else.
func TestP7LedgerColludersTakeTheirShareOnly(t *testing.T) {
	w := ledgerWorld(t, "good", "evil")
	p := w.confirmedBy(ledger.ConfirmPayer)
	w.must(w.do(operator, LedgerAccountSet{ID: "broke", Kind: ledger.KindService, Owner: "verifier"}))
	claim := func(durationMs int64) LedgerResult {
		x := ledger.Report{ID: w.newID(), AgentID: "evil", Account: "evil", Payer: "broke", Task: "x", Class: ledger.ClassGPU, DurationMs: durationMs, OK: true}
		w.wantEntry(w.report(x.Sign(privateKey("evil"), w.s.Meta().ClusterID))[0], CodeOK)
		return w.confirm(Actor{TokenID: "verifier"}, x.ID)[0]
	}
	w.wantEntry(claim(ledger.MaxReportMs), CodeOK)
	if got := claim(1); got.Code != CodeOverflow || got.Field != "weight" {
		t.Errorf("beyond what an account may count: %+v", got)
	}
	w.earn("good", 3_600_000)
	if e, _ := w.s.OldestEpoch(); e.Weight != p.MaxWeight+3_600*ledger.Micro {
		t.Errorf("the epoch has a weight of %d", e.Weight)
	}
	p.MaxWeight = ledger.MaxWeightBound + 1
	w.want(w.do(admin, LedgerPolicySet{IfVersion: p.Version, Policy: p}), CodeInvalid)
	p.MaxWeight = ledger.Micro
	w.must(w.do(admin, LedgerPolicySet{IfVersion: p.Version, Policy: p}))
	if got := w.report(w.workOf("good", 1_001))[0]; got.Code != CodeInvalid || got.Field != "duration_ms" {
		t.Errorf("a report that never could count: %+v", got)
	}
	w.soundLedger()
}

// A payer has nothing count for an agent that may not act, nor on a frozen account;
// an operator does. What it earned before goes to the reserve.
func TestP7LedgerRevokedAgentEarnsNothing(t *testing.T) {
	w := ledgerWorld(t, "a", "b", "c")
	w.confirmedBy(ledger.ConfirmPayer)
	payer := Actor{TokenID: "verifier"}
	of := func(agent string) ledger.ID {
		r := w.workOf(agent, 1_000)
		w.wantEntry(w.report(r)[0], CodeOK)
		return r.Report.ID
	}
	freeze := func(id string, kind ledger.AccountKind, owner string, frozen bool) {
		w.must(w.do(operator, LedgerAccountSet{ID: id, Kind: kind, Owner: owner, Frozen: frozen}))
	}
	one, two := of("a"), of("b")
	w.earn("a", 1_000)
	w.earn("b", 1_000)
	w.earn("c", 1_000)
	w.must(w.do(admin, AgentSetState{AgentID: "a", State: AgentRevoked}))
	w.wantEntry(w.confirm(payer, one)[0], CodeAgentNotActive)
	freeze("b", ledger.KindAgent, "b", true)
	w.wantEntry(w.confirm(payer, two)[0], CodeAccountFrozen)
	freeze("shop", ledger.KindService, "verifier", true)
	three := of("c")
	if got := w.confirm(payer, three)[0]; got.Code != CodeAccountFrozen || got.Field != "payer" {
		t.Errorf("a frozen payer confirms: %+v", got)
	}
	w.wantEntry(w.confirm(operator, three)[0], CodeOK)
	w.closeOldest()
	w.wantMoney("a", 1_000_000, 0)
	w.wantMoney("b", 1_000_000, 0)
	pool := ledger.DefaultPolicy().Pool(200_000)
	w.wantMoney("c", 1_000_000+pool/2, 0)
	w.wantMoney(ledger.Reserve, pool/2, 0)
	w.soundLedger()
}
