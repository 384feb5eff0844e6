package edge

import "sync/atomic"

// Hint is news of the chain. It only makes the edge look.
type Hint struct {
	Epoch, Size uint64
	Note        []byte // a checkpoint, if the news brought one; it is verified like any other
}

// isBeyond tells whether the hint is of a longer chain, or of a later epoch.
func (h *Hint) isBeyond(epoch, size uint64) bool {
	return h.Epoch > epoch || h.Epoch == epoch && h.Size > size
}

// newerOf is what two hints say together, each nil if there is none: the note of one, and how far the chain goes by the farther.
func newerOf(note, head *Hint) *Hint {
	if note == nil {
		return head
	}
	both := *note
	if head != nil && head.isBeyond(note.Epoch, note.Size) {
		both.Epoch, both.Size = head.Epoch, head.Size
	}
	return &both
}

// inbox holds the farthest hint since the last look, of those that are equally far the last. Anybody puts, the syncer takes.
type inbox struct {
	newest *atomic.Pointer[Hint]
	bell   chan struct{} // one token
}

func newInbox() inbox { return inbox{newest: new(atomic.Pointer[Hint]), bell: make(chan struct{}, 1)} }

func (b inbox) put(h Hint) {
	for {
		old := b.newest.Load()
		if old != nil && old.isBeyond(h.Epoch, h.Size) {
			return
		}
		if b.newest.CompareAndSwap(old, &h) {
			break
		}
	}
	select {
	case b.bell <- struct{}{}:
	default: // it rings already
	}
}
