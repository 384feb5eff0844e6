package gossip

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// entry is what is known of one member.
type entry struct {
	card    Card
	trusted bool
	floorMs int64 // a card issued before this is a replay
	offered *Card // the last card that was not adopted; asked about again at each recheck
	addr    string

	live, left, suspect bool
	goodbye             time.Time // when its goodbye came, zero if it did not since it was last up
	state               string    // as listed
	changed             time.Time

	acks     []AckID // the keys it says it holds; replaced, never written to
	acksMs   int64   // when it said so, by its clock
	head     []byte
	reported bool // head is for whom it was sent to, and not for push/pull
}

// table is the pool's view. The loop is the only writer but for the line of the node itself, which its owner sets; anybody reads.
type table struct {
	self  string
	live  atomic.Int64 // live members, trusted or not, self included: for callbacks that must not lock
	mu    sync.RWMutex // guards entries and what hangs below
	lines map[string]*entry
}

func newTable(self Card, addr string, now time.Time) *table {
	t := &table{self: self.NodeID, lines: map[string]*entry{}}
	t.lines[self.NodeID] = &entry{card: self, trusted: true, floorMs: self.IssuedMs, addr: addr, live: true, state: StateAlive, changed: now}
	t.live.Store(1)
	return t
}

// relist recomputes the listed state. Under mu.
func (e *entry) relist(now time.Time) {
	s := StateAlive
	switch {
	case !e.live && e.left:
		s = StateLeft
	case !e.live:
		s = StateDead
	case !e.trusted:
		s = StateUntrusted
	case e.suspect:
		s = StateSuspect
	}
	if s != e.state {
		e.state, e.changed = s, now
	}
}

// setLive keeps the count that callbacks read. Under mu.
func (t *table) setLive(e *entry, live bool) {
	if live && !e.live {
		t.live.Add(1)
	} else if !live && e.live {
		t.live.Add(-1)
	}
	e.live = live
}

// judge decides what a card that memberlist carries means for a line, given what Trust says of it. What is trusted is never displaced
// by what is not, nor by something older: whoever holds the pool key can replay an old card or sign a new one under a key of his own.
// It reports whether the card was taken for a replay. Under mu.
func (e *entry) judge(c Card, trusted bool, now time.Time) (replayed bool) {
	switch {
	case e.card.equal(&c):
		e.trusted, e.offered = trusted, nil
		return false
	case e.trusted && !trusted:
		e.offered = &c
		return false
	case e.trusted == trusted && (c.IssuedMs < e.floorMs || c.IssuedMs == e.card.IssuedMs):
		e.offered = &c
		return true
	}
	e.card, e.trusted, e.offered = c, trusted, nil
	// A node whose clock once ran ahead must not be barred until that time has come.
	e.floorMs = min(c.IssuedMs, now.Add(cardFuture).UnixMilli())
	return false
}

// up records that memberlist sees a member alive with this card at this address.
func (t *table) up(c Card, addr string, trusted bool, now time.Time) (replayed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.lines[c.NodeID]
	if e == nil {
		if !t.makeRoom() {
			return false
		}
		e = &entry{card: c, trusted: trusted, floorMs: min(c.IssuedMs, now.Add(cardFuture).UnixMilli())}
		t.lines[c.NodeID] = e
	} else {
		replayed = e.judge(c, trusted, now)
	}
	if !e.live {
		e.left, e.suspect, e.goodbye = false, false, time.Time{}
		e.acks, e.acksMs = nil, 0 // it may be another process, with another clock
		t.setLive(e, true)
	}
	e.addr = addr
	e.relist(now)
	return replayed
}

// makeRoom drops the line that has been down longest when the table is full. Under mu.
func (t *table) makeRoom() bool {
	if len(t.lines) < MaxMembers {
		return true
	}
	var oldest string
	for id, e := range t.lines {
		if !e.live && (oldest == "" || e.changed.Before(t.lines[oldest].changed)) {
			oldest = id
		}
	}
	delete(t.lines, oldest)
	return oldest != ""
}

// down records that memberlist gave a member up.
func (t *table) down(id string, now time.Time) {
	t.with(id, func(e *entry) {
		t.setLive(e, false)
		e.suspect, e.left = false, !e.goodbye.IsZero()
		e.relist(now)
	})
}

// farewell records a goodbye, which may come before or shortly after memberlist's own word.
func (t *table) farewell(id string, now time.Time) {
	t.with(id, func(e *entry) {
		e.goodbye = now
		if !e.live && now.Sub(e.changed) < leaveGrace {
			e.left = true
			e.relist(now)
		}
	})
}

