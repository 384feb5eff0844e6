package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/limit"
)

// doorway is a mux on loopback whose services say which one they are.
type doorway struct {
	t    *testing.T
	mux  *mux
	addr string
}

func sure[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// newDoorway opens one at which loopback is a member's, after a change of its bounds.
func newDoorway(t *testing.T, change func(*greeter)) *doorway {
	key := sure(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	cert := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der := sure(x509.CreateCertificate(rand.Reader, &cert, &cert, key.Public(), key))
	l := sure(net.Listen("tcp", "127.0.0.1:0"))
	d := &doorway{t: t, addr: l.Addr().String()}
	d.mux = newMux(l, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2", "http/1.1", protoRaft, protoRPC}},
		nil, func(peerName) error { return nil }, slog.New(slog.NewTextHandler(io.Discard, nil)))
	for name, service := range map[string]net.Listener{"api": d.mux.listen("h2", "http/1.1", ""), "raft": d.mux.listen(protoRaft)} {
		go func() {
			for {
				conn, err := service.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(conn, name)
				_ = conn.Close()
			}
		}()
	}
	d.mux.greeter.isMember = func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.0.1") }
	change(d.mux.greeter)
	go d.mux.serve()
	t.Cleanup(d.mux.close)
	return d
}

func (d *doorway) dial() net.Conn { return d.dialFrom(1) }

// dialFrom dials from one of the addresses of loopback.
func (d *doorway) dialFrom(host byte) net.Conn {
	d.t.Helper()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, host)}}).Dial("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn
}

// reach returns what the service of a protocol says.
func (d *doorway) reach(proto string) (string, error) { return d.reachFrom(1, proto) }

func (d *doorway) reachFrom(host byte, proto string) (string, error) {
	conn := tls.Client(d.dialFrom(host), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{proto}})
	if err := conn.Handshake(); err != nil {
		return "", err
	}
	said, err := io.ReadAll(conn)
	return string(said), err
}

func (d *doorway) mustReach(what string) {
	d.t.Helper()
	for proto, want := range map[string]string{protoRaft: "raft", "h2": "api"} {
		if got, err := d.reach(proto); err != nil || got != want {
			d.t.Errorf("%s: %s reaches %q: %v", what, proto, got, err)
		}
	}
}

// gone tells whether the server closed a connection.
func gone(conn net.Conn) bool {
	_, err := conn.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, net.ErrClosed)
}

// hello is the first message of a client that never goes on.
func (d *doorway) hello(proto string) []byte {
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		_ = tls.Client(there, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{proto}}).Handshake()
	}()
	text := make([]byte, 16<<10)
	n, err := here.Read(text)
	if err != nil {
		d.t.Fatal(err)
	}
	return text[:n]
}

// TestSilentConnectionsShutNobodyOut is on one port and one address, the worst case:
// a default node beside a flood of its own machine.
func TestSilentConnectionsShutNobodyOut(t *testing.T) {
	d := newDoorway(t, func(g *greeter) {
		g.strangers.waiting, g.peers.waiting = limit.NewRoom[netip.Addr](16), limit.NewRoom[netip.Addr](16)
	})
	var silent []net.Conn
	for range 48 {
		silent = append(silent, d.dial())
	}
	for i := range 32 {
		if !gone(silent[i]) {
			t.Fatalf("silent connection %d is still open", i)
		}
	}
	d.mustReach("beside silent connections")
	room, _ := d.mux.greeter.refused()
	if room < 32 || d.mux.greeter.strangers.waiting.Used() > 16 {
		t.Errorf("%d refused, %d wait", room, d.mux.greeter.strangers.waiting.Used())
	}
	// Those that begin a handshake and leave it there are worth no more.
	for _, proto := range []string{"h2", protoRaft} {
		first := d.dial()
		for _, conn := range append([]net.Conn{first}, d.dial(), d.dial()) {
			_, _ = conn.Write(d.hello(proto))
		}
		for range 30 {
			_, _ = d.dial().Write(d.hello(proto))
		}
		for !gone(first) { // the answer to its first message comes before the end
		}
		d.mustReach("beside half a handshake of " + proto)
	}
}

