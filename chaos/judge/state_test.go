package judge

import (
	"testing"

	"github.com/edgecoder/edgecoder/client"
)

func TestOrder(t *testing.T) {
	const follows = "log follows time"
	tell(t, []tale{
		{name: "one entry serves many at the same time", tell: func(s *story) {
			s.claim(0, 9, "n1", "c1", admitted(10, 1))
			s.claim(1, 8, "n2", "c2", admitted(10, 1))
		}},
		{name: "overlapping answers in any order", tell: func(s *story) {
			s.claim(0, 9, "n1", "c1", admitted(12, 2))
			s.claim(1, 8, "n2", "c2", admitted(10, 1))
		}},
		{name: "a strong read behind a write", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			s.read("a", 6, 9, true, true).Index = 10
		}},
		{name: "a local read may be behind", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			s.read("a", 6, 9, false, false).Index = 3
		}},
		{name: "a later question got an earlier place", check: follows, want: Fail, says: "index 9 was given after index 10", tell: func(s *story) {
			s.claim(0, 5, "n1", "c1", admitted(10, 1))
			s.claim(6, 9, "n2", "c2", admitted(9, 1))
		}},
		{name: "the same place twice", check: follows, want: Fail, says: "index 10 was given after", tell: func(s *story) {
			s.ban("b", 0, 5, 10)
			s.claim(6, 9, "n2", "c2", admitted(10, 1))
		}},
		{name: "a strong read before an acknowledged write", check: follows, want: Fail, says: "reflects index 9", tell: func(s *story) {
			s.ban("b", 0, 5, 10)
			s.read("a", 6, 9, false, true).Index = 9
		}},
		{name: "a strong read before what a local read showed", check: follows, want: Fail, says: "reflects index 9 although 10 had been shown", tell: func(s *story) {
			s.read("a", 0, 5, false, false).Index = 10
			s.read("a", 6, 9, false, true).Index = 9
		}},
		{name: "a policy change behind a strong read", check: follows, want: Fail, says: "reflects index 15 although 20", tell: func(s *story) {
			s.setPolicy(0, 5, 1, 3, func(op *Op) { op.Index = 20 })
			s.read("a", 6, 9, false, true).Index = 15
		}},
		{name: "a policy change asked again tells no new index", tell: func(s *story) {
			s.setPolicy(0, 5, 1, 3, func(op *Op) { op.Index, op.Key = 20, "k" })
			s.setPolicy(6, 9, 1, 3, func(op *Op) { op.Index, op.Key, op.PolicySet.Repeated = 20, "k", true })
		}},
		{name: "the chain runs against time", check: follows, want: Fail, says: "chain length 1 was given after chain length 2", tell: func(s *story) {
			s.event("b", "late", false)
			op := s.ban("a", 0, 5, 10)
			late := *op.Ban
			late.Agent, late.Reason, late.Change = "b", "late", Change{EventID: "event-1", Size: 1, Head: s.events[0].EventHash}
			s.add(10, 15, Op{Kind: KindBan, Index: 11, Ban: &late})
		}},
		{name: "an unknown ban of later stands before", check: follows, want: Fail, says: "chain length 1 was given", tell: func(s *story) {
			s.event("b", "late", false)
			s.ban("a", 0, 5, 10)
			s.add(10, 15, Op{Kind: KindBan, Code: client.CodeUnknownOutcome, Ban: &Ban{Agent: "b", Reason: "late"}})
		}},
		{name: "an unknown ban takes effect late", tell: func(s *story) {
			reason := s.unknownBan("a", 0, 5, false).Ban.Reason
			s.ban("b", 6, 9, 10)
			s.event("a", reason, false)
		}},
		{name: "fresh claims are repeats of nothing", check: follows, want: Fail, says: "index 3 was given after index 3", tell: func(s *story) {
			s.claim(0, 5, "m", "c1", repeated(3, 1))
			s.claim(10, 15, "n", "c2", repeated(3, 1))
		}},
		{name: "certainly not done, and repeated from before it was asked again", check: follows, want: Fail, says: "(P9) a claim that had been refused", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", unavailable)
			s.claimBy("b", 10, 15, "m", admitted(20, 12))
			s.claim(50, 55, "n", "c1", repeated(10, 1))
		}},
		{name: "certainly not done, and done when it was asked again of two leaders", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", unavailable)
			s.claimBy("b", 10, 15, "m", admitted(20, 12))
			s.claim(50, 55, "n", "c1", repeated(21, 52))
		}},
		{name: "unknown, refused, and repeated from the first", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", unknown)
			s.claim(6, 9, "n", "c1", unavailable)
			s.claimBy("b", 10, 15, "m", admitted(20, 12))
			s.claim(50, 55, "n", "c1", repeated(10, 1))
		}},
		{name: "the clock runs back", check: follows, want: Fail, says: "ran back by 5 ms", tell: func(s *story) {
			s.claim(0, 5, "n1", "c1", admitted(10, 6))
			s.claim(6, 9, "n2", "c2", admitted(11, 1))
		}},
		{name: "one entry with two clocks", check: follows, want: Fail, says: "two clocks", tell: func(s *story) {
			s.claim(0, 9, "n1", "c1", admitted(10, 6))
			s.claim(0, 9, "n2", "c2", admitted(10, 7))
		}},
	})
}

