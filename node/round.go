package node

import (
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/fsm"
)

// roundOf returns what is known of one of this node's own marks: the newest, by
// which a replica that differs is found soonest, or, every other time, the newest
// that most voters told of. A replica that is always behind never has the newest,
// and would serve reads from a state that nobody judges.
func (n *Node) roundOf(common bool) *fsm.Round {
	var marks []fsm.Mark
	var level uint32
	n.machine.Read(func(s *fsm.State) { marks, level = s.Marks(), s.Meta().Level })
	if len(marks) == 0 || level < fsm.LevelRecovery {
		return nil
	}
	servers := n.servers()
	heard := map[string][]fsm.Mark{n.id.NodeID: marks}
	for _, s := range servers {
		id := string(s.ID)
		if h, known := n.health.get(id); known && id != n.id.NodeID && time.Since(h.at) < pingFresh {
			heard[id] = h.marks
		}
	}
	if common {
		return commonRound(marks, servers, heard)
	}
	return roundAt(marks[len(marks)-1], servers, heard)
}

// commonRound returns the round of the newest mark that most voters told of.
func commonRound(marks []fsm.Mark, servers []raft.Server, heard map[string][]fsm.Mark) (best *fsm.Round) {
	most := -1
	for i := len(marks) - 1; i >= 0; i-- {
		r, votes := roundAt(marks[i], servers, heard), 0
		for _, rep := range r.Reports {
			if rep.Votes {
				votes++
			}
		}
		if votes > most {
			best, most = r, votes
		}
	}
	return best
}

// roundAt returns what was heard of one mark.
func roundAt(mark fsm.Mark, servers []raft.Server, heard map[string][]fsm.Mark) *fsm.Round {
	r := &fsm.Round{Mark: mark.Index, Voters: len(voters(servers))}
	for _, s := range servers {
		if m := markOf(heard[string(s.ID)], mark.Index); m != nil {
			r.Reports = append(r.Reports, fsm.Report{NodeID: string(s.ID), Votes: s.Suffrage == raft.Voter, Digest: m.Digest})
		}
	}
	return r
}
