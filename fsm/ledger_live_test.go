package fsm

import (
	"testing"

	"github.com/edgecoder/edgecoder/ledger"
)

// Whatever is changed of what is live in a ledger, the records tell, also where a state
// by itself is sound.
func TestP7LedgerChangedStateIsFound(t *testing.T) {
	for name, change := range map[string]func(l *ledgerState, hold PendingHold, report PendingReport){
		"payee of a hold":    func(l *ledgerState, h PendingHold, _ PendingReport) { h.Credit = "thief"; l.dropHold(h); l.putHold(h) },
		"end of a hold":      func(l *ledgerState, h PendingHold, _ PendingReport) { h.ExpiresMs++; l.dropHold(h); l.putHold(h) },
		"weight of a report": func(l *ledgerState, _ PendingHold, r PendingReport) { r.DurationMs++; l.reports.put(r.key(), r) },
		"report forgotten":   func(l *ledgerState, _ PendingHold, r PendingReport) { l.dropReport(r.key(), r) },
		"earner": func(l *ledgerState, _ PendingHold, _ PendingReport) {
			for key, w := range l.weights.m {
				l.weights.remove(key)
				l.weights.put(key[:8]+"thief", EpochWeight{Account: "thief", Weight: w.Weight})
			}
		},
		"load index":    func(l *ledgerState, _ PendingHold, _ PendingReport) { l.book.v.Smoothed++ },
		"policy":        func(l *ledgerState, _ PendingHold, _ PendingReport) { l.book.v.Policy.MaxWeight++ },
		"closed epochs": func(l *ledgerState, _ PendingHold, _ PendingReport) { l.book.v.Finalised = ledger.Windows{}.With(0) },
		"ids":           func(l *ledgerState, _ PendingHold, _ PendingReport) { l.ids.dropAfter(0) },
		"floor of ids":  func(l *ledgerState, _ PendingHold, _ PendingReport) { l.book.v.IDFloorMs = 0 },
		"nothing":       nil,
		"balance of two": func(l *ledgerState, _ PendingHold, _ PendingReport) {
			l.accounts.get("a").Balance--
			l.accounts.get("b").Balance++
		},
		"floor of account": func(l *ledgerState, _ PendingHold, _ PendingReport) { l.accounts.get("a").Floor-- },
	} {
		w := ledgerWorld(t, "a", "b", "thief")
		w.raiseTo(LevelLedger)
		w.pass(1_000)
		w.must(w.setBack(w.wallMs - 500)) // ids of before are refused
		w.pass(3 * DefaultSkewMs)
		hold, report := w.holdOf("a", "b", 900_000, 3_600_000), w.workOf("a", 1_000)
		w.wantEntry(w.entry(hold), CodeOK)
		w.earn("b", 1_000)
		w.wantEntry(w.report(report)[0], CodeOK)
		l := w.s.ledger
		h, _ := l.holds.get(string(hold.Entries[0].ID[:]))
		r, _ := w.s.LedgerReport(report.Report.AgentID, report.Report.ID, w.s.ClockMs())
		if change != nil {
			change(l, h, r)
		}
		v := ledger.NewVerifier(l.book.v.Origin)
		for _, r := range recordsOf(t, w.history, StreamLedger) {
			if err := v.Add(r.Data); err != nil {
				t.Fatal(err)
			}
		}
		live := w.s.LedgerLive()
		live.Refuses = w.s.LedgerRefuses
		if err := v.Compare(live); (err == nil) != (change == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
