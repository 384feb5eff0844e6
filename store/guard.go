package store

import (
	"errors"
	"strings"
	"syscall"
)

// Guard is told of each durable write, so that a watchdog sees how long the
// disk takes. It must be safe for concurrent use.
type Guard interface {
	// Begin tells that a write begins; done is called with its outcome.
	Begin(what string) (done func(err error))
	// NoSpace is asked when a write that must succeed found no space. True means
	// that space was made (a reserve was freed) and one more try makes sense.
	NoSpace() bool
}

// What a Guard is told to begin.
const (
	WriteLog      = "raft log"
	WriteStable   = "raft term and vote"
	WriteCut      = "raft log cut"
	WriteHistory  = "history"
	SyncHistory   = "history sync" // of a whole file
	WriteSnapshot = "snapshot"
	SyncSnapshot  = "snapshot sync"
)

// writer brackets durable writes.
type writer struct {
	guard Guard
	raft  string                  // path of raft.db
	step  func(name string)       // called between the steps of a change; nil but in crash tests
	fault func(what string) error // an error instead of a write; nil but in tests
}

// begin tells the guard, if there is one.
func (w *writer) begin(what string) (done func(error)) {
	if w.guard == nil {
		return func(error) {}
	}
	return w.guard.Begin(what)
}

// once does a write that is refused when there is no space.
func (w *writer) once(what string, write func() error) error {
	done := w.begin(what)
	err := w.try(what, write)
	done(err)
	return err
}

// must does a write that may fall back on the reserve: one more try.
func (w *writer) must(what string, write func() error) error {
	err := w.once(what, write)
	if noSpace(err) && w.guard != nil && w.guard.NoSpace() {
		err = w.once(what, write)
	}
	return err
}

func (w *writer) try(what string, write func() error) error {
	if w.fault != nil {
		if err := w.fault(what); err != nil {
			return err
		}
	}
	if err := write(); err != nil {
		return err
	}
	switch what {
	case WriteLog, WriteStable, WriteCut:
		noteRaft(w.raft)
	}
	return nil
}

func (w *writer) at(step string) {
	if w.step != nil {
		w.step(step)
	}
}

// noSpace tells whether the disk or the quota is full. bbolt hides the cause of
// some errors in a text.
func noSpace(err error) bool {
	return err != nil && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		strings.Contains(err.Error(), syscall.ENOSPC.Error()))
}
