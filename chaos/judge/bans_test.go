package judge

import (
	"testing"

	"github.com/edgecoder/edgecoder/client"
)

func TestBans(t *testing.T) {
	const hold = "bans hold"
	tell(t, []tale{
		{name: "banned, refused, lifted, admitted", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			s.claim(6, 9, "n", "c1", denied(client.VerdictBlacklisted))
			s.lift("a", 10, 12, 11)
			s.claim(13, 15, "n", "c1", admitted(12, 14))
		}},
		{name: "admitted while the ban is under way", tell: func(s *story) {
			s.claim(0, 9, "n", "c1", admitted(9, 1))
			s.ban("a", 1, 8, 10)
		}},
		{name: "admitted while the lift is under way", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			s.claim(10, 20, "n", "c1", admitted(12, 11))
			s.lift("a", 9, 30, 11)
		}},
		{name: "an unknown ban may hold later", tell: func(s *story) {
			s.unknownBan("a", 0, 5, true)
			s.claim(6, 9, "n", "c1", admitted(12, 7))
			s.claim(20, 22, "n2", "c2", denied(client.VerdictBlacklisted))
		}},
		{name: "an unknown ban without a chain to tell", check: "enough happened", want: Undecided, says: "no final audit", tell: func(s *story) {
			s.unknownBan("a", 0, 5, true)
			s.claim(6, 9, "n", "c1", denied(client.VerdictBlacklisted))
			s.run.Finals = []Final{}
		}},
		{name: "an expiring ban runs out", tell: func(s *story) {
			s.banUntil("a", 0, 5, 10, 1000)
			s.claim(6, 9, "n", "c1", denied(client.VerdictBlacklisted))
			s.claim(1100, 1110, "n", "c2", admitted(11, 1001))
		}},
		{name: "a local read may be stale", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			s.read("a", 6, 9, false, false)
		}},
		{name: "no ban to lift", tell: func(s *story) {
			s.add(0, 5, Op{Kind: KindLift, Code: client.CodeNotFound, Lift: &Lift{Agent: "a", Reason: "x"}})
		}},
		{name: "a replay says nothing about the ban", tell: func(s *story) {
			s.claim(0, 2, "n", "c1", admitted(9, 1))
			s.ban("a", 3, 5, 10)
			s.claim(6, 9, "n", "c2", denied(client.VerdictReplay))
		}},
		{name: "a ban asked twice under one key", tell: func(s *story) {
			op := s.ban("a", 0, 5, 10)
			op.Key = "k"
			again := *op.Ban
			again.Change = Change{EventID: again.EventID, Repeated: true}
			s.add(6, 9, Op{Kind: KindBan, Key: "k", Index: 10, Ban: &again})
		}},
		{name: "admitted after an acknowledged ban", check: hold, want: Fail, says: "a was admitted although", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			s.claim(6, 9, "n", "c1", admitted(11, 7))
		}},
		{name: "a retry after an acknowledged ban", check: hold, want: Fail, says: "a was admitted although", tell: func(s *story) {
			s.claim(0, 1, "n", "c1", admitted(9, 0))
			s.ban("a", 2, 5, 10)
			s.claim(6, 9, "n", "c1", repeated(9, 0))
		}},
		{name: "an expired ban does not hold, a valid one does", check: hold, want: Fail, says: "although", tell: func(s *story) {
			s.banUntil("a", 0, 5, 10, 1000)
			s.claim(1100, 1110, "n", "c2", admitted(11, 1000))
		}},
		{name: "banned by nobody", check: hold, want: Fail, says: "called banned although", tell: func(s *story) {
			s.claim(6, 9, "n", "c1", denied(client.VerdictBlacklisted))
		}},
		{name: "banned after a lift", check: hold, want: Fail, says: "called banned although", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			s.lift("a", 6, 8, 11)
			s.claim(9, 10, "n", "c0", admitted(12, 9))
			s.claim(11, 12, "n2", "c1", denied(client.VerdictBlacklisted))
		}},
		{name: "a strong read is stale", check: hold, want: Fail, says: "no order", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			s.read("a", 6, 9, false, true)
		}},
		{name: "a lift finds no ban although one is in force", check: hold, want: Fail, tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			s.add(6, 9, Op{Kind: KindLift, Code: client.CodeNotFound, Lift: &Lift{Agent: "a", Reason: "x"}})
		}},
		{name: "a local read invents a ban", check: "reads match the log", want: Fail, says: "before anybody asked", tell: func(s *story) {
			s.read("a", 0, 4, true, false)
			s.ban("a", 5, 6, 10)
		}},
	})
}

func TestBanLists(t *testing.T) {
	const listed = "bans listed as the chain says"
	list := func(size uint64, agents ...string) func(s *story) {
		return func(s *story) {
			s.ban("a", 0, 5, 10)
			s.ban("b", 6, 7, 11)
			s.lift("a", 8, 9, 12)
			head := genesis
			if size > 0 {
				head = s.events[size-1].EventHash
			}
			s.add(20, 21, Op{Kind: KindBansRead, BansRead: &BansRead{Size: size, Head: head, Agents: agents, Complete: true}})
		}
	}
	expired := func(strong bool) func(s *story) {
		return func(s *story) {
			s.banUntil("a", 0, 5, 10, 1000)
			s.add(60_000, 60_001, Op{Kind: KindBansRead, Strong: strong, BansRead: &BansRead{Size: 1, Head: s.head(), Agents: []string{"a"}, Complete: true}})
		}
	}
	tell(t, []tale{
		{name: "at each length", tell: func(s *story) {
			list(3, "b")(s)
			for size, agents := range [][]string{{}, {"a"}, {"a", "b"}} {
				head := genesis
				if size > 0 {
					head = s.events[size-1].EventHash
				}
				s.add(30, 31, Op{Kind: KindBansRead, BansRead: &BansRead{Size: uint64(size), Head: head, Agents: agents, Complete: true}})
			}
		}},
		{name: "an expired ban on a replica whose clock stood still", tell: expired(false)},
		{name: "an expired ban in a strong list", check: listed, want: Fail, says: "a is listed", tell: expired(true)},
		{name: "a replica forgot a ban", check: listed, want: Fail, says: "b is not listed", tell: list(3)},
		{name: "a lifted ban came back", check: listed, want: Fail, says: "a is listed as banned", tell: list(3, "a", "b")},
		{name: "a ban of nobody", check: listed, want: Fail, says: "no event on it", tell: list(3, "b", "c")},
	})
}
