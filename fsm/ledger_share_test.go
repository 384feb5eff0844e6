package fsm

import (
	"fmt"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/ledger"
)

// manyHolds sets a micro-credit aside so often.
func (w *world) manyHolds(n int, lifeMs int64, who LedgerCaller) (last LedgerResult) {
	w.t.Helper()
	for n > 0 {
		if who.AgentID != "" { // who signs each batch
			who = signedBy(who.AgentID, w.newID())
		}
		b := LedgerBatch{Callers: []LedgerCaller{who}, Accounts: []string{"a", "b"}}
		for range min(n, MaxLedgerEntries) {
			b.Entries = append(b.Entries, LedgerEntry{Op: LedgerHold, ID: w.newID(), Credit: 1, Amount: 1, ExpiresMs: w.s.ClockMs() + lifeMs})
		}
		got := w.entries(b)
		n, last = n-len(got), got[len(got)-1]
	}
	return last
}

// fillHolds has an agent make holds until there is no room for one more.
func (w *world) fillHolds(agent string) (n int) {
	w.t.Helper()
	for {
		b := LedgerBatch{Accounts: []string{agent, "shop"}}
		for range 100 {
			b.Entries = append(b.Entries, LedgerEntry{Op: LedgerHold, ID: w.newID(), Credit: 1, Amount: 1, ExpiresMs: w.s.ClockMs() + 60_000})
		}
		for _, got := range w.entries(by(agent, b)) {
			if got.Code != CodeOK {
				if got.Code != CodeOverloaded || got.Field != "hold" {
					w.t.Fatalf("beyond its share: %+v", got)
				}
				return n
			}
			n++
		}
	}
}

// However much few agents take of all holds, others have room, services more of it, and
// operators the last tenth.
func TestP7LedgerHoldsAreShared(t *testing.T) {
	greedy := []string{"a", "b", "c", "d", "e", "f"}
	w := ledgerWorld(t, append(greedy, "late")...)
	w.s.ledger.holds.cap = 6_000
	last := 6_000
	for _, id := range greedy {
		n := w.fillHolds(id)
		if n >= last || n < fewRows {
			t.Errorf("%s takes %d, who came before %d", id, n, last)
		}
		last = n
	}
	service := func() LedgerResult {
		b := w.holdOf("shop", "a", 1, 60_000)
		b.Callers = []LedgerCaller{verifierCaller}
		return w.entry(b)
	}
	w.wantEntry(service(), CodeOK)
	w.wantEntry(w.entry(by("late", w.holdOf("late", "a", 1, 60_000))), CodeOK)
	w.s.ledger.holds.cap = w.s.ledger.holds.size() * 10 / 6
	w.wantEntry(w.entry(by("late", w.holdOf("late", "a", 1, 60_000))), CodeOverloaded)
	w.wantEntry(service(), CodeOK)
	w.s.ledger.holds.cap = w.s.ledger.holds.size() + 1
	w.wantEntry(service(), CodeOverloaded)
	w.wantEntry(w.entry(w.holdOf("b", "a", 1, 60_000)), CodeOK)
	w.wantEntry(w.entry(w.holdOf("b", "a", 1, 60_000)), CodeOverloaded)
	w.soundLedger()
}

func TestP7LedgerIDsAreShared(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	name := idCallerOf(agentName("a"))
	w.s.ledger.ids.callers[name] = MaxAgentIDs
	if got := w.entry(by("a", w.transferOf("a", "b", 1))); got.Code != CodeOverloaded || got.Field != "id" {
		t.Errorf("beyond its share: %+v", got)
	}
	w.wantEntry(w.entry(by("b", w.transferOf("b", "a", 1))), CodeOK)
	w.s.ledger.ids.limit = w.s.ledger.ids.size() + 1
	w.wantEntry(w.entry(by("b", w.transferOf("b", "a", 1))), CodeOverloaded)
	w.wantEntry(w.entry(w.transferOf("b", "a", 1)), CodeOK)
}

// One agent takes its share of all reports, and what is decided makes room when ids
// of its time are forgotten, not when nobody would have asked about it any more.
func TestP7LedgerReportsAreShared(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	var reports []ledger.SignedReport
	var ids []ledger.ID
	for range MaxAccountReports {
		r := w.workOf("a", 1).Report
		reports, ids = append(reports, ledger.SignedReport{Report: r, Key: publicKey("a"), ClusterID: w.s.Meta().ClusterID}), append(ids, r.ID)
	}
	for _, got := range w.report(reports...) {
		w.wantEntry(got, CodeOK)
	}
	if got := w.report(w.workOf("a", 1))[0]; got.Code != CodeOverloaded || got.Field != "reports" {
		t.Errorf("beyond its share: %+v", got)
	}
	w.wantEntry(w.report(w.workOf("b", 1))[0], CodeOK)
	w.must(w.do(operator, LedgerConfirm{Reports: w.names(ids...), Reject: true}))
	w.pass(ledger.DefaultPolicy().IDWindowMs + 1)
	w.wantEntry(w.report(w.workOf("a", 1))[0], CodeOK)
}

