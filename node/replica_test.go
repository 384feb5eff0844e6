package node

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/store"
)

// put leaves a snapshot in a store as raft does when it installs one.
func put(t *testing.T, s raft.SnapshotStore, index, term uint64, data []byte) (id string) {
	t.Helper()
	sink, err := s.Create(raft.SnapshotVersionMax, index, term, raft.Configuration{}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sink.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	return sink.ID()
}

func countSnapshots(t *testing.T, s raft.SnapshotStore) int {
	t.Helper()
	all, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// TestRefusedSnapshotGoes: one whose restore failed, or did not even begin, is
// gone before another entry is stored.
func TestRefusedSnapshotGoes(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 1)
	n := c.nodes[0]
	f := n.machine.Freeze()
	var snapshot bytes.Buffer
	if err := f.Write(&snapshot); err != nil {
		t.Fatal(err)
	}
	if err := fsm.WriteHistory(&snapshot, f.Totals(), n.store.History.UpTo(f.Totals())); err != nil {
		t.Fatal(err)
	}
	put(t, n.store.Snapshots, 1000, 99, snapshot.Bytes())
	r := &replica{Machine: n.machine, n: n}
	if err := r.Restore(io.NopCloser(strings.NewReader("no snapshot"))); err == nil {
		t.Fatal("restored")
	}
	if left := countSnapshots(t, n.store.Snapshots); left != 0 {
		t.Errorf("%d snapshots after a restore that failed", left)
	}
	put(t, n.store.Snapshots, 1001, 99, snapshot.Bytes())
	c.ban(0, "an entry")
	if left := countSnapshots(t, n.store.Snapshots); left != 0 {
		t.Errorf("%d snapshots after a restore that did not begin", left)
	}
}

// TestStartRefusesAnOlderSnapshot: raft would start from an older one if the
// newest cannot be restored, and forget what was acknowledged in between.
func TestStartRefusesAnOlderSnapshot(t *testing.T) {
	heavy(t)
	t.Parallel()
	files, err := raft.NewFileSnapshotStore(t.TempDir(), 3, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	machine := fsm.NewMachine(fsm.NewMemoryHistory(), nil)
	var sound bytes.Buffer
	if err := machine.Freeze().Write(&sound); err != nil {
		t.Fatal(err)
	}
	put(t, files, 10, 1, sound.Bytes())
	newest := put(t, files, 20, 1, []byte("no snapshot"))
	n := &Node{machine: machine, meter: newMeter()}
	n.cfg.DataDir = "/data"
	r := &replica{Machine: machine, n: n, starting: true}
	conf := raft.DefaultConfig()
	conf.LocalID, conf.LogOutput = "n1", io.Discard
	log := raft.NewInmemStore()
	_, transport := raft.NewInmemTransportWithTimeout("n1", time.Second)
	ra, err := raft.NewRaft(conf, r, log, log, startSnapshots{files, r}, transport)
	if err == nil {
		_ = ra.Shutdown().Error()
		t.Fatal("it started")
	}
	if err := r.explain(err); !strings.Contains(err.Error(), newest) || !strings.Contains(err.Error(), "/data") {
		t.Errorf("%v", err)
	}
	if r.starting || countSnapshots(t, startSnapshots{files, r}) != 2 {
		t.Error("a running raft does not see all snapshots")
	}
}

// TestPassedOverSnapshotIsNotSent: a leader that went on without a restore, and
// still has its snapshot, gives it to nobody.
func TestPassedOverSnapshotIsNotSent(t *testing.T) {
	st, err := store.Open(t.TempDir(), store.Options{Keep: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	var snapshot bytes.Buffer
	f := fsm.NewMachine(st.History, nil).Freeze()
	if err := errors.Join(f.Write(&snapshot), fsm.WriteHistory(&snapshot, f.Totals(), st.History.UpTo(f.Totals()))); err != nil {
		t.Fatal(err)
	}
	id := put(t, st.Snapshots, 5, 1, snapshot.Bytes())
	shown := startSnapshots{st.Snapshots, &replica{n: &Node{store: st, meter: newMeter()}}}
	send := func() error {
		_, in, err := shown.Open(id)
		if err == nil {
			err = in.Close()
		}
		return err
	}
	if err := errors.Join(st.Settle(true), send()); err != nil {
		t.Errorf("it is the end of the log: %v", err)
	}
	if err := st.Logs.StoreLog(&raft.Log{Index: 5, Term: 2, Type: raft.LogNoop}); err != nil {
		t.Fatal(err)
	}
	if err := send(); !errors.Is(err, errPassedOver) {
		t.Errorf("sent: %v", err)
	}
}
