package node

import (
	"fmt"
	"io"
	"iter"

	"github.com/edgecoder/edgecoder/api"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/store"
)

// A backup is a snapshot as it travels: the live part and the history behind
// it, each with its own checksum. What is written is the state at one index,
// frozen while the node goes on, and then the history up to it from the disk: one
// row is in memory at a time.

// Backup implements api.Backups.
func (n *Node) Backup() (api.Backup, error) {
	if err := n.Serving(); err != nil {
		return api.Backup{}, err
	}
	if !n.hasGenesis() {
		return api.Backup{}, errNotReady("this replica has not caught up: it knows no cluster yet")
	}
	f, records := freezeBoth(n.machine, n.store.History)
	return api.Backup{Name: backupName(f.ClusterID(), f.Epoch(), f.Index()), Index: f.Index(), Write: func(w io.Writer) error {
		if err := f.Write(w); err != nil {
			return err
		}
		// Another epoch replaces the history; then this ends with an error, and
		// without the last checksum.
		return fsm.WriteHistory(w, f.Totals(), records)
	}}, nil
}

// freezeBoth returns the state as it is and the records that belong to it. A
// restore replaces the history and then the state: nothing may come in between.
func freezeBoth(m *fsm.Machine, h *store.History) (*fsm.Frozen, iter.Seq2[fsm.Record, error]) {
	for {
		swaps := h.Swaps()
		f := m.Freeze()
		records := h.UpTo(f.Totals())
		if h.Swaps() == swaps {
			return f, records
		}
	}
}

// backupName is how a backup's file is called when nobody says otherwise.
func backupName(clusterID string, epoch, index uint64) string {
	return fmt.Sprintf("edgecoder-%s-%d-%d%s", clusterID, epoch, index, backupSuffix)
}

const backupSuffix = ".snapshot"
