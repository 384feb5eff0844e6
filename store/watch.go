package store

import (
	"slices"
	"sync"
	"time"
)

// Watch sees each durable write from its beginning to its end. It is the half
// of a Guard that measures; it has no goroutines of its own, somebody has to
// look. Make one with NewWatch.
type Watch struct {
	now   func() time.Time
	ended func(err error)

	mu      sync.Mutex
	begun   uint64             // writes so far: the id of the newest
	writes  []*write           // every one ever made, for use again; guarded by mu
	samples [watchRing]outcome // of the last log writes; guarded by mu
	next    int                // in samples
}

// watchRing is how many log writes are remembered: the median of more says
// nothing new, and a busy disk fills it within a tenth of a second.
const watchRing = 64

// WriteLoop is told by whoever calls a store from raft's loop: it spans all that
// the call writes, so that no write is overlooked for being small. The history
// tells it while an entry waits for the flusher: soon after, raft's loop does.
const WriteLoop = "raft's loop"

// write is one write in flight, or a free place for one.
type write struct {
	id    uint64 // 0: free
	what  string
	since time.Time
	done  func(error) // made once, so that a write costs no allocation
}

// outcome is a log write that ended.
type outcome struct {
	at   time.Time // zero: none
	took time.Duration
}

// NewWatch returns a Watch. now is a clock that never runs back; ended, if not
// nil, is told the outcome of each write, outside of any lock.
func NewWatch(now func() time.Time, ended func(err error)) *Watch {
	return &Watch{now: now, ended: ended}
}

// Begin implements Guard. done must be called once.
func (w *Watch) Begin(what string) (done func(err error)) {
	at := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.place()
	w.begun++
	f.id, f.what, f.since = w.begun, what, at
	return f.done
}

// place returns a free place. There are as many as writes ever were in flight
// at a time: a handful.
func (w *Watch) place() *write {
	for _, f := range w.writes {
		if f.id == 0 {
			return f
		}
	}
	f := &write{}
	f.done = func(err error) { w.end(f, err) }
	w.writes = append(w.writes, f)
	return f
}

func (w *Watch) end(f *write, err error) {
	at := w.now()
	w.mu.Lock()
	if f.what == WriteLog && err == nil { // a write that failed says nothing of the disk's pace
		w.samples[w.next] = outcome{at: at, took: at.Sub(f.since)}
		w.next = (w.next + 1) % watchRing
	}
	f.id = 0
	w.mu.Unlock()
	if w.ended != nil {
		w.ended(err)
	}
}

// Patience with the writes beside raft's loop. They rightly take their time, but
// one that never ends stops the replica as well, only later: entries wait for
// room in the history, and without snapshots the log has no end.
const (
	patience     = 10 * time.Second // a batch of history, a chunk of a snapshot or of the log's cut
	patienceSync = time.Minute      // a whole file, all of which may be in the system's cache
)

// patienceWith returns the age from which a write counts as one that hangs.
func patienceWith(what string) time.Duration {
	switch what {
	case WriteLoop, WriteLog, WriteStable:
		return 0
	case SyncSnapshot, SyncHistory:
		return patienceSync
	}
	return patience
}

// Stalled returns the oldest write in flight that raft's own loop waits in, or
// that is beside it and older than any such should be, and its age; id is 0 when
// there is none.
func (w *Watch) Stalled() (id uint64, age time.Duration) {
	now := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.writes {
		if f.id == 0 || id != 0 && f.id > id {
			continue
		}
		if old := now.Sub(f.since); old >= patienceWith(f.what) {
			id, age = f.id, old
		}
	}
	return id, age
}

// Pace returns the median time of the log writes that ended within the last
// window, and how many there were, at most watchRing. The median, because one
// hiccup is no slow disk.
func (w *Watch) Pace(window time.Duration) (median time.Duration, count int) {
	var took [watchRing]time.Duration
	now := w.now()
	w.mu.Lock()
	for _, s := range w.samples {
		if !s.at.IsZero() && now.Sub(s.at) <= window {
			took[count] = s.took
			count++
		}
	}
	w.mu.Unlock()
	if count == 0 {
		return 0, 0
	}
	slices.Sort(took[:count])
	return took[count/2], count
}
