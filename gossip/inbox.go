package gossip

import (
	"sync"
	"sync/atomic"
)

// change is what memberlist told about one member, as it stands: later words replace earlier ones.
type change struct {
	up, down bool // alive with card and addr; gone. The later of the two holds
	card     Card
	addr     string
	suspect  *bool // our own probe failed, or answers again
}

// item is one message for the loop: exactly one of news and state is set.
type item struct {
	news  []byte
	state []byte
}

// inbox stands between memberlist's callbacks and the loop. Messages go through a bounded channel and may be lost, gossip repeats them;
// what happened to members must not be lost, memberlist says it once, so that is a map with one entry a name.
//
// Any goroutine puts; only the loop takes.
type inbox struct {
	items chan item
	bytes atomic.Int64
	wake  chan struct{} // one token: changes is not empty
	count *counters

	mu      sync.Mutex // guards changes
	changes map[string]*change
}

func newInbox(count *counters) *inbox {
	return &inbox{items: make(chan item, maxInbox), wake: make(chan struct{}, 1), count: count, changes: map[string]*change{}}
}

// put copies the bytes and never blocks; what does not fit is dropped and counted.
func (q *inbox) put(it item) {
	n := int64(len(it.news) + len(it.state))
	if q.bytes.Add(n) > maxInboxBytes {
		q.bytes.Add(-n)
		q.count.inboxDropped.Add(1)
		return
	}
	if it.news != nil {
		it.news = append([]byte(nil), it.news...)
	}
	if it.state != nil {
		it.state = append([]byte(nil), it.state...)
	}
	select {
	case q.items <- it:
	default:
		q.bytes.Add(-n)
		q.count.inboxDropped.Add(1)
	}
}

// taken gives the bytes of an item back to the budget.
func (q *inbox) taken(it item) { q.bytes.Add(-int64(len(it.news) + len(it.state))) }

// note merges a change of one member. The map is bounded because NotifyAlive refuses new names above MaxMembers.
func (q *inbox) note(name string, merge func(*change)) {
	q.mu.Lock()
	c := q.changes[name]
	if c == nil {
		c = &change{}
		q.changes[name] = c
	}
	merge(c)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// pending says how many names wait; NotifyAlive counts them as members.
func (q *inbox) pending() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.changes)
}

// drain takes all changes.
func (q *inbox) drain() map[string]*change {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.changes) == 0 {
		return nil
	}
	c := q.changes
	q.changes = map[string]*change{}
	return c
}
