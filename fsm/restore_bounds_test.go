package fsm

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// recoveryLevel is a world at the newest feature level.
func recoveryLevel(t testing.TB) *world {
	w := genesisWorld(t)
	w.s.meta.v.Level = LevelProfiles
	return w
}

// An epoch never falls, so no backup may use up those that are left: what a
// restore makes is a sound backup itself, many restores long.
func TestRestoreBoundsTheEpoch(t *testing.T) {
	w := recoveryLevel(t)
	backup, h := backupOf(t, w)
	for epoch, good := range map[uint64]bool{2 + maxEpochAhead: true, 3 + maxEpochAhead: false, maxEpoch - 1: false} {
		backup.meta.v.Epoch = epoch
		if err := backup.Validate(0); err != nil {
			t.Fatalf("epoch %d: %v", epoch, err)
		}
		s, _, err := Restored(backup, w.s, recoveryAt(w.wallMs, "restore"))
		if (err == nil) != good || !good && !strings.Contains(err.Error(), "epoch") {
			t.Errorf("epoch %d: %v", epoch, err)
		}
		if err == nil && s.Validate(0) != nil {
			t.Errorf("epoch %d: what it became is unsound: %v", epoch, s.Validate(0))
		}
		res := w.do(admin, RestoreBegin{BackupEpoch: epoch})
		if res.OK() != good {
			t.Errorf("epoch %d: RestoreBegin is %+v", epoch, res)
		}
		if err := w.s.Validate(0); err != nil {
			t.Errorf("epoch %d: after RestoreBegin: %v", epoch, err)
		}
		w.s.meta.v.Reserved = 0
	}
	for range 20 { // each with the highest epoch that is taken
		backup.meta.v.Epoch = w.s.NextEpoch(0) + maxEpochAhead
		w = restoreWorld(t, w, backup, copyOf(t, h), w.wallMs)
		if err := w.s.Validate(0); err != nil {
			t.Fatal(err)
		}
	}
}

// Older logs may hold the reservation of any epoch.
func TestRestoreBeginOfOlderLogs(t *testing.T) {
	w := genesisWorld(t)
	w.s.meta.v.Level = LevelRecovery
	w.must(w.do(admin, RestoreBegin{BackupEpoch: maxEpoch - 2}))
	if err := w.s.Validate(0); err != nil || w.s.Meta().Reserved != maxEpoch-1 {
		t.Errorf("%d reserved: %v", w.s.Meta().Reserved, err)
	}
}

// No backup ends admissions, however late what it closes begins.
func TestRestoreBoundsWhatIsClosed(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	for name, c := range map[string]struct {
		closed []TimeRange
		good   bool
	}{
		"for ever":     {[]TimeRange{{FromMs: w.wallMs + 10*dayMs, ToMs: MaxTimeMs}}, false},
		"in two parts": {[]TimeRange{{FromMs: w.wallMs + dayMs, ToMs: w.wallMs + 201*dayMs}, {FromMs: w.wallMs + 300*dayMs, ToMs: w.wallMs + 500*dayMs}}, false},
		"a day":        {[]TimeRange{{FromMs: w.wallMs + dayMs, ToMs: w.wallMs + 2*dayMs}}, true},
		"a day in the year 2126, after a wrong clock of then": {[]TimeRange{{FromMs: w.wallMs + 36_500*dayMs, ToMs: w.wallMs + 36_501*dayMs}}, true},
		"all the past": {[]TimeRange{{FromMs: 1, ToMs: w.wallMs + dayMs}}, true},
	} {
		backup, _ := backupOf(t, w)
		backup.meta.v.Closed = c.closed
		_, _, err := Restored(backup, w.s, recoveryAt(w.wallMs, "restore"))
		if (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
		// A cluster that is closed already may go back to what it was.
		w.s.meta.v.Closed = c.closed
		if _, _, err := Restored(backup, w.s, recoveryAt(w.wallMs, "restore")); err != nil {
			t.Errorf("%s, already: %v", name, err)
		}
		w.s.meta.v.Closed = nil
	}
}

func TestCompareSeesRemovedNodes(t *testing.T) {
	w := genesisWorld(t)
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("old", RoleCoordinator)}))
	w.must(w.do(admin, CoordinatorRemove{ID: "old"}))
	backup, _ := backupOf(t, w)
	for _, id := range []string{"planted", "n0"} { // a member stays one
		backup.removed.put(id, Removal{ID: id, Name: id})
	}
	if u := Compare(backup, w.s); len(u.GoneAdded) != 1 || u.GoneAdded[0].ID != "planted" {
		t.Errorf("%+v", u.GoneAdded)
	}
}

