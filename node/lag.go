package node

import (
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/fsm"
)

// lagTime is how old the last command that this replica applied may be, and how far its
// clock may have run ahead of time: the leader ticks each second.
const lagTime = fsm.KeySettleMs * time.Millisecond

// pace tells by the cluster clock whether this replica is catching up: then the clock
// goes faster than time does. It asks no wall clock, which may be wrong for years.
type pace struct {
	mu      sync.Mutex
	since   time.Time // since when the clock is compared with time, and what it was then
	clockMs int64
	ran     time.Time // when it was last lagTime ahead
}

// tick notes the cluster clock as it is at a time.
func (p *pace) tick(now time.Time, clockMs int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ahead := time.Duration(clockMs-p.clockMs)*time.Millisecond - now.Sub(p.since)
	if ahead >= lagTime {
		p.ran = now
	}
	if ahead < 0 || ahead >= lagTime {
		p.since, p.clockMs = now, clockMs
	}
}

// runs tells whether the replica was catching up a moment ago.
func (p *pace) runs(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Sub(p.ran) < lagTime
}

// lags tells whether this replica may not have what the others have. A leader has it.
func (n *Node) lags() bool {
	if n.lead.Load() != nil {
		return false
	}
	return time.Since(time.Unix(0, n.lastApplied.Load())) > lagTime || n.pace.runs(time.Now())
}
