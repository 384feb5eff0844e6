package gossip

import (
	"bytes"
	"time"

	"github.com/hashicorp/memberlist"
)

// run is the one loop: the only caller of Trust, OnNews and OnHead and, but for our own line, the only writer of the table. It owns
// the seen-sets. What happened to members is always applied before the next message, so that a member is known before it is heard.
func (p *Pool) run() {
	tick := time.NewTicker(p.cfg.RejoinEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-p.inbox.wake:
			p.applyChanges()
		case it := <-p.inbox.items:
			p.inbox.taken(it)
			p.applyChanges()
			p.take(it)
		case <-p.recheck:
			p.applyChanges()
			p.askAgain()
		case <-tick.C:
			p.applyChanges()
			p.askAgain()
			p.table.expire(p.cfg.Now())
			p.sayAcks()
		}
	}
}

func (p *Pool) applyChanges() {
	for id, c := range p.inbox.drain() {
		if c.up {
			trusted := p.cfg.Trust(c.card)
			if p.table.up(c.card, c.addr, trusted, p.cfg.Now()) {
				p.count.cardsReplayed.Add(1)
			}
			if !trusted {
				p.cfg.Log.Warn("gossip: member is not trusted", "node_id", id, "key_id", c.card.Key.KeyID(), "addr", c.addr)
			}
		}
		if c.down {
			p.table.down(id, p.cfg.Now())
		}
		if c.suspect != nil {
			p.table.setSuspect(id, *c.suspect, p.cfg.Now())
		}
	}
}

// askAgain asks Trust about every live member: keys are enrolled, and revoked, after their cards were seen.
func (p *Pool) askAgain() {
	for _, c := range p.table.cards() {
		p.table.rejudge(c, p.cfg.Trust(c), p.cfg.Now())
	}
}

func (p *Pool) take(it item) {
	if it.state != nil {
		heads, err := parseState(it.state)
		if err != nil {
			p.count.malformed.Add(1)
			return
		}
		for _, h := range heads {
			p.takeHead(&message{Kind: kindHead, From: h.Node, Body: h.Head})
		}
		return
	}
	m, err := parseMessage(it.news)
	if err != nil {
		p.count.malformed.Add(1)
		return
	}
	p.count.newsReceived.Add(1)
	switch m.Kind {
	case kindNews:
		p.takeNews(&m)
	case kindHead:
		if p.takeHead(&m) {
			p.enqueue(&m, nil)
		}
	case kindReport:
		p.takeHead(&m)
	case kindGoodbye:
		p.takeGoodbye(&m)
	case kindAcks, kindHeld:
		p.takeAcks(&m)
	}
}

// takeNews asks OnNews, once a message, and passes on what it calls new. The message is remembered first, or it would live for ever; but
// not before its origin is trusted, or a stranger could silence a message by saying it first.
func (p *Pool) takeNews(m *message) {
	if !p.table.heard(m.From) {
		if m.From != p.cfg.Card.NodeID { // our own, come back
			p.count.newsUntrusted.Add(1)
		}
		return
	}
	if !p.seenNews.add(m.id(), p.cfg.Now()) {
		p.count.newsRepeated.Add(1)
		return
	}
	if p.cfg.OnNews(m.From, bytes.Clone(m.Body)) {
		p.count.newsNew.Add(1)
		p.enqueue(m, nil)
	}
}

// takeHead asks OnHead about a head that differs from the one we hold. One that was just refused is not asked about again for a while,
// but then it is: it may have been refused because we were behind. Only a broadcast is passed on: what push/pull brought goes on by
// push/pull, and a report stays where it was sent. It tells whether the head is new and good.
func (p *Pool) takeHead(m *message) bool {
	if !p.table.heard(m.From) {
		if m.From != p.cfg.Card.NodeID {
			p.count.newsUntrusted.Add(1)
		}
		return false
	}
	if bytes.Equal(p.table.head(m.From), m.Body) || !p.seenHeads.add(m.id(), p.cfg.Now()) {
		p.count.newsRepeated.Add(1)
		return false
	}
	if !p.cfg.OnHead(m.From, bytes.Clone(m.Body)) {
		return false
	}
	p.count.newsNew.Add(1)
	p.table.setHead(m.From, m.Body, m.Kind == kindReport)
	return true
}

func (p *Pool) takeGoodbye(m *message) {
	if !p.table.heard(m.From) || !p.seenNews.add(m.id(), p.cfg.Now()) {
		return
	}
	p.table.farewell(m.From, p.cfg.Now())
	p.enqueue(m, nil)
}

// enqueue hands a checked message to memberlist's senders.
func (p *Pool) enqueue(m *message, done chan struct{}) {
	b, err := m.encode()
	if err != nil {
		panic("gossip: enqueue of a message that was never checked: " + err.Error())
	}
	p.queue.QueueBroadcast(&broadcast{msg: b, done: done})
	if p.queue.NumQueued() > maxQueued {
		p.queue.Prune(maxQueued)
	}
}

// broadcast is unique: it neither replaces nor is replaced. Named ones were seen to lose the newest message of a name.
type broadcast struct {
	msg  []byte
	done chan struct{} // closed when it was sent often enough or pruned; may be nil
}

var _ memberlist.UniqueBroadcast = (*broadcast)(nil)

func (b *broadcast) UniqueBroadcast()                      {}
func (b *broadcast) Invalidates(memberlist.Broadcast) bool { return false }
func (b *broadcast) Message() []byte                       { return b.msg }

// Finished is called under the queue's lock.
func (b *broadcast) Finished() {
	if b.done != nil {
		close(b.done)
	}
}
