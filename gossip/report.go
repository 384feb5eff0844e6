package gossip

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/hashicorp/memberlist"
)

// Report sends our own signed head, 1 to MaxHead bytes, to the named members alone: one datagram each, best effort. They take it by OnHead
// and keep it in Member.Head like a head that was published, but nobody passes it on. It is for those who are many: a thousand heads
// that go to everybody, each time that all of them move, are more than gossip can carry.
//
// A member that is not live is passed over; what could not be sent is in the error.
func (p *Pool) Report(head []byte, to ...string) error {
	if len(head) == 0 || len(head) > MaxHead {
		return fmt.Errorf("%w: head of %d bytes, must be 1 to %d", ErrTooLarge, len(head), MaxHead)
	}
	if p.state.Load() != running {
		return ErrClosed
	}
	p.table.setHead(p.cfg.Card.NodeID, bytes.Clone(head), true)
	return p.sendTo(p.message(kindReport, head), to)
}

// sendTo sends a message to the named members alone.
func (p *Pool) sendTo(m *message, to []string) error {
	text, err := m.encode()
	if err != nil {
		return err
	}
	var faults []error
	for _, id := range to {
		addr := p.table.addressOf(id)
		if addr == "" {
			continue
		}
		if err := p.ml.SendToAddress(memberlist.Address{Addr: addr, Name: id}, text); err != nil {
			faults = append(faults, fmt.Errorf("gossip: report to %s: %w", id, err))
		}
	}
	return errors.Join(faults...)
}
