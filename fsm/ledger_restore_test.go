package fsm

import (
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
	r.s.ledger.book.v.Closed = []TimeRange{{FromMs: r.wallMs, ToMs: r.wallMs + 2*yearMs}}
	if n := r.s.closedAheadMs(); n < yearMs {
		t.Errorf("%d ms to come are closed to ids", n)
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
