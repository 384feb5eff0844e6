package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/cosign"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/store"
)

// A stream of history that is a public proof is a log: a tree in the history file, checkpoints that coordinators
// cosign. Each node keeps its own copy of each log, checks what came in, off the apply path, and holds it to what it and
// others signed. Who leads has checkpoints made (checkpoint.go). All of it begins at fsm.LevelCheckpoints: from then on no
// older binary reads the history file.

// dirLogs is where a node keeps what it promised, the newest checkpoints, and evidence of forks.
const dirLogs = "checkpoints"

// Types of audit events.
const (
	typeLogFork     = "log_fork"              // two heads of one log
	typeWithheld    = "cosignature_withheld"  // a record that is not sound
	typeCosignerSet = "cosigner_set_proposed" // who cosigns changed
)

const reasonForked = "log_forked"

// stuckPause is how long a node waits that could not write hashes: its disk is full.
const stuckPause = 5 * time.Second

// keptLog is one log of this node.
type keptLog struct {
	name   string
	stream fsm.Stream
	later  bool          // it begins with its first record: before that there is nothing to sign
	pace   time.Duration // least time between two checkpoints; a log that grows all the time shares them
	bell   chan struct{} // a record was applied
	*cosign.Keeper
	tree treeOf

	withheld atomic.Pointer[string] // why this node cosigns nothing; nil when it does
	fork     atomic.Pointer[cosign.Fork]

	crowdedSigned, crowdedWords rate.Sometimes // alarms of forks that are not kept

	spread spreader
	round  roundState // this and what follows is owned by logLoop
	stuck  time.Time  // when the tree last did not grow
	whole  bool       // this replica has caught up since it started
}

// logs are all of them. The map never changes after openLogs.
type logs struct {
	all   []*keptLog
	named map[string]*keptLog
}

func newLogs() logs { return logs{named: map[string]*keptLog{}} }

// ring wakes whoever looks after a log.
func (s *logs) ring() {
	for _, l := range s.all {
		ring(l.bell)
	}
}

// treeOf is the tree of one stream.
type treeOf struct {
	h *store.History
	s fsm.Stream
}

// TreeSize implements cosign.Log.
func (t treeOf) TreeSize() uint64 { return t.h.TreeSize(t.s) }

// TreeRoot implements cosign.Log.
func (t treeOf) TreeRoot(size uint64) (crypto.Hash, error) { return t.h.TreeRoot(t.s, size) }

// Read implements cosign.Log.
func (t treeOf) Read(from uint64, limit int) ([]fsm.Record, error) { return t.h.Read(t.s, from, limit) }

// ledgerPace is the least time between two checkpoints of the ledger: each costs every cosigner a promise on disk, and
// holds whatever was moved meanwhile.
const ledgerPace = time.Second

// openLogs reads what this node promised. A log is a name, a stream, what its records are held to, and when it has
// checkpoints; there is nothing else to say of one.
func (n *Node) openLogs() error {
	dir := filepath.Join(n.cfg.DataDir, dirLogs)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, l := range []struct {
		name   string
		stream fsm.Stream
		check  cosign.Check
		later  bool
		pace   time.Duration
	}{
		{checkpoint.LogBlacklist, fsm.StreamBlacklist, n.checkBlacklistRecord, false, 0},
		{checkpoint.LogLedger, fsm.StreamLedger, n.checkLedgerRecord, true, ledgerPace},
	} {
		tree := treeOf{n.store.History, l.stream}
		k, err := cosign.Open(dir, l.name, tree, l.check)
		if err != nil {
			return err
		}
		kept := &keptLog{name: l.name, stream: l.stream, later: l.later, pace: l.pace, bell: make(chan struct{}, 1), Keeper: k, tree: tree,
			crowdedSigned: rate.Sometimes{Interval: crowdedAgain}, crowdedWords: rate.Sometimes{Interval: crowdedAgain}}
		n.logs.all, n.logs.named[l.name] = append(n.logs.all, kept), kept
	}
	return nil
}

// close has calls that outlive the node write nothing more.
func (s *logs) close() {
	for _, l := range s.all {
		l.Close()
	}
}

