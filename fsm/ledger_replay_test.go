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
		return w.must(w.do(leader, LedgerConfirm{By: by, IDs: []ledger.ID{r.ID}})).Ledger[0]
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
