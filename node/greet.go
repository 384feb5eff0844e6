package node

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/edgecoder/edgecoder/limit"
)

// Connections before their TLS handshake has ended: who they are nobody knows, and
// raft's may share the port and the address with a flood. Those that are silent or
// slow make room for new ones, the oldest of the address that has most; what speaks
// says with its first message (ALPN) whether it is for coordinators, and goes on in
// a lane of its own. A member sends that message at once, so silence costs nobody.
const (
	// handshakeTime bounds a TLS handshake.
	handshakeTime = 5 * time.Second
	// maxStrangers and maxPeers bound handshakes under way on one listener, 20 KiB
	// each. A cluster has at most 64 coordinators with some connections each.
	maxStrangers = 1024
	maxPeers     = 256
	// A handshake is half a millisecond of work. A client keeps its connections;
	// one address, unless it is a proxy's, begins this many in a second.
	greetPerSecond = 200
	greetBurst     = 1000
	greetEntries   = 65_536
	// crowdedPause is between two lines of the log that say that connections were
	// refused.
	crowdedPause = time.Minute
)

// lane is one kind of callers.
type lane struct {
	waiting *limit.Room[netip.Addr]
	// work has a place for each handshake that computes: half of the processors, so
	// that the other kind and the node itself have the other half.
	work chan struct{}
}

func newLane(most int) *lane {
	return &lane{waiting: limit.NewRoom[netip.Addr](most), work: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
}

// greeter takes connections through their handshakes.
type greeter struct {
	strangers, peers *lane
	rates            *limit.Rates[netip.Addr] // of strangers
	exempt           []netip.Prefix           // proxies, which begin many
	tooOften         atomic.Uint64            // handshakes refused by rates
	warned           atomic.Int64             // when the log last had a line, Unix milliseconds
}

func newGreeter(exempt []netip.Prefix) *greeter {
	return &greeter{strangers: newLane(maxStrangers), peers: newLane(maxPeers), exempt: exempt,
		rates: limit.NewRates[netip.Addr](time.Now, greetPerSecond, greetBurst, greetEntries)}
}

// greeting is a connection in its handshake, and afterwards no more than the
// connection. Its fields are owned by the goroutine of the handshake.
type greeting struct {
	net.Conn
	ctx     context.Context // ends with the handshake's time, or when others need the place
	cancel  context.CancelFunc
	from    netip.Addr
	place   *limit.Place[netip.Addr]
	lane    *lane // nil until it said what it speaks
	working bool
	over    bool // set before the connection is handed on
}

var errTooOften = errors.New("this address begins too many connections")

// greet does the handshake of a connection.
func (g *greeter) greet(raw net.Conn, config *tls.Config) (*tls.Conn, error) {
	one := &greeting{Conn: raw, from: limit.HolderOf(raw.RemoteAddr().String())}
	one.ctx, one.cancel = context.WithTimeout(context.Background(), handshakeTime)
	defer one.cancel()
	one.place = g.strangers.waiting.Enter(one.from, 1, one.cancel)
	conn := tls.Server(one, config)
	err := conn.HandshakeContext(one.ctx)
	one.rest()
	if stayed := one.place.Leave(); err == nil && !stayed {
		err = context.Canceled
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	one.over = true
	return conn, nil
}

// hear is told of each first message (tls.Config.GetConfigForClient).
func (g *greeter) hear(hello *tls.ClientHelloInfo) error {
	one, ok := hello.Conn.(*greeting)
	if !ok {
		return nil
	}
	one.lane = g.strangers
	switch {
	case speaksPeer(hello):
		if !one.place.Leave() {
			return context.Canceled
		}
		one.lane = g.peers
		one.place = g.peers.waiting.Enter(one.from, 1, one.cancel)
	case slices.ContainsFunc(g.exempt, func(p netip.Prefix) bool { return p.Contains(one.from) }):
	case g.rates.Take(one.from) > 0:
		g.tooOften.Add(1)
		return errTooOften
	}
	return one.work()
}

// speaksPeer tells whether a client is a coordinator, or says so.
func speaksPeer(hello *tls.ClientHelloInfo) bool {
	return slices.Contains(hello.SupportedProtos, protoRaft) || slices.Contains(hello.SupportedProtos, protoRPC)
}

// refused returns how many connections had to make room or came too often.
func (g *greeter) refused() (room, rate uint64) {
	return g.strangers.waiting.Evicted() + g.peers.waiting.Evicted(), g.tooOften.Load()
}

// mayWarn tells whether the log may have another line.
func (g *greeter) mayWarn(now time.Time) bool {
	last := g.warned.Load()
	return now.UnixMilli()-last >= crowdedPause.Milliseconds() && g.warned.CompareAndSwap(last, now.UnixMilli())
}

// Read has the handshake rest while it waits for the client.
func (o *greeting) Read(p []byte) (int, error) {
	if o.over || o.lane == nil {
		return o.Conn.Read(p)
	}
	o.rest()
	n, err := o.Conn.Read(p)
	if err == nil {
		err = o.work()
	}
	return n, err
}

// work waits until the handshake may compute.
func (o *greeting) work() error {
	select {
	case o.lane.work <- struct{}{}:
		o.working = true
		return nil
	case <-o.ctx.Done():
		return o.ctx.Err()
	}
}

func (o *greeting) rest() {
	if o.working {
		<-o.lane.work
		o.working = false
	}
}
