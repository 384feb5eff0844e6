package node

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/store"
)

// disk is what a node knows of the disk under its data directory. It is the
// store's Guard: the Watch is told of every write, the Space gives up its
// reserve for those that must succeed.
type disk struct {
	*store.Watch
	space *store.Space
	name  string // of the node, for messages
	dir   string
	hooks diskHooks

	stalledFor   atomic.Int64 // how long the watchdog has seen one write hang, nanoseconds
	lastHandover atomic.Int64 // when slowness last moved leadership, nanoseconds since the node's start
	starved      atomic.Bool  // the last entry found no room: this replica does not advance
}

// diskHooks let tests break a disk; nil in every other use.
type diskHooks struct {
	begin  func(what string) // called as a write begins: a hung disk does not return
	end    func(what string) // called when a write is done, before anybody is told
	statfs func(dir string) (free, size int64, err error)
}

func openDisk(cfg Config) (*disk, error) {
	space, err := store.OpenSpace(store.SpaceOptions{Dir: cfg.DataDir, Reserve: cfg.DiskReserve, Now: time.Now, Statfs: cfg.disk.statfs})
	if err != nil {
		return nil, err
	}
	return &disk{Watch: store.NewWatch(time.Now, space.Note), space: space, name: cfg.Name, dir: cfg.DataDir, hooks: cfg.disk}, nil
}

// Begin implements store.Guard.
func (d *disk) Begin(what string) (done func(error)) {
	told := d.Watch.Begin(what)
	if d.hooks.begin != nil {
		d.hooks.begin(what)
	}
	if d.hooks.end == nil {
		return told
	}
	return func(err error) {
		d.hooks.end(what)
		told(err)
	}
}

// NoSpace implements store.Guard.
func (d *disk) NoSpace() bool { return d.space.Release() }

// hangs tells whether a write of raft's loop has hung for too long.
func (d *disk) hangs(limit time.Duration) bool { return time.Duration(d.stalledFor.Load()) >= limit }

// status is what Status shows of the disk.
func (d *disk) status() *client.Disk {
	room := d.space.Room()
	_, stalled := d.Stalled()
	pace, _ := d.Pace(paceWindow)
	return &client.Disk{FreeBytes: room.Free, ReserveBytes: room.Reserve, Low: room.Low,
		StalledMs: stalled.Milliseconds(), WriteMs: float64(pace.Microseconds()) / 1000}
}

// A full disk. Below the low mark a node takes no writes from callers: neither
// those that came to it, nor, as the leader, those that others forward. The
// last bytes are for what keeps the node whole:
//
//   - raft's term and vote, or it could take part in no election, and might vote
//     twice; they, what shortens the log, and the history of what is committed
//     may fall back on the reserve. A snapshot may not: it is large, and one that
//     fails for want of room in the end would have spent the reserve for nothing;
//   - entries that a leader with room sends: they keep the replica alive, and stop
//     only once the reserve had to be given up (vitalLog);
//   - ticks, a hundred bytes each: without a term's first one nobody is answered,
//     not even readers, and without the others the clock that ends bans and
//     tokens would stand still; genesis, once in a life; and a node's new address,
//     without which it cannot be reached when its disk has been changed for another.
//
// Reads need nothing of the disk and go on. Ready stays true: the node does what
// it can do, and a balancer that took every full node out would end the reads
// of a cluster whose disks fill up together.

// vital lists the kinds that are logged whatever room there is.
var vital = []fsm.Kind{fsm.KindTick, fsm.KindGenesis, fsm.KindCoordinatorUpdate}

// full returns the refusal of this node while its disk is, else nil. Any caller
// reads it: directory and numbers are for the log and the status.
func (d *disk) full() *client.Error {
	if !d.space.Room().Low {
		return nil
	}
	return &client.Error{Code: client.CodeDiskFull, RetryAfter: diskFullRetry,
		Detail: fmt.Sprintf("node %s takes no writes, its disk is full; nothing was done: ask another node", d.name)}
}

// diskFullRetry is what a refused caller is told to wait: disks are not emptied
// in seconds.
const diskFullRetry = 5 * time.Second