// checkBlacklistRecord holds an event to what every verifier of the chain asks, and its key to the window of log
// indexes in which it might sign.
func (n *Node) checkBlacklistRecord(before *fsm.Record, r fsm.Record) error {
	head := crypto.BlacklistGenesis
	if before != nil {
		last, err := crypto.ParseBlacklistEvent(before.Data)
		if err != nil {
			return err
		}
		head = last.EventHash
	}
	e, err := crypto.ParseBlacklistEvent(r.Data)
	if err != nil {
		return err
	}
	if e.PrevEventHash != head {
		return fmt.Errorf("event %s links to %s, the one before is %s", e.EventID, e.PrevEventHash, head)
	}
	var key fsm.SigningKey
	known := false
	n.machine.Read(func(s *fsm.State) { key, known = s.SigningKey(e.SourceCoordinatorID) })
	switch {
	case !known:
		return fmt.Errorf("event %s: no key of coordinator %s was ever enrolled", e.EventID, e.SourceCoordinatorID)
	case r.Index < key.Since || key.RetiredAt != 0 && r.Index > key.RetiredAt:
		return fmt.Errorf("event %s of log index %d: the key of %s signs from %d to %d (0: on)", e.EventID, r.Index, e.SourceCoordinatorID, key.Since, key.RetiredAt)
	case !e.VerifyCoordinator(key.Public):
		return fmt.Errorf("event %s is not signed by %s", e.EventID, e.SourceCoordinatorID)
	case e.EvidenceSignatureVerified:
		return e.VerifyReporter()
	}
	return nil
}

// epochNow is what a log's origin depends on, and whether the history was replaced: a question that spans a change of
// it is asked again.
type epochNow struct {
	cluster string
	epoch   uint64
	since   string // id of the last recovery from a copy
	level   uint32
	swaps   int
	set     fsm.CosignerSet // in force; of version 0 when none
}

func (n *Node) epochNow() (e epochNow) {
	n.machine.Read(func(s *fsm.State) {
		e.cluster, e.epoch, e.level = s.Meta().ClusterID, s.Meta().Epoch, s.Meta().Level
		e.set, _ = s.CosignerSet()
		if ids := s.Meta().Recoveries; len(ids) > 0 {
			e.since = ids[len(ids)-1]
		}
	})
	e.swaps = n.store.History.Swaps()
	return e
}

func (e epochNow) origin(log string) checkpoint.Origin {
	return checkpoint.Origin{ClusterID: e.cluster, Log: log, Epoch: e.epoch, Recovery: e.since}
}

func (e epochNow) cosigners() checkpoint.Set { return e.set.Signed(e.cluster).Set }

// sameEpochStill tells whether what was found since e was taken may be believed: no restore came in between.
func (n *Node) sameEpochStill(e epochNow) bool {
	now := n.epochNow()
	return now.epoch == e.epoch && now.swaps == e.swaps && n.unconfirmed() == nil
}

// logsLoop looks after the logs, each by itself: one that waits for its cosigners holds up no other.
func (n *Node) logsLoop(ctx context.Context) {
	var all sync.WaitGroup
	for _, l := range n.logs.all {
		all.Go(func() { n.logLoop(ctx, l) })
	}
	all.Wait()
}

// logLoop looks after one log: at once when a record came in, and each dutyInterval.
func (n *Node) logLoop(ctx context.Context, l *keptLog) {
	often := time.NewTicker(dutyInterval)
	defer often.Stop()
	for {
		if e := n.epochNow(); e.level >= fsm.LevelCheckpoints && n.unconfirmed() == nil {
			n.lookAfter(ctx, l, e)
		}
		select {
		case <-ctx.Done():
			return
		case <-l.bell:
		case <-often.C:
		}
	}
}

// lookAfter does what a log needs of every node, and of the leader.
func (n *Node) lookAfter(ctx context.Context, l *keptLog, e epochNow) {
	if time.Since(l.stuck) < stuckPause {
		return
	}
	if err := n.store.History.KeepTree(ctx, l.stream); err != nil {
		if l.stuck = time.Now(); ctx.Err() == nil && !errors.Is(err, store.ErrClosed) {
			n.log.Warn("the tree of a log does not grow", "log", l.name, "again_in", stuckPause, "error", err)
		}
		return
	}
	if n.hasFork(ctx, l, e) {
		return
	}
	err := l.CheckTo(ctx, e.origin(l.name), l.tree.TreeSize())
	if n.sameEpochStill(e) {
		n.withhold(l, err)
	}
	if lead := n.lead.Load(); lead != nil && err == nil && n.Serving() == nil {
		select {
		case <-lead.ready:
			n.checkpointDuty(ctx, lead, l, e)
		default:
		}
	}
}

// hasFork holds this node's records to what it signed, and to the newest checkpoint.
func (n *Node) hasFork(ctx context.Context, l *keptLog, e epochNow) bool {
	if l.fork.Load() != nil {
		n.leaveForked(ctx)
		return true
	}
	o := e.origin(l.name)
	err := l.Honest(o, n.hasAll(ctx, l))
	if err == nil {
		err = l.Confirm(o)
	}
	if err == nil && e.set.Version > 0 {
		if err = l.Load(e.cosigners(), o); err != nil && !isFork(err) {
			err = nil // of before a change of epoch or of cosigners: the next one is seconds away
		}
	}
	return err != nil && n.sameEpochStill(e) && n.stopForked(l, err, nil)
}

