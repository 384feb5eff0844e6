package ledger

// recentIDs remembers ids while their time is in the widest window that any policy
// allows. They lie in buckets by time, dropped whole.
type recentIDs struct {
	buckets map[int64]map[usedID]struct{} // by minute
	callers map[string]uint32             // numbers, which are short
	sweepAt int                           // how many buckets there are when the old ones are looked for
	floorMs int64                         // ids of up to then are refused since a recovery
}

// usedID is an id among those of one caller: nobody takes that of another.
type usedID struct {
	caller uint32
	id     ID
}

const (
	idBucketMs = 60_000
	// leastSweep is more buckets than there are minutes in the widest window.
	leastSweep = 128
)

func newRecentIDs() recentIDs {
	return recentIDs{buckets: map[int64]map[usedID]struct{}{}, callers: map[string]uint32{}, sweepAt: leastSweep}
}

// use tells whether the caller did not use the id before, and remembers it.
func (u *recentIDs) use(caller string, id ID, nowMs int64) bool {
	number, known := u.callers[caller]
	if !known {
		number = uint32(len(u.callers))
		u.callers[caller] = number
	}
	n := id.TimeMs() / idBucketMs
	b := u.buckets[n]
	if b == nil {
		u.forget(nowMs)
		b = map[usedID]struct{}{}
		u.buckets[n] = b
	}
	key := usedID{number, id}
	if _, again := b[key]; again {
		return false
	}
	b[key] = struct{}{}
	return true
}

// forget drops what no policy accepts any more, whenever the buckets have doubled:
// records that set the clock back leave many that stay.
func (u *recentIDs) forget(nowMs int64) {
	if len(u.buckets) < u.sweepAt {
		return
	}
	for n := range u.buckets {
		if (n+1)*idBucketMs+MaxIDWindowMs < nowMs {
			delete(u.buckets, n)
		}
	}
	u.sweepAt = max(leastSweep, 2*len(u.buckets))
}
