package node

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// landedData holds what the binary of commit a73cd48, feature level 2, left in the
// data directory of a server that was alone: raft log and mark, history, a
// snapshot that a restore made, the note of its epoch, key file and member file;
// beside it a backup and the passphrase. Never made anew.
const landedData = "testdata/level2.tar.gz"

// What that binary said last.
const (
	landedIndex  = 45
	landedDigest = "94c549d47fc098ed276dde66dd03ebc4204db17c405dfba427297c723cfaadd1"
	landedMs     = 1_795_421_602_112
)

// unpackLanded returns the directory with landedData in it.
func unpackLanded(t *testing.T) string {
	t.Helper()
	packed, err := os.Open(landedData)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	unzipped, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for all := tar.NewReader(unzipped); ; {
		h, err := all.Next()
		if errors.Is(err, io.EOF) {
			return dir.Name()
		}
		var data []byte
		if err == nil {
			data, err = io.ReadAll(all)
		}
		if err == nil && h.Typeflag == tar.TypeDir {
			err = dir.MkdirAll(filepath.Clean(h.Name), 0o700)
		} else if err == nil {
			err = dir.WriteFile(filepath.Clean(h.Name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestDataOfTheLandedVersion: this binary starts on the files of that one, comes
// to the state and history that it had, raises the level since nobody else is
// there to know less, and starts again from what it wrote itself.
func TestDataOfTheLandedVersion(t *testing.T) {
	t.Parallel()
	dir := unpackLanded(t)
	passphrase, err := os.ReadFile(filepath.Join(dir, "passphrase"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t, "node1")
	begun := time.Now()
	cfg.DataDir, cfg.Passphrase = filepath.Join(dir, "data"), bytes.TrimSpace(passphrase)
	cfg.Now = func() time.Time { return time.UnixMilli(landedMs + 60_000).Add(time.Since(begun)) }
	c := &trio{t: t, cfgs: []Config{cfg}}
	t.Cleanup(c.stopAll)
	c.start(0)
	n := c.nodes[0]
	var marks []fsm.Mark
	c.eventually("the log is replayed", func() bool {
		n.machine.Read(func(s *fsm.State) { marks = s.Marks() })
		return len(marks) > 0 && marks[len(marks)-1].Index >= landedIndex
	})
	if m := markOf(marks, landedIndex); m == nil || m.Digest.String() != landedDigest {
		t.Errorf("mark %d is %v, it was %s", landedIndex, m, landedDigest)
	}
	c.eventually("the level rises", func() bool { level, _ := n.clusterLevel(); return level == fsm.LevelSupported && c.allReady() })
	c.holdsLanded()
	c.eventually("the old chain gets its tree, and a checkpoint", func() bool {
		var size uint64
		n.machine.Read(func(s *fsm.State) { _, size = s.Chain() })
		o, _, ok := c.newestCheckpoint(0)
		return ok && o.Size == size && size > 0
	})
	c.snapshot(n)
	if err := n.shutdown(); err != nil {
		t.Fatal(err)
	}
	c.start(0)
	c.eventually("it is ready again", c.allReady)
	c.holdsLanded()
	if level, _ := c.nodes[0].clusterLevel(); level != fsm.LevelSupported {
		t.Errorf("after another start the level is %d", level)
	}
}

// holdsLanded wants what was done with that binary.
func (c *trio) holdsLanded() {
	t := c.t
	t.Helper()
	var s landedState
	c.nodes[0].machine.Read(func(state *fsm.State) {
		_, s.agent = state.Agent("agent-1")
		_, s.lifted = state.Ban("bad-1", state.ClockMs())
		_, s.undone = state.Ban("bad-2", state.ClockMs())
		_, s.banned = state.Ban("bad-3", state.ClockMs())
		s.requests, s.epoch = state.Policy().RateLimit.Requests, state.Meta().Epoch
	})
	if s != (landedState{agent: true, banned: true, requests: 77, epoch: 2}) {
		t.Errorf("%+v", s)
	}
	records, err := c.nodes[0].store.History.Read(fsm.StreamBlacklist, 1, 10)
	if err != nil || len(records) != 3 {
		t.Fatalf("%d events, %v", len(records), err)
	}
	head := crypto.BlacklistGenesis
	for _, r := range records {
		e, err := crypto.ParseBlacklistEvent(r.Data)
		if err != nil || e.PrevEventHash != head {
			t.Errorf("event %d: after %s, %v", r.Seq, head, err)
		}
		head = e.EventHash
	}
}

// landedState is what the server of landedData had come to.
type landedState struct {
	agent                  bool
	lifted, undone, banned bool
	requests               int64
	epoch                  uint64
}

// TestBackupOfTheLandedVersion: it verifies, chain and all.
func TestBackupOfTheLandedVersion(t *testing.T) {
	t.Parallel()
	report, err := VerifyBackup(filepath.Join(unpackLanded(t), "backup.snapshot"), nil)
	if err != nil || report.FeatureLevel != 2 {
		t.Errorf("%+v, %v", report, err)
	}
}
