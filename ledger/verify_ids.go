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
	// shut are seconds whose ids a recovery closed for ever.
	shut map[int64]struct{}
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

const (
	idBucketMs = 1_000
	// maxShut is 18 hours of ids that a wrong clock left ahead: of more an auditor
	// does not notice that one is used again, which the state machine refuses.
	maxShut = 1 << 16
)

func newRecentIDs() recentIDs {
	return recentIDs{buckets: map[int64]map[usedID]struct{}{}, callers: map[string]*idCaller{}, shut: map[int64]struct{}{}}
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
	if _, shut := u.shut[number]; shut {
		return "is of a time that a recovery closed"
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

// shutAfter drops every bucket after a time, and closes its second for ever: a clock
// that was set back left it further ahead than any policy lets ids be.
func (u *recentIDs) shutAfter(timeMs int64) {
	for n := len(u.order); n > 0 && u.order[n-1] > timeMs/idBucketMs; n-- {
		number := u.order[n-1]
		u.drop(number)
		u.order = u.order[:n-1]
		if len(u.shut) < maxShut {
			u.shut[number] = struct{}{}
		}
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
