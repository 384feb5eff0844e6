package fsm

import (
	"fmt"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

func placeOf(seq uint64, text string) AuditPlace {
	return AuditPlace{Seq: seq, Hash: crypto.Sum([]byte(text))}
}

// headsWorld has the members n0 and n1 at the level of audit heads.
func headsWorld(t testing.TB) *world {
	t.Helper()
	w := genesisWorld(t)
	w.s.meta.v.Level = LevelClients
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("n1", RoleCoordinator)}))
	return w
}

// tellHeads applies a marking tick with reports.
func (w *world) tellHeads(reports ...AuditReport) {
	w.t.Helper()
	w.must(w.do(Actor{}, Tick{Term: w.term, Mark: true, Heads: reports}))
}

// ends is what is known of a log, its losses behind it.
func (w *world) ends(node string) string {
	h, ok := w.s.AuditHead(node)
	if !ok {
		return "unknown"
	}
	out := fmt.Sprint(h.Seq)
	for _, l := range h.Lost {
		out += fmt.Sprint(" -", l.Seq)
	}
	return out
}

func TestAuditHeadsGoUpOrLeaveATrace(t *testing.T) {
	w := headsWorld(t)
	none, ten, five, twelve := AuditPlace{}, placeOf(10, "ten"), placeOf(5, "five"), placeOf(12, "twelve")
	for i, step := range []struct {
		report AuditReport
		want   string
	}{
		{AuditReport{NodeID: "n1", After: ten, Head: twelve}, "unknown"}, // it looked at what is not known here
		{AuditReport{NodeID: "n1", After: none}, "unknown"},
		{AuditReport{NodeID: "n1", After: none, Lost: true, Head: ten}, "10"}, // nothing was known that could be lost
		{AuditReport{NodeID: "n1", After: none, Head: twelve}, "10"},
		{AuditReport{NodeID: "n1", After: ten, Head: five}, "10"}, // lower, and it does not say why
		{AuditReport{NodeID: "n1", After: ten, Head: placeOf(10, "other")}, "10"},
		{AuditReport{NodeID: "n1", After: placeOf(10, "other"), Head: twelve}, "10"},
		{AuditReport{NodeID: "n1", After: ten, Head: AuditPlace{Seq: maxAuditSeq + 1}}, "10"},
		{AuditReport{NodeID: "nobody", Head: ten}, "10"},
		{AuditReport{NodeID: "n1", After: ten, Head: twelve}, "12"},
		{AuditReport{NodeID: "n1", After: ten, Lost: true, Head: five}, "12"}, // of before
		{AuditReport{NodeID: "n1", After: twelve, Lost: true, Head: five}, "5 -12"},
		{AuditReport{NodeID: "n1", After: five, Head: twelve}, "12 -12"},
		{AuditReport{NodeID: "n1", After: twelve, Lost: true, Head: placeOf(13, "made anew")}, "13 -12 -12"},
	} {
		w.tellHeads(step.report)
		if got := w.ends("n1"); got != step.want {
			t.Errorf("step %d, %+v: %s, want %s", i, step.report, got, step.want)
		}
	}
	if w.ends("n0") != "unknown" || w.ends("nobody") != "unknown" {
		t.Error("a report said something of another node")
	}
	if w.s.Digest() != w.s.FullDigest() {
		t.Error("the kept digest differs")
	}
	if err := w.s.Validate(0); err != nil {
		t.Error(err)
	}
}

func TestLostAuditHeadsAreBoundedAndCounted(t *testing.T) {
	w := headsWorld(t)
	at := AuditPlace{}
	for i := range uint64(3 * maxLostHeads) {
		next := placeOf(1+i, fmt.Sprint(i))
		w.tellHeads(AuditReport{NodeID: "n0", After: at, Lost: true, Head: next})
		at = next
	}
	h, _ := w.s.AuditHead("n0")
	if len(h.Lost) != maxLostHeads || h.Losses != 3*maxLostHeads-1 || h.Lost[0].Seq != 1 || h.Lost[maxLostHeads-1].Seq != 3*maxLostHeads-1 {
		t.Errorf("%+v", h)
	}
	if err := w.s.Validate(0); err != nil {
		t.Error(err)
	}
}

func TestAuditHeadsNeedTheLevel(t *testing.T) {
	w := genesisWorld(t)
	before := w.s.auditHeads.size()
	w.tellHeads(AuditReport{NodeID: "n0", Head: placeOf(1, "x")})
	if before != 0 || w.s.auditHeads.size() != 0 {
		t.Error("a log of an older level is applied in another way than it was")
	}
}

// TestAuditHeadsOutliveSnapshotRestoreAndRemoval: a restore takes none of them
// back, and what was known of a node stays with the note of its removal.
func TestAuditHeadsOutliveSnapshotRestoreAndRemoval(t *testing.T) {
	w := headsWorld(t)
	old, newer := placeOf(10, "old"), placeOf(90, "newer")
	w.tellHeads(AuditReport{NodeID: "n0", Head: old}, AuditReport{NodeID: "n1", Head: old})
	backup, h := backupOf(t, w)
	w.tellHeads(AuditReport{NodeID: "n0", After: old, Head: newer})
	r := restoreWorld(t, w, backup, h, w.wallMs+7)
	if r.ends("n0") != "90" || r.ends("n1") != "10" {
		t.Errorf("after the restore: %s and %s", r.ends("n0"), r.ends("n1"))
	}
	back, _ := restored(t, snapshotOf(t, w.s, w.history))
	if got, _ := back.AuditHead("n0"); got.Place() != newer || back.Digest() != w.s.Digest() {
		t.Errorf("after a snapshot: %+v", got)
	}
	w.must(w.do(admin, CoordinatorRemove{ID: "n1", Compromised: true}))
	gone, _ := w.s.removed.get("n1")
	if gone.Audit == nil || gone.Audit.Place() != old || w.ends("n1") != "unknown" {
		t.Errorf("after the removal: %+v, %s", gone, w.ends("n1"))
	}
	if err := w.s.Validate(0); err != nil {
		t.Error(err)
	}
	back, _ = restored(t, snapshotOf(t, w.s, w.history))
	if again, _ := back.removed.get("n1"); again.Audit == nil || again.Audit.Place() != old {
		t.Errorf("after its snapshot: %+v", again)
	}
}
