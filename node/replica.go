package node

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/store"
)

// replica is what raft gets for its state machine and its snapshots. raft leaves
// a snapshot on disk whose restore failed, where it would be the newest at the
// next start; and there it goes on with an older one if the newest fails.
type replica struct {
	*fsm.Machine
	n *Node

	starting bool   // raft looks for its snapshot, which it does before it starts any goroutine
	newest   string // the snapshot that is restored at the start
	failed   error  // why it was not
}

// errSettling: raft takes no snapshot of a state that may have to be undone.
var errSettling = errors.New("a restored state is not known to be the cluster's yet")

// Snapshot implements raft.FSM.
func (r *replica) Snapshot() (raft.FSMSnapshot, error) {
	if _, waits := r.n.arrivedEpoch(); waits {
		return nil, errSettling
	}
	return r.Machine.Snapshot()
}

// Restore implements raft.FSM.
func (r *replica) Restore(in io.ReadCloser) error {
	before, _ := r.History().Totals()
	err := r.Machine.Restore(in)
	if r.starting {
		r.starting, r.failed = false, err
		return err
	}
	if dropped := r.n.store.Settle(err == nil); dropped != nil {
		r.n.fail(errors.Join(err, r.n.removeByHand(dropped)))
	}
	if history, _ := r.History().Totals(); err != nil && history != before {
		r.n.fail(fmt.Errorf("the history of epoch %d was taken, but not the state that it belongs to: %w", history, err))
	}
	return err
}

func (n *Node) removeByHand(err error) error {
	return fmt.Errorf("%w; remove that directory in %s by hand before this server is started again", err, n.cfg.DataDir)
}

// settle is called before raft stores entries: if a snapshot was installed and
// its restore did not even begin, it goes.
func (n *Node) settle() error {
	err := n.store.Settle(false)
	if err != nil {
		n.fail(n.removeByHand(err))
	}
	return err
}

// startSnapshots shows raft the newest snapshot alone while it starts.
type startSnapshots struct {
	raft.SnapshotStore
	r *replica
}

// List implements raft.SnapshotStore.
func (s startSnapshots) List() ([]*raft.SnapshotMeta, error) {
	all, err := s.SnapshotStore.List()
	if s.r.starting && len(all) > 0 {
		all = all[:1]
		s.r.newest = all[0].ID
	}
	s.r.starting = s.r.starting && len(all) > 0
	return all, err
}

// Open implements raft.SnapshotStore.
func (s startSnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, in, err := s.SnapshotStore.Open(id)
	if s.r.starting && err != nil {
		s.r.starting, s.r.failed = false, err
	}
	return meta, in, err
}

// explain says why raft did not start, if it was for its newest snapshot.
func (r *replica) explain(err error) error {
	if r.failed == nil {
		return fmt.Errorf("raft: %w", err)
	}
	err = fmt.Errorf("the newest snapshot, %s, cannot be restored: %w", filepath.Join(r.n.cfg.DataDir, "snapshots", r.newest), r.failed)
	if store.NoSpace(r.failed) {
		return fmt.Errorf("%w\nmake room on that disk and start this server again", err)
	}
	return repairable(r.n.cfg.DataDir, &store.Damage{File: "snapshots/" + r.newest, Err: err})
}
