package judge

import (
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// list adds a list of all bans.
func (s *story) list(start, end int64, index, size uint64, strong bool, agents ...string) *Op {
	head := genesis
	if size > 0 {
		head = s.events[size-1].EventHash
	}
	return s.add(start, end, Op{Kind: KindBansRead, Index: index, Strong: strong, BansRead: &BansRead{Size: size, Head: head, Agents: agents, Complete: true}})
}

func TestReads(t *testing.T) {
	const match, follows, hold = "reads match the log", "log follows time", "bans hold"
	lifted := func(s *story) {
		s.ban("a", 0, 5, 10)
		s.lift("a", 6, 8, 20)
	}
	named := func(op *Op, event string, seq uint64) { op.BanRead.EventID, op.BanRead.Seq = event, seq }
	tell(t, []tale{
		{name: "the past, by its index", tell: func(s *story) {
			lifted(s)
			s.read("a", 10, 11, false, false).Index = 9
			s.read("a", 10, 11, true, false).Index = 10
			s.read("a", 10, 11, true, false).Index = 19
			s.read("a", 10, 11, false, false).Index = 20
			named(s.read("a", 10, 11, true, false), "event-1", 1)
		}},
		{name: "an unknown ban may lie before or behind", tell: func(s *story) {
			s.unknownBan("a", 0, 5, true)
			s.ban("b", 6, 7, 20)
			s.read("a", 8, 9, false, false).Index = 10
			s.read("a", 8, 9, true, false).Index = 11
		}},
		{name: "behind a later one it is certain", check: match, want: Fail, says: "1 to 1 events", tell: func(s *story) {
			s.unknownBan("a", 0, 5, true)
			s.list(6, 7, 10, 1, false, "a")
			s.ban("b", 6, 7, 20)
			s.read("a", 8, 9, false, false).Index = 10
		}},
		{name: "a replica misses a ban of its past", check: match, want: Fail, says: "none that may be the newest on a", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			s.read("a", 6, 9, false, false).Index = 50
		}},
		{name: "a replica shows a ban that was lifted in its past", check: match, want: Fail, says: "none that may be the newest on a", tell: func(s *story) {
			lifted(s)
			s.read("a", 10, 12, true, false).Index = 50
		}},
		{name: "a replica shows a ban of its future", check: match, want: Fail, says: "none that may be", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			s.read("a", 6, 9, true, false).Index = 9
		}},
		{name: "a ban that has run out by the log's own clock", check: match, want: Fail, says: "none that may be", tell: func(s *story) {
			s.banUntil("a", 0, 5, 10, 2_000)
			s.claimBy("b", 3_000, 3_005, "m", admitted(12, 3_000))
			s.read("a", 3_010, 3_015, true, false).Index = 12
		}},
		{name: "a short ban is never shown", check: hold, want: Fail, says: "no order", tell: func(s *story) {
			s.banUntil("a", 0, 5, 10, 4_500)
			s.read("a", 6, 9, false, true).Index = 12
			s.claimBy("b", 10, 15, "m", admitted(13, 11))
		}},
		{name: "the event of another", check: match, want: Fail, says: "the chain has event-1 on a there", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			named(s.read("a", 6, 9, true, true), "bogus", 1)
		}},
		{name: "an event behind the end", check: match, want: Fail, says: "it names event 999", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			named(s.read("a", 6, 9, true, true), "bogus", 999)
		}},
		{name: "an event that was not the newest", check: match, want: Fail, says: "none that may be the newest", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			s.ban("a", 6, 8, 11)
			op := s.read("a", 9, 10, true, false)
			named(op, "event-1", 1)
			op.Index = 11
		}},
		{name: "a strong read names an older event", check: hold, want: Fail, says: "no order", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			s.ban("a", 6, 8, 11)
			named(s.read("a", 9, 10, true, true), "event-1", 1)
		}},
		{name: "the list gets shorter along the log", check: match, want: Fail, says: "at index 12 the chain had 1 events, at index 13 it has 0", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			s.list(6, 7, 12, 1, false, "a").Node = "n2"
			s.list(8, 9, 13, 0, false).Node = "n2"
		}},
		{name: "two lengths at one index", check: match, want: Fail, says: "(P4) at index 12", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			s.ban("b", 0, 5, 12)
			s.list(6, 7, 12, 1, false, "a")
		}},
		{name: "a local list may be old", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			s.list(6, 9, 7, 0, false)
		}},
		{name: "a strong list may not", check: follows, want: Fail, says: "a strong read reflects chain length 0 although 1", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			s.list(6, 9, 0, 0, true)
		}},
		{name: "a strong list is older than a local one", check: follows, want: Fail, says: "a strong read reflects chain length 0", tell: func(s *story) {
			s.unknownBan("a", 0, 5, true)
			s.list(6, 9, 0, 1, false, "a")
			s.list(10, 12, 0, 0, true)
		}},
	})
}

