package chaos

import (
	"io"
	"testing"
	"time"
)

// fakePort is a namespace's end of the wire: what is sent into in comes out of
// the switch's Read, what the switch writes appears in out.
type fakePort struct {
	in  chan []byte
	out chan []byte
}

func newPort() *fakePort {
	return &fakePort{in: make(chan []byte), out: make(chan []byte, 8)}
}

func (p *fakePort) Read(b []byte) (int, error) {
	packet, ok := <-p.in
	if !ok {
		return 0, io.EOF
	}
	return copy(b, packet), nil
}

func (p *fakePort) Write(b []byte) (int, error) {
	p.out <- append([]byte(nil), b...)
	return len(b), nil
}

// packet is an IPv4 header to the node.
func packet(to byte, proto byte, mark byte) []byte {
	p := make([]byte, ipHeader+1)
	p[0], p[ipProtocol], p[ipTarget+3], p[ipHeader] = 0x45, proto, to+1, mark
	return p
}

func TestWire(t *testing.T) {
	a, b := newPort(), newPort()
	w := newWire([]io.ReadWriter{a, b})
	expect := func(what string, p *fakePort, mark byte) {
		t.Helper()
		if got := <-p.out; got[ipHeader] != mark {
			t.Errorf("%s: packet %d arrived, want %d", what, got[ipHeader], mark)
		}
	}
	a.in <- packet(1, protoUDP, 1)
	expect("open", b, 1)
	w.shape(0, 1, Shape{Drop: 1})
	a.in <- packet(1, protoUDP, 2) // lost
	b.in <- packet(0, protoUDP, 3)
	expect("the other direction", a, 3)
	w.shape(0, 1, Shape{Drop: 1, UDPOnly: true})
	a.in <- packet(1, protoUDP, 4) // lost
	a.in <- packet(1, 6, 5)
	expect("TCP passes", b, 5)
	w.shape(0, 1, Shape{Duplicate: 1})
	a.in <- packet(1, protoUDP, 6)
	expect("doubled", b, 6)
	expect("doubled", b, 6)
	w.shape(0, 1, Shape{Delay: time.Millisecond})
	a.in <- packet(1, protoUDP, 7)
	expect("delayed", b, 7)
	if got := w.tolled(); got != (Toll{Lost: 2, Late: 1, Twice: 1}) {
		t.Errorf("counted %+v, want what was lost, late and doubled", got)
	}
	w.clear()
	if got := w.tolled(); got != (Toll{}) {
		t.Errorf("counted %+v on a good wire", got)
	}
	a.in <- []byte{0x60, 0, 0} // not IPv4: nowhere to go
	a.in <- packet(9, protoUDP, 8)
	a.in <- packet(0, protoUDP, 9) // to itself
	a.in <- packet(1, protoUDP, 10)
	expect("open again", b, 10)
	close(a.in)
	close(b.in)
	w.done.Wait()
}

func TestFate(t *testing.T) {
	if got := (Shape{Drop: 1}).fate(); got != nil {
		t.Errorf("a lost packet arrives %v", got)
	}
	if got := (Shape{Delay: time.Second}).fate(); len(got) != 1 || got[0] != time.Second {
		t.Errorf("a delayed packet arrives %v", got)
	}
	got := (Shape{Delay: time.Second, Jitter: time.Second, Reorder: 1, Duplicate: 1}).fate()
	if len(got) != 2 || got[0] < time.Second || got[0] > 2*time.Second+held || got[1] < got[0] {
		t.Errorf("a packet of a bad network arrives %v", got)
	}
}
