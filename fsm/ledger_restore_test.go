package fsm

import (
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/ledger"
)

// A restore takes the backup's ledger whole, and refuses every id that may have
// been used since: who had no answer must look it up.
func TestP7LedgerRestore(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	hold := w.holdOf("a", "b", 100, 3_600_000)
	w.wantEntry(w.entry(hold), CodeOK)
	w.earn("a", 1_000)
	backup, h := backupOf(t, w)
	again, hAgain := backupOf(t, w)
	lost := w.transferOf("a", "b", 5)
	w.wantEntry(w.entry(lost), CodeOK)
	w.wantEntry(w.issue("b", 77), CodeOK)
	w.wantEntry(w.entry(w.endOf(LedgerPost, hold.Entries[0].ID, 100)), CodeOK)

	if u := Compare(backup, w.s); u.LedgerNow != u.LedgerThen+3 || u.LedgerThen == 0 {
		t.Errorf("of %d records %d are in the backup", u.LedgerNow, u.LedgerThen)
	}
	r := restoreWorld(t, w, backup, h, w.wallMs+7)
	r.ids = w.ids
	r.wantMoney("a", 1_000_000, 100)
	r.wantMoney("b", 1_000_000, 0)
	if err := r.s.Validate(0); err != nil {
		t.Fatal(err)
	}
	r.wantEntry(r.entry(lost), CodeIDExpired)
	r.pass(ledger.MaxAheadMs)
	r.wantEntry(r.entry(r.transferOf("a", "b", 5)), CodeIDExpired) // admissions pause still
	r.pass(DefaultSkewMs)
	r.wantEntry(r.entry(r.transferOf("a", "b", 5)), CodeOK)
	r.wantEntry(r.entry(r.endOf(LedgerPost, hold.Entries[0].ID, 100)), CodeOK)
	r.soundLedger()
	if n := len(r.s.OpenEpochs()); n != 1 {
		t.Errorf("%d open epochs", n)
	}

	// In a cluster that never had one, and one without into a cluster that has.
	o := restoreWorld(t, otherWorld(t), again, hAgain, worldStart)
	o.wantMoney("a", 1_000_000, 100)
	if err := o.s.Validate(0); err != nil || o.s.NeedsLevel() != LevelLedger {
		t.Errorf("level %d, %v", o.s.NeedsLevel(), err)
	}
	bare, bareHistory := backupOf(t, genesisWorld(t))
	p := restoreWorld(t, r, bare, bareHistory, r.wallMs)
	if _, open := p.s.LedgerBook(); open || p.s.Validate(0) != nil {
		t.Error("a backup without a ledger brings one")
	}
}

func TestP7LedgerRecover(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	used := w.transferOf("a", "b", 5)
	w.wantEntry(w.entry(used), CodeOK)
	records, err := w.s.Recover(recoveryAt(w.wallMs, "recover"), "n0")
	if err != nil {
		t.Fatal(err)
	}
	r := onward(t, w.s, w.history, records)
	r.ids = w.ids
	if got := r.entry(used); !got.Repeated { // it is still known
		t.Errorf("asked again: %+v", got)
	}
	r.wantEntry(r.entry(r.transferOf("a", "b", 5)), CodeIDExpired)
	r.pass(DefaultSkewMs + 1_000)
	r.wantEntry(r.entry(r.transferOf("a", "b", 5)), CodeOK)
	r.soundLedger()
}

// The clock ran a year ahead and is set back: no id that it made the state forget
// moves money again, not even when the world comes to that year; epochs go on.
func TestP7LedgerClockSetBack(t *testing.T) {
	const yearMs = 365 * 24 * 3_600_000
	w := ledgerWorld(t, "a", "b")
	w.s.meta.v.Level = LevelLedger // so that the jump is remembered
	before := w.transferOf("a", "b", 5)
	w.wantEntry(w.entry(before), CodeOK)
	hold := w.holdOf("a", "b", 7, 3_600_000)
	w.wantEntry(w.entry(hold), CodeOK)
	w.earn("a", 1_000)
	start := w.wallMs
	w.jump(start + yearMs)
	w.mark()
	w.wantMoney("a", 999_995, 0) // the hold is over
	ahead := w.transferOf("a", "b", 5)
	w.wantEntry(w.entry(ahead), CodeOK)
	oldest, _ := w.s.OldestEpoch()
	w.must(w.do(admin, LedgerEpochClose{WindowMs: oldest.WindowMs}))
	w.earn("a", 1_000)
	there, _ := w.s.OldestEpoch()
	w.pass(ledger.EpochMs)
	w.must(w.do(admin, LedgerEpochClose{WindowMs: there.WindowMs})) // the window of a year ahead
	w.must(w.setBack(start + 5_000))
	w.wantEntry(w.entry(before), CodeIDExpired)
	w.pass(DefaultSkewMs + 1_000)
	w.wantEntry(w.entry(before), CodeIDExpired)
	w.wantEntry(w.entry(w.transferOf("a", "b", 5)), CodeOK)
	w.earn("b", 1_000)
	open, _ := w.s.OldestEpoch()
	if open.WindowMs != ledger.WindowOf(start)+ledger.EpochMs { // this hour may have been closed
		t.Errorf("it counts in the epoch of %+d ms", open.WindowMs-start)
	}
	if err := w.s.Validate(0); err != nil {
		t.Error(err)
	}
	w.soundLedger()
	for _, offset := range []int64{-1_000, 0, 1_000, 60_000, 400_000} {
		w.jump(start + yearMs + offset)
		w.wantEntry(w.entry(ahead), CodeIDExpired)
	}
	w.soundLedger()
}

