package node

import (
	"context"
	"strconv"
	"time"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

// moveUnit is one node's batch of operations waiting at the leader.
type moveUnit = unit[fsm.LedgerBatch, []fsm.LedgerResult]

func (n *Node) serveLedger(ctx context.Context, _ string, batch fsm.LedgerBatch) ([]fsm.LedgerResult, error) {
	l := n.lead.Load()
	if l == nil {
		return nil, errNotLeader()
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	return n.decideMovesHere(ctx, l, batch)
}

func (n *Node) decideMovesHere(ctx context.Context, l *leadership, batch fsm.LedgerBatch) ([]fsm.LedgerResult, error) {
	if err := l.usable(ctx); err != nil {
		return nil, err
	}
	if e := n.levelAllows(fsm.Command{Kind: fsm.KindLedgerBatch}); e != nil {
		return nil, e
	}
	if e := unfitMove(&batch); e != nil {
		return nil, e
	}
	u := newUnit[fsm.LedgerBatch, []fsm.LedgerResult](ctx, batch)
	l.moves.put(u)
	return u.await(l, errUnknownMove())
}

// ledgerLoop merges the batches of all nodes into one log entry at a time.
func (n *Node) ledgerLoop(ctx context.Context, l *leadership) {
	var waiting []*moveUnit
	for {
		if len(waiting) == 0 {
			if waiting = l.moves.take(ctx, maxUnits); waiting == nil {
				return
			}
		}
		var units []*moveUnit
		units, waiting = fill(waiting, roomForEntries())
		if len(units) == 0 {
			continue
		}
		results, err := n.commitMoves(l, units)
		for _, u := range units {
			r := unitReply[[]fsm.LedgerResult]{err: err}
			if err == nil {
				r.reply = results[:len(u.batch.Entries)]
				results = results[len(u.batch.Entries):]
			}
			u.reply <- r
		}
	}
}

// commitMoves proposes one entry for all units and waits for it.
func (n *Node) commitMoves(l *leadership, units []*moveUnit) ([]fsm.LedgerResult, error) {
	all := units[0].batch
	if len(units) > 1 {
		all = fsm.LedgerBatch{}
		for _, u := range units {
			appendMoves(&all, &u.batch)
		}
	}
	if err := n.Serving(); err != nil {
		return nil, err
	}
	cmd, err := fsm.New(fsm.Actor{NodeID: n.id.NodeID}, all)
	if err != nil {
		return nil, &client.Error{Code: client.CodeInternal, Detail: err.Error()}
	}
	n.meter.entries.Observe(float64(len(all.Entries)))
	p, err := n.enqueue(l, cmd)
	if err != nil {
		return nil, err
	}
	res, err := p.finish()
	switch {
	case err != nil:
		return nil, err
	case res.Code == fsm.CodeConflict: // the ledger is not open
		return nil, &client.Error{Code: client.CodeConflict, Reason: "not_open", Detail: res.Detail}
	case !res.OK():
		return nil, &client.Error{Code: client.CodeUnavailable, Detail: res.Detail, Reason: string(res.Code)}
	}
	return res.Ledger, nil
}

// epochInterval is how often the leader looks for an epoch that is over.
const epochInterval = 5 * time.Second

// ledgerEpochLoop closes issuance epochs for one term, the oldest first, until
// those that nobody closed while there was no leader are done with. Which are open
// and what they pay follows from the state: a second leader closes none twice.
func (n *Node) ledgerEpochLoop(ctx context.Context, l *leadership) {
	for {
		select {
		case <-l.ready:
			for n.closeEpoch(ctx, l) {
			}
		default:
		}
		if !pause(ctx, min(epochInterval, 5*n.cfg.Timing.Mark)) {
			return
		}
	}
}

// closeEpoch closes the oldest epoch that is over, and tells whether it did.
func (n *Node) closeEpoch(ctx context.Context, l *leadership) bool {
	var oldest fsm.OpenEpoch
	var load ledger.Load
	due := false
	now := n.wallMs()
	n.machine.Read(func(s *fsm.State) {
		oldest, due = s.OldestEpoch()
		if due = due && max(now, s.ClockMs()) >= oldest.WindowMs+ledger.EpochMs; due {
			load = loadOf(s)
		}
	})
	if !due {
		return false
	}
	cmd, err := fsm.New(fsm.Actor{NodeID: n.id.NodeID}, fsm.LedgerEpochClose{WindowMs: oldest.WindowMs, Load: load})
	if err != nil {
		n.log.Error("cannot make the command that closes an epoch", "error", err)
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	res, err := n.proposeHere(ctx, l, cmd)
	if err != nil || !res.OK() { // the next round asks again
		n.log.Warn("an issuance epoch was not closed", "window_ms", oldest.WindowMs, "error", err, "code", res.Code, "detail", res.Detail)
		return false
	}
	n.log.Info("issuance epoch closed", "window_ms", oldest.WindowMs, "accounts", oldest.Accounts, "weight", oldest.Weight)
	n.note("ledger_epoch", audit.LevelInfo, "ok", map[string]string{"window_ms": strconv.FormatInt(oldest.WindowMs, 10), "accounts": strconv.FormatUint(oldest.Accounts, 10)})
	return true
}

// loadOf is what the leader knows of how busy the mesh is. Tasks are handed out
// elsewhere, and there is no queue here that agents do not fill themselves: reports
// that wait would have whoever writes them raise the pool. Each active agent is taken
// for one processor.
func loadOf(s *fsm.State) ledger.Load {
	agents := int64(s.ActiveAgents())
	return ledger.Load{Agents: agents, CPU: agents}
}