// setSuspect records whether our own probe of a member fails.
func (t *table) setSuspect(id string, s bool, now time.Time) {
	t.with(id, func(e *entry) {
		e.suspect = s && e.live
		e.relist(now)
	})
}

// with runs f on another member's line, if there is one.
func (t *table) with(id string, f func(*entry)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.lines[id]; e != nil && id != t.self {
		f(e)
	}
}

// heard says whether a member's word counts: it is listed, trusted and not ourselves. The dead count, their last words may be on the way.
func (t *table) heard(id string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.lines[id]
	return e != nil && e.trusted && id != t.self
}

func (t *table) known(id string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.lines[id] != nil
}

// head returns the accepted head of a member; it is never written to again.
func (t *table) head(id string) []byte {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if e := t.lines[id]; e != nil {
		return e.head
	}
	return nil
}

func (t *table) setHead(id string, head []byte, reported bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.lines[id]; e != nil {
		e.head, e.reported = head, reported
	}
}

// addressOf returns where a live member is, empty if it is not.
func (t *table) addressOf(id string) string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if e := t.lines[id]; e != nil && e.live && id != t.self {
		return e.addr
	}
	return ""
}

// liveOf returns the ids of live and trusted members of a role, suspected ones included and ourselves not, in no order.
func (t *table) liveOf(role string) (ids []string) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for id, e := range t.lines {
		if id != t.self && e.live && e.trusted && e.card.Role == role {
			ids = append(ids, id)
		}
	}
	return ids
}

// setSelf replaces the node's own card.
func (t *table) setSelf(c Card) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines[t.self].card = c
}

// selfLeft lists ourselves as gone.
func (t *table) selfLeft(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.lines[t.self]
	t.setLive(e, false)
	e.left = true
	e.relist(now)
}

// cards lists the cards to ask Trust about again: of each live member the one it has and the one it offers.
func (t *table) cards() []Card {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out []Card
	for id, e := range t.lines {
		if id == t.self || !e.live {
			continue
		}
		out = append(out, e.card)
		if e.offered != nil {
			out = append(out, *e.offered)
		}
	}
	return out
}

// rejudge applies Trust's word on one card of cards; a line that went away meanwhile stays away.
func (t *table) rejudge(c Card, trusted bool, now time.Time) {
	t.with(c.NodeID, func(e *entry) {
		if e.live {
			e.judge(c, trusted, now)
			e.relist(now)
		}
	})
}

// expire drops what has been down for longer than keepDead.
func (t *table) expire(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, e := range t.lines {
		if !e.live && id != t.self && now.Sub(e.changed) > keepDead {
			delete(t.lines, id)
		}
	}
}

// addresses returns where live members are, and where the dead were last.
func (t *table) addresses() (live map[string]bool, dead []string) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	live = map[string]bool{}
	for _, e := range t.lines {
		if e.live {
			live[e.addr] = true
		}
	}
	for _, e := range t.lines {
		if !e.live && !e.left && !live[e.addr] {
			dead = append(dead, e.addr)
		}
	}
	return live, dead
}

// heads lists what push/pull carries: our own head first, then those of trusted live members, at most maxStateHeads; no reported ones.
func (t *table) heads() []headOf {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out []headOf
	if h := t.lines[t.self].head; h != nil && !t.lines[t.self].reported {
		out = append(out, headOf{Node: t.self, Head: h})
	}
	for id, e := range t.lines {
		if len(out) >= maxStateHeads {
			break
		}
		if id != t.self && e.live && e.trusted && e.head != nil && !e.reported {
			out = append(out, headOf{Node: id, Head: e.head})
		}
	}
	return out
}

// members is the listed view.
func (t *table) members() []Member {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]Member, 0, len(t.lines))
	for _, e := range t.lines {
		m := Member{Card: e.card, State: e.state, ChangedMs: e.changed.UnixMilli(), Addr: e.addr, Head: slices.Clone(e.head), Holds: slices.Clone(e.acks)}
		m.Card.Signature = slices.Clone(e.card.Signature)
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Card.Name, b.Card.Name), cmp.Compare(a.Card.NodeID, b.Card.NodeID))
	})
	return out
}

func (t *table) count() (all, alive int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, e := range t.lines {
		if e.live && e.trusted {
			alive++
		}
	}
	return len(t.lines), alive
}