// A backup of a time when the clock ran years ahead closes the minutes that it was
// used there, not the years that it skipped.
func TestP7LedgerRestoreOfAClockAhead(t *testing.T) {
	const yearMs = 365 * 24 * 3_600_000
	w := ledgerWorld(t, "a", "b")
	w.s.meta.v.Level = LevelLedger
	start := w.wallMs
	w.jump(start + 5*yearMs)
	w.mark()
	w.wantEntry(w.entry(w.transferOf("a", "b", 5)), CodeOK)
	w.pass(2 * ledger.DefaultPolicy().IDWindowMs)
	backup, h := backupOf(t, w)
	w.must(w.setBack(start + 60_000))
	w.pass(DefaultSkewMs + 70_000)
	r := restoreWorld(t, w, backup, h, w.wallMs+7)
	r.ids = w.ids
	r.pass(2 * 3_600_000)
	r.wantEntry(r.entry(r.transferOf("a", "b", 5)), CodeOK)
	var shut int64
	for _, c := range r.s.ledger.book.v.Closed {
		shut += c.ToMs - c.FromMs
	}
	if shut == 0 || shut > 2*3_600_000 {
		t.Errorf("%d ms are closed", shut)
	}
}

// Reports of a backup of a wrong clock end by the time that is, and so say its records;
// the ids of there are closed for the state and for an auditor.
func TestP7LedgerRestoreOfReportsAhead(t *testing.T) {
	const dayMs = 24 * 3_600_000
	w := ledgerWorld(t, "a", "b")
	w.raiseTo(LevelLedger)
	start := w.wallMs
	w.jump(start + 40*dayMs)
	over, decided, waits := w.workOf("b", 1), w.workOf("a", 1), w.workOf("a", 2)
	w.wantEntry(w.report(over, decided, waits)[2], CodeOK)
	w.wantEntry(w.confirm(operator, over.Report.ID)[0], CodeOK)
	w.pass(ledger.DefaultPolicy().IDWindowMs + 1)
	w.wantEntry(w.confirm(operator, decided.Report.ID)[0], CodeOK)
	backup, h := backupOf(t, w)
	w.must(w.setBack(start + 60_000))
	w.soundLedger()
	w.pass(DefaultSkewMs + 70_000)
	r := restoreWorld(t, w, backup, h, w.wallMs+7)
	r.soundLedger()
	r.wantEnds()
	if _, known := r.s.LedgerReport(over.Report.AgentID, over.Report.ID, 0); known {
		t.Error("a report that was over is there again")
	}
	if got, ok := r.s.LedgerReport(waits.Report.AgentID, waits.Report.ID, r.s.ClockMs()); !ok || got.ExpiresMs != r.s.ClockMs()+ledger.DefaultPolicy().ReportKeepMs {
		t.Errorf("a report that waits: %+v", got)
	}
	for _, hours := range []int64{0, 1, 2} {
		r.jump(start + 40*dayMs + hours*3_600_000)
		r.mark()
		r.wantEntry(r.entry(r.transferOf("a", "b", 1)), map[int64]Code{0: CodeIDExpired, 1: CodeOK, 2: CodeOK}[hours])
		r.soundLedger()
	}
}

