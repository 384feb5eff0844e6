package ledger

// The formulas of issuance (WIRE.md section 16), in whole numbers. Fractions are
// counted in millionths. The load index and its smoothing round to the nearest
// millionth, halves up, as existing systems print them; pools and shares round
// down, and what is left of a pool goes to the account Reserve, so that an epoch
// issues its pool to the last micro-credit. A pool is at most what may still be issued.

// EpochMs is the length of an epoch: an hour. Epochs begin at its multiples since
// 1970, and are named by their beginning.
const EpochMs = 3_600_000

const epochsPerDay = 24

// Bounds of the load index, in millionths.
const (
	minLoadMicro = 200_000
	MaxLoadMicro = 6_000_000
	// MaxLoad bounds each count of a load: no mesh has more.
	MaxLoad = 1_000_000_000
)

// WindowOf returns the beginning of the epoch that a time is in; both in Unix
// milliseconds, not negative.
func WindowOf(atMs int64) int64 { return atMs - atMs%EpochMs }

// Load is how busy the mesh was when an epoch was closed.
type Load struct {
	Queued int64 `cbor:"1,keyasint" json:"queued"` // tasks that wait
	Agents int64 `cbor:"2,keyasint" json:"agents"` // agents that are active
	CPU    int64 `cbor:"3,keyasint" json:"cpu"`    // capacity
	GPU    int64 `cbor:"4,keyasint" json:"gpu"`
}

// Fault returns the first member that is out of bounds, or "".
func (l Load) Fault() (field string) {
	for _, m := range []struct {
		name string
		n    int64
	}{{"queued", l.Queued}, {"agents", l.Agents}, {"cpu", l.CPU}, {"gpu", l.GPU}} {
		if m.n < 0 || m.n > MaxLoad {
			return m.name
		}
	}
	return ""
}

// Index returns demand over capacity in millionths, a graphics card counting as
// two, between 0.2 and 6.
func (l Load) Index() int64 {
	demand, capacity := max(1, l.Queued+l.Agents), max(1, l.CPU+2*l.GPU)
	return min(max(roundDiv(demand*Micro, capacity), minLoadMicro), MaxLoadMicro)
}

// Smooth returns the moving average of the load index; before is 0 when there was none.
func (p Policy) Smooth(before, index int64) int64 {
	if before == 0 {
		return index
	}
	return roundDiv(before*(Micro-p.AlphaMicro)+index*p.AlphaMicro, Micro)
}

// Pool returns what an epoch issues at a smoothed load index: one hour of the day's
// pool, which grows with what the index is above one.
func (p Policy) Pool(smoothed int64) int64 {
	grown := Micro*Micro + max(0, smoothed-Micro)*p.SlopeMicro
	day := min(mulDiv(p.BaseDaily, grown, Micro*Micro), p.MaxDaily)
	return max(day, p.MinDaily) / epochsPerDay
}

// Payable returns what of a share an account with a balance can take: what does not
// fit goes to the reserve, and what that cannot take is not issued. One account must
// not keep all others from being paid.
func Payable(share, balance int64) int64 { return min(share, MaxMicro-balance) }

// Share returns an account's part of a pool; weight is at most total, which is positive.
func Share(pool, weight, total int64) int64 { return mulDiv(pool, weight, total) }