// seen adds a status of a node.
func (s *story) seen(node string, term uint64, state string, marks ...client.Mark) {
	s.add(0, 1, Op{Kind: KindStatus, Node: node, Status: &Status{NodeID: "id-" + node, State: state, Term: term, Digests: marks}})
}

func TestDigests(t *testing.T) {
	const agree = "digests agree"
	tell(t, []tale{
		{name: "the same at the same mark", tell: func(s *story) {
			s.seen("n1", 1, "leader", client.Mark{Index: 5, Digest: "x"}, client.Mark{Index: 9, Digest: "y"})
			s.seen("n2", 1, "follower", client.Mark{Index: 5, Digest: "x"})
		}},
		{name: "another at the same mark", check: agree, want: Fail, says: "at mark 5 n1 has digest x, n2 has z", tell: func(s *story) {
			s.seen("n1", 1, "leader", client.Mark{Index: 5, Digest: "x"})
			s.seen("n2", 1, "follower", client.Mark{Index: 5, Digest: "z"})
		}},
		{name: "a node disagrees with itself", check: agree, want: Fail, says: "at mark 5", tell: func(s *story) {
			s.seen("n1", 1, "leader", client.Mark{Index: 5, Digest: "x"})
			s.seen("n1", 1, "leader", client.Mark{Index: 5, Digest: "z"})
		}},
		{name: "nothing in common", check: agree, want: Undecided, says: "no mark is shared", tell: func(s *story) {
			s.finals()
			s.run.Finals[1].Status.Digests[0].Index = 101
		}},
	})
}

func TestLeaders(t *testing.T) {
	const one = "one leader a term"
	tell(t, []tale{
		{name: "one after the other", tell: func(s *story) {
			s.seen("n1", 1, "leader")
			s.seen("n2", 2, "leader")
			s.seen("n1", 2, "follower")
		}},
		{name: "two in one term", check: one, want: Fail, says: "n1 and n2 both led in term 3", tell: func(s *story) {
			s.seen("n1", 3, "leader")
			s.seen("n2", 3, "leader")
		}},
	})
}

func TestPolicy(t *testing.T) {
	const register = "policy is one register"
	conflict := func(op *Op) { op.Code, op.Outcome = client.CodeConflict, Refused }
	tell(t, []tale{
		{name: "set and read", tell: func(s *story) {
			s.setPolicy(0, 5, 1, 7, nil)
			s.readPolicy(6, 7, 2, 7, true)
			s.readPolicy(8, 9, 1, 3, false) // a stale replica
		}},
		{name: "of two at once one wins", tell: func(s *story) {
			s.setPolicy(0, 9, 1, 7, nil)
			s.setPolicy(1, 8, 1, 8, conflict)
			s.readPolicy(10, 11, 2, 7, true)
		}},
		{name: "an unknown change took effect late", tell: func(s *story) {
			s.setPolicy(0, 5, 1, 7, unknown)
			s.readPolicy(6, 7, 1, 3, true)
			s.setPolicy(8, 9, 1, 8, conflict)
			s.readPolicy(10, 11, 2, 7, true)
		}},
		{name: "both won", check: register, want: Fail, says: "no order", tell: func(s *story) {
			s.setPolicy(0, 9, 1, 7, nil)
			s.setPolicy(1, 8, 1, 8, nil)
		}},
		{name: "a change was lost", check: register, want: Fail, says: "no order", tell: func(s *story) {
			s.setPolicy(0, 5, 1, 7, nil)
			s.readPolicy(6, 7, 1, 3, true)
		}},
		{name: "a conflict with nobody", check: register, want: Fail, says: "no order", tell: func(s *story) { s.setPolicy(0, 5, 1, 7, conflict) }},
		{name: "the version did not move", check: register, want: Fail, says: "no order", tell: func(s *story) {
			s.setPolicy(0, 5, 1, 7, func(op *Op) { op.PolicySet.Version = 1 })
		}},
		{name: "a local read shows what nobody proposed", check: register, want: Fail, says: "nobody proposed", tell: func(s *story) { s.readPolicy(0, 1, 1, 99, false) }},
		{name: "a replica that is behind shows what stood before the run", tell: func(s *story) {
			s.run.About.Policy.Version = 2
			s.readPolicy(0, 1, 1, 99, false)
		}},
		{name: "one version with two contents", check: register, want: Fail, says: "two contents", tell: func(s *story) {
			s.setPolicy(0, 5, 1, 7, unknown)
			s.setPolicy(0, 5, 1, 8, unknown)
			s.readPolicy(6, 7, 2, 7, false)
			s.readPolicy(6, 7, 2, 8, false)
		}},
	})
}

