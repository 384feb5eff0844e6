package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/api"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/store"
)

// A restore, on the leader:
//
//	read and verify the backup → plan → RestoreBegin in the log (reserves the epoch)
//	→ gate shut: no proposal → barrier → plan again: still the same? → new state and
//	history in a file, verified → raft.Restore: own state, then the others'
//	→ a majority has it: gate open, a tick → epoch confirmed → answer
//
// Until raft.Restore nothing has changed. From there the outcome is decided by
// the voters (epoch.go): it took effect once a majority has the new epoch.

const actionRestore = "restore" // of the admin record

const (
	// barrierTime is how long the entries in flight may take to be applied.
	barrierTime = 10 * time.Second
	// openTime is how long the first entry of the new epoch may take.
	openTime = 10 * time.Second
)

// gate holds proposals back while the state is replaced: what was proposed in
// one epoch must not be applied in the next.
type gate struct {
	mu   sync.RWMutex
	shut bool
}

func (g *gate) enter() error {
	g.mu.RLock()
	if g.shut {
		g.mu.RUnlock()
		return errRecovery()
	}
	return nil
}

func (g *gate) leave() { g.mu.RUnlock() }

// close returns once every proposal that went through is in raft's queue.
func (g *gate) close() (open func()) {
	g.mu.Lock()
	g.shut = true
	g.mu.Unlock()
	return sync.OnceFunc(func() {
		g.mu.Lock()
		g.shut = false
		g.mu.Unlock()
	})
}

func errRecovery() *client.Error {
	return &client.Error{Code: client.CodeUnavailable, Reason: reasonRecovery, RetryAfter: time.Second,
		Detail: "a restore is under way: nothing was done, ask again when it is over"}
}

func errNotReady(detail string) *client.Error {
	return &client.Error{Code: client.CodeUnavailable, RetryAfter: time.Second, Detail: detail}
}

// PlanRestore implements api.Backups.
func (n *Node) PlanRestore(ctx context.Context, backup io.Reader) (client.RestorePlan, error) {
	done, _, err := n.beginRestore(ctx)
	if err != nil {
		return client.RestorePlan{}, err
	}
	defer done()
	t, err := n.take(backup)
	if err != nil {
		return client.RestorePlan{}, n.restoreError(err)
	}
	defer t.close()
	present, err := n.copyOf()
	if err != nil {
		return client.RestorePlan{}, err
	}
	t.state.Rebase(present.Index())
	return n.plan(t, present)
}

// Restore implements api.Backups.
func (n *Node) Restore(ctx context.Context, backup io.Reader, order api.RestoreOrder) (client.Restored, error) {
	done, l, err := n.beginRestore(ctx)
	if err != nil {
		return client.Restored{}, err
	}
	defer done()
	t, err := n.take(backup)
	if err != nil {
		return client.Restored{}, n.restoreError(err)
	}
	defer t.close()
	present, err := n.copyOf()
	if err != nil {
		return client.Restored{}, err
	}
	seen, err := n.plan(t, present)
	if err != nil {
		return client.Restored{}, err
	}
	if err := agreed(seen, order.RestoreOrder); err != nil {
		return client.Restored{}, err
	}
	if err := n.reserveEpoch(ctx, l, t, order.Actor); err != nil {
		return client.Restored{}, err
	}
	return n.replaceState(ctx, l, t, order)
}

