package node

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/chaos"
	"github.com/edgecoder/edgecoder/gossip/gossiptest"
	"github.com/edgecoder/edgecoder/store"
)

// simClock is a wall clock that is off, drifts, and may be moved.
type simClock struct {
	since time.Time
	off   time.Duration // from the beginning
	ppm   int64         // drift
	moved atomic.Int64  // by a fault, nanoseconds
}

// newSimClock draws a clock that stays, over a day, well within the 5 s by which
// the clocks of a majority may be apart.
func newSimClock(rng *rand.Rand) *simClock {
	return &simClock{since: time.Now(), off: time.Duration(rng.Int64N(2000)-1000) * time.Millisecond, ppm: rng.Int64N(20) - 10}
}

func (c *simClock) now() time.Time {
	now := time.Now()
	drift := time.Duration(int64(now.Sub(c.since)) / 1_000_000 * c.ppm)
	return now.Add(c.off + drift + time.Duration(c.moved.Load())).Round(0) // no monotonic reading: it is another clock's
}

func (c *simClock) jump(offset time.Duration) { c.moved.Store(int64(offset)) }

// simDisk is a disk whose writes take time. raft's own writes are what answers
// wait for; those of history happen at once, for they hold locks that others
// contend for, and in a bubble nobody may wait for a lock while time must pass.
type simDisk struct {
	full atomic.Bool

	mu     sync.Mutex // guards what follows
	rng    *rand.Rand
	frozen chan struct{} // closed when it thaws; nil: it is not
}

func newSimDisk(rng *rand.Rand) *simDisk {
	return &simDisk{rng: rand.New(rand.NewPCG(rng.Uint64(), 0xd15c))}
}

// latency draws how long a write takes on either side of its reaching the disk.
func (d *simDisk) latency() (before, after time.Duration, frozen <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	draw := func() time.Duration {
		if d.rng.IntN(200) == 0 {
			return time.Duration(d.rng.Int64N(int64(200 * time.Millisecond)))
		}
		return time.Duration(d.rng.Int64N(int64(time.Millisecond)))
	}
	return draw(), draw(), d.frozen
}

func (d *simDisk) freeze() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.frozen == nil {
		d.frozen = make(chan struct{})
	}
}

func (d *simDisk) thaw() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.frozen != nil {
		close(d.frozen)
		d.frozen = nil
	}
}

// statfs implements diskHooks.
func (d *simDisk) statfs(string) (free, size int64, err error) {
	const whole = 1 << 30
	if d.full.Load() {
		return 0, whole, nil
	}
	return whole / 2, whole, nil
}

// simPower is what one process has of the disk: a write that was not done when
// it is cut is lost.
type simPower struct {
	disk *simDisk
	off  chan struct{}
	once sync.Once
}

func (d *simDisk) plugIn() *simPower { return &simPower{disk: d, off: make(chan struct{})} }

func (p *simPower) cut() { p.once.Do(func() { close(p.off) }) }

func (p *simPower) takes(what string) bool { return what == store.WriteLog || what == store.WriteStable }

// begin implements diskHooks.
func (p *simPower) begin(what string) {
	if !p.takes(what) {
		return
	}
	before, _, frozen := p.disk.latency()
	if frozen != nil {
		select {
		case <-frozen:
		case <-p.off:
		}
	}
	p.wait(before)
}

// end implements diskHooks.
func (p *simPower) end(what string) {
	if p.takes(what) {
		_, after, _ := p.disk.latency()
		p.wait(after)
	}
}

func (p *simPower) wait(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.off:
	}
}

// simLinks are the wires between the servers. It implements chaos.Network.
type simLinks struct {
	nodes map[netip.Addr]string // fixed

	mu     sync.Mutex // guards what follows
	rng    *rand.Rand
	shapes map[[2]string]chaos.Shape
	toll   chaos.Toll
}

func newSimLinks(network *gossiptest.Network, servers map[string]*simServer, seed uint64) *simLinks {
	l := &simLinks{nodes: map[netip.Addr]string{}, rng: rand.New(rand.NewPCG(seed, 0x117e)), shapes: map[[2]string]chaos.Shape{}}
	for name, s := range servers {
		l.nodes[netip.MustParseAddr(s.ip)] = name
	}
	network.SetCut(l.cut)
	network.SetDelay(l.delay)
	network.SetFate(l.fate)
	return l
}

// shapeOf returns what lies between two addresses; the lock must be held.
func (l *simLinks) shapeOf(from, to string) chaos.Shape {
	if len(l.shapes) == 0 {
		return chaos.Shape{}
	}
	a, errA := netip.ParseAddrPort(from)
	b, errB := netip.ParseAddrPort(to)
	if errA != nil || errB != nil {
		return chaos.Shape{}
	}
	return l.shapes[[2]string{l.nodes[a.Addr()], l.nodes[b.Addr()]}]
}

func (l *simLinks) cut(from, to string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.shapeOf(from, to)
	if s.Drop < 1 || s.UDPOnly {
		return false
	}
	l.toll.Lost++
	return true
}

const (
	simHop      = 300 * time.Microsecond // from one server to another, at least
	simResend   = 200 * time.Millisecond // what a lost segment costs a stream
	simHoldBack = 20 * time.Millisecond  // what a reordered packet waits, at most
)

// delay is that of packets and of what streams carry. A stream loses nothing:
// what was lost comes again, later.
func (l *simLinks) delay(from, to string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.shapeOf(from, to)
	late := simHop + time.Duration(l.rng.Int64N(int64(simHop)))
	if s == (chaos.Shape{}) || s.UDPOnly {
		return late
	}
	if late += s.Delay; s.Jitter > 0 {
		late += time.Duration(l.rng.Int64N(int64(s.Jitter)))
	}
	for wait := simResend; l.rng.Float64() < s.Drop; wait *= 2 {
		late += wait
	}
	l.toll.Late++
	return late
}

// fate is that of packets alone.
func (l *simLinks) fate(from, to string) []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.shapeOf(from, to)
	var late time.Duration
	switch {
	case s == (chaos.Shape{}):
		return []time.Duration{0}
	case l.rng.Float64() < s.Drop:
		l.toll.Lost++
		return nil
	case l.rng.Float64() < s.Reorder:
		late = time.Duration(l.rng.Int64N(int64(simHoldBack)))
	}
	if l.rng.Float64() < s.Duplicate {
		l.toll.Twice++
		return []time.Duration{late, late + time.Duration(l.rng.Int64N(int64(simHoldBack)))}
	}
	return []time.Duration{late}
}

// Shape implements chaos.Network.
func (l *simLinks) Shape(from, to string, how chaos.Shape) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shapes[[2]string{from, to}] = how
	return nil
}

// Toll implements chaos.Network.
func (l *simLinks) Toll() chaos.Toll {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.toll
}

// Clear implements chaos.Network.
func (l *simLinks) Clear() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.shapes)
	l.toll = chaos.Toll{}
	return nil
}

func synctestWait() { synctest.Wait() }
