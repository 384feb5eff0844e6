package fsm

import (
	"errors"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// TestRestoredKeysCoverTheEvents: who goes on from an old copy and then restores a newer backup can still verify, and so
// cosign, every event of it: by keys that the copy retired, or that had joined since.
func TestRestoredKeysCoverTheEvents(t *testing.T) {
	for _, level := range []uint32{LevelThrough, LevelCheckpoints} {
		w := genesisWorld(t)
		w.s.meta.v.Level = level
		w.enroll("a")
		w.joinAt("gone", LevelSupported)
		old, rows := restored(t, snapshotOf(t, w.s, w.history)) // of the survivor n0
		w.joinAt("late", LevelSupported)
		for _, by := range []string{"gone", "late"} { // they lead
			w.must(w.do(operator, w.banOf("agent-"+by, "e-"+by, by, nil)))
		}
		backup, newer := restored(t, snapshotOf(t, w.s, w.history))
		records, err := old.Recover(Recovery{ID: "0011223344556677", AtMs: w.wallMs, Action: "recover"}, "n0")
		if err := errors.Join(err, historyOf(t, rows).Append(old.Meta().Epoch, records)); err != nil {
			t.Fatal(err)
		}
		s, _, err := Restored(backup, old, Recovery{AtMs: w.wallMs + 10, Action: "restore"})
		if err := errors.Join(err, s.Validate(0)); err != nil {
			t.Fatal(err)
		}
		outside := 0
		for _, r := range newer {
			if r.Stream != StreamBlacklist {
				continue
			}
			e, err := crypto.ParseBlacklistEvent(r.Data)
			if err != nil {
				t.Fatal(err)
			}
			if k, known := s.SigningKey(e.SourceCoordinatorID); !known || r.Index < k.Since || k.RetiredAt != 0 && r.Index > k.RetiredAt {
				outside++
			}
		}
		if want := map[uint32]int{LevelThrough: 1}[level]; outside != want {
			t.Errorf("level %d: %d events outside of the windows of their keys, want %d (as it was before LevelCheckpoints)", level, outside, want)
		}
	}
}
