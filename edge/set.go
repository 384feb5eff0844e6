package edge

import (
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/edgecoder/edgecoder/crypto"
)

const (
	// shardCount is into how many tables the set is cut. A shard is replaced as a whole when it changes: at 1,000,000 bans it has 122
	// of them and 6 KiB, so a ban costs microseconds, and nothing is ever larger for growing than one shard.
	shardCount = 1 << shardBits
	shardBits  = 13
	// MaxBans bounds the set: coordinators have at most 1,000,000 bans in force at one time, and what expired goes when it is
	// swept. Four times as many take 200 MiB; a set that is full refuses, it never evicts.
	MaxBans = 4_000_000
	// expiredKeptMs is how long a ban that expired is kept: an edge's idea of the time may run back when it is started
	// again, and a ban must not end twice.
	expiredKeptMs = 24 * 3_600_000
)

// Key stands for an agent id: 16 bytes of its SHA-256. Who finds two ids with one key gets both banned for one.
type Key [16]byte

// KeyOf returns the key of an agent id.
func KeyOf(agentID string) Key {
	sum := crypto.Sum([]byte(agentID))
	return Key(sum[:len(Key{})])
}

// Ban is a ban as the set keeps it. The event itself is at the coordinators, under Seq.
type Ban struct {
	Seq       uint64 // of the event in the chain, from 1
	ExpiresMs int64  // Unix milliseconds, the last one in force; 0: permanent
}

// InForce tells whether the ban counts at a time.
func (b Ban) InForce(nowMs int64) bool { return b.ExpiresMs == 0 || nowMs <= b.ExpiresMs }

// Change is what one event does to the set: the newest event on an agent decides, as in the replicated state.
type Change struct {
	Key  Key
	Ban  Ban
	Lift bool // no ban is left
}

// ChangeOf returns what an event does. A lift is an event that ended before it began.
func ChangeOf(seq uint64, e *crypto.BlacklistEvent) Change {
	c := Change{Key: KeyOf(e.AgentID), Ban: Ban{Seq: seq}, Lift: e.EndsBeforeItBegins()}
	if e.ExpiresAtMs != nil {
		c.Ban.ExpiresMs = max(*e.ExpiresAtMs, 1) // 0 is a time too, long past
	}
	return c
}

// Head is how far a verified list goes.
type Head struct {
	Epoch uint64      // recovery epoch of the log
	Size  uint64      // events in the chain
	Root  crypto.Hash // RFC 6962 root over them
	Chain string      // hash of the last event, or crypto.BlacklistGenesis
}

// View is the whole list as of one verified head. It never changes.
type View struct {
	Head   Head
	shards []shard // shardCount of them
	count  int
}

// emptyView is the list of an edge that knows nothing yet.
func emptyView() *View {
	return &View{Head: Head{Chain: crypto.BlacklistGenesis}, shards: make([]shard, shardCount)}
}

// Len returns how many bans the view has, those that expired lately included.
func (v *View) Len() int { return v.count }

// Ban returns the newest ban on an agent, in force or expired.
func (v *View) Ban(agentID string) (Ban, bool) {
	key := KeyOf(agentID)
	return v.shards[key.shard()].get(key)
}

// all yields every ban.
func (v *View) all() iter.Seq2[Key, Ban] {
	return func(yield func(Key, Ban) bool) {
		for _, s := range v.shards {
			for _, slot := range s {
				if slot.used() && !yield(slot.key, slot.ban) {
					return
				}
			}
		}
	}
}

// with returns the view that the changes lead to, in their order. Shards without a change are shared with the old view.
func (v *View) with(changes []Change, head Head, nowMs int64) (*View, error) {
	next := &View{Head: head, shards: append([]shard(nil), v.shards...), count: v.count}
	for at, mine := range byShard(changes) {
		s := next.shards[at].with(mine, nowMs-expiredKeptMs)
		next.count += s.len() - next.shards[at].len()
		next.shards[at] = s
	}
	if next.count > MaxBans {
		return nil, fmt.Errorf("the list has %d bans, an edge holds at most %d", next.count, MaxBans)
	}
	return next, nil
}

// byShard sorts changes into shards; within one the order stays.
func byShard(changes []Change) iter.Seq2[int, []Change] {
	var starts [shardCount + 1]int32
	for i := range changes {
		starts[changes[i].Key.shard()+1]++
	}
	for i := range shardCount {
		starts[i+1] += starts[i]
	}
	sorted, fill := make([]Change, len(changes)), starts
	for _, c := range changes {
		at := &fill[c.Key.shard()]
		sorted[*at] = c
		*at++
	}
	return func(yield func(int, []Change) bool) {
		for i := range shardCount {
			if from, to := starts[i], starts[i+1]; from < to && !yield(i, sorted[from:to]) {
				return
			}
		}
	}
}

// Set is the list that checks are answered from: readers load the newest view, the one writer replaces it.
type Set struct{ view atomic.Pointer[View] }

// NewSet returns an empty set.
func NewSet() *Set {
	s := &Set{}
	s.view.Store(emptyView())
	return s
}

// View returns the newest view. Answers about one question come from one view.
func (s *Set) View() *View { return s.view.Load() }

// Restore makes what a store held the newest view, before anybody asks.
func (s *Set) Restore(v *View) { s.replace(v) }

// replace makes a view the newest. Only the writer calls it.
func (s *Set) replace(v *View) { s.view.Store(v) }
