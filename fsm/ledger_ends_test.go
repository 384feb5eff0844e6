package fsm

import (
	"slices"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/ledger"
)

var verifierCaller = LedgerCaller{TokenID: "verifier"}

// sameHold is a hold of a given id and end.
func (w *world) sameHold(who LedgerCaller, from, to string, amount int64, id ledger.ID, endMs int64) LedgerBatch {
	b := w.holdOf(from, to, amount, 0)
	b.Callers = []LedgerCaller{who}
	b.Entries[0].ID, b.Entries[0].ExpiresMs = id, endMs
	return b
}

// wantEnds holds what is derived against the rows: one ending each, in both heaps.
func (w *world) wantEnds() {
	w.t.Helper()
	l := w.s.ledger
	if n := l.holds.size(); l.holdEnds.Len() != n || len(l.holdEnds.of) != n {
		w.t.Fatalf("%d and %d endings of %d holds", l.holdEnds.Len(), len(l.holdEnds.of), n)
	}
	if n := l.reports.size(); l.reportEnds.Len() != n || len(l.reportEnds.of) != n {
		w.t.Fatalf("%d and %d endings of %d reports", l.reportEnds.Len(), len(l.reportEnds.of), n)
	}
	onAccounts := 0
	for id, row := range l.accounts.m {
		for at, e := range row.ends.list {
			h, ok := l.holds.get(e.key)
			if !ok || h.Debit != id || h.ExpiresMs != e.atMs || e.place[heapOfAccount] != at || l.holdEnds.list[e.place[heapOfAll]] != e {
				w.t.Fatalf("account %s has an ending of %x at %d: the hold is %+v", id, e.key, e.atMs, h)
			}
		}
		onAccounts += row.ends.Len()
	}
	if onAccounts != l.holds.size() {
		w.t.Fatalf("%d endings on accounts of %d holds", onAccounts, l.holds.size())
	}
}

// What is left of a hold that was voided must not release another of the same id and
// end, which somebody else made on its own account; and a replica that never saw the
// first one records the same.
func TestP7LedgerEndOfOneHoldIsNotAnothers(t *testing.T) {
	w := ledgerWorld(t, "x", "y")
	id, end := w.newID(), w.s.ClockMs()+5_000
	w.wantEntry(w.entry(w.sameHold(verifierCaller, "shop", "x", 1, w.newID(), end+100_000)), CodeOK)
	w.wantEntry(w.entry(w.sameHold(verifierCaller, "shop", "x", 1, id, end)), CodeOK)
	w.wantEntry(w.entry(w.endOf(LedgerVoid, id, 0)), CodeOK)
	w.wantEntry(w.entry(w.sameHold(signedBy("y", id), "y", "shop", 1_000_000, id, end)), CodeOK)
	w.wantEnds()
	other := copyState(t, w.s)
	w.wallMs = end
	from := len(w.log)
	short := w.transferOf("shop", "x", 5_000_000)
	w.want(w.doAt(end, operator, &Idempotency{Key: crypto.Hash{1}, Body: crypto.Hash{1}}, short), CodeInsufficient)
	w.wantMoney("shop", 1_000_000, 1)
	w.wantMoney("y", 1_000_000, 0)
	w.wantEntry(w.entry(by("y", w.transferOf("y", "x", 2_000_000))), CodeInsufficient)
	w.wantEnds()
	w.soundLedger()
	replay(t, other, w.log[from:])
}

