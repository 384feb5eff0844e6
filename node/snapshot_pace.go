package node

import (
	"context"
	"time"

	"github.com/edgecoder/edgecoder/fsm"
)

// raft counts entries from snapshot to snapshot, but one entry of the ledger carries
// up to fsm.MaxLedgerEntries operations: by entries alone a busy ledger would replay
// tens of millions of them after a crash and keep 5 GB of log. So records count, too.
const (
	// snapshotRecords are replayed in some 3 s, and a snapshot costs milliseconds:
	// it is of the live state alone.
	snapshotRecords = 500_000
	// leastTrailing entries stay in any case: at full speed more than a minute, in
	// which a server that was away catches up without being sent all the history.
	leastTrailing = trailingLogs / 4
	paceEvery     = 2 * time.Second
)

// snapshotPace is what stood when this loop last had a snapshot taken. Its owner is
// snapshotLoop.
type snapshotPace struct {
	every   uint64 // records
	records uint64
}

// snapshotLoop has a snapshot taken whenever there are so many new records, however
// few entries they came in.
func (n *Node) snapshotLoop(ctx context.Context) {
	p := snapshotPace{every: snapshotRecords, records: allRecords(n.machine.History())}
	tick := time.NewTicker(paceEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := n.snapshotIfDue(&p); err != nil {
				n.log.Warn("a snapshot was due and could not be taken; tried again soon", "err", err)
			}
		}
	}
}

func allRecords(h fsm.History) (sum uint64) {
	_, totals := h.Totals()
	for _, n := range totals {
		sum += n
	}
	return sum
}

func (n *Node) snapshotIfDue(p *snapshotPace) error {
	records := allRecords(n.machine.History())
	if records < p.records { // another epoch's history took its place
		p.records = records
	}
	if records-p.records < p.every {
		return nil
	}
	trailing, err := n.trailingNow()
	if err != nil {
		return err
	}
	usual := n.raft.ReloadableConfig()
	short := usual
	short.TrailingLogs = trailing
	if err := n.raft.ReloadConfig(short); err != nil {
		return err
	}
	took := n.raft.Snapshot().Error()
	if err := n.raft.ReloadConfig(usual); err != nil {
		return err
	}
	if took == nil {
		p.records = records
	}
	return took
}

// trailingNow is how many entries must stay so that the log still meets every
// snapshot that is kept: raft falls back to an older one.
func (n *Node) trailingNow() (uint64, error) {
	kept, err := n.store.Snapshots.List()
	if err != nil {
		return 0, err
	}
	index, _ := n.machine.Index()
	oldest := uint64(0) // without any the log is all there is
	if len(kept) >= snapshotsKept {
		oldest = kept[len(kept)-1].Index
	}
	behind := index - min(index, oldest)
	return min(max(behind, leastTrailing), trailingLogs), nil
}
