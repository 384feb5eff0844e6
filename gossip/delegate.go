package gossip

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/edgecoder/edgecoder/crypto"
)

// delegate is all that memberlist calls. Most of it runs under memberlist's node lock, any of it on any goroutine, some of it after
// Shutdown: each method checks, copies, hands over and returns, and never calls memberlist.
type delegate struct {
	p *Pool

	mu        sync.Mutex               // guards what follows
	verdicts  map[crypto.Hash]*verdict // of cards seen lately: memberlist repeats each card with every push/pull
	older     map[crypto.Hash]*verdict
	suspected map[string]struct{} // names whose last probe by us failed
}

type verdict struct {
	card Card
	err  error
}

var (
	_ memberlist.Delegate         = (*delegate)(nil)
	_ memberlist.EventDelegate    = (*delegate)(nil)
	_ memberlist.AliveDelegate    = (*delegate)(nil)
	_ memberlist.ConflictDelegate = (*delegate)(nil)
	_ memberlist.PingDelegate     = (*delegate)(nil)
)

// There is no MergeDelegate on purpose: its error refuses a whole join because of one bad line in it, so that one forged member would
// keep everybody out. NotifyAlive refuses the one.

func newDelegate(p *Pool) *delegate {
	return &delegate{p: p, verdicts: map[crypto.Hash]*verdict{}, older: map[crypto.Hash]*verdict{}, suspected: map[string]struct{}{}}
}

var (
	errFull     = errors.New("gossip: too many members")
	errProtocol = errors.New("gossip: foreign protocol version")
)

// NotifyAlive refuses members whose card is malformed, forged, of another cluster or of another name. Whether the key is enrolled is asked in
// the loop.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	if n.Name == d.p.cfg.Card.NodeID {
		// Never refuse ourselves: memberlist must see a lie about us to refute it.
		return nil
	}
	err := d.judge(n)
	if err != nil {
		d.p.count.cardsRefused.Add(1)
	}
	return err
}

func (d *delegate) judge(n *memberlist.Node) error {
	// One member with odd versions would make memberlist refuse every later push/pull.
	const speaks = memberlist.ProtocolVersion2Compatible
	if n.PCur != speaks || n.PMin > speaks || n.PMax < speaks || n.DMin != 0 || n.DCur != 0 {
		return errProtocol
	}
	if l := len(n.Addr); (l != 4 && l != 16) || n.Port == 0 {
		return fmt.Errorf("%w: no address", ErrCard)
	}
	if v := d.verdict(n.Name, n.Meta); v.err != nil {
		return v.err
	}
	if !d.p.table.known(n.Name) && int(d.p.table.live.Load())+d.p.inbox.pending() >= MaxMembers {
		return errFull
	}
	return nil
}

// verdict parses and verifies a card once, however often it comes.
func (d *delegate) verdict(name string, meta []byte) *verdict {
	id := crypto.Sum(append([]byte(name+"\x00"), meta...))
	d.mu.Lock()
	v := d.verdicts[id]
	if v == nil {
		v = d.older[id]
	}
	d.mu.Unlock()
	if v != nil {
		return v
	}
	v = &verdict{}
	v.card, v.err = ParseCard(d.p.cfg.ClusterID, meta)
	switch {
	case v.err != nil:
	case v.card.NodeID != name:
		v.err = fmt.Errorf("%w: it names %q", ErrCard, v.card.NodeID)
	case !v.card.Verify():
		v.err = fmt.Errorf("%w: signature does not verify", ErrCard)
	}
	d.mu.Lock()
	if len(d.verdicts) >= MaxMembers {
		d.verdicts, d.older = map[crypto.Hash]*verdict{}, d.verdicts
	}
	d.verdicts[id] = v
	d.mu.Unlock()
	return v
}

// NotifyJoin is part of memberlist.EventDelegate.
func (d *delegate) NotifyJoin(n *memberlist.Node) { d.up(n) }

// NotifyUpdate is part of memberlist.EventDelegate.
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.up(n) }

func (d *delegate) up(n *memberlist.Node) {
	v := d.verdict(n.Name, n.Meta)
	if v.err != nil || n.Name == d.p.cfg.Card.NodeID {
		return
	}
	card, addr := v.card, n.Address()
	d.p.inbox.note(n.Name, func(c *change) { c.up, c.down, c.card, c.addr = true, false, card, addr })
}

// NotifyLeave is part of memberlist.EventDelegate. It does not tell death from departure: node.State is not set, so
// a goodbye of our own says which.
func (d *delegate) NotifyLeave(n *memberlist.Node) {
	d.trusts(n.Name)
	if n.Name != d.p.cfg.Card.NodeID {
		d.p.inbox.note(n.Name, func(c *change) { c.down, c.suspect = true, nil })
	}
}

// NotifyConflict is part of memberlist.ConflictDelegate.
func (d *delegate) NotifyConflict(_, _ *memberlist.Node) { d.p.count.nameConflicts.Add(1) }

// suspects is told by the log adapter that our probe of a member failed; memberlist has no other way to say so.
func (d *delegate) suspects(name string) {
	if !d.p.table.known(name) {
		return
	}
	d.mu.Lock()
	d.suspected[name] = struct{}{}
	d.mu.Unlock()
	d.noteSuspect(name, true)
}

// trusts forgets a suspicion and says whether there was one.
func (d *delegate) trusts(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, was := d.suspected[name]
	delete(d.suspected, name)
	return was
}

func (d *delegate) noteSuspect(name string, s bool) {
	d.p.inbox.note(name, func(c *change) { c.suspect = &s })
}

// AckPayload is part of memberlist.PingDelegate.
func (d *delegate) AckPayload() []byte { return nil }

// NotifyPingComplete is part of memberlist.PingDelegate: a member answers, again.
func (d *delegate) NotifyPingComplete(n *memberlist.Node, _ time.Duration, _ []byte) {
	if d.trusts(n.Name) {
		d.noteSuspect(n.Name, false)
	}
}

// NodeMeta is part of memberlist.Delegate. Start and UpdateCard made sure that it fits.
func (d *delegate) NodeMeta(limit int) []byte {
	meta := *d.p.meta.Load()
	if len(meta) > limit {
		return nil
	}
	return meta
}

// NotifyMsg is part of memberlist.Delegate.
func (d *delegate) NotifyMsg(b []byte) {
	if len(b) == 0 || len(b) > udpBufferSize {
		d.p.count.malformed.Add(1)
		return
	}
	d.p.inbox.put(item{news: b})
}

// GetBroadcasts is part of memberlist.Delegate.
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.p.queue.GetBroadcasts(overhead, limit)
}

// LocalState is part of memberlist.Delegate: the heads we hold, for whoever does push/pull with us.
func (d *delegate) LocalState(bool) []byte { return encodeState(d.p.table.heads()) }

// MergeRemoteState is part of memberlist.Delegate.
func (d *delegate) MergeRemoteState(b []byte, _ bool) {
	if len(b) == 0 || len(b) > maxStateBytes {
		d.p.count.malformed.Add(1)
		return
	}
	d.p.inbox.put(item{state: b})
}
