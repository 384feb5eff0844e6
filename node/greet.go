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
// says with its first message (ALPN) whether it is for coordinators. Anybody may say
// so: only what comes from where a member is goes on in the members' lane, which no
// other address takes anything of. A member may also have moved, or be behind
// something that hides its address, so others may claim to be one, at a rate that
// costs little; once the certificate proved it, the address is a member's.
const (
	// handshakeTime bounds a TLS handshake.
	handshakeTime = 5 * time.Second
	// These bound handshakes under way on one listener, 20 KiB each. A cluster has at
	// most 64 coordinators with some connections each.
	maxStrangers = 1024
	maxPeers     = 256
	maxClaims    = 64
	// A handshake is half a millisecond of work. A client keeps its connections;
	// one address, unless it is a proxy's, begins this many in a second.
	greetPerSecond = 200
	greetBurst     = 1000
	greetEntries   = 65_536
	// One address may claim so often to be a coordinator: hundreds that flood use up
	// less than claimsInAll, a twentieth of a processor, so one that moved gets in.
	claimsPerSecond = 0.2
	claimsBurst     = 10
	claimsEntries   = 16_384
	claimsInAll     = 100 // in a second, and at once
	// crowdedPause is between two lines of the log that say that connections were
	// refused.
	crowdedPause = time.Minute
)

// lane is one kind of callers.
type lane struct {
	waiting *limit.Room[netip.Addr]
	// work has a place for each handshake that computes: half of the processors, so
	// that the other kinds and the node itself have the other half.
	work chan struct{}
}

func newLane(most int) *lane {
	return &lane{waiting: limit.NewRoom[netip.Addr](most), work: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
}

// greeter takes connections through their handshakes.
type greeter struct {
	strangers *lane
	peers     *lane                    // from addresses of members
	claims    *lane                    // for coordinators, from anywhere else
	rates     *limit.Rates[netip.Addr] // of strangers
	claimed   *limit.Rates[netip.Addr] // of claims, by address
	claimedBy *limit.Rates[struct{}]   // of claims, by all together
	exempt    []netip.Prefix           // proxies, which begin many
	tooOften  atomic.Uint64            // handshakes refused by rates
	warned    atomic.Int64             // when the log last had a line, Unix milliseconds

	// isMember tells whether a member is at an address, and met is told where one
	// proved to be. Both are fixed before the first connection.
	isMember func(netip.Addr) bool
	met      func(nodeID string, at netip.Addr)
}

func newGreeter(exempt []netip.Prefix) *greeter {
	return &greeter{strangers: newLane(maxStrangers), peers: newLane(maxPeers), claims: newLane(maxClaims), exempt: exempt,
		rates:     limit.NewRates[netip.Addr](time.Now, greetPerSecond, greetBurst, greetEntries),
		claimed:   limit.NewRates[netip.Addr](time.Now, claimsPerSecond, claimsBurst, claimsEntries),
		claimedBy: limit.NewRates[struct{}](time.Now, claimsInAll, claimsInAll, 2),
		isMember:  func(netip.Addr) bool { return false }, met: func(string, netip.Addr) {}}
}

// greeting is a connection in its handshake, and afterwards no more than the
// connection. Its fields are owned by the goroutine of the handshake.
type greeting struct {
	net.Conn
	ctx     context.Context // ends with the handshake's time, or when others need the place
	cancel  context.CancelFunc
	from    netip.Addr
	member  bool // a member is at that address
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
	one.member = g.isMember(one.from)
	first := g.strangers
	if one.member {
		first = g.peers // strangers that are silent push none out
	}
	one.place = first.waiting.Enter(one.from, 1, one.cancel)
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
	g.prove(one, conn.ConnectionState())
	return conn, nil
}

// prove notes where a coordinator is, once its certificate was verified.
func (g *greeter) prove(one *greeting, state tls.ConnectionState) {
	if one.member || len(state.PeerCertificates) == 0 || !isPeerProto(state.NegotiatedProtocol) {
		return // a joiner's certificate says no more than its key
	}
	if peer, err := nameOf(state.PeerCertificates[0]); err == nil {
		g.met(peer.id, one.from)
	}
}

// hearing is a configuration whose handshakes tell the greeter of their first messages.
func (g *greeter) hearing(config *tls.Config) *tls.Config {
	choose := config.GetConfigForClient
	config = config.Clone()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if err := g.hear(hello); err != nil || choose == nil {
			return nil, err
		}
		return choose(hello)
	}
	return config
}

// hear is told of each first message (tls.Config.GetConfigForClient).
func (g *greeter) hear(hello *tls.ClientHelloInfo) error {
	one, ok := hello.Conn.(*greeting)
	if !ok {
		return nil
	}
	peer := speaksPeer(hello)
	if !peer && g.overRate(one.from) || peer && !one.member && g.overClaims(one.from) {
		g.tooOften.Add(1)
		return errTooOften
	}
	switch {
	case !peer:
		one.lane = g.strangers
	case one.member:
		one.lane = g.peers
	default:
		one.lane = g.claims
	}
	if !one.move() {
		return context.Canceled
	}
	return one.work()
}

// overRate tells whether an address began more than a stranger may.
func (g *greeter) overRate(from netip.Addr) bool {
	return !slices.ContainsFunc(g.exempt, func(p netip.Prefix) bool { return p.Contains(from) }) && g.rates.Take(from) > 0
}

// overClaims tells whether an address, or all together, claimed too often. What is
// refused for the sake of all counts for its address too.
func (g *greeter) overClaims(from netip.Addr) bool {
	return g.claimed.Take(from) > 0 || g.claimedBy.Take(struct{}{}) > 0
}

// move changes places with one of the own lane. It tells whether it still had one.
func (o *greeting) move() bool {
	if !o.place.Leave() {
		return false
	}
	o.place = o.lane.waiting.Enter(o.from, 1, o.cancel)
	return true
}

// speaksPeer tells whether a client is a coordinator, or says so.
func speaksPeer(hello *tls.ClientHelloInfo) bool {
	return slices.ContainsFunc(hello.SupportedProtos, isPeerProto)
}

func isPeerProto(p string) bool { return p == protoRaft || p == protoRPC || p == protoReturn }

// refused returns how many connections had to make room or came too often.
func (g *greeter) refused() (room, rate uint64) {
	return g.strangers.waiting.Evicted() + g.peers.waiting.Evicted() + g.claims.waiting.Evicted(), g.tooOften.Load()
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
