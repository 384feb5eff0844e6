package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/store"
)

// A snapshot may bring a newer recovery epoch: after a restore, or to a node
// that was away. A restore is no entry of the log: raft replaces the leader's
// state before any other node has it, and if the leader dies there the others go
// on without it. So a node serves nothing from an epoch that a snapshot brought
// until a majority of voters is in it and an entry was applied in it: then no
// later leader can lack it. A node whose epoch was passed over, because a voter
// applied entries beyond it in an older one, goes back to where it was before
// (store.Undo); if it cannot, it gives up its vote and starts afresh.

// fileEpoch holds the newest epoch that this node knows to be the cluster's.
const fileEpoch = "epoch"

const reasonRecovery = "recovery"

// epochs is what this node knows of its state's epoch.
type epochs struct {
	mu        sync.Mutex
	confirmed uint64   // the cluster's own for sure
	noted     uint64   // as fileEpoch has it
	arrived   *arrival // an epoch that a snapshot brought and nobody confirmed yet
}

// arrival is an epoch that a snapshot brought.
type arrival struct {
	epoch   uint64
	from    uint64 // log index of the state that came: what is applied above it was decided in that epoch
	held    bool   // a majority of voters has it
	refuted bool   // the cluster went on without it
}

// openEpochs reads what an earlier run noted. Without a note only the first
// epoch is certain, which every cluster begins with.
func (n *Node) openEpochs() error {
	n.epochs.confirmed = 1
	epoch, err := notedEpoch(n.cfg.DataDir)
	if errors.Is(err, strconv.ErrSyntax) || errors.Is(err, strconv.ErrRange) {
		n.log.Warn("the note of the confirmed epoch cannot be read: the others are asked", "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	n.epochs.confirmed, n.epochs.noted = max(epoch, 1), epoch
	return nil
}

// notedEpoch reads the note of the newest confirmed epoch, 0 if there is none.
func notedEpoch(dir string) (uint64, error) {
	path := filepath.Join(dir, fileEpoch)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	epoch, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return epoch, nil
}

// arriveEpoch is called with the state of a snapshot before anybody can read it:
// whoever reads it and then asks whether its epoch may be told hears no.
func (n *Node) arriveEpoch(s *fsm.State) {
	e := &n.epochs
	e.mu.Lock()
	defer e.mu.Unlock()
	if epoch := s.Meta().Epoch; epoch > e.confirmed {
		e.arrived = &arrival{epoch: epoch, from: s.Index()}
		n.note("recovery_epoch", audit.LevelHigh, "ok", map[string]string{"epoch": strconv.FormatUint(epoch, 10), "index": strconv.FormatUint(s.Index(), 10)})
	}
}

// observeEpoch is called in the apply loop; it must not block.
func (n *Node) observeEpoch(res fsm.Result, kind fsm.Kind) {
	e := &n.epochs
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.arrived == nil && kind != fsm.KindRestored && kind != fsm.KindClockRecover {
		return
	}
	var epoch uint64
	n.machine.Read(func(s *fsm.State) { epoch = s.Meta().Epoch })
	switch {
	case epoch <= e.confirmed:
		e.arrived = nil
	case kind == fsm.KindRestored:
		ring(n.pingNow) // arriveEpoch noted it
	case e.arrived == nil:
		e.confirmed = epoch // the log itself began it
	case e.arrived.epoch != epoch:
		e.arrived.epoch, e.arrived.held = epoch, false
	default:
		n.settleEpoch(res.Index)
	}
}

// settleEpoch confirms the epoch that arrived if all is known that it takes.
// The caller holds mu.
func (n *Node) settleEpoch(applied uint64) {
	e := &n.epochs
	if a := e.arrived; a != nil && a.held && applied > a.from {
		e.confirmed, e.arrived = a.epoch, nil
		n.log.Info("a recovery epoch began", "epoch", e.confirmed)
		ring(n.news)
	}
}

// holdEpoch notes that a majority has the epoch.
func (n *Node) holdEpoch(epoch uint64) {
	applied, _ := n.machine.Index()
	n.epochs.mu.Lock()
	defer n.epochs.mu.Unlock()
	if a := n.epochs.arrived; a != nil && a.epoch == epoch {
		a.held = true
		n.settleEpoch(applied)
	}
}

// arrivedEpoch returns the epoch that waits to be confirmed, if one does.
func (n *Node) arrivedEpoch() (arrival, bool) {
	n.epochs.mu.Lock()
	defer n.epochs.mu.Unlock()
	if n.epochs.arrived == nil {
		return arrival{}, false
	}
	return *n.epochs.arrived, true
}

// unconfirmed returns an error while this node must not serve its epoch.
func (n *Node) unconfirmed() *client.Error {
	a, waits := n.arrivedEpoch()
	if !waits {
		return nil
	}
	e := &client.Error{Code: client.CodeUnavailable, Reason: reasonRecovery, RetryAfter: time.Second,
		Detail: fmt.Sprintf("recovery epoch %d reached this node, and it serves as soon as a majority of voters has it; ask another node", a.epoch)}
	if a.refuted {
		e.Detail = fmt.Sprintf("this node holds recovery epoch %d of a restore that did not take effect: it fetches the state of the others; ask another node", a.epoch)
	}
	return e
}

// judgeEpoch asks the last word of every voter whether the epoch that arrived is
// the cluster's.
func (n *Node) judgeEpoch(ctx context.Context) {
	n.noteEpoch()
	a, waits := n.arrivedEpoch()
	if !waits {
		return
	}
	ids := voters(n.servers())
	agree, disowned := 0, n.disowned()
	a.refuted = a.refuted || disowned
	for _, id := range ids {
		h, ok := n.health.get(id)
		switch {
		case id == n.id.NodeID:
			agree++
		case !ok || time.Since(h.at) >= pingFresh || h.epoch == 0:
		case h.epoch == a.epoch:
			if n.stays(id) { // what it said ten seconds ago may be taken back by now
				agree++
			}
		case h.epoch < a.epoch && h.applied > a.from:
			// What it applied is committed, beyond the place where our epoch begins.
			a.refuted = true
		}
	}
	switch {
	case agree > len(ids)/2 && !disowned:
		n.holdEpoch(a.epoch)
	case a.refuted:
		n.refuted(ctx, a)
	}
}

// refuted takes the restore back. If that cannot be done it begins afresh once
// this node has no vote any more: while it votes it must not forget its log, which
// others may count on.
func (n *Node) refuted(ctx context.Context, a arrival) {
	n.epochs.mu.Lock()
	first := n.epochs.arrived != nil && !n.epochs.arrived.refuted
	if n.epochs.arrived != nil {
		n.epochs.arrived.refuted = true
	}
	n.epochs.mu.Unlock()
	if first {
		n.log.Error("CRITICAL: the restore that this node holds did not take effect, the cluster went on without it", "epoch", a.epoch)
	}
	if n.lead.Load() != nil {
		n.handOverTo(ctx, foremost(n.successors(mostApplied), func(s successor) bool { return s.epoch < a.epoch })) // not to another that holds it
		return
	}
	impossible := n.store.CanUndo(a.epoch)
	switch {
	case n.fatal.Load() != nil:
		return
	case impossible == nil:
		if err := n.rememberUndo(a.epoch); err != nil {
			n.log.Error("cannot note that this node undoes the restore", "error", err)
			return
		}
		n.fail(undone(a.epoch))
		return
	case first:
		n.log.Error("the restore cannot be undone here: this node starts afresh once it has no vote", "error", impossible)
	}
	if errors.Is(impossible, store.ErrNotUndone) { // else it could not be told
		n.startAfresh() // the leader takes the vote as soon as the cluster can do without
	}
}

// noteEpoch makes the confirmed epoch durable, so that a restart without a
// majority goes on serving reads.
func (n *Node) noteEpoch() {
	n.epochs.mu.Lock()
	epoch, noted := n.epochs.confirmed, n.epochs.noted
	n.epochs.mu.Unlock()
	if epoch <= max(noted, 1) {
		return
	}
	if err := keyfile.WriteAtomic(filepath.Join(n.cfg.DataDir, fileEpoch), []byte(strconv.FormatUint(epoch, 10)+"\n")); err != nil {
		n.log.Warn("the confirmed epoch is not noted", "error", err)
		return
	}
	n.epochs.mu.Lock()
	n.epochs.noted = epoch
	n.epochs.mu.Unlock()
}

// releases tells whether this node, as the leader, knows for sure that another
// has no vote: the configuration without it is committed. What raft tells is the
// newest configuration, committed or not, and not its index; it stands in the
// log at or before the last entry, so once all of that is committed it is too.
func (n *Node) releases(id string) bool {
	l := n.lead.Load()
	if l == nil || n.unconfirmed() != nil {
		return false
	}
	l.releasing.Lock()
	defer l.releasing.Unlock()
	servers := n.servers()
	if len(servers) == 0 || l.granting == id || isVoter(servers, id) {
		delete(l.voteless, id)
		return false
	}
	last, asked := l.voteless[id]
	if !asked {
		if len(l.voteless) >= fsm.MaxCoordinators {
			clear(l.voteless)
		}
		last = n.raft.LastIndex()
		l.voteless[id] = last
	}
	return n.raft.CommitIndex() >= last && n.lead.Load() == l
}

// grant gives a node its vote. What was known of it having none is forgotten
// first. Nothing is held while raft is asked: pings must not wait.
func (n *Node) grant(l *leadership, id string) error {
	begin := func(id string) {
		l.releasing.Lock()
		defer l.releasing.Unlock()
		delete(l.voteless, id)
		l.granting = id
	}
	begin(id)
	defer begin("")
	if !n.stays(id) { // asked only now that no answer tells the node any more that it has no vote
		return errLeaves
	}
	return n.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(id), 0, n.cfg.Timing.Request).Error()
}

// passedOver tells whether a node holds an epoch of a restore that did not take
// effect: it is in a higher one than this leader, who has applied more, or it says
// itself that it leaves, having caught up with entries that do not fit its state.
func (n *Node) passedOver(id string) bool {
	h, ok := n.health.get(id)
	if !ok || !n.fresh(id) || h.epoch == 0 {
		return false
	}
	var epoch, applied uint64
	n.machine.Read(func(s *fsm.State) { epoch, applied = s.Meta().Epoch, s.Index() })
	return h.epoch > epoch && (applied > h.applied || h.leaving)
}

// undoTime is how long such a node has to undo the restore by itself. One that
// cannot starts afresh, and must have no vote for that.
const undoTime = 15 * time.Second

// demotePassedOver takes the vote from such nodes; it tells whether it did
// anything. Duty of the leader; the caller holds members.
func (n *Node) demotePassedOver(l *leadership, servers []raft.Server) bool {
	for _, id := range voters(servers) {
		if id == n.id.NodeID || !n.passedOver(id) {
			delete(l.passed, id)
			continue
		}
		if l.passed[id].IsZero() {
			l.passed[id] = time.Now()
		}
		if time.Since(l.passed[id]) < undoTime || n.canLose(id) != nil {
			continue
		}
		n.logMember("it holds a restore that did not take effect, taking its vote", id, n.raft.DemoteVoter(raft.ServerID(id), 0, n.cfg.Timing.Request).Error())
		return true
	}
	return false
}

// sameEpoch tells whether a node reported this replica's epoch: only then may
// it be given a vote. One that reports none runs an older version.
func (n *Node) sameEpoch(id string) bool {
	h, ok := n.health.get(id)
	var epoch uint64
	n.machine.Read(func(s *fsm.State) { epoch = s.Meta().Epoch })
	return ok && (h.epoch == epoch || h.epoch == 0)
}