// beginRestore refuses at any node but a leader that may answer, and a second
// one while one is under way.
func (n *Node) beginRestore(ctx context.Context) (done func(), l *leadership, err error) {
	if err := n.Serving(); err != nil {
		return nil, nil, err
	}
	if l = n.lead.Load(); l == nil {
		return nil, nil, n.errLeaderOnly()
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	if err := l.usable(ctx); err != nil {
		return nil, nil, err
	}
	var level uint32
	n.machine.Read(func(s *fsm.State) { level = s.Meta().Level })
	if level < fsm.LevelRecovery {
		return nil, nil, &client.Error{Code: client.CodeConflict, Detail: fmt.Sprintf(
			"the cluster's feature level is %d, a restore needs %d: upgrade all coordinators first", level, fsm.LevelRecovery)}
	}
	if !n.restoring.TryLock() {
		return nil, nil, &client.Error{Code: client.CodeConflict, Detail: "another restore, or the plan of one, is under way at this node: wait for it to end"}
	}
	return n.restoring.Unlock, l, nil
}

// errLeaderOnly names who takes a backup: its body is too large to be forwarded.
func (n *Node) errLeaderOnly() *client.Error {
	e := errNotLeader()
	e.RetryAfter = time.Second
	if at := n.Status().Leader; at != nil {
		e.Detail = fmt.Sprintf("only the leader takes a backup: send it to %s at %s", at.Name, at.API)
	} else {
		e.Reason, e.Detail = reasonNoLeader, "only the leader takes a backup, and this node knows of none right now"
	}
	return e
}

// reserveEpoch writes into the log that a restore begins, and by whom.
func (n *Node) reserveEpoch(ctx context.Context, l *leadership, t *taken, actor fsm.Actor) error {
	sum, err := crypto.ParseHash(t.SHA256)
	if err != nil {
		return err
	}
	cmd, err := fsm.New(actor, fsm.RestoreBegin{BackupEpoch: t.Epoch, Backup: sum})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	res, err := n.proposeHere(ctx, l, cmd)
	if err != nil {
		e := *asAPIError(err)
		if e.Code == client.CodeUnknownOutcome {
			e.Code = client.CodeUnavailable // a reservation alone changes nothing
		}
		e.Detail = "the restore did not begin, nothing was done: " + e.Detail
		return &e
	}
	if !res.OK() {
		code := string(res.Code)
		if !client.KnownCode(code) {
			code = client.CodeUnavailable
		}
		return &client.Error{Code: code, Field: res.Field, Detail: res.Detail}
	}
	return nil
}

// replaceState does the restore behind a shut gate.
func (n *Node) replaceState(ctx context.Context, l *leadership, t *taken, order api.RestoreOrder) (client.Restored, error) {
	unlock, err := hold(ctx, &n.members) // raft's configuration stays as it is
	if err != nil {
		return client.Restored{}, err
	}
	defer unlock()
	unlock, err = hold(ctx, &n.snapping)
	if err != nil {
		return client.Restored{}, err
	}
	defer unlock()
	n.replacing.Store(true)
	defer n.replacing.Store(false)
	open := n.gate.close()
	defer open()
	if err := n.raft.Barrier(barrierTime).Error(); err != nil {
		return client.Restored{}, n.notDone(err)
	}
	next, file, err := n.prepare(l, t, order)
	if err != nil {
		return client.Restored{}, err
	}
	defer file.Close()
	if err := ctx.Err(); err != nil {
		return client.Restored{}, err // nobody waits for it any more
	}
	if e := n.clockRefuses(l); e != nil {
		return client.Restored{}, e
	}
	n.log.Warn("the cluster's state is replaced by a backup", "epoch", next.Meta().Epoch, "backup", t.SHA256, "of_index", t.Index)
	if err := n.install(file, next); err != nil {
		return client.Restored{}, err
	}
	n.holdEpoch(next.Meta().Epoch) // raft has proved that a majority has it
	l.chain.voidAll()
	open()
	return n.firstEntry(l, next)
}

// hold locks what must not happen beside a restore, as long as somebody waits for it.
func hold(ctx context.Context, mu *sync.Mutex) (unlock func(), err error) {
	for !mu.TryLock() {
		if !pause(ctx, retryPause) {
			return nil, ctx.Err()
		}
	}
	return mu.Unlock, nil
}

// prepare makes the new state from the backup and the present, and the file that
// every node will take. Nobody applies anything meanwhile.
func (n *Node) prepare(l *leadership, t *taken, order api.RestoreOrder) (next *fsm.State, file *os.File, err error) {
	var records []fsm.Record
	n.machine.Read(func(present *fsm.State) {
		t.state.Rebase(present.Index())
		var p client.RestorePlan
		if p, err = n.plan(t, present); err == nil {
			if p.RecordsLost > 0 {
				p.RecordsLost-- // that of our own RestoreBegin
			}
			p.Older = olderThan(p)
			err = agreed(p, order.RestoreOrder)
		}
		at := n.wallMs()
		if e := n.clockRefuses(l); err == nil && e != nil { // after the look at the clock: it may have jumped behind the barrier
			err = e
		}
		if err == nil {
			next, records, err = fsm.Restored(t.state, present, fsm.Recovery{AtMs: at, Actor: order.Actor, Action: actionRestore, Detail: lossOf(t, p)})
		}
	})
	if err != nil {
		return nil, nil, err
	}
	if err = next.Validate(0); err != nil { // what no cluster makes could never be backed up again
		return nil, nil, &client.Error{Code: client.CodeConflict, Detail: "nothing was done: what the restore would make is not sound: " + err.Error()}
	}
	if file, err = n.tempFile("snapshot"); err != nil {
		return nil, nil, n.restoreError(err)
	}
	if err = n.writeRestored(file, next, t, records); err != nil {
		_ = file.Close() // the error above is the one to report
		return nil, nil, n.restoreError(err)
	}
	return next, file, nil
}

// writeRestored writes a whole snapshot and reads it back: raft ends the process
// when it cannot take one.
func (n *Node) writeRestored(file *os.File, next *fsm.State, t *taken, records []fsm.Record) error {
	out := n.guard(file)
	if err := next.Freeze().Write(out); err != nil {
		return err
	}
	if err := fsm.WriteHistory(out, next.Totals(), thenRecords(t.records.records(next.Index()), records)); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	info, err := fsm.ScanSnapshot(file)
	if err != nil {
		return err
	}
	if info.Digest != next.Digest() {
		return errors.New("the snapshot that was written reads as another state")
	}
	_, err = file.Seek(0, io.SeekStart)
	return err
}

// install has raft replace the state here and then at the others. It returns
// when a majority has it, or when it is certain that it did not begin, or else
// with an unknown outcome.
func (n *Node) install(file *os.File, next *fsm.State) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	meta := &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: next.Index(), Size: info.Size()}
	if err := n.store.History.FlushNow(); err != nil { // raft ends the process over a snapshot that cannot be taken
		return n.notDone(err)
	}
	if n.cfg.step != nil {
		n.cfg.step("install")
	}
	// No time limit: raft would hold it against the last step too, and call what
	// took long unknown. Its loop takes this at once, or hangs in a write, and then
	// the watchdog ends the process; who does not lead any more is told so.
	err = n.raft.Restore(meta, file, 0)
	if err == nil {
		return nil
	}
	epoch := next.Meta().Epoch
	var have uint64
	n.machine.Read(func(s *fsm.State) { have = s.Meta().Epoch })
	if have != epoch {
		return n.notDone(err)
	}
	n.log.Error("the restore reached this node, whether a majority took it is not known", "epoch", epoch, "error", err)
	return &client.Error{Code: client.CodeUnknownOutcome, Detail: fmt.Sprintf(
		"leadership ended before a majority had the restored state (%v): it took effect if `edgecoder status` of a serving node shows epoch %d", err, epoch)}
}

