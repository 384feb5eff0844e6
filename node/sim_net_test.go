package node

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/chaos"
	"github.com/edgecoder/edgecoder/gossip/gossiptest"
)

// simLinks are the wires between the servers; those to the clients are sound.
// It implements chaos.Network.
type simLinks struct {
	nodes map[netip.Addr]string // fixed
	hop   time.Duration         // from one server to another, at least; fixed before the first server runs

	mu     sync.Mutex // guards what follows
	rng    *rand.Rand
	shapes map[[2]string]chaos.Shape
	toll   chaos.Toll
}

func newSimLinks(network *gossiptest.Network, servers map[string]*simServer, seed uint64) *simLinks {
	l := &simLinks{hop: simHop, nodes: map[netip.Addr]string{}, rng: rand.New(rand.NewPCG(seed, 0x117e)), shapes: map[[2]string]chaos.Shape{}}
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

// between tells whether both are servers' addresses.
func (l *simLinks) between(from, to string) bool {
	a, errA := netip.ParseAddrPort(from)
	b, errB := netip.ParseAddrPort(to)
	if errA != nil || errB != nil {
		return false
	}
	_, yesA := l.nodes[a.Addr()]
	_, yesB := l.nodes[b.Addr()]
	return yesA && yesB && a.Addr() != b.Addr()
}

// cut tells whether nothing gets from one address to the other.
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
	simHop    = 300 * time.Microsecond // from anywhere to anywhere, at least
	simResend = 200 * time.Millisecond // what a lost segment costs a stream; twice as much if it is lost again
	simHeld   = 20 * time.Millisecond  // what a packet waits that others overtake, at most
)

// upTo draws a time; the lock must be held.
func (l *simLinks) upTo(most time.Duration) time.Duration {
	return time.Duration(l.rng.Int64N(max(1, int64(most))))
}

// delay is that of packets, and of what streams carry: these lose nothing, what
// was lost comes again later.
func (l *simLinks) delay(from, to string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	late := simHop + l.upTo(simHop)
	if l.between(from, to) {
		late = l.hop + l.upTo(l.hop)
	}
	s := l.shapeOf(from, to)
	if s == (chaos.Shape{}) || s.UDPOnly {
		return late
	}
	l.toll.Late++
	late += s.Delay + l.upTo(s.Jitter)
	for wait := simResend; l.rng.Float64() < s.Drop; wait *= 2 {
		late += wait
	}
	return late
}

// fate is that of packets alone.
func (l *simLinks) fate(from, to string) (copies []time.Duration) {
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
		late = l.upTo(simHeld)
	}
	copies = []time.Duration{late}
	if l.rng.Float64() < s.Duplicate {
		l.toll.Twice++
		copies = append(copies, late+l.upTo(simHeld))
	}
	return copies
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