func TestContents(t *testing.T) {
	const kept = "records kept"
	asked := func(spoil func(b *Ban, e *crypto.BlacklistEvent)) func(*story) {
		return func(s *story) {
			b := s.ban("a", 0, 5, 10).Ban
			e := &s.events[0]
			b.ReasonCode, b.Evidence, b.Reporter = e.ReasonCode, e.EvidenceHashSHA256, e.ReporterID
			spoil(b, e)
			e.Link(genesis, s.key)
			b.Head = s.head()
		}
	}
	tell(t, []tale{
		{name: "as asked", tell: asked(func(*Ban, *crypto.BlacklistEvent) {})},
		{name: "a permanent ban runs out", check: kept, want: Fail, says: "another expiry", tell: asked(func(_ *Ban, e *crypto.BlacklistEvent) {
			soon := wall0 + 60_000
			e.ExpiresAtMs = &soon
		})},
		{name: "a short ban is for ever", check: kept, want: Fail, says: "another expiry", tell: asked(func(b *Ban, _ *crypto.BlacklistEvent) { b.ExpiresMs = wall0 + 60_000 })},
		{name: "nobody knows whether it was done, but it is another", check: kept, want: Fail, says: "another expiry", tell: func(s *story) {
			s.unknownBan("a", 0, 5, true).Ban.ExpiresMs = wall0 + 60_000
		}},
		{name: "another reason code", check: kept, want: Fail, says: "another reason code", tell: asked(func(_ *Ban, e *crypto.BlacklistEvent) { e.ReasonCode = "policy_violation" })},
		{name: "other evidence", check: kept, want: Fail, says: "another evidence", tell: asked(func(_ *Ban, e *crypto.BlacklistEvent) { e.EvidenceHashSHA256 = hexSum("y") })},
		{name: "another reporter", check: kept, want: Fail, says: "another reporter than", tell: asked(func(_ *Ban, e *crypto.BlacklistEvent) { e.ReporterID = "somebody" })},
		{name: "the reporter's signature was dropped", check: kept, want: Fail, says: "another reporter's signature", tell: asked(func(b *Ban, _ *crypto.BlacklistEvent) { b.Signature = "sig" })},
		{name: "the reporter's signature was not verified", check: kept, want: Fail, says: "another reporter's signature", tell: asked(func(b *Ban, e *crypto.BlacklistEvent) { b.Signature, e.ReporterSignature = "sig", "sig" })},
		{name: "a lift for another reason", check: kept, want: Fail, says: "another reason code", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			op := s.lift("a", 6, 8, 11)
			s.events[1].ReasonCode = "policy_violation"
			s.events[1].Link(s.events[0].EventHash, s.key)
			op.Lift.Head = s.head()
		}},
		{name: "the one node that gave its chain had applied it", check: kept, want: Fail, says: "acknowledged, but the final chain", tell: func(s *story) {
			s.ban("a", 0, 5, 10).Ban.Head = ""
			s.events = nil
			s.finals()
			s.run.Finals[1].Audit, s.run.About.Healed = nil, false
			s.run.Finals[0].Status.AppliedIndex = 10
		}},
		{name: "one node gave no chain", check: kept, want: Undecided, says: "not every node gave its chain", tell: func(s *story) {
			op := s.ban("a", 0, 5, 10)
			op.Ban.Head = ""
			s.events = nil
			s.finals()
			s.run.Finals[1].Audit = nil
			s.run.About.Healed = false
		}},
	})
}

// TestKeys holds that a key which one node alone knows proves nothing.
func TestKeys(t *testing.T) {
	const verifies = "chain verifies"
	mallory, err := crypto.GenerateKey(&counter{99})
	if err != nil {
		t.Fatal(err)
	}
	pub := crypto.PublicOf(mallory)
	forged := func(known ...int) func(s *story) {
		return func(s *story) {
			s.key, s.run.About.Nodes = mallory, []string{"n1", "n2", "n3"}
			s.ban("a", 0, 5, 10)
			s.finals()
			for i := range s.run.Finals {
				s.run.Finals[i].Peers = nil
			}
			s.run.Finals[0].Identity.PeerID, s.run.Finals[0].Identity.PublicKeyPEM = pub.CoordinatorID(), pub.PEM()
			for _, i := range known {
				s.run.Finals[i].Peers = append(s.run.Finals[i].Peers, peerOf(pub))
			}
		}
	}
	tell(t, []tale{
		{name: "a majority knows it", tell: forged(0, 2)},
		{name: "its owner alone", check: verifies, want: Fail, says: "missing_coordinator_key", tell: forged(0)},
		{name: "its owner's identity alone", check: verifies, want: Fail, says: "missing_coordinator_key", tell: forged()},
	})
}