func (n *Node) notDone(err error) error {
	if e := n.restoreError(err); asAPIError(e).Code != client.CodeInternal {
		return e
	}
	return &client.Error{Code: client.CodeUnavailable, RetryAfter: time.Second, Detail: fmt.Sprintf("the restore did not begin, nothing was done: %v", err)}
}

// firstEntry has an entry applied in the new epoch: from then on a strong read
// finds no replica that still serves the old state.
func (n *Node) firstEntry(l *leadership, next *fsm.State) (client.Restored, error) {
	m := next.Meta()
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	for n.unconfirmed() != nil {
		n.tick(ctx, l, fsm.Tick{Term: l.term})
		if n.unconfirmed() == nil {
			break
		}
		if !pause(ctx, retryPause) || n.lead.Load() != l {
			return client.Restored{}, &client.Error{Code: client.CodeUnknownOutcome, Detail: fmt.Sprintf(
				"a majority has the restored state, but no entry was applied in it yet: look at the epoch in `edgecoder status`, it becomes %d", m.Epoch)}
		}
	}
	out := client.Restored{Epoch: m.Epoch, ChainHead: m.ChainHead, ChainSize: m.ChainSize}
	n.machine.Read(func(s *fsm.State) {
		out.Index, out.AdmissionsFromMs = s.Index(), s.Recovering()
		if out.AdmissionsFromMs > 0 {
			out.AdmissionsPauseMs = out.AdmissionsFromMs - s.ClockMs()
		}
	})
	return out, nil
}

// restoreError sorts what can be wrong with taking a backup.
func (n *Node) restoreError(err error) error {
	if e := (*client.Error)(nil); errors.As(err, &e) {
		return e // of the body on its way
	}
	n.noteChain("a backup that was sent here", err)
	switch {
	case errors.Is(err, ErrBackup):
		return &client.Error{Code: client.CodeInvalid, Field: "body", Detail: err.Error()}
	case errors.Is(err, syscall.EDQUOT), store.NoSpace(err): // raft hides the cause in a text
		n.log.Error("no room for a backup that was sent here", "error", err)
		return &client.Error{Code: client.CodeDiskFull, RetryAfter: diskFullRetry, Detail: "the disk of the leader, " + n.cfg.Name + ", has no room for the backup: make room there, its log says where"}
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown):
		return &client.Error{Code: client.CodeUnavailable, Reason: reasonNotLeader, RetryAfter: time.Second, Detail: err.Error()}
	}
	return err
}
