package node

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// TestNoSnapshotBesideARestore: one that ends after the restore would be noted
// by raft as its newest, and the restored state be sent to the others for ever.
func TestNoSnapshotBesideARestore(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	path := c.save(0)
	c.ban(0, "after the backup")
	var lead int
	c.eventually("a leader", func() bool { lead = c.leader(); return lead >= 0 })
	n := c.nodes[lead]
	var beside error
	n.cfg.step = func(string) { beside = n.raft.Snapshot().Error() }
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	plan, err := n.PlanRestore(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	token, err := crypto.ParseTokenText(c.admin)
	if err != nil {
		t.Fatal(err)
	}
	n.snapping.Lock() // a snapshot that is being written
	ended := make(chan error, 1)
	go func() {
		_, err := n.Restore(t.Context(), in, orderOf(plan, token.ID))
		ended <- err
	}()
	c.eventually("the restore is under way", func() bool {
		if n.members.TryLock() {
			n.members.Unlock()
			return false
		}
		return true
	})
	if _, err := c.client(lead, c.admin).CreateToken(t.Context(), client.TokenRequest{Role: "viewer"}); err != nil {
		t.Errorf("a write while the restore waits for the snapshot: %v", err)
	}
	n.snapping.Unlock()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if beside == nil || !strings.Contains(beside.Error(), errSnapping.Error()) {
		t.Errorf("a snapshot beside the restore: %v", beside)
	}
	c.inEpoch(2)
	n.cfg.step = nil
	c.snapshot(n)
}

// TestNoInstallBesideASnapshot: the same at a follower, which is sent it again.
func TestNoInstallBesideASnapshot(t *testing.T) {
	c := newTrio(t, 1)
	n := c.nodes[0]
	r := &replica{Machine: n.machine, n: n}
	taken, err := r.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Snapshot(); !errors.Is(err, errSnapping) {
		t.Errorf("two at once: %v", err)
	}
	install := func() error { return r.Restore(io.NopCloser(strings.NewReader("no snapshot"))) }
	if err := install(); !errors.Is(err, errSnapping) {
		t.Errorf("installed beside it: %v", err)
	}
	taken.Release()
	if err := install(); err == nil || errors.Is(err, errSnapping) {
		t.Errorf("installed afterwards: %v", err)
	}
	if taken, err = r.Snapshot(); err != nil {
		t.Fatal(err)
	}
	taken.Release()
}
