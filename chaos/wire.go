package chaos

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// wire is a switch between the nodes' namespaces, in this process: every packet
// from one node to another passes through here, so that it can be lost, delayed
// or doubled in each direction by itself, with nothing of the kernel's traffic
// control, which many machines lack.
type wire struct {
	mu     sync.RWMutex // guards shapes
	shapes map[[2]int]Shape
	toll   toll
	ports  []io.ReadWriter
	done   sync.WaitGroup
}

// toll counts the packets that met a shape since all were cleared.
type toll struct{ lost, late, twice atomic.Uint64 }

// count takes down what became of one packet.
func (t *toll) count(fate []time.Duration) {
	switch {
	case len(fate) == 0:
		t.lost.Add(1)
	case len(fate) > 1:
		t.twice.Add(1)
	case fate[0] > 0:
		t.late.Add(1)
	}
}

// held is how long a reordered packet is kept back, at most.
const held = 20 * time.Millisecond

// Offsets in an IPv4 header.
const (
	ipProtocol = 9
	ipTarget   = 16
	ipHeader   = 20
	protoUDP   = 17
)

func newWire(ports []io.ReadWriter) *wire {
	w := &wire{shapes: map[[2]int]Shape{}, ports: ports}
	for from := range ports {
		w.done.Go(func() { w.forward(from) })
	}
	return w
}

// forward carries packets of one node until its port is closed.
func (w *wire) forward(from int) {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.ports[from].Read(buf)
		if err != nil {
			return
		}
		to, udp, ok := route(buf[:n], len(w.ports))
		if !ok || to == from {
			continue
		}
		w.mu.RLock()
		how := w.shapes[[2]int{from, to}]
		w.mu.RUnlock()
		if how == (Shape{}) || (how.UDPOnly && !udp) {
			w.deliver(to, buf[:n])
			continue
		}
		fate := how.fate()
		w.toll.count(fate)
		for _, after := range fate {
			w.later(to, append([]byte(nil), buf[:n]...), after)
		}
	}
}

// route reads where an IPv4 packet goes: node i has the address that ends in i+1.
func route(packet []byte, nodes int) (to int, udp, ok bool) {
	if len(packet) < ipHeader || packet[0]>>4 != 4 {
		return 0, false, false
	}
	to = int(binary.BigEndian.Uint32(packet[ipTarget:])&0xff) - 1
	return to, packet[ipProtocol] == protoUDP, to >= 0 && to < nodes
}

// fate draws how often a packet arrives, and how late each time.
func (s Shape) fate() []time.Duration {
	if rand.Float64() < s.Drop {
		return nil
	}
	after := s.Delay
	if s.Jitter > 0 {
		after += rand.N(s.Jitter)
	}
	if rand.Float64() < s.Reorder {
		after += rand.N(held)
	}
	if rand.Float64() < s.Duplicate {
		return []time.Duration{after, after + rand.N(held)}
	}
	return []time.Duration{after}
}

func (w *wire) later(to int, packet []byte, after time.Duration) {
	if after == 0 {
		w.deliver(to, packet)
		return
	}
	time.AfterFunc(after, func() { w.deliver(to, packet) })
}

// deliver hands a packet to a node. A port that is closed or full loses it, as
// a network would.
func (w *wire) deliver(to int, packet []byte) { _, _ = w.ports[to].Write(packet) }

func (w *wire) shape(from, to int, how Shape) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shapes[[2]int{from, to}] = how
}

func (w *wire) clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.shapes)
	w.toll.lost.Store(0)
	w.toll.late.Store(0)
	w.toll.twice.Store(0)
}

func (w *wire) tolled() Toll {
	return Toll{Lost: w.toll.lost.Load(), Late: w.toll.late.Load(), Twice: w.toll.twice.Load()}
}