// P1: a cluster that was lost may have widened its window after the backup, and
// admitted what the backup's window does not reach.
func TestP1OnceInAnotherClusterAfterAWiderWindow(t *testing.T) {
	lost := genesisWorld(t)
	lost.enroll("a")
	backup, h := backupOf(t, lost)
	lost.setPolicy(func(p *Policy) { p.MaxSkewMs = MaxSkewMs })
	claim := claimOf("a", "nonce", lost.wallMs+MaxSkewMs-600_000, "")
	lost.wantVerdict(claim, CodeOK)

	otherPast, oh := backupOf(t, lost)
	otherPast.meta.v.Recoveries = []string{"00112233aabbccdd"} // one that this cluster did not go through
	otherPast.policy.v.MaxSkewMs = DefaultSkewMs
	otherPast.nonces = newNonceWindow("nonces", MaxNonces)
	for name, r := range map[string]*world{
		"another cluster": restoreWorld(t, otherWorld(t), backup, h, lost.wallMs),
		"another past":    restoreWorld(t, genesisWorld(t), otherPast, copyOf(t, oh), lost.wallMs),
	} {
		if pause := r.s.Recovering() - r.s.ClockMs(); pause < MaxSkewMs {
			t.Errorf("%s: admissions pause for %d ms", name, pause)
		}
		for _, before := range []int64{DefaultSkewMs, 30_000, 0} {
			r.jump(claim.TimestampMs - before)
			r.replayAll([]Claim{claim})
		}
	}
	same := restoreWorld(t, lost, otherPast, copyOf(t, oh), lost.wallMs)
	if same.s.Recovering() < lost.wallMs+MaxSkewMs {
		t.Error("of another past, into the same cluster")
	}
}

// busyAhead is a cluster whose clock was a month ahead while it admitted more
// than a backup may hold for long, and then was set back.
func busyAhead(t testing.TB, level uint32, rows int) (w *world, kept Claim) {
	w = genesisWorld(t)
	w.s.meta.v.Level = level
	w.enroll("a")
	right := w.wallMs
	w.jump(right + 30*dayMs)
	kept = claimOf("a", "kept", w.wallMs, "kept")
	w.wantVerdict(kept, CodeOK)
	for i := range rows {
		var row nonceRow
		binary.BigEndian.PutUint64(row.key[:], uint64(i+1))
		w.s.nonces.insert(w.wallMs+int64(i)%100_000, row)
	}
	w.must(w.setBack(right + 1_000))
	return w, kept
}

// What a wrong clock admitted does not fill the window until the world comes to
// that time: the time is closed instead, and nothing is admitted twice.
func TestClockRecoverForgetsWhatIsFarAhead(t *testing.T) {
	w, kept := busyAhead(t, LevelProfiles, 1_000)
	if n := w.s.nonces.size(); n != 0 {
		t.Errorf("%d nonces are kept", n)
	}
	if w.s.Digest() != w.s.FullDigest() {
		t.Error("the digest kept is not that of the contents")
	}
	pause := w.s.Recovering() - w.wallMs
	if pause > DefaultSkewMs+1 || w.s.aheadMs(w.s.meta.v.Closed) > 3*MaxSkewMs {
		t.Errorf("a pause of %d ms, closed %v", pause, w.s.Meta().Closed)
	}
	w.waitOut("a")
	for _, at := range []int64{-DefaultSkewMs, -1, 0, 999, DefaultSkewMs} {
		w.jump(kept.TimestampMs + at)
		w.replayAll([]Claim{kept})
	}
	w.jump(kept.TimestampMs + dayMs)
	w.wantVerdict(claimOf("a", "later", w.wallMs, ""), CodeOK)
}

