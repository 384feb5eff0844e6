package fsm

import (
	"testing"

	"github.com/edgecoder/edgecoder/ledger"
)

// What one caller leaves linked is no matter of the next one's entries, neither new
// ones nor one that took effect and is asked for again.
func TestP7LedgerChainEndsWithItsCaller(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	before := w.transferOf("a", "b", 5)
	w.wantEntry(w.entry(before), CodeOK)
	left := w.transferOf("shop", "b", 1).Entries[0]
	again, fresh := before.Entries[0], w.transferOf("a", "b", 7).Entries[0]
	left.Linked = true
	again.Caller, again.Debit, again.Linked = 1, 2, true
	fresh.Caller, fresh.Debit = 2, 2
	merged := LedgerBatch{Callers: []LedgerCaller{{TokenID: "verifier"}, {TokenID: "operator"}, {TokenID: "operator"}},
		Accounts: []string{"shop", "b", "a"}, Entries: []LedgerEntry{left, again, fresh}}
	got := w.wantCodes(merged, CodeInvalid, CodeOK, CodeOK)
	if got[0].Field != "linked" || !got[1].Repeated || got[2].Repeated {
		t.Errorf("answered %+v", got)
	}
	w.soundLedger()
}

// A chain whose ids straddle the edge of the window may have taken effect: no entry
// of it is answered as if certainly nothing did.
func TestP7LedgerChainAtTheEdgeOfTheWindow(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	b := w.transferOf("a", "b", 5)
	b.Entries = append(b.Entries, w.transferOf("a", "b", 5).Entries[0], w.transferOf("a", "b", 5).Entries[0])
	b.Entries[0].Linked, b.Entries[1].Linked = true, true
	w.ids++
	b.Entries[1].ID = idAt(w.wallMs-60_000, w.ids)
	w.wantCodes(b, CodeOK, CodeOK, CodeOK)
	w.pass(ledger.DefaultPolicy().IDWindowMs - 30_000)
	for i, got := range w.wantCodes(b, CodeIDExpired, CodeIDExpired, CodeIDExpired) {
		if got.Code.NeverMoved() {
			t.Errorf("entry %d is answered %s", i, got.Code)
		}
	}
	w.wantMoney("a", 999_985, 0)
}

// Ids are each caller's own: whoever takes one first takes it from nobody else.
func TestP7LedgerIDsAreOfTheirCaller(t *testing.T) {
	w := ledgerWorld(t, "a", "evil")
	id, _ := ledger.NamedID(w.wallMs, "task-7")
	x := ledger.Report{ID: id, AgentID: "evil", Account: "evil", Payer: "shop", Task: "task-7", Class: ledger.ClassCPU, DurationMs: 1}
	w.wantEntry(w.report(x.Sign(privateKey("evil"), w.s.Meta().ClusterID))[0], CodeOK)
	pay := func(b LedgerBatch) LedgerResult {
		b.Entries[0].ID = id
		return w.entry(b)
	}
	w.wantEntry(pay(w.transferOf("shop", "a", 5)), CodeOK)
	w.wantEntry(pay(by("a", w.transferOf("a", "shop", 3))), CodeOK)
	w.wantEntry(pay(w.transferOf("shop", "a", 6)), CodeConflict)
	w.wantMoney("a", 1_000_002, 0)
	// What waits for its end is ended by its id alone: that one is taken for all.
	hold := w.holdOf("shop", "a", 5, 60_000)
	w.wantEntry(w.entry(hold), CodeOK)
	other := by("a", w.holdOf("a", "shop", 5, 60_000))
	other.Entries[0].ID = hold.Entries[0].ID
	w.wantEntry(w.entry(other), CodeConflict)
	w.soundLedger()
}