// hasAll tells whether this replica holds all records that it ever had: a read point showed since the start that it has
// caught up, and what it applied is on disk. One that fetches what the others have after a fresh start has promised more
// than it holds, and that is no lie.
func (n *Node) hasAll(ctx context.Context, l *keptLog) bool {
	l.whole = l.whole || n.Ready() == nil && n.caughtUp(ctx) == nil
	_, totals := n.store.History.Totals()
	return l.whole && n.Ready() == nil && l.tree.TreeSize() == totals[l.stream]
}

func isFork(err error) bool {
	f := (*cosign.Fork)(nil)
	return errors.As(err, &f)
}

// stopForked stops this node from serving: its records and what it or a majority signed cannot both be true. It tells
// whether that is what the error says.
func (n *Node) stopForked(l *keptLog, err error, note []byte) bool {
	f := (*cosign.Fork)(nil)
	if !errors.As(err, &f) {
		if err != nil {
			n.log.Warn("a log cannot be held to what was signed of it", "log", l.name, "error", err)
		}
		return false
	}
	if l.fork.CompareAndSwap(nil, f) {
		file, _, err := l.KeepEvidence(cosign.Evidence{Fork: f, There: note})
		n.alarmFork(l, f, file, err, "it stopped serving")
	}
	return true
}

// crowdedAgain is how often the alarm is raised of forks for whose evidence there is no room: whoever makes them up does not fill the audit log, and nothing
// stays unsaid.
const crowdedAgain = 10 * time.Minute

// claimFork keeps both heads of a fork that another coordinator claims, and raises the alarm, once for each pair that is kept. That stops nobody: who lies must
// not be able to. What there is no room for is told of too, now and again, words and signed claims each by themselves.
func (n *Node) claimFork(l *keptLog, e cosign.Evidence, then string) {
	file, fresh, err := l.KeepEvidence(e)
	switch {
	case fresh:
		n.alarmFork(l, e.Fork, file, err, then)
	case err != nil && e.By.IsZero():
		l.crowdedSigned.Do(func() { n.alarmFork(l, e.Fork, file, err, then) })
	case err != nil:
		l.crowdedWords.Do(func() { n.alarmFork(l, e.Fork, file, err, then) })
	}
}

func (n *Node) alarmFork(l *keptLog, f *cosign.Fork, file string, err error, then string) {
	n.log.Error("CRITICAL: two heads of one log", "log", l.name, "what", f.What, "here", f.Mine.Root, "here_size", f.Mine.Size,
		"there", f.Theirs.Root, "there_size", f.Theirs.Size, "evidence", file, "then", then, "error", err)
	n.note(typeLogFork, audit.LevelCritical, typeLogFork, map[string]string{"log": l.name, "what": f.What, "origin": f.Theirs.Origin.String(),
		"size": strconv.FormatUint(f.Mine.Size, 10), "root": f.Mine.Root.String(), "their_size": strconv.FormatUint(f.Theirs.Size, 10),
		"their_root": f.Theirs.Root.String(), "evidence": filepath.Base(file), "then": then})
}

// forked is why this node must not serve, if its copy of a log is not what was signed.
func (s *logs) forked() *client.Error {
	for _, l := range s.all {
		if f := l.fork.Load(); f != nil {
			return &client.Error{Code: client.CodeUnavailable, Reason: reasonForked, RetryAfter: 5 * time.Second,
				Detail: fmt.Sprintf("the %s log of this node is not the one that was signed: it stopped serving, and both heads are in its data directory (%s); ask another node", l.name, dirLogs)}
		}
	}
	return nil
}

// leaveForked hands leadership over: a leader that does not serve is none.
func (n *Node) leaveForked(ctx context.Context) {
	if n.lead.Load() != nil {
		n.handOverTo(ctx, n.anyFit())
	}
}

// withhold notes why this node cosigns nothing of a log, or that it does again, and says so once.
func (n *Node) withhold(l *keptLog, err error) {
	bad := (*cosign.RecordError)(nil)
	if !errors.As(err, &bad) {
		if err == nil {
			l.withheld.Store(nil)
		}
		return
	}
	why := bad.Error()
	if before := l.withheld.Swap(&why); before != nil && *before == why {
		return
	}
	n.log.Error("CRITICAL: a record of a log is not sound: this node cosigns nothing that holds it", "log", l.name, "seq", bad.Seq, "error", bad.Err)
	n.note(typeWithheld, audit.LevelCritical, typeWithheld, map[string]string{"log": l.name, "seq": strconv.FormatUint(bad.Seq, 10), "detail": bad.Err.Error()})
}
