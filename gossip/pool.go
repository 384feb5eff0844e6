package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// ErrClosed is returned by a pool that was left or shut down.
var ErrClosed = errors.New("gossip: pool is closed")

// ErrTooLarge is in the chain of the error for news or a head above its bound.
var ErrTooLarge = errors.New("gossip: too large")

// The life of a pool, in order.
const (
	running = iota
	left
	closed
)

// leaveDefault stands in for a Leave without a timeout, which memberlist would take for "wait for ever".
const leaveDefault = 5 * time.Second

// updateWait is how long UpdateCard waits for the word to go out. It does not: the word is queued, and that is enough.
const updateWait = time.Millisecond

// Pool is one node's membership. All methods may be called from any goroutine.
type Pool struct {
	// Set by Start, never changed.
	cfg              Config
	ml               *memberlist.Memberlist
	transport        *transport // nil with Config.Transport
	table            *table
	inbox            *inbox
	queue            *memberlist.TransmitLimitedQueue
	bound, advertise string

	count counters
	meta  atomic.Pointer[[]byte] // our encoded card

	keys sync.Mutex // serialises changes of ring
	ring *memberlist.Keyring

	life  sync.Mutex   // serialises changes of state and of our card
	state atomic.Int32 // running, left, closed
	card  Card         // ours; guarded by life

	leaving  sync.Mutex // held for the length of a Leave; Shutdown waits for it
	shutdown sync.Once
	ctx      context.Context // ends with Leave or Shutdown: no more joins
	cancel   context.CancelFunc
	stop     chan struct{}  // ends the loop
	loops    sync.WaitGroup // run
	joins    sync.WaitGroup // rejoin
	recheck  chan struct{}  // one token
	rekeyed  chan struct{}  // one token: we seal with a key that we did not hold before

	// Owned by the loop.
	seenNews, seenHeads *seen
}

// Start opens the sockets, and begins to answer, to listen and to look for seeds. It does not wait for anybody.
func Start(cfg Config) (*Pool, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	meta, err := cfg.Card.Encode()
	if err != nil {
		return nil, err
	}
	p := &Pool{cfg: cfg, card: cfg.Card, stop: make(chan struct{}), recheck: make(chan struct{}, 1), rekeyed: make(chan struct{}, 1)}
	p.meta.Store(&meta)
	p.inbox = newInbox(&p.count)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.seenNews = newSeen(seenGeneration, seenFor, cfg.Now())
	p.seenHeads = newSeen(seenGeneration, headSeenFor, cfg.Now())

	mlTransport, err := p.openTransport()
	if err != nil {
		return nil, err
	}
	if err := p.startMemberlist(mlTransport); err != nil {
		mlTransport.Shutdown()
		return nil, err
	}
	p.loops.Go(p.run)
	p.joins.Go(p.rejoin)
	return p, nil
}

// openTransport brings up the sockets and settles our addresses and, with them, the table.
func (p *Pool) openTransport() (memberlist.Transport, error) {
	t := p.cfg.Transport
	if t == nil {
		s := p.cfg.Sockets
		if s == nil {
			var err error
			if s, err = Listen(p.cfg.BindAddr); err != nil {
				return nil, err
			}
		}
		own, err := newTransport(s, p.cfg, &p.count)
		if err != nil {
			return nil, err
		}
		t, p.transport, p.bound = own, own, s.Listener.Addr().String()
	}
	ip, port, err := t.FinalAdvertiseAddr("", 0)
	if err != nil {
		t.Shutdown()
		return nil, err
	}
	p.advertise = net.JoinHostPort(ip.String(), strconv.Itoa(port))
	if p.bound == "" {
		p.bound = p.advertise
	}
	p.table = newTable(p.cfg.Card, p.advertise, p.cfg.Now())
	p.queue = &memberlist.TransmitLimitedQueue{NumNodes: func() int { return int(p.table.live.Load()) }}
	return t, nil
}

func (p *Pool) startMemberlist(t memberlist.Transport) error {
	keys := make([][]byte, len(p.cfg.PoolKeys))
	for i, k := range p.cfg.PoolKeys {
		keys[i] = bytes.Clone(k)
	}
	ring, err := memberlist.NewKeyring(keys, keys[0])
	if err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	p.ring = ring
	d := newDelegate(p)
	mc := p.cfg.Profile.timings()
	mc.Name = p.cfg.Card.NodeID
	mc.Label = label(p.cfg.ClusterID)
	mc.Transport = t
	mc.Keyring = ring
	mc.Delegate, mc.Events, mc.Alive, mc.Conflict, mc.Ping = d, d, d, d, d
	mc.Logger = newMemberlistLogger(p.cfg.Log, d.suspects)
	p.queue.RetransmitMult = mc.RetransmitMult
	if p.ml, err = memberlist.Create(mc); err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	return nil
}

// Members lists everybody seen lately, ourselves and the dead included, sorted by name.
func (p *Pool) Members() []Member { return p.table.members() }