// TestOneAddressBeginsSoManyConnections: strangers of it, that is; its coordinators
// and other addresses go on.
func TestOneAddressBeginsSoManyConnections(t *testing.T) {
	now := time.Unix(1, 0)
	rates := func(g *greeter) {
		g.rates = limit.NewRates[netip.Addr](func() time.Time { return now }, greetPerSecond, 3, greetEntries)
	}
	d := newDoorway(t, rates)
	for range 3 {
		d.mustReach("within the rate")
	}
	if got, err := d.reach("h2"); err == nil {
		t.Errorf("beyond the rate: %q", got)
	}
	for range 5 {
		if got, err := d.reach(protoRaft); err != nil || got != "raft" {
			t.Errorf("a coordinator beside it: %q, %v", got, err)
		}
	}
	if room, rate := d.mux.greeter.refused(); room != 0 || rate != 1 {
		t.Errorf("refused: %d and %d", room, rate)
	}
	if !d.mux.greeter.mayWarn(time.Now().Add(crowdedPause)) || d.mux.greeter.mayWarn(time.Now().Add(crowdedPause)) {
		t.Error("the log has not one line a minute")
	}
	d = newDoorway(t, func(g *greeter) {
		rates(g)
		g.exempt = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	for range 5 {
		if got, err := d.reach("h2"); err != nil || got != "api" {
			t.Errorf("a proxy: %q, %v", got, err)
		}
	}
}

// TestOneKindComputesHalf: handshakes of strangers wait for each other, not those of
// coordinators; one that waits for its client computes nothing.
func TestOneKindComputesHalf(t *testing.T) {
	d := newDoorway(t, func(*greeter) {})
	busy := d.mux.greeter.strangers.work
	for range cap(busy) {
		busy <- struct{}{}
	}
	waits := d.dial()
	_, _ = waits.Write(d.hello("h2"))
	for range 3 {
		if got, err := d.reach(protoRaft); err != nil || got != "raft" {
			t.Errorf("a coordinator beside busy strangers: %q, %v", got, err)
		}
	}
	<-busy
	if _, err := waits.Read(make([]byte, 1)); err != nil {
		t.Error("it was not its turn:", err)
	}
	d.mustReach("beside one that waits for its client")
	for range cap(busy) - 1 {
		<-busy
	}
	d.mustReach("afterwards")
	if len(busy) != 0 || len(d.mux.greeter.claims.work) != 0 || len(d.mux.greeter.peers.work) != 0 {
		t.Error("places were not given back")
	}
}

// TestWhoClaimsToBeACoordinatorTakesNothingOfMembers: the first message proves
// nothing, so what is not where a member is has a lane and a rate of its own.
func TestWhoClaimsToBeACoordinatorTakesNothingOfMembers(t *testing.T) {
	const addresses, each, inAll = 20, 4, 30
	var past atomic.Int64 // the clock
	clock := func() time.Time { return time.Unix(1, past.Load()) }
	d := newDoorway(t, func(g *greeter) {
		g.claimed = limit.NewRates[netip.Addr](clock, claimsPerSecond, each/2, claimsEntries)
		g.claimedBy = limit.NewRates[struct{}](clock, claimsInAll, inAll, 2)
	})
	g := d.mux.greeter
	for range cap(g.claims.work) { // all that they may compute
		g.claims.work <- struct{}{}
	}
	hello := d.hello(protoRaft)
	for n := range addresses * each {
		_, _ = d.dialFrom(byte(10 + n%addresses)).Write(hello)
	}
	tooOften := func() uint64 { _, rate := g.refused(); return rate }
	for end := time.Now().Add(20 * time.Second); tooOften() < addresses*each-inAll && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if tooOften() != addresses*each-inAll || g.peers.waiting.Used() != 0 {
		t.Fatalf("%d refused, %d in the members' lane", tooOften(), g.peers.waiting.Used())
	}
	for range 5 {
		d.mustReach("a member beside claims")
	}
	// One that moved is not shut out.
	for range cap(g.claims.work) {
		<-g.claims.work
	}
	if got, err := d.reachFrom(200, protoRaft); err == nil {
		t.Errorf("beyond what all may claim: %q", got)
	}
	past.Store(int64(time.Second / claimsInAll))
	if got, err := d.reachFrom(201, protoRaft); err != nil || got != "raft" {
		t.Errorf("one that moved: %q, %v", got, err)
	}
}

// TestSilenceTakesNothingOfMembers: a member's connection has its place from the
// first moment on.
func TestSilenceTakesNothingOfMembers(t *testing.T) {
	d := newDoorway(t, func(g *greeter) { g.strangers.waiting = limit.NewRoom[netip.Addr](4) })
	slow := d.dial()
	for n := range 8 {
		d.dialFrom(byte(10 + n))
	}
	for end := time.Now().Add(20 * time.Second); d.mux.greeter.strangers.waiting.Evicted() < 4 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	conn := tls.Client(slow, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protoRaft}})
	if err := conn.Handshake(); err != nil {
		t.Error("a member whose first message took long:", err)
	}
}

// fromNetwork dials from one address.
type fromNetwork struct {
	machineNetwork
	addr netip.Addr
}

func (f fromNetwork) dial(ctx context.Context, addr string) (net.Conn, error) {
	return (&net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(f.addr, 0))}).DialContext(ctx, "tcp", addr)
}
