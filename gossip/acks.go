package gossip

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// AckID is the short name of a key that a member says it holds: the first bytes of a hash that its users agree on.
type AckID [8]byte

func (id AckID) String() string { return hex.EncodeToString(id[:]) }

// ErrAck is in the chain of the error for more acknowledgements than fit.
var ErrAck = errors.New("gossip: acknowledgements")

// Acknowledge tells every member which keys we hold now: all of them, in place of what we said before. It is said again at each rejoin
// round, so that who missed it hears it. Like a member's state it is a claim that only the pool key vouches for. Servers from
// before this message take it for malformed, so say nothing until all know it.
func (p *Pool) Acknowledge(ids []AckID) error {
	if err := p.mayAcknowledge(ids); err != nil {
		return err
	}
	p.table.setAcks(p.cfg.Card.NodeID, slices.Clone(ids), max(p.cfg.Now().UnixMilli(), 0))
	p.sayAcks()
	return nil
}

// AcknowledgeTo is Acknowledge for those who are many: it tells the named members alone, one datagram each, best effort. Nobody passes it on, and nothing
// repeats it: a thousand acknowledgements that go to everybody are more than gossip can carry.
func (p *Pool) AcknowledgeTo(ids []AckID, to ...string) error {
	if err := p.mayAcknowledge(ids); err != nil {
		return err
	}
	return p.sendTo(p.message(kindHeld, encodeAcks(ids)), to)
}

func (p *Pool) mayAcknowledge(ids []AckID) error {
	if len(ids) > maxAcks {
		return fmt.Errorf("%w: %d keys, at most %d", ErrAck, len(ids), maxAcks)
	}
	if p.state.Load() != running {
		return ErrClosed
	}
	return nil
}

// sayAcks repeats our acknowledgements, if there are any.
func (p *Pool) sayAcks() {
	ids := p.table.acks(p.cfg.Card.NodeID)
	if ids == nil || p.state.Load() != running {
		return
	}
	p.enqueue(p.message(kindAcks, encodeAcks(ids)), nil)
}

// takeAcks keeps what a member says it holds, unless that is older than what it said before, and passes it on if it was for all.
func (p *Pool) takeAcks(m *message) {
	if !p.table.heard(m.From) || !p.seenNews.add(m.id(), p.cfg.Now()) {
		return
	}
	ids, err := parseAcks(m.Body)
	if err != nil {
		p.count.malformed.Add(1)
		return
	}
	if p.table.setAcks(m.From, ids, m.AtMs) && m.Kind == kindAcks {
		p.enqueue(m, nil)
	}
}

func encodeAcks(ids []AckID) []byte {
	out := []byte{acksVersion}
	for _, id := range ids {
		out = append(out, id[:]...)
	}
	return out
}

// acksVersion begins the body, so that none is empty.
const acksVersion = 1

func parseAcks(b []byte) ([]AckID, error) {
	var id AckID
	if len(b) == 0 || b[0] != acksVersion || (len(b)-1)%len(id) != 0 {
		return nil, fmt.Errorf("%w: acknowledgements", errMalformed)
	}
	out := []AckID{}
	for r := bytes.NewReader(b[1:]); r.Len() > 0; {
		_, _ = r.Read(id[:])
		out = append(out, id)
	}
	return out, nil
}

// setAcks notes what a member holds and tells whether that was newer than what was known.
func (t *table) setAcks(id string, acks []AckID, atMs int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.lines[id]
	if e == nil || (e.acks != nil && atMs < e.acksMs) {
		return false
	}
	e.acks, e.acksMs = acks, atMs
	return true
}

// acks returns what a member said it holds, nil if it said nothing.
func (t *table) acks(id string) []AckID {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if e := t.lines[id]; e != nil {
		return e.acks
	}
	return nil
}
