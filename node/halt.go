package node

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// raft keeps in memory where its log ends, and goes by that when it votes and
// when it takes entries. Where the log on disk was cut and raft cannot know, it
// must do nothing more until the next start reads the log again.

// again is an ErrResync: the node is to start again at once, nothing is lost.
type again struct{ why error }

// Error implements error.
func (a again) Error() string {
	return fmt.Sprintf("%v; this node starts again with its log as it is", a.why)
}

// Is implements what errors.Is asks for.
func (a again) Is(target error) bool { return target == ErrResync }

// Unwrap implements what errors.As asks for.
func (a again) Unwrap() error { return a.why }

// halt ends the node for a new start. It is called in raft's own loop and keeps
// it until raft was told to stop, so that it acknowledges and grants nothing on
// the strength of entries that are gone.
func (n *Node) halt(why error) error {
	n.fail(again{why})
	<-n.ending
	return why
}

// outrank cuts off the end of the log that is in the way of a snapshot which is
// about to be installed: an entry of another term in its place was never
// committed, for the leader that sends the snapshot has no such entry. raft would
// leave it, go by its term, and refuse all that follows the snapshot, for ever.
// The snapshot itself comes again after the restart: so there is no moment in which
// it lies here beside an entry that it outranks, and what is stored later in
// that place came from a leader that went on without it.
func (n *Node) outrank(index, term uint64) error {
	if applied, _ := n.machine.Index(); index <= applied {
		return nil // it was committed
	}
	var l raft.Log
	err := n.store.Logs.GetLog(index, &l)
	switch {
	case errors.Is(err, raft.ErrLogNotFound):
		return nil
	case err != nil:
		return err
	case l.Term == term:
		return nil
	}
	last, err := n.store.Logs.LastIndex()
	if err != nil {
		return err
	}
	why := fmt.Errorf("entries %d to %d of the log were never committed: a snapshot of term %d takes the place of the first, which is of term %d", index, last, term, l.Term)
	if err := n.store.Logs.DeleteRange(index, last); err != nil {
		if now, failed := n.store.Logs.LastIndex(); failed == nil && now == last {
			return fmt.Errorf("%w; they cannot be cut off: %w", why, err) // raft is right still: the snapshot comes again
		}
	}
	return n.halt(why)
}