// noRoom returns the refusal of a command by the leader for want of room, else nil.
func (n *Node) noRoom(l *leadership, kind fsm.Kind) *client.Error {
	if slices.Contains(vital, kind) {
		return nil
	}
	if e := n.disk.full(); e != nil {
		return e
	}
	if l.full.Load() {
		return &client.Error{Code: client.CodeDiskFull, RetryAfter: diskFullRetry,
			Detail: "the disks of so many coordinators are full that no majority has room; nothing was done: look at `disk` in the status of each, and make room"}
	}
	return nil
}

// vitalLog is raft's log store. Once the reserve was given up it takes no more
// entries, or they would eat what terms and votes need; raft then steps down,
// or the leader tries again later. The watchdog sees each call as a whole: a
// frozen disk was once missed because it hung in a few bytes written beside the log.
type vitalLog struct {
	raft.LogStore
	disk   *disk
	settle func() error      // before entries: what was installed and not restored must go
	halt   func(error) error // ends the node: raft is wrong about where its log ends
	cut    bool              // the end was deleted to make place for other entries; raft's loop owns it
}

// StoreLog implements raft.LogStore.
func (s *vitalLog) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s *vitalLog) StoreLogs(logs []*raft.Log) (err error) {
	if s.disk.space.Room().Spent {
		err = s.disk.errSpent()
	} else {
		done := s.disk.Watch.Begin(store.WriteLoop)
		if err = s.settle(); err == nil {
			err = s.LogStore.StoreLogs(logs)
		}
		done(err)
	}
	s.disk.starved.Store(store.NoSpace(err))
	if err != nil && s.cut {
		return s.halt(fmt.Errorf("the log was cut and the entries for that place cannot be stored: %w", err))
	}
	s.cut = false
	return err
}

// DeleteRange implements raft.LogStore. raft cuts off the end when entries of a
// new leader take its place, and counts on these to be stored: if they are not, it
// goes on believing in the old end. So no end goes for which there is no
// successor, and after one that went for nothing the log is read anew.
func (s *vitalLog) DeleteRange(first, last uint64) error {
	end, err := s.LogStore.LastIndex()
	if err != nil {
		return err
	}
	if last < end { // the beginning: compaction
		return s.LogStore.DeleteRange(first, last)
	}
	if s.disk.space.Room().Spent {
		s.disk.starved.Store(true)
		return s.disk.errSpent()
	}
	if err := s.LogStore.DeleteRange(first, last); err != nil {
		if now, failed := s.LogStore.LastIndex(); failed == nil && now == end {
			return err // nothing went
		}
		return s.halt(fmt.Errorf("the log was cut half way: %w", err))
	}
	s.cut = true
	return nil
}

func (d *disk) errSpent() error {
	return fmt.Errorf("what room is left in %s is kept for terms and votes: %w", d.dir, syscall.ENOSPC)
}

// IsMonotonic implements raft.MonotonicLogStore as the store beneath does.
func (s *vitalLog) IsMonotonic() bool {
	m, ok := s.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// errStarved answers a read that asks for more than a replica has which cannot
// advance: nobody should wait for that.
func (d *disk) errStarved() *client.Error {
	return &client.Error{Code: client.CodeUnavailable, Reason: reasonDisk, RetryAfter: time.Second,
		Detail: fmt.Sprintf("the disk of node %s was too full for the entries that this read asks for: ask another node, or for a local read", d.name)}
}

// spaceLook is how often the room is looked at: statfs costs microseconds, and
// a busy log grows by less than 1 MiB in between.
const spaceLook = 200 * time.Millisecond

// watchSpace looks at the room for ever. It may hang with the disk, so it does
// nothing else that matters.
func (n *Node) watchSpace(ctx context.Context) {
	low, trouble := false, ""
	for {
		room, err := n.disk.space.Check()
		if err != nil && err.Error() != trouble {
			n.log.Warn("disk", "error", err)
			trouble = err.Error()
		}
		switch {
		case room.Low && !low:
			n.log.Error("disk full: refusing writes, reads go on", "dir", n.disk.dir, "room", room.String())
			n.noteDisk(true, room.String())
		case !room.Low && low:
			n.log.Info("disk has room again: taking writes", "dir", n.disk.dir, "room", room.String())
			n.noteDisk(false, room.String())
		}
		low = room.Low
		n.lookout.shy.Store(low)
		if !pause(ctx, spaceLook) {
			return
		}
	}
}