// Holds that come and go leave nothing behind, however many accounts there are.
func TestP7LedgerEndedHoldsLeaveNothing(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	w.wantEntry(w.entry(w.sameHold(verifierCaller, "shop", "a", 1, w.newID(), w.s.ClockMs()+600_000)), CodeOK)
	for round := range 4 {
		b := LedgerBatch{Callers: []LedgerCaller{verifierCaller}, Accounts: []string{"shop", "a"}}
		for n := range 200 {
			hold := LedgerEntry{Op: LedgerHold, ID: w.newID(), Credit: 1, Amount: 1, ExpiresMs: w.s.ClockMs() + int64(1_000+n%7)}
			b.Entries = append(b.Entries, hold)
			if n%3 > 0 {
				b.Entries = append(b.Entries, LedgerEntry{Op: LedgerPost + LedgerOp(n%2), ID: w.newID(), Hold: hold.ID})
			}
		}
		if round == 2 { // and a chain that is undone
			for i := range b.Entries {
				b.Entries[i].Linked = true
			}
		}
		w.entries(b)
		w.wantEnds()
		w.wallMs += 2_000
	}
	w.mark()
	if n := w.s.ledger.holds.size(); n != 1 {
		t.Errorf("%d holds are left of one", n)
	}
	w.wantEnds()
	w.soundLedger()
}

// expired counts the holds that the last entry of the log gave back.
func (w *world) expired() (n int) {
	for _, r := range w.log[len(w.log)-1].records {
		if rec, err := ledger.ParseRecord(r.Data); err == nil && rec.Kind == ledger.KindExpire {
			n++
		}
	}
	return n
}

// One entry gives back a bounded number, whoever asks for how much: who comes behind
// them asks again, and is served.
func TestP7LedgerReleasesHaveOneBudget(t *testing.T) {
	w := ledgerWorld(t, "a", "b", "c")
	end := w.s.ClockMs() + 50_000
	for _, id := range []string{"a", "b", "c"} {
		for range 3 {
			b := LedgerBatch{Callers: []LedgerCaller{{TokenID: "operator"}}, Accounts: []string{id, "shop"}}
			for range 3_000 {
				b.Entries = append(b.Entries, LedgerEntry{Op: LedgerHold, ID: w.newID(), Credit: 1, Amount: 1, ExpiresMs: end})
			}
			w.entries(b)
		}
	}
	w.wallMs = end
	all := LedgerBatch{Callers: []LedgerCaller{{TokenID: "operator"}, {TokenID: "viewer"}}, Accounts: []string{"a", "b", "c", "shop"}}
	for n := range 3 {
		all.Entries = append(all.Entries, LedgerEntry{Op: LedgerTransfer, ID: w.newID(), Debit: uint16(n), Credit: 3, Amount: 1_000_000})
	}
	stranger := slices.Clone(all.Entries)
	for i := range stranger {
		stranger[i].Caller = 1
	}
	w.wantCodes(LedgerBatch{Callers: all.Callers, Accounts: all.Accounts, Entries: stranger}, CodeForbidden, CodeForbidden, CodeForbidden)
	if n := w.expired(); n != MaxReleases/2 {
		t.Errorf("for somebody who may not take from the accounts %d are given back", n)
	}
	busy := 0
	for tries := range 10 {
		got := w.entries(all)
		if n := w.expired(); n > MaxReleases {
			t.Fatalf("one entry gives back %d", n)
		}
		done := true
		for _, r := range got {
			if r.Code == CodeOverloaded && r.Field == "debit" {
				busy++
				done = false
			} else {
				w.wantEntry(r, CodeOK)
			}
		}
		if done {
			break
		}
		if tries == 9 {
			t.Fatal("who asks again is never served")
		}
	}
	if busy == 0 {
		t.Error("nobody had to wait: the test shows nothing")
	}
	w.wantEnds()
	w.soundLedger()
}

// What is over is given back once, also for calls under a key that are refused again
// and again.
func TestP7LedgerKeyedRefusalReleasesOnce(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	w.manyHolds(1_000, 50_000, LedgerCaller{AgentID: "a", Key: keyRef("a")})
	w.wallMs += 50_000
	for n := range 3 {
		idem := &Idempotency{Key: crypto.Hash{1, byte(n)}, Body: crypto.Hash{1}}
		w.want(w.doAt(w.wallMs, operator, idem, w.transferOf("a", "b", 2_000_000)), CodeInsufficient)
		if got, want := w.expired(), []int{1_000, 0, 0}[n]; got != want {
			t.Errorf("refusal %d gives back %d, want %d", n, got, want)
		}
	}
	w.wantMoney("a", 1_000_000, 0)
	w.soundLedger()
}
