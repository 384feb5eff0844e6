package node

import (
	"errors"
	"fmt"

	"github.com/edgecoder/edgecoder/store"
)

// heedNotes does what an earlier run noted for this start. A recovery that was
// decided since outranks that: the state that was to go is the cluster's now.
func (n *Node) heedNotes() error {
	if !n.id.Resync && n.id.Undo == 0 {
		return nil
	}
	recovered, err := n.wasRecovered()
	if err != nil {
		return err
	}
	if recovered {
		n.log.Warn("this node was recovered: what it noted before, to give its state up, is void", "resync", n.id.Resync, "undo", n.id.Undo)
		return n.id.dropNotes(n.cfg.DataDir, n.cfg.Passphrase)
	}
	if n.id.Resync {
		if err := n.resync(); err != nil {
			return err
		}
	}
	if n.id.Undo > 0 {
		return n.undo()
	}
	return nil
}

// wasRecovered tells whether a recovery was decided here and nothing was
// written since.
func (n *Node) wasRecovered() (bool, error) {
	snapshot, last, err := store.Newest(n.cfg.DataDir)
	if err != nil || snapshot == nil {
		return false, err
	}
	return madeByRecovery(snapshot.Configuration, snapshot.Index, last, n.id.NodeID), nil
}

// dropNotes forgets what an earlier run noted for the next start.
func (id *identity) dropNotes(dir string, passphrase []byte) error {
	if !id.Resync && id.Undo == 0 {
		return nil
	}
	id.Resync, id.Undo = false, 0
	return id.save(dir, passphrase)
}

// resync throws away the state of a node that was found to differ from the
// others', keeping term and vote, so that raft fetches theirs. The note of it
// goes last: a crash in between begins again.
func (n *Node) resync() error {
	n.log.Warn("this node's state differed from the others': starting afresh, the old files are kept as evidence", "dir", store.EvidenceDir)
	n.book.restart()
	if err := store.Reset(n.cfg.DataDir); err != nil {
		return fmt.Errorf("start afresh: %w", err)
	}
	n.id.Resync = false
	return n.id.save(n.cfg.DataDir, n.cfg.Passphrase)
}

// undo takes back a restore that the cluster went on without, see store.Undo.
// The node keeps its log and its vote.
func (n *Node) undo() error {
	err := store.Undo(n.cfg.DataDir, n.id.Undo)
	switch {
	case errors.Is(err, store.ErrNotUndone): // nothing was changed; it gives up its vote instead
		n.log.Error("the restore that did not take effect stays for now", "epoch", n.id.Undo, "error", err)
	case err != nil:
		return fmt.Errorf("undo the restore of epoch %d, which did not take effect: %w", n.id.Undo, err)
	default:
		n.log.Warn("the restore that did not take effect was undone", "epoch", n.id.Undo)
	}
	n.id.Undo = 0
	return n.id.save(n.cfg.DataDir, n.cfg.Passphrase)
}

func (n *Node) rememberUndo(epoch uint64) error {
	n.idMu.Lock()
	defer n.idMu.Unlock()
	n.id.Undo = epoch
	return n.id.save(n.cfg.DataDir, n.cfg.Passphrase)
}

// undone is an ErrResync: the node is to start again at once.
type undone uint64

// Error implements error.
func (epoch undone) Error() string {
	return fmt.Sprintf("the restore of epoch %d, which this node holds, did not take effect; it goes back to where it was before", uint64(epoch))
}

// Is implements what errors.Is asks for.
func (undone) Is(target error) bool { return target == ErrResync }
