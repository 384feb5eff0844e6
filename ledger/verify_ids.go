package ledger

import "slices"

// recentIDs remembers ids while their time is in the window of the policy in force, and
// no more of them than the state machine does. They lie in buckets by time, dropped
// whole.
type recentIDs struct {
	buckets map[int64]map[usedID]struct{} // by second
	order   []int64                       // of the buckets, ascending
	callers map[string]*idCaller          // that have ids here
	n       int
	floorMs int64 // ids of up to then are refused: they may have been forgotten
}

// usedID is an id among those of one caller: nobody takes that of another.
type usedID struct {
	by *idCaller
	id ID
}

type idCaller struct {
	name string
	n    int // ids here
}

const idBucketMs = 1_000

func newRecentIDs() recentIDs {
	return recentIDs{buckets: map[int64]map[usedID]struct{}{}, callers: map[string]*idCaller{}}
}

// use remembers an id, and says why it may not be used, or "".
func (u *recentIDs) use(by actor, id ID) (fault string) {
	caller := u.callers[by.caller()]
	if caller == nil {
		caller = &idCaller{name: by.caller()}
	}
	number, key := id.TimeMs()/idBucketMs, usedID{caller, id}
	b := u.buckets[number]
	if _, again := b[key]; again {
		return "was used before"
	}
	if u.n >= MaxIDs || !by.operator() && caller.n >= mostIDs(by) {
		return "is one more than its caller, or all, may use in the window"
	}
	if b == nil {
		b = map[usedID]struct{}{}
		u.buckets[number] = b
		at, _ := slices.BinarySearch(u.order, number)
		u.order = slices.Insert(u.order, at, number)
	}
	b[key] = struct{}{}
	u.callers[caller.name] = caller
	caller.n++
	u.n++
	return ""
}

func mostIDs(by actor) int {
	if by.standing == ByAgent {
		return MaxAgentIDs
	}
	return MaxTokenIDs
}

// forget drops every bucket that lies wholly before a time, which is the floor then.
func (u *recentIDs) forget(oldestMs int64) {
	for len(u.order) > 0 {
		number := u.order[0]
		top := number*idBucketMs + idBucketMs - 1
		if top >= oldestMs {
			return
		}
		u.drop(number)
		u.order = u.order[1:]
		u.floorMs = max(u.floorMs, top)
	}
}

// forgetAfter drops every bucket after a time, which a clock that was set back left
// further ahead than any policy lets ids be. The state closes those times for ever; that
// an id of them is used again an auditor does not notice.
func (u *recentIDs) forgetAfter(timeMs int64) {
	for n := len(u.order); n > 0 && u.order[n-1] > timeMs/idBucketMs; n-- {
		u.drop(u.order[n-1])
		u.order = u.order[:n-1]
	}
}

func (u *recentIDs) drop(number int64) {
	for key := range u.buckets[number] {
		if key.by.n--; key.by.n == 0 {
			delete(u.callers, key.by.name)
		}
	}
	u.n -= len(u.buckets[number])
	delete(u.buckets, number)
}