// A busy cluster can be backed up after a clock recovery, and restored: also one
// whose log is older, which keeps the nonces.
func TestBusyClusterIsSoundAfterAClockRecovery(t *testing.T) {
	for level, left := range map[uint32]int{LevelRecovery: MaxNonces/10 + 2, LevelProfiles: 0} {
		t.Run(fmt.Sprint("level ", level), func(t *testing.T) {
			w, kept := busyAhead(t, level, MaxNonces/10+1)
			if err := w.s.Validate(w.wallMs); err != nil || w.s.nonces.size() != left {
				t.Fatalf("%d nonces: %v", w.s.nonces.size(), err)
			}
			s, _, err := Restored(w.s, w.s, recoveryAt(w.wallMs, "restore"))
			if err != nil || s.nonces.size() != 0 || !s.closedAt(kept.TimestampMs) || s.aheadMs(s.meta.v.Closed) > 3*MaxSkewMs {
				t.Errorf("%v: closed %v", err, s.Meta().Closed)
			}
		})
	}
}

// closeFar keeps the times of two wrong clocks apart.
func TestCloseFar(t *testing.T) {
	s := NewState()
	s.meta.v.ClockMs = worldStart
	near, first, second := worldStart+MaxSkewMs, worldStart+2*MaxSkewMs, worldStart+30*dayMs
	for i, at := range []int64{near, first, first + 5_000, second} {
		s.nonces.insert(at, nonceRow{key: nonceKey{byte(i + 1)}, claim: ClaimTag{byte(i + 1)}})
	}
	s.closeFar()
	want := []TimeRange{{FromMs: first, ToMs: first + 5_999}, {FromMs: second, ToMs: second + 999}}
	if !slices.Equal(s.meta.v.Closed, want) || s.nonces.size() != 1 || len(s.nonces.byClaim) != 1 || s.nonces.digest() != s.nonces.recompute() {
		t.Errorf("closed %v, %d nonces", s.meta.v.Closed, s.nonces.size())
	}
	again := s.meta.v.Closed
	if s.closeFar(); !slices.Equal(again, s.meta.v.Closed) {
		t.Errorf("once more: %v", s.meta.v.Closed)
	}
}

// The tokens stay the present's over a restore, and so does what is known of the
// calls that made them: CONTRACT keeps that for 24 h.
func TestRestoreRemembersWhoMadeTheTokensThatStay(t *testing.T) {
	w := genesisWorld(t)
	backup, h := backupOf(t, w)
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("gone", RoleCoordinator)}))
	call := func(n byte) *Idempotency { return &Idempotency{Key: crypto.Hash{n}, Body: crypto.Hash{n}} }
	w.must(w.doAt(w.wallMs, admin, call(1), TokenCreate{ID: "first", Role: RoleAdmin, Uses: -1}))
	w.must(w.doAt(w.wallMs, admin, call(2), TokenRevoke{ID: "mesh"}))
	w.must(w.doAt(w.wallMs, admin, call(3), CoordinatorRemove{ID: "gone"}))
	w.must(w.doAt(w.wallMs, operator, call(4), w.banOf("a", "e1", "n0", nil)))
	w.must(w.doAt(w.wallMs, admin, call(5), TokenCreate{ID: "void", Role: RoleCoordinator, Uses: 1}))

	r := restoreWorld(t, w, backup, h, w.wallMs)
	again := r.must(r.doAt(r.wallMs, admin, call(1), TokenCreate{ID: "second", Role: RoleAdmin, Uses: -1}))
	if _, second := r.s.Token("second"); second || !again.Repeated || again.ID != "first" {
		t.Errorf("the same call made another token: %+v", again)
	}
	if n := r.s.idempotent.size(); n != 3 {
		t.Errorf("%d outcomes are kept, those of the ban and the void token should not be", n)
	}
	if r.s.outcomes["admin"] != 3 {
		t.Errorf("outcomes by token: %v", r.s.outcomes)
	}
	r.must(r.doAt(r.wallMs, operator, call(4), r.banOf("a", "e1", "n0", nil))) // it was undone: it takes effect again
	r.pass(IdempotencyMs + 1)
	r.mark()
	if n := r.s.idempotent.size(); n != 0 {
		t.Errorf("%d outcomes are kept for ever", n)
	}
}