func TestEpochs(t *testing.T) {
	const one = "one epoch"
	seen := func(s *story, node string, epoch, applied uint64) {
		s.seen(node, 1, "follower")
		st := s.run.Ops[len(s.run.Ops)-1].Status
		st.Epoch, st.AppliedIndex = epoch, applied
	}
	again := func(what string) func(*story) {
		return func(s *story) {
			seen(s, "n1", 1, 5)
			seen(s, "n2", 2, 9)
			s.finals()
			for i := range s.run.Finals {
				s.run.Finals[i].Status.Epoch = 2
			}
			s.run.Timeline = []Event{{What: what}}
		}
	}
	tell(t, []tale{
		{name: "one", tell: func(s *story) {
			seen(s, "n1", 0, 5)
			seen(s, "n2", 0, 9)
		}},
		{name: "a joiner has none yet", tell: func(s *story) {
			seen(s, "n2", 0, 0)
			seen(s, "n1", 1, 5)
			s.finals()
			for i := range s.run.Finals {
				s.run.Finals[i].Status.Epoch = 1
			}
		}},
		{name: "the scenario recovered", tell: again("recover")},
		{name: "nobody recovered", check: one, want: Fail, says: "n2 shows epoch 2, n1 had shown 1", tell: again("kill")},
		{name: "a new epoch hides other digests", check: one, want: Fail, says: "n2 shows epoch 7", tell: func(s *story) {
			s.seen("n1", 1, "leader", client.Mark{Index: 5, Digest: "x"})
			s.seen("n2", 1, "follower", client.Mark{Index: 5, Digest: "z"})
			s.run.Ops[1].Status.Epoch = 7
		}},
		{name: "checkpoints of two origins", check: "checkpoints consistent", want: Fail, says: "the first one seen was of", tell: func(s *story) {
			s.add(0, 1, Op{Kind: KindCheckpoint, Checkpoint: &Checkpoint{Origin: "c/1", Root: hexSum("")}})
			s.add(2, 3, Op{Kind: KindCheckpoint, Checkpoint: &Checkpoint{Origin: "c/2", Root: hexSum("")}})
		}},
	})
}

// TestProposals holds that what was refused began nothing.
func TestProposals(t *testing.T) {
	const hold = "bans hold"
	attempts := func(inOrder bool, first func(*Op), asks int64) func(*story) {
		return func(s *story) {
			op := s.ban("a", 100, 105, 10)
			op.Key = "k"
			earlier := Op{Kind: KindBan, Key: "k", Ban: &Ban{Agent: "a", Reason: op.Ban.Reason}}
			first(&earlier)
			s.add(0, 5, earlier)
			if inOrder {
				s.run.Ops[0], s.run.Ops[1] = s.run.Ops[1], s.run.Ops[0]
			}
			s.claim(asks, asks+5, "n", "c1", denied(client.VerdictBlacklisted))
		}
	}
	tell(t, []tale{
		{name: "unknown, then done: it may have held in between", tell: attempts(true, unknown, 50)},
		{name: "refused, then done: it holds from the second attempt on", tell: attempts(true, unavailable, 103)},
		{name: "refused, then done: it held in between", check: hold, want: Fail, says: "called banned although", tell: attempts(true, unavailable, 50)},
		{name: "refused, then done, told in another order", check: hold, want: Fail, says: "called banned although", tell: attempts(false, unavailable, 50)},
		{name: "an unknown attempt of later does not begin earlier", check: hold, want: Fail, says: "called banned although", tell: func(s *story) {
			attempts(false, unavailable, 50)(s)
			s.add(60, 65, Op{Kind: KindBan, Key: "k", Code: client.CodeUnknownOutcome, Ban: &Ban{Agent: "a", Reason: s.run.Ops[0].Ban.Reason}})
		}},
	})
}