// What a backup closes to ids of the ledger does not hide behind what is closed to
// requests here.
func TestP7LedgerRestoreClosesNoYears(t *testing.T) {
	const yearMs = 365 * 24 * 3_600_000
	w := ledgerWorld(t, "a", "b")
	w.raiseTo(LevelLedger)
	backup, _ := backupOf(t, w)
	backup.ledger.closeRange(TimeRange{FromMs: w.wallMs + ledger.EpochMs, ToMs: w.wallMs + 5*yearMs})
	w.s.closeRange(TimeRange{FromMs: w.wallMs + 5*yearMs, ToMs: w.wallMs + 10*yearMs})
	if _, _, err := Restored(backup, w.s, recoveryAt(w.wallMs, "restore")); err == nil || !strings.Contains(err.Error(), "nothing would be admitted") {
		t.Errorf("a backup that closes five years: %v", err)
	}
}

// Reports that were decided while the clock ran ahead make room by the time that is.
func TestP7LedgerSetBackMakesRoomForReports(t *testing.T) {
	const dayMs = 24 * 3_600_000
	w := ledgerWorld(t, "a", "b")
	w.raiseTo(LevelLedger)
	start := w.s.ClockMs()
	w.jump(start + 40*dayMs)
	decided, waits := w.workOf("a", 1), w.workOf("a", 2)
	w.wantEntry(w.report(decided, waits)[1], CodeOK)
	w.wantEntry(w.confirm(operator, decided.Report.ID)[0], CodeOK)
	w.must(w.setBack(start + 60_000))
	keep := ledger.DefaultPolicy()
	for _, r := range []struct {
		of   ledger.SignedReport
		last int64
	}{{decided, w.s.ClockMs() + keep.IDWindowMs}, {waits, w.s.ClockMs() + keep.ReportKeepMs}} {
		if got, ok := w.s.LedgerReport(r.of.Report.AgentID, r.of.Report.ID, w.s.ClockMs()); !ok || got.ExpiresMs != r.last {
			t.Errorf("the report %+v is kept until %+d ms", got, got.ExpiresMs-w.s.ClockMs())
		}
	}
	w.wantEnds()
	w.jump(start + dayMs + 120_000)
	w.mark()
	if n := w.s.ledger.reports.size(); n != 0 || w.s.ledger.accounts.get("a").reports != 0 {
		t.Errorf("a day later %d reports are kept", n)
	}
	w.soundLedger()
}

// A report that was over while the clock ran ahead is none for the state nor for an
// auditor once it is set back, whether a mark forgot it or not.
func TestP7LedgerSetBackBringsNoReportBack(t *testing.T) {
	for _, forgotten := range []bool{true, false} {
		w := ledgerWorld(t, "a", "b")
		w.raiseTo(LevelLedger)
		p := ledger.DefaultPolicy()
		p.ReportKeepMs = 5_000
		w.must(w.do(admin, LedgerPolicySet{IfVersion: 1, Policy: p}))
		start := w.s.ClockMs()
		w.jump(start + 1_800_000)
		r := w.workOf("a", 1_000)
		w.wantEntry(w.report(r)[0], CodeOK)
		w.jump(w.s.ClockMs() + 6_000)
		if forgotten {
			w.mark()
		}
		w.must(w.setBack(start + 60_000))
		w.wantEntry(w.confirm(operator, r.Report.ID)[0], CodeNotFound)
		w.jump(r.Report.ID.TimeMs() - 30_000)
		again := w.workOf("b", 1_000).Report
		again.ID = r.Report.ID
		w.wantEntry(w.report(again.Sign(privateKey("b"), w.s.Meta().ClusterID))[0], CodeOK)
		w.wantEntry(w.confirm(operator, r.Report.ID)[0], CodeOK)
		w.soundLedger()
	}
}

// What agents sign is for one cluster: a copy of the ledger in another one, restored as a
// rehearsal say, counts none of it, and an auditor who walks the copy's records knows.
func TestP7LedgerCopyTakesNothingSignedForTheOther(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	w.wantEntry(w.report(w.workOf("a", 1_000))[0], CodeOK)
	backup, h := backupOf(t, w)
	o := restoreWorld(t, otherWorld(t), backup, h, w.wallMs)
	o.ids = w.ids
	o.pass(70 * 60_000)
	w.pass(o.wallMs - w.wallMs)
	here, there := w.workOf("a", 1_000), o.workOf("a", 2_000)
	w.wantEntry(w.report(here)[0], CodeOK)
	if got := o.report(here)[0]; got.Code != CodeInvalidSignature || o.s.AskReport(&here, o.s.ClockMs()).Code != got.Code {
		t.Errorf("the report that was signed for %s: %+v in %s", here.ClusterID, got, o.s.Meta().ClusterID)
	}
	w.wantEntry(o.report(there)[0], CodeOK)
	o.soundLedger()
	w.soundLedger()
}
