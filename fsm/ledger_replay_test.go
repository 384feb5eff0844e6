package fsm

import (
	"testing"

	"github.com/edgecoder/edgecoder/ledger"
)

// What an agent signed and was refused moves nothing later, whoever sends it again:
// its request was decided. A new request may ask under the same id.
func TestP7LedgerRefusedRequestsAreOver(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	w.confirmedBy(ledger.ConfirmPayer)
	pending := w.holdOf("a", "b", 100, 60_000)
	w.wantEntry(w.entry(pending), CodeOK)
	frozen := func(yes bool) {
		w.must(w.do(operator, LedgerAccountSet{ID: "a", Kind: ledger.KindAgent, Owner: "a", Frozen: yes}))
	}
	frozen(true)
	post := by("a", w.endOf(LedgerPost, pending.Entries[0].ID, 100))
	refused := []LedgerBatch{by("a", w.transferOf("a", "b", 5)), by("a", w.holdOf("a", "b", 5, 60_000)), post}
	for _, b := range refused {
		w.wantEntry(w.entry(b), CodeAccountFrozen)
	}
	void := by("b", w.endOf(LedgerVoid, w.newID(), 0))
	w.wantEntry(w.entry(void), CodeNotFound)
	frozen(false)
	for i, b := range refused {
		if got := w.wantEntry(w.entry(b), CodeReplay); !got.Code.NeverMoved() {
			t.Errorf("%d: %+v", i, got)
		}
	}
	void.Entries[0].Hold = pending.Entries[0].ID // not what was signed, but the same request
	w.wantEntry(w.entry(void), CodeReplay)
	w.wantMoney("a", 1_000_000, 100)

	anew := refused[0]
	anew.Callers = []LedgerCaller{signedBy("a", w.newID())}
	first := w.wantEntry(w.entry(anew), CodeOK)
	for _, b := range []LedgerBatch{anew, refused[0]} { // what took effect is answered as it was
		if again := w.wantEntry(w.entry(b), CodeOK); !again.Repeated || again.Index != first.Index {
			t.Errorf("%+v", again)
		}
	}
	stale := by("a", w.transferOf("a", "b", 5))
	w.pass(w.s.Policy().MaxSkewMs + 1)
	w.wantEntry(w.entry(stale), CodeTimestampSkew)
	w.want(w.doAt(w.wallMs, operator, &Idempotency{Key: [32]byte{1}, Body: [32]byte{1}}, by("a", w.transferOf("a", "b", 5))), CodeInvalid)
	w.soundLedger()
}

// Nor does a confirmation that was refused have work count later.
func TestP7LedgerRefusedConfirmationsAreOver(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	w.confirmedBy(ledger.ConfirmPayer)
	r := w.workOf("a", 1_000).Report
	r.Payer = "b"
	w.wantEntry(w.report(r.Sign(privateKey("a"), w.s.Meta().ClusterID))[0], CodeOK)
	ask := func(by LedgerCaller) LedgerResult {
		return w.must(w.do(leader, LedgerConfirm{By: by, Reports: w.names(r.ID)})).Ledger[0]
	}
	captured := signedBy("b", w.newID())
	w.must(w.do(operator, LedgerAccountSet{ID: "a", Kind: ledger.KindAgent, Owner: "a", Frozen: true}))
	w.wantEntry(ask(captured), CodeAccountFrozen)
	w.must(w.do(operator, LedgerAccountSet{ID: "a", Kind: ledger.KindAgent, Owner: "a"}))
	w.wantEntry(ask(captured), CodeReplay)
	if _, open := w.s.OldestEpoch(); open {
		t.Error("a confirmation that was refused counts when it is sent again")
	}
	w.wantEntry(ask(signedBy("b", w.newID())), CodeOK)
	w.soundLedger()
}

// A payer confirms what it has seen: neither another agent's report of the same id, nor
// another one of the same agent, counts for it. What waits for its word is listed.
func TestP7LedgerConfirmationsNameTheContent(t *testing.T) {
	w := ledgerWorld(t, "a", "thief")
	w.confirmedBy(ledger.ConfirmPayer)
	payer := Actor{TokenID: "verifier"}
	honest := w.workOf("a", 1_000)
	stolen := honest.Report
	stolen.AgentID, stolen.Account, stolen.DurationMs = "thief", "thief", ledger.MaxReportMs
	w.wantEntry(w.report(stolen.Sign(privateKey("thief"), w.s.Meta().ClusterID))[0], CodeOK)
	w.wantEntry(w.report(honest)[0], CodeOK) // ids are each agent's own
	name := ReportName{AgentID: "a", ID: honest.Report.ID, Sum: honest.Report.Sum()}
	ask := func(name ReportName) LedgerResult {
		return w.must(w.do(payer, LedgerConfirm{Reports: []ReportName{name}})).Ledger[0]
	}
	other := name
	other.AgentID = "thief"
	if got := w.wantEntry(ask(other), CodeConflict); got.Field != "sum" {
		t.Errorf("%+v", got)
	}
	owed := w.s.ReportsOwed("shop", nil, 5)
	if len(owed) != 2 || owed[0].Report != honest.Report || w.s.PendingReports() != 2 {
		t.Fatalf("the shop is asked for %+v", owed)
	}
	if more := w.s.ReportsOwed("shop", &name, 1); len(more) != 1 || more[0].Report != stolen {
		t.Errorf("behind the first: %+v", more)
	}
	w.wantEntry(ask(name), CodeOK)
	if e, _ := w.s.OldestEpoch(); e.Weight != honest.Report.Weight() || e.Accounts != 1 {
		t.Errorf("%+v counts", e)
	}
	back, _ := restored(t, snapshotOf(t, w.s, w.history))
	for _, s := range []*State{w.s, back} {
		if owed := s.ReportsOwed("shop", nil, 5); len(owed) != 1 || owed[0].AgentID != "thief" || len(s.ReportsOwed("sho", nil, 5)) != 0 {
			t.Errorf("%+v", owed)
		}
	}
	w.pass(ledger.DefaultPolicy().ReportKeepMs + 1)
	w.mark()
	if n := w.s.PendingReports(); n != 0 {
		t.Errorf("%d wait", n)
	}
	w.soundLedger()
}
