package fsm

import "github.com/edgecoder/edgecoder/crypto"

// Round is what replicas said of one mark. The leader puts the round of a mark
// into a later marking tick, so that every replica judges the same reports.
type Round struct {
	Mark    uint64   `cbor:"1,keyasint"` // log index of the mark
	Voters  int      `cbor:"2,keyasint"` // how many vote
	Reports []Report `cbor:"3,keyasint"`
}

// Report is the digest that one replica had at the mark. Non-voters report
// too: they are judged, but do not judge.
type Report struct {
	_      struct{} `cbor:",toarray"`
	NodeID string
	Votes  bool
	Digest crypto.Hash
}

// Divergence is a replica whose state differs from the majority's. While one
// stands it must not serve. A row with an empty NodeID says that no digest has a
// majority: then nobody may.
type Divergence struct {
	NodeID   string      `cbor:"1,keyasint"`
	Mark     uint64      `cbor:"2,keyasint"`
	Digest   crypto.Hash `cbor:"3,keyasint"` // its own; zero when nobody has a majority
	Majority crypto.Hash `cbor:"4,keyasint"` // the others'; zero when nobody has a majority
}

// judgeRound changes the rows of the members that reported: what a majority of
// voters says is the truth, who says otherwise has diverged. Fewer reports
// than a majority that all agree decide nothing; reports that differ, none with
// a majority behind it, stop all, since nobody knows who is right. A mark that
// is none, of this entry or later, is no round.
func (s *State) judgeRound(r Round) {
	if r.Voters < 1 || len(r.Reports) > MaxCoordinators || r.Mark >= s.meta.v.Index {
		return
	}
	heard := s.heard(r.Reports)
	votes, cast := map[crypto.Hash]int{}, 0
	for _, rep := range heard {
		if rep.Votes && rep.Digest != (crypto.Hash{}) {
			votes[rep.Digest]++
			cast++
		}
	}
	for digest, n := range votes {
		if n > max(r.Voters, cast)/2 { // one at most, or the order of a map would decide
			s.settle(r, heard, digest)
			return
		}
	}
	if len(votes) > 1 && s.newest("", r.Mark) {
		s.divergent.put("", Divergence{Mark: r.Mark})
	}
}

// heard returns one report of each member. Who contradicts itself has the zero
// digest: it agrees with nobody and its vote counts for nothing.
func (s *State) heard(reports []Report) map[string]Report {
	out := map[string]Report{}
	for _, rep := range reports {
		if _, member := s.coordinators.get(rep.NodeID); !member {
			continue
		}
		if have, twice := out[rep.NodeID]; twice {
			rep.Votes = rep.Votes || have.Votes
			if rep.Digest != have.Digest {
				rep.Digest = crypto.Hash{}
			}
		}
		out[rep.NodeID] = rep
	}
	return out
}

func (s *State) settle(r Round, heard map[string]Report, majority crypto.Hash) {
	if s.newest("", r.Mark) {
		s.divergent.remove("")
	}
	for id, rep := range heard {
		switch {
		case !s.newest(id, r.Mark):
		case rep.Digest == majority:
			s.divergent.remove(id)
		default:
			s.divergent.put(id, Divergence{NodeID: id, Mark: r.Mark, Digest: rep.Digest, Majority: majority})
		}
	}
}

// newest tells whether a mark is as new as the row of a node: a round that
// comes late says nothing against a newer one.
func (s *State) newest(nodeID string, mark uint64) bool {
	d, ok := s.divergent.get(nodeID)
	return !ok || d.Mark <= mark
}

// Diverged tells whether a node must not serve, and why: its own divergence,
// or that no digest has a majority.
func (s *State) Diverged(nodeID string) (Divergence, bool) {
	if d, ok := s.divergent.get(nodeID); ok {
		return d, true
	}
	return s.divergent.get("")
}

// Divergences returns all rows in the order of node ids.
func (s *State) Divergences() []Divergence { return s.divergent.values() }
