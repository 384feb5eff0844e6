package fsm

import "container/heap"

// expiryIndex finds rows whose time has come without a scan. It is derived
// from the tables: what is purged at a mark depends on their contents alone,
// so a replica restored from a snapshot purges the same rows as one that
// replayed. An entry is stale, and skipped, when its row no longer ends then.
type expiryIndex []expiry

type expiry struct {
	atMs  int64
	table byte
	key   string
}

const (
	expireToken byte = iota
	expireBan
	expireOutcome
)

func (x expiryIndex) Len() int           { return len(x) }
func (x expiryIndex) Less(i, j int) bool { return x[i].atMs < x[j].atMs }
func (x expiryIndex) Swap(i, j int)      { x[i], x[j] = x[j], x[i] }
func (x *expiryIndex) Push(v any)        { *x = append(*x, v.(expiry)) }
func (x *expiryIndex) Pop() any {
	old := *x
	last := old[len(old)-1]
	*x = old[:len(old)-1]
	return last
}

func (s *State) expireAt(atMs int64, table byte, key string) {
	if atMs > 0 {
		heap.Push(&s.expiries, expiry{atMs, table, key})
	}
	// Stale entries stay until their time, which may be years away: a ban set
	// again and again must not grow the index beyond the rows it is about.
	if rows := s.tokens.size() + s.bans.size() + s.idempotent.size(); len(s.expiries) > 2*rows+64 {
		s.reindex()
	}
}

// purgeExpired removes every row that ended before the clock.
func (s *State) purgeExpired() {
	now := s.meta.v.ClockMs
	for len(s.expiries) > 0 && s.expiries[0].atMs < now {
		e := heap.Pop(&s.expiries).(expiry)
		switch e.table {
		case expireToken:
			if t, ok := s.tokens.get(e.key); ok && t.PurgeMs == e.atMs {
				s.tokens.remove(e.key)
				if t.Edge != nil {
					delete(s.edges, t.Edge.NodeID)
				}
			}
		case expireBan:
			if b, ok := s.bans.get(e.key); ok && b.ExpiresMs == e.atMs {
				s.bans.remove(e.key)
			}
		case expireOutcome:
			if o, ok := s.idempotent.get(e.key); ok && o.ExpiresMs == e.atMs {
				s.forget(e.key)
			}
		}
	}
}

// reindex rebuilds the derived indexes after a restore.
func (s *State) reindex() {
	s.expiries = nil
	for k, t := range s.tokens.m {
		s.expireAt(t.PurgeMs, expireToken, k)
	}
	for k, b := range s.bans.m {
		s.expireAt(b.ExpiresMs, expireBan, k)
	}
	s.indexEdges()
	s.indexSets()
	s.outcomes = map[string]int{}
	for k, o := range s.idempotent.m {
		s.outcomes[o.TokenID]++
		s.expireAt(o.ExpiresMs, expireOutcome, k)
	}
	s.ledger.reindexHolds()
	s.ledger.reindexReports()
}
