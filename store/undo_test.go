package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// restoreOf makes the travelling snapshot of a restore of a backup into the
// state that the rig has.
func restoreOf(t *testing.T, r *rig, backup []byte) []byte {
	t.Helper()
	var records []fsm.Record
	old, _, err := fsm.LoadSnapshot(bytes.NewReader(backup), func(x fsm.Record) error { records = append(records, x); return nil })
	if err != nil {
		t.Fatal(err)
	}
	var live bytes.Buffer
	if err := r.machine.Freeze().Write(&live); err != nil {
		t.Fatal(err)
	}
	present, _, err := fsm.ReadSnapshot(&live)
	if err != nil {
		t.Fatal(err)
	}
	old.Rebase(present.Index())
	next, added, err := fsm.Restored(old, present, fsm.Recovery{AtMs: rigStart + 1000, Action: "restore"})
	if err != nil {
		t.Fatal(err)
	}
	records = append(records, added...)
	var out bytes.Buffer
	if err := next.Freeze().Write(&out); err != nil {
		t.Fatal(err)
	}
	err = fsm.WriteHistory(&out, next.Totals(), func(yield func(fsm.Record, error) bool) {
		for _, s := range fsm.Streams() {
			for _, x := range records {
				if x.Stream == s && !yield(fsm.RebaseRecord(x, next.Index()), nil) {
					return
				}
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func backupOf(t *testing.T, r *rig) []byte {
	t.Helper()
	var out bytes.Buffer
	f := r.machine.Freeze()
	if err := f.Write(&out); err != nil {
		t.Fatal(err)
	}
	if err := fsm.WriteHistory(&out, f.Totals(), r.s.History.UpTo(f.Totals())); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// installed has raft install a snapshot behind the log; restored is what it
// hears of the restore.
func installed(t *testing.T, r *rig, snapshot []byte) (restored error) {
	t.Helper()
	id, err := install(r.s, r.index+1, r.term, int64(len(snapshot)), bytes.NewReader(snapshot))
	if err != nil {
		t.Fatal(err)
	}
	_, in, err := r.s.Snapshots.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	return r.machine.Restore(in)
}

func epochOf(r *rig) (epoch uint64) {
	r.machine.Read(func(s *fsm.State) { epoch = s.Meta().Epoch })
	return epoch
}

// A snapshot whose restore failed was refused; it must not be the newest at the
// next start, over what was acknowledged since.
func TestFailedInstallDoesNotComeBack(t *testing.T) {
	full := false
	r := newRig(t, Options{Keep: 3, fault: func(what string) error {
		if full && what == WriteHistory {
			return syscall.ENOSPC
		}
		return nil
	}})
	r.tokens(3)
	backup := backupOf(t, r)
	r.tokens(5)
	r.flush()
	snapshot := restoreOf(t, r, backup)
	full = true
	if err := installed(t, r, snapshot); err == nil {
		t.Fatal("restored on a full disk")
	}
	full = false
	if err := r.s.Settle(false); err != nil {
		t.Fatal(err)
	}
	r.term = 2
	r.tokens(4)
	before := r.state()
	r.restart(rigOptions())
	if got := r.state(); got != before || epochOf(r) != 0 && epochOf(r) != 1 {
		t.Errorf("epoch %d, state %s, before %s", epochOf(r), got, before)
	}
	if err := installed(t, r, restoreOf(t, r, backup)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.s.Settle(true), r.s.Settle(false)); err != nil { // the second knows of none
		t.Fatal(err)
	}
	if metas, err := r.s.Snapshots.List(); err != nil || len(metas) != 1 {
		t.Errorf("%d snapshots, %v", len(metas), err)
	}
}

// Before an epoch is taken there must be room for its history.
func TestInstallNeedsRoomForHistory(t *testing.T) {
	var free int64 = 1 << 30
	r := newRig(t, Options{Keep: 3, Statfs: func(string) (int64, int64, error) { return free, 1 << 40, nil }})
	r.tokens(3)
	backup := backupOf(t, r)
	snapshot := restoreOf(t, r, backup)
	free = importSpare
	_, err := install(r.s, r.index+1, r.term, int64(len(snapshot)), bytes.NewReader(snapshot))
	if !NoSpace(err) {
		t.Fatalf("taken: %v", err)
	}
	if metas, err := r.s.Snapshots.List(); err != nil || len(metas) != 0 {
		t.Errorf("it is still there: %d, %v", len(metas), err)
	}
	if _, err := install(r.s, r.index+1, r.term, int64(len(backup)), bytes.NewReader(backup)); err != nil {
		t.Errorf("of the epoch that is here: %v", err)
	}
}

// A restore that the cluster went on without is cut off like any end of a log,
// wherever the undoing breaks off.
func TestUndo(t *testing.T) {
	for _, behind := range []string{"nothing", "entries of the restore", "entries of another leader"} {
		t.Run(behind, func(t *testing.T) {
			r := newRig(t, rigOptions())
			r.tokens(3)
			backup := backupOf(t, r)
			r.snapshot()
			r.tokens(5)
			r.flush()
			before, index := r.state(), r.index
			if err := r.s.Stable.SetUint64([]byte("CurrentTerm"), 7); err != nil {
				t.Fatal(err)
			}
			if err := installed(t, r, restoreOf(t, r, backup)); err != nil {
				t.Fatal(err)
			}
			epoch := epochOf(r)
			switch behind {
			case "entries of the restore": // behind the index that it took
				r.index++
				r.tokens(2)
				r.flush()
			case "entries of another leader": // raft appended them, and did not apply them yet
				for range 3 {
					index++
					l, err := logOf(index, 2, fsm.Actor{TokenID: "admin"}, tokenCreate(index))
					if err != nil {
						t.Fatal(err)
					}
					if err := r.s.Logs.StoreLog(l); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := r.s.CanUndo(epoch); err != nil {
				t.Fatal(err)
			}
			if err := r.s.CanUndo(epoch + 1); !errors.Is(err, ErrNotUndone) {
				t.Errorf("an epoch that is not here: %v", err)
			}
			r.close()
			killed := &camera{t: t, dir: r.dir, out: t.TempDir()}
			killed.step("not begun")
			if err := undoWith(&writer{step: killed.step}, r.dir, epoch); err != nil {
				t.Fatal(err)
			}
			killed.step("not noted by its caller")
			if want := 4; len(killed.shots) < want {
				t.Fatalf("%d steps, want %d and more", len(killed.shots), want)
			}
			for _, s := range killed.shots {
				r.dir, r.index = s.dir, index
				if found, err := Survey(s.dir); err != nil || len(found.Damage) > 0 { // a recovery would leave it aside
					t.Errorf("after a crash at %q: %v, %v", s.step, found.Damage, err)
				}
				if err := Undo(r.dir, epoch); err != nil {
					t.Fatalf("after a crash at %q: %v", s.step, err)
				}
				r.open(rigOptions())
				r.checkUndone(s.step, before, epoch, behind != "entries of another leader")
				r.close()
			}
			r.open(rigOptions())
		})
	}
}

// checkUndone: all is as it was before the restore, and goes on.
func (r *rig) checkUndone(step string, before crypto.Hash, epoch uint64, same bool) {
	r.t.Helper()
	r.replay()
	if got := r.state(); same && got != before {
		r.t.Errorf("after a crash at %q: state %s, before the restore %s", step, got, before)
	}
	if epochOf(r) >= epoch {
		r.t.Errorf("after a crash at %q: epoch %d", step, epochOf(r))
	}
	if term, err := r.s.Stable.GetUint64([]byte("CurrentTerm")); err != nil || term != 7 {
		r.t.Errorf("after a crash at %q: term %d, %v", step, term, err)
	}
	r.tokens(2)
	r.flush()
	r.restart(rigOptions())
}

// Without the history of before nothing is touched.
func TestUndoNeedsTheOldHistory(t *testing.T) {
	r := newRig(t, rigOptions())
	r.tokens(3)
	backup := backupOf(t, r)
	r.flush()
	if err := installed(t, r, restoreOf(t, r, backup)); err != nil {
		t.Fatal(err)
	}
	epoch := epochOf(r)
	kept, err := filepath.Glob(filepath.Join(r.dir, evidenceGlob))
	if err != nil || len(kept) != 1 {
		t.Fatal(kept, err)
	}
	if err := os.Remove(kept[0]); err != nil {
		t.Fatal(err)
	}
	if err := r.s.CanUndo(epoch); !errors.Is(err, ErrNotUndone) || !strings.Contains(err.Error(), "history") {
		t.Errorf("%v", err)
	}
	r.close()
	if err := Undo(r.dir, epoch); !errors.Is(err, ErrNotUndone) {
		t.Errorf("%v", err)
	}
	r.open(rigOptions())
	if r.restore(); epochOf(r) != epoch {
		t.Errorf("epoch %d", epochOf(r))
	}
}

// A leader that holds the restore and an entry in its place gives the restore as
// what comes before the next entry, so entries that count may lie behind it here.
func TestUndoCutsNoEntriesOfAnotherTerm(t *testing.T) {
	r := newRig(t, rigOptions())
	r.tokens(3)
	backup := backupOf(t, r)
	r.snapshot()
	r.tokens(5)
	r.flush()
	if err := installed(t, r, restoreOf(t, r, backup)); err != nil {
		t.Fatal(err)
	}
	epoch, burned := epochOf(r), r.index+1
	for i, term := range []uint64{r.term, r.term + 1} { // the first was made by the restore's own leader
		if err := r.s.Logs.StoreLog(&raft.Log{Index: burned + 1 + uint64(i), Term: term, Type: raft.LogNoop}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.s.CanUndo(epoch); !errors.Is(err, ErrNotUndone) {
		t.Errorf("%v", err)
	}
	r.close()
	if err := Undo(r.dir, epoch); !errors.Is(err, ErrNotUndone) {
		t.Errorf("%v", err)
	}
	r.open(rigOptions())
	if last, err := r.s.Logs.LastIndex(); err != nil || last != burned+2 {
		t.Errorf("the log ends at %d, %v: want %d", last, err, burned+2)
	}
}

// A snapshot is passed over once the log has another entry in its place, but not
// while it is being installed over an old end of the log.
func TestPassedOver(t *testing.T) {
	r := newRig(t, rigOptions())
	r.tokens(3)
	backup := backupOf(t, r)
	own := r.snapshot()
	r.tokens(5)
	r.flush()
	if err := installed(t, r, restoreOf(t, r, backup)); err != nil {
		t.Fatal(err)
	}
	check := func(when string, want ...bool) {
		t.Helper()
		metas, err := r.s.Snapshots.List()
		if err != nil || len(metas) != len(want) {
			t.Fatalf("%s: %d snapshots, %v", when, len(metas), err)
		}
		for i, meta := range metas {
			if got, err := r.s.PassedOver(meta); err != nil || got != want[i] {
				t.Errorf("%s: snapshot %s: %t, %v", when, meta.ID, got, err)
			}
		}
	}
	check("its index is a hole", false, false)
	if err := r.s.Logs.StoreLog(&raft.Log{Index: r.index + 1, Term: r.term + 1, Type: raft.LogNoop}); err != nil {
		t.Fatal(err)
	}
	check("another entry is there, and raft is still about to restore it", false, false)
	if err := r.s.Settle(true); err != nil {
		t.Fatal(err)
	}
	check("it was restored", true, false)
	if metas, _ := r.s.Snapshots.List(); metas[1].ID != own {
		t.Errorf("%s is not %s", metas[1].ID, own)
	}
}

func tokenCreate(index uint64) fsm.TokenCreate {
	id := string(rune('a'+index%26)) + "-behind"
	return fsm.TokenCreate{ID: id, Hash: crypto.Sum([]byte(id)), Role: fsm.RoleViewer, Uses: -1}
}

// state is the digest of the rig's state.
func (r *rig) state() (digest crypto.Hash) {
	r.t.Helper()
	var live bytes.Buffer
	if err := r.machine.Freeze().Write(&live); err != nil {
		r.t.Fatal(err)
	}
	s, _, err := fsm.ReadSnapshot(&live)
	if err != nil {
		r.t.Fatal(err)
	}
	return s.Digest()
}

// replay restores the newest snapshot and plays the log behind it.
func (r *rig) replay() {
	r.t.Helper()
	from := r.restore()
	last, err := r.s.Logs.LastIndex()
	if err != nil {
		r.t.Fatal(err)
	}
	for i := from + 1; i <= last; i++ {
		var l raft.Log
		if err := r.s.Logs.GetLog(i, &l); err != nil {
			r.t.Fatal(err)
		}
		r.machine.Apply(&l)
	}
	if got, _ := r.machine.Index(); got != r.index {
		r.t.Fatalf("at index %d, want %d", got, r.index)
	}
}
