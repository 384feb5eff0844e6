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
		{name: "one version with two contents", check: register, want: Fail, says: "two contents", tell: func(s *story) {
			s.setPolicy(0, 5, 1, 7, unknown)
			s.setPolicy(0, 5, 1, 8, unknown)
			s.readPolicy(6, 7, 2, 7, false)
			s.readPolicy(6, 7, 2, 8, false)
		}},
	})
}

func TestEnough(t *testing.T) {
	const enough = "enough happened"
	tell(t, []tale{
		{name: "nothing", check: enough, want: Undecided, says: "empty", tell: func(*story) {}},
		{name: "no ban went through", check: enough, want: Undecided, says: "no ban succeeded", tell: func(s *story) {
			s.run.About.Expect = []Kind{KindBan}
			s.unknownBan("a", 0, 5, true)
		}},
		{name: "all denied", check: enough, want: Undecided, says: "no claim was admitted", tell: func(s *story) {
			s.run.About.Expect = []Kind{KindClaim}
			s.claim(0, 1, "n", "c", denied(client.VerdictRateLimited))
		}},
		{name: "not healed", check: enough, want: Undecided, says: "n2 does not answer", tell: func(s *story) {
			s.claim(0, 1, "n", "c", admitted(10, 0))
			s.run.About.Healed, s.run.About.HealDetail = false, "n2 does not answer"
		}},
		{name: "a broken promise outweighs a doubt", check: once, want: Fail, tell: func(s *story) {
			s.run.About.Healed = false
			s.claim(0, 1, "n", "c", denied(client.VerdictReplay))
		}},
	})
}
