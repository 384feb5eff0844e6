package ledger

// recentIDs remembers ids while their time is in the widest window that any policy
// allows. They lie in buckets by time, dropped whole.
type recentIDs struct {
	buckets map[int64]map[ID]struct{} // by minute
	floorMs int64                     // ids of up to then are refused since a recovery
}

const idBucketMs = 60_000

func newRecentIDs() recentIDs { return recentIDs{buckets: map[int64]map[ID]struct{}{}} }

// use tells whether the id was not used before, and remembers it.
func (u *recentIDs) use(id ID, nowMs int64) bool {
	n := id.TimeMs() / idBucketMs
	b := u.buckets[n]
	if b == nil {
		u.forget(nowMs) // once a minute of ids
		b = map[ID]struct{}{}
		u.buckets[n] = b
	}
	if _, again := b[id]; again {
		return false
	}
	b[id] = struct{}{}
	return true
}

// forget drops what no policy accepts any more.
func (u *recentIDs) forget(nowMs int64) {
	for n := range u.buckets {
		if (n+1)*idBucketMs+MaxIDWindowMs < nowMs {
			delete(u.buckets, n)
		}
	}
}