// LiveOf returns the ids of live and trusted members of a role, suspected ones included and ourselves not: what of a large pool is asked for often.
func (p *Pool) LiveOf(role string) []string { return p.table.liveOf(role) }

// LocalAddr is where we listen, host:port.
func (p *Pool) LocalAddr() string { return p.bound }

// AdvertiseAddr is where others are told to reach us, ip:port.
func (p *Pool) AdvertiseAddr() string { return p.advertise }

// Stats returns counters for metrics.
func (p *Pool) Stats() Stats {
	s := p.count.stats()
	s.Members, s.Alive = p.table.count()
	s.Queued = p.queue.NumQueued()
	return s
}

// Recheck asks Trust about all members soon, instead of at the next round: call it when enrolled keys have changed.
func (p *Pool) Recheck() {
	select {
	case p.recheck <- struct{}{}:
	default:
	}
}

// Broadcast sends a payload of 1 to MaxNews bytes to every member, best effort, and does not wait. Our own OnNews does not see it.
func (p *Pool) Broadcast(payload []byte) error {
	if len(payload) == 0 || len(payload) > MaxNews {
		return fmt.Errorf("%w: news of %d bytes, must be 1 to %d", ErrTooLarge, len(payload), MaxNews)
	}
	if p.state.Load() != running {
		return ErrClosed
	}
	p.enqueue(p.message(kindNews, payload), nil)
	return nil
}

// SetHead publishes our own signed head, 1 to MaxHead bytes, by broadcast and from then on by push/pull.
func (p *Pool) SetHead(head []byte) error {
	if len(head) == 0 || len(head) > MaxHead {
		return fmt.Errorf("%w: head of %d bytes, must be 1 to %d", ErrTooLarge, len(head), MaxHead)
	}
	if p.state.Load() != running {
		return ErrClosed
	}
	if bytes.Equal(p.table.head(p.cfg.Card.NodeID), head) {
		return nil
	}
	p.table.setHead(p.cfg.Card.NodeID, bytes.Clone(head), false)
	p.enqueue(p.message(kindHead, head), nil)
	return nil
}

func (p *Pool) message(kind uint64, body []byte) *message {
	return &message{Kind: kind, From: p.cfg.Card.NodeID, AtMs: max(p.cfg.Now().UnixMilli(), 0), Body: body}
}

// UpdateCard replaces our card: signed, of the same node and cluster, and issued after the one before.
func (p *Pool) UpdateCard(c Card) error {
	meta, err := c.Encode()
	if err != nil {
		return err
	}
	switch {
	case c.ClusterID != p.cfg.ClusterID || c.NodeID != p.cfg.Card.NodeID:
		return fmt.Errorf("%w: of another node or cluster", ErrCard)
	case !c.Verify():
		return fmt.Errorf("%w: signature does not verify", ErrCard)
	}
	p.life.Lock()
	defer p.life.Unlock()
	if p.state.Load() != running {
		return ErrClosed // and memberlist panics when it has forgotten itself
	}
	if c.IssuedMs <= p.card.IssuedMs {
		return fmt.Errorf("%w: not issued after the one before", ErrCard)
	}
	p.card = c
	p.meta.Store(&meta)
	p.table.setSelf(c)
	_ = p.ml.UpdateNode(updateWait) // its only error is that updateWait ended
	return nil
}

// Leave says goodbye, so that others list us as left and not as dead, and waits until it was said or the timeout ended. The pool still answers
// until Shutdown, but no longer joins or broadcasts.
func (p *Pool) Leave(timeout time.Duration) error {
	if timeout <= 0 {
		timeout = leaveDefault
	}
	p.leaving.Lock()
	defer p.leaving.Unlock()
	p.life.Lock()
	was := p.state.Load()
	p.state.CompareAndSwap(running, left)
	p.life.Unlock()
	if was == closed {
		return ErrClosed
	}
	if was == left {
		return nil
	}
	p.cancel()
	said := make(chan struct{})
	p.enqueue(p.message(kindGoodbye, nil), said)
	expired := time.After(timeout)
	others := p.table.live.Load() > 1
	err := p.ml.Leave(timeout)
	p.table.selfLeft(p.cfg.Now())
	if err != nil || !others {
		return err
	}
	select {
	case <-said:
		return nil
	case <-expired:
		return errors.New("gossip: timeout while saying goodbye")
	}
}

// Shutdown ends everything, in order: no new joins, the sockets, memberlist, the loop. It is safe to call more than once; without
// Leave before it, others will find us dead. memberlist's own goroutines may take a probe's length to notice.
func (p *Pool) Shutdown() error {
	p.shutdown.Do(func() {
		p.cancel()
		p.leaving.Lock()
		p.life.Lock()
		p.state.Store(closed)
		p.life.Unlock()
		p.leaving.Unlock()
		if p.transport != nil {
			p.transport.interrupt() // or a dial under way would hold up the rest
		}
		_ = p.ml.Shutdown() // never fails; it shuts the transport
		p.joins.Wait()
		close(p.stop)
		p.loops.Wait()
	})
	return nil
}
