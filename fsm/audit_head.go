package fsm

import (
	"errors"
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

// A node's audit log is its own, and whoever may write its directory could cut
// off its end or make it anew. So the cluster remembers where each log ended: a
// log that does not hold that line any more has lost something. What is known of
// a node is that node's own word at the time, so one that lies does so about
// itself alone; and it is never lowered without a trace.

// AuditPlace is a line of an audit log.
type AuditPlace struct {
	_    struct{} `cbor:",toarray"`
	Seq  uint64   // 0: before the first line
	Hash crypto.Hash
}

// AuditReport is what a node says of the end of its log. The leader puts what it
// heard into marking ticks (from LevelClients on).
type AuditReport struct {
	_      struct{} `cbor:",toarray"`
	NodeID string
	After  AuditPlace // what the cluster knew when the node looked; a report after another place is passed over
	Lost   bool       // the log does not hold that line
	Head   AuditPlace // its last durable line
}

// AuditHead is where the audit log of a member ended when that was last told.
type AuditHead struct {
	NodeID string      `cbor:"1,keyasint"`
	Seq    uint64      `cbor:"2,keyasint"`
	Hash   crypto.Hash `cbor:"3,keyasint"`
	AtMs   int64       `cbor:"4,keyasint"`           // the cluster clock then
	Lost   []LostHead  `cbor:"5,keyasint,omitempty"` // ends that the log does not hold any more: the first ones, and the newest
	Losses uint64      `cbor:"6,keyasint,omitempty"` // how often it lost its end
}

// LostHead is an end that an audit log lost.
type LostHead struct {
	_    struct{} `cbor:",toarray"`
	Seq  uint64
	Hash crypto.Hash
	AtMs int64 // when that was found, by the cluster clock
}

const (
	// maxLostHeads bounds the lost ends that are kept of a node: more than ever
	// happen by accident.
	maxLostHeads = 8
	// maxAuditSeq keeps the numbers exact in JSON.
	maxAuditSeq = 1<<53 - 1
)

// Place returns the line that the head is.
func (h AuditHead) Place() AuditPlace { return AuditPlace{Seq: h.Seq, Hash: h.Hash} }

// hearAuditHeads takes note of where the members' logs end.
func (s *State) hearAuditHeads(reports []AuditReport) {
	if s.meta.v.Level < LevelClients || len(reports) > MaxCoordinators {
		return
	}
	for _, r := range reports {
		_, member := s.coordinators.get(r.NodeID)
		have, known := s.auditHeads.get(r.NodeID)
		lost := r.Lost && known
		switch {
		case !member, r.After != have.Place(), r.Head.Seq < 1, r.Head.Seq > maxAuditSeq:
			continue
		case !lost && r.Head.Seq <= have.Seq: // nothing new, or less than what is known
			continue
		}
		next := AuditHead{NodeID: r.NodeID, Seq: r.Head.Seq, Hash: r.Head.Hash, AtMs: s.meta.v.ClockMs, Lost: have.Lost, Losses: have.Losses}
		if lost {
			next.Losses++
			next.Lost = slices.Clone(have.Lost[:min(len(have.Lost), maxLostHeads-1)]) // rows are never changed in place
			next.Lost = append(next.Lost, LostHead{Seq: have.Seq, Hash: have.Hash, AtMs: s.meta.v.ClockMs})
		}
		s.auditHeads.put(r.NodeID, next)
	}
}

// AuditHead returns what is known of the end of a member's audit log.
func (s *State) AuditHead(nodeID string) (AuditHead, bool) { return s.auditHeads.get(nodeID) }

// AuditHeads returns what is known of all members, in the order of their ids.
func (s *State) AuditHeads() []AuditHead { return s.auditHeads.values() }

func (s *State) auditHeadFault(key string, h AuditHead) error {
	if _, member := s.coordinators.get(key); !member {
		return errors.New("it is no member")
	}
	if err := rowID(key, h.NodeID); err != nil {
		return err
	}
	return h.fault()
}

func (h AuditHead) fault() error {
	switch {
	case h.Seq < 1 || h.Seq > maxAuditSeq:
		return fmt.Errorf("line %d of an audit log, outside 1..%d", h.Seq, uint64(maxAuditSeq))
	case len(h.Lost) > maxLostHeads || uint64(len(h.Lost)) > h.Losses:
		return fmt.Errorf("%d lost ends of %d, at most %d", len(h.Lost), h.Losses, maxLostHeads)
	}
	for _, l := range h.Lost {
		if l.Seq < 1 || l.Seq > maxAuditSeq {
			return fmt.Errorf("line %d of an audit log, outside 1..%d", l.Seq, uint64(maxAuditSeq))
		}
		if err := timeFault(MaxTimeMs, "a loss", l.AtMs); err != nil {
			return err
		}
	}
	return timeFault(MaxTimeMs, "the head", h.AtMs)
}
