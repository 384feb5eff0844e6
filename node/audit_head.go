package node

import (
	"context"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// A node tells with its pings where its audit log ends, durably; the leader
// writes that into the log of the cluster with its marks. Before a node tells a
// new end it holds its log against what the cluster knows of it: whoever cuts off
// the end while the node is down, or makes the log anew, is found when it starts.

// typeTruncated is the event of a log that does not hold what it once held. The
// node whose log it is raises it, and with it every other that hears of it.
const typeTruncated = "audit_truncated"

// maxToldHeads bounds the ends that a node remembers to have told in this run: it
// tells at most one each Timing.Ping, and a mark brings back one of the last few.
const maxToldHeads = 128

// auditKeeper follows what the cluster knows of audit logs. Its loop owns all but
// the first two.
type auditKeeper struct {
	report  atomic.Pointer[fsm.AuditReport] // to tell; nil: nothing yet
	suspect atomic.Bool                     // somebody asked for a line that is not there: look again

	known fsm.AuditPlace   // what the cluster knew when this log was last held against it
	lost  bool             // and it did not hold that
	told  []fsm.AuditPlace // in this run, the oldest first

	since  int64             // wall clock of the loop's start, Unix milliseconds
	losses map[string]uint64 // of other members, as far as they were told of here
}

// auditHeadLoop looks each Timing.Ping.
func (n *Node) auditHeadLoop(ctx context.Context) {
	k := &n.auditHead
	k.since, k.losses = n.wallMs(), map[string]uint64{}
	for {
		n.followAuditHeads(ctx)
		if !pause(ctx, n.cfg.Timing.Ping) {
			return
		}
	}
}

func (n *Node) followAuditHeads(ctx context.Context) {
	k := &n.auditHead
	var level uint32
	var mine fsm.AuditHead
	var all []fsm.AuditHead
	n.machine.Read(func(s *fsm.State) {
		level, all = s.Meta().Level, s.AuditHeads()
		mine, _ = s.AuditHead(n.id.NodeID)
	})
	if level < fsm.LevelClients {
		return
	}
	n.hearLosses(all)
	if err := n.checkOwnAudit(ctx, mine.Place()); err != nil {
		n.log.Warn("the audit log could not be held against what the cluster knows of it", "error", err)
		return
	}
	head := placeOf(n.audit.Head())
	k.report.Store(&fsm.AuditReport{NodeID: n.id.NodeID, After: k.known, Lost: k.lost, Head: head})
	if !slices.Contains(k.told, head) {
		k.told = append(k.told[max(0, len(k.told)+1-maxToldHeads):], head)
	}
}

// checkOwnAudit looks for the line that the cluster knows, unless this run told it.
func (n *Node) checkOwnAudit(ctx context.Context, known fsm.AuditPlace) error {
	k := &n.auditHead
	again := k.suspect.Swap(false) && !k.lost
	if again {
		k.told = nil // the file changed under this node
	}
	if known == k.known && !again {
		return nil
	}
	lost := false
	if known.Seq > 0 && !slices.Contains(k.told, known) {
		holds, err := n.audit.Holds(ctx, headOf(known))
		if err == nil && !holds {
			err = n.tellTruncated(ctx, known)
		}
		if err != nil {
			return err
		}
		lost = !holds
	}
	k.known, k.lost = known, lost
	return nil
}

// tellTruncated raises the event and returns when it is durable: the next end
// that the cluster hears of is behind it.
func (n *Node) tellTruncated(ctx context.Context, known fsm.AuditPlace) error {
	ends := n.audit.Head()
	n.log.Error("CRITICAL: the audit log of this node does not hold a line that it held once: its end was cut off, or it was made anew",
		"dir", audit.Dir(n.cfg.DataDir), "seq", known.Seq, "hash", known.Hash, "ends_with", ends.Seq)
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	return n.noteNow(ctx, typeTruncated, audit.LevelCritical, typeTruncated, map[string]string{"subject": n.id.NodeID,
		"seq": strconv.FormatUint(known.Seq, 10), "hash": known.Hash.String(), "ends_with": strconv.FormatUint(ends.Seq, 10)})
}

// hearLosses raises the event here too when another member's log lost its end
// while this node ran: that log itself may be cut off again.
func (n *Node) hearLosses(all []fsm.AuditHead) {
	k := &n.auditHead
	for _, h := range all {
		if h.NodeID == n.id.NodeID || h.Losses <= k.losses[h.NodeID] || len(h.Lost) == 0 {
			continue
		}
		k.losses[h.NodeID] = h.Losses
		last := h.Lost[len(h.Lost)-1]
		if last.AtMs < k.since {
			continue
		}
		n.log.Error("CRITICAL: the audit log of another node lost its end", "other_node", h.NodeID, "seq", last.Seq, "hash", last.Hash, "goes_on_with", h.Seq)
		n.note(typeTruncated, audit.LevelCritical, typeTruncated, map[string]string{"subject": h.NodeID,
			"seq": strconv.FormatUint(last.Seq, 10), "hash": last.Hash.String(), "goes_on_with": strconv.FormatUint(h.Seq, 10)})
	}
}

// auditReports returns what the leader heard of ends that the state does not
// know: its own, and those of the servers that answered lately.
func (n *Node) auditReports() (out []fsm.AuditReport) {
	var told []fsm.AuditReport
	if own := n.auditHead.report.Load(); own != nil {
		told = append(told, *own)
	}
	for _, s := range n.servers() {
		id := string(s.ID)
		if h, ok := n.health.get(id); ok && id != n.id.NodeID && h.audit != nil && time.Since(h.at) < pingFresh {
			told = append(told, *h.audit)
		}
	}
	n.machine.Read(func(s *fsm.State) {
		if s.Meta().Level < fsm.LevelClients {
			return
		}
		for _, r := range told {
			if have, _ := s.AuditHead(r.NodeID); r.After == have.Place() && (r.Lost || r.Head.Seq > have.Seq) && len(out) < fsm.MaxCoordinators {
				out = append(out, r)
			}
		}
	})
	return out
}

// placeOf turns the head of this node's own log, whose hash is well formed, into
// what the cluster keeps.
func placeOf(h audit.Head) fsm.AuditPlace {
	sum, err := crypto.ParseHash(h.Hash)
	if err != nil {
		return fsm.AuditPlace{}
	}
	return fsm.AuditPlace{Seq: h.Seq, Hash: sum}
}

func headOf(p fsm.AuditPlace) audit.Head { return audit.Head{Seq: p.Seq, Hash: p.Hash.String()} }
