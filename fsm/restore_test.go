package fsm

import (
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// Each try of a restore has an epoch of its own, whatever became of the others.
func TestRestoreBeginReservesTheEpoch(t *testing.T) {
	w := genesisWorld(t)
	backup, _ := backupOf(t, w)
	begin := func(of uint64) {
		t.Helper()
		w.must(w.do(admin, RestoreBegin{BackupEpoch: of, Backup: crypto.Sum([]byte("b"))}))
	}
	restored := func() uint64 {
		t.Helper()
		s, _, err := Restored(backup, w.s, recoveryAt(w.wallMs, "restore"))
		if err != nil {
			t.Fatal(err)
		}
		if m := s.Meta(); m.Reserved != 0 {
			t.Errorf("epoch %d still reserves %d", m.Epoch, m.Reserved)
		}
		return s.Meta().Epoch
	}
	for want := uint64(2); want <= 4; want++ { // the tries before were lost with their leaders
		if next := w.s.NextEpoch(1); next != want {
			t.Errorf("next is %d, want %d", next, want)
		}
		begin(1)
		if got := restored(); got != want {
			t.Errorf("epoch %d, want %d", got, want)
		}
		if w.s.Meta().Epoch != 1 {
			t.Fatal("a restore that only began changed the epoch")
		}
	}
	begin(9) // of a cluster that recovered more often
	if got := restored(); got != 10 {
		t.Errorf("epoch %d, want 10", got)
	}
	w.want(w.do(admin, RestoreBegin{BackupEpoch: maxEpoch + 1}), CodeInvalid)
	w.must(w.do(Actor{}, Tick{Term: 5}))
	w.must(w.setBack(w.wallMs - 1_000))
	if m := w.s.Meta(); m.Epoch != 11 || m.Reserved != 0 {
		t.Errorf("a clock recovery took epoch %d: one of a restore that may lie about somewhere", m.Epoch)
	}
	begin(1)
	if got := restored(); got != 12 {
		t.Errorf("epoch %d, want 12", got)
	}
}

// Indexes of a longer log are brought down, shorter ones stay.
func TestRebase(t *testing.T) {
	w := genesisWorld(t)
	w.must(w.do(operator, w.banOf("x", "e1", "n0", nil)))
	have := w.s.Index()
	s, _ := backupOf(t, w)
	s.Rebase(have + 5)
	if s.Index() != have {
		t.Errorf("index %d, had %d", s.Index(), have)
	}
	s.Rebase(have - 1)
	if s.Index() != have-1 || s.Digest() != s.FullDigest() {
		t.Errorf("index %d", s.Index())
	}
	r := Record{Stream: StreamAdmin, Seq: 3, Index: 7, Data: []byte("d")}
	if got := RebaseRecord(r, 5); got.Index != 5 || got.Seq != 3 || r.Index != 7 {
		t.Errorf("%+v of %+v", got, r)
	}
	if got := RebaseRecord(r, 9); got.Index != 7 {
		t.Errorf("%+v", got)
	}
}
