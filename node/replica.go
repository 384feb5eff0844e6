package node

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

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

// errPassedOver: who took the snapshot would have the entries behind it, and
// neither the one in its place nor the state that they are made for.
var errPassedOver = errors.New("the cluster went on without this restore: it is not sent to anybody, and this node takes it back")

// errSnapping: raft notes the snapshot that ended last as its newest. One taken
// here that ends after another was installed would be noted over it, and then
// raft finds nothing of its own at the place of that one: a leader sends it to
// the others again and again.
var errSnapping = errors.New("a snapshot is being written or installed here already: not both at once")

// Apply implements raft.FSM.
func (r *replica) Apply(l *raft.Log) any {
	defer since(time.Now(), r.n.meter.apply)
	return r.Machine.Apply(l)
}

// Snapshot implements raft.FSM.
func (r *replica) Snapshot() (raft.FSMSnapshot, error) {
	if _, waits := r.n.arrivedEpoch(); waits {
		return nil, errSettling
	}
	if !r.n.snapping.TryLock() {
		return nil, errSnapping
	}
	taken, err := r.Machine.Snapshot()
	if err != nil {
		r.n.snapping.Unlock()
		return nil, err
	}
	return &exclusive{taken, r.n}, nil
}

// exclusive is a snapshot beside which none is installed. raft releases it, once,
// after it has noted it as its newest.
type exclusive struct {
	raft.FSMSnapshot
	n *Node
}

// Persist implements raft.FSMSnapshot.
func (x *exclusive) Persist(sink raft.SnapshotSink) error {
	err := x.FSMSnapshot.Persist(sink)
	if err == nil {
		x.n.meter.sawSnapshot("")
	}
	return err
}

// Release implements raft.FSMSnapshot.
func (x *exclusive) Release() {
	x.FSMSnapshot.Release()
	x.n.snapping.Unlock()
}

// Restore implements raft.FSM.
func (r *replica) Restore(in io.ReadCloser) error {
	before, _ := r.History().Totals()
	err := r.restore(in)
	if r.starting {
		r.starting, r.failed = false, err
		r.n.meter.sawSnapshot(r.newest)
		return err
	}
	if err == nil {
		r.n.meter.sawSnapshot("")
	}
	if dropped := r.n.store.Settle(err == nil); dropped != nil {
		r.n.fail(errors.Join(err, r.n.removeByHand(dropped)))
	}
	if history, _ := r.History().Totals(); err != nil && history != before {
		r.n.fail(fmt.Errorf("the history of epoch %d was taken, but not the state that it belongs to: %w", history, err))
	}
	return err
}

// restore takes a snapshot, unless one that was begun here before would be noted
// over it: the leader sends it again. The restore of a backup has seen to that.
func (r *replica) restore(in io.ReadCloser) error {
	if !r.starting && !r.n.replacing.Load() {
		if !r.n.snapping.TryLock() {
			return errors.Join(errSnapping, in.Close())
		}
		defer r.n.snapping.Unlock()
	}
	return r.Machine.Restore(in)
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

// startSnapshots shows raft the newest snapshot alone while it starts, and later
// gives it none to send that the cluster went on without.
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

// Create implements raft.SnapshotStore.
func (s startSnapshots) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	if err := s.r.n.outrank(index, term); err != nil {
		return nil, err
	}
	sink, err := s.SnapshotStore.Create(version, index, term, conf, confIndex, trans)
	if err != nil {
		return nil, err
	}
	return newerSink{sink, s.r.n}, nil
}

// Open implements raft.SnapshotStore.
func (s startSnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, in, err := s.SnapshotStore.Open(id)
	if s.r.starting && err != nil {
		s.r.starting, s.r.failed = false, err
	}
	if err != nil || s.r.starting {
		return meta, in, err
	}
	over, err := s.r.n.store.PassedOver(meta)
	if err == nil && over {
		err = fmt.Errorf("snapshot %s: %w", id, errPassedOver)
	}
	if err != nil {
		return nil, nil, errors.Join(err, in.Close())
	}
	return meta, in, nil
}

// explain says why raft did not start, if it was for its newest snapshot.
func (r *replica) explain(err error) error {
	if r.failed == nil {
		return fmt.Errorf("raft: %w", err)
	}
	err = fmt.Errorf("the newest snapshot, %s, cannot be restored: %w", filepath.Join(r.n.cfg.DataDir, "snapshots", r.newest), r.failed)
	if errors.Is(r.failed, fsm.ErrLevel) {
		return newerHint(r.n.cfg.DataDir, err)
	}
	if store.NoSpace(r.failed) {
		return fmt.Errorf("%w\nmake room on that disk and start this server again", err)
	}
	return repairable(r.n.cfg.DataDir, &store.Damage{File: "snapshots/" + r.newest, Err: err})
}