// Few agents leave others room for reports, one payer leaves it to others.
func TestP7LedgerReportsOfFewLeaveRoom(t *testing.T) {
	greedy := []string{"a", "b", "c", "d", "e", "f"}
	w := ledgerWorld(t, append(greedy, "late")...)
	l := w.s.ledger
	l.reports.cap = 2_000
	last := 2_000
	for _, id := range greedy {
		n := 0
		for {
			r := w.workOf("a", 1).Report
			r.AgentID, r.Account = id, id
			if got := w.report(ledger.SignedReport{Report: r, Key: publicKey(id), ClusterID: w.s.Meta().ClusterID})[0]; got.Code != CodeOK {
				w.wantEntry(got, CodeOverloaded)
				break
			}
			n++
		}
		if n > last || n < fewRows {
			t.Errorf("%s takes %d, who came before %d", id, n, last)
		}
		last = n
	}
	w.wantEntry(w.report(w.workOf("late", 1))[0], CodeOK)
	if pays := l.accounts.get("shop").pays; pays != l.reports.size() {
		t.Errorf("the shop pays for %d of %d reports", pays, l.reports.size())
	}
	few, some := &ledgerRow{reports: fewRows - 1}, &ledgerRow{reports: fewRows}
	for _, pays := range []int{0, 1_000} {
		payer := &ledgerRow{pays: pays}
		if !l.roomForReport(few, payer) || l.roomForReport(some, payer) != (pays == 0) {
			t.Errorf("of a payer of %d: %t for who has few, %t for others", pays, l.roomForReport(few, payer), l.roomForReport(some, payer))
		}
	}
}

// The digest of what changed is brought up to date as it grows, not at a mark.
func TestP7LedgerMarkHasFewAccountsToHash(t *testing.T) {
	w := ledgerWorld(t, "a")
	for i := range maxDirtyAccounts {
		w.s.ledger.accounts.add(LedgerAccount{Account: ledger.Account{ID: fmt.Sprintf("%08d", i), Kind: ledger.KindService, Owner: "x"}})
	}
	w.wantEntry(w.entry(w.transferOf("shop", "a", 1)), CodeOK)
	if n := len(w.s.ledger.accounts.dirty); n > maxDirtyAccounts {
		t.Errorf("%d accounts are left to hash", n)
	}
	if w.s.Digest() != w.s.FullDigest() {
		t.Error("the digest kept is not that of the contents")
	}
}

// A hold that is over holds nothing, whatever stands in front of it, under a key too.
func TestP7LedgerEndedHoldHoldsNothing(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	w.manyHolds(2*MaxReleases, 50_000, LedgerCaller{TokenID: "operator"})
	for _, id := range []string{"shop", "b"} {
		w.wantEntry(w.entry(w.holdOf(id, "a", 1_000_000, 50_001)), CodeOK)
	}
	w.wallMs += 50_001
	w.wantEntry(w.entry(w.transferOf("shop", "a", 5)), CodeOK)
	idem := &Idempotency{Key: crypto.Hash{1}, Body: crypto.Hash{1}}
	w.must(w.doAt(w.wallMs, operator, idem, w.transferOf("b", "a", 5)))
	w.wantMoney("b", 999_995, 0)
	w.soundLedger()
}

// No mark does more than a bounded part of what is over.
func TestP7LedgerMarksAreBounded(t *testing.T) {
	w := ledgerWorld(t, "a")
	for n := range MaxReportPurges + 5 {
		id := idAt(w.wallMs, 1_000+n)
		w.s.ledger.putReport(PendingReport{Report: ledger.Report{ID: id, AgentID: "a", Account: "a", Payer: "shop", Task: "t", Class: ledger.ClassCPU, DurationMs: 5}, ExpiresMs: w.wallMs})
	}
	w.wallMs += 1_000
	w.mark()
	if n := w.s.ledger.reports.size(); n != 5 {
		t.Errorf("after one mark %d reports are left", n)
	}
	w.mark()
	if n := w.s.ledger.reports.size(); n != 0 || w.s.ledger.accounts.get("a").reports != 0 {
		t.Errorf("after two marks %d reports are left", n)
	}
}

// Ids that leave the window cost next to nothing, and so does a page of accounts.
func TestP7LedgerHasNoCliffs(t *testing.T) {
	w := ledgerWorld(t)
	caller := idCallerOf("token:x")
	for i := range 200_000 {
		id := idAt(w.wallMs, i)
		w.s.ledger.ids.insert(id.TimeMs(), nonceRow{key: caller.key(id)})
	}
	for i := range MaxLedgerAccounts - 10 {
		w.s.ledger.accounts.add(LedgerAccount{Account: ledger.Account{ID: fmt.Sprintf("%08d", i*7_919%1_000_003), Kind: ledger.KindService, Owner: "x"}})
	}
	least := func(f func()) (best time.Duration) {
		best = time.Hour
		for range 5 {
			from := time.Now()
			f()
			best = min(best, time.Since(from))
		}
		return best
	}
	if d := least(func() { w.s.LedgerAccounts("5", 100) }); d > 5*time.Millisecond {
		t.Errorf("a page of 100 accounts takes %v", d)
	}
	from := time.Now()
	if w.s.ledger.ids.dropBefore(w.wallMs + 2_000); w.s.ledger.ids.callers[caller] != 0 || time.Since(from) > 50*time.Millisecond {
		t.Errorf("to forget 200,000 ids takes %v, %d are left", time.Since(from), w.s.ledger.ids.callers[caller])
	}
	var seen []string
	for after := ""; ; after = seen[len(seen)-1] {
		page := w.s.LedgerAccounts(after, 1_000)
		for _, a := range page {
			if len(seen) > 0 && a.ID <= seen[len(seen)-1] {
				t.Fatalf("%q after %q", a.ID, seen[len(seen)-1])
			}
			seen = append(seen, a.ID)
		}
		if len(page) == 0 {
			break
		}
	}
	if len(seen) != w.s.ledger.accounts.size() {
		t.Errorf("the pages have %d accounts of %d", len(seen), w.s.ledger.accounts.size())
	}
}
