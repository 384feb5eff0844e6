package judge

import (
	"encoding/json"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/golden"
)

func TestRecords(t *testing.T) {
	const kept = "records kept"
	tell(t, []tale{
		{name: "an unknown one may be there", tell: func(s *story) { s.unknownBan("a", 0, 5, true) }},
		{name: "an unknown one may be missing", tell: func(s *story) { s.unknownBan("a", 0, 5, false) }},
		{name: "a retry settles an unknown one", tell: func(s *story) {
			op := s.unknownBan("a", 0, 5, true)
			op.Key = "k"
			again := *op.Ban
			again.Change = Change{EventID: "event-1", Repeated: true}
			s.add(6, 9, Op{Kind: KindBan, Key: "k", Ban: &again})
		}},
		{name: "from before the run", tell: func(s *story) {
			s.event("z", "old", false)
			s.run.About.ChainSize = 1
			s.ban("a", 0, 5, 10)
		}},
		{name: "lost", check: kept, want: Fail, says: "acknowledged, but the final chain", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			s.events = nil
		}},
		{name: "asked for by nobody", check: kept, want: Fail, says: "asked for by nobody", tell: func(s *story) { s.event("a", "whim", false) }},
		{name: "twice", check: kept, want: Fail, says: "2 times", tell: func(s *story) {
			op := s.ban("a", 0, 5, 10)
			s.event("a", op.Ban.Reason, false)
		}},
		{name: "refused, yet done", check: kept, want: Fail, says: "certainly not done", tell: func(s *story) {
			op := s.unknownBan("a", 0, 5, true)
			op.Outcome, op.Code = Refused, client.CodeUnavailable
		}},
		{name: "at another place than answered", check: kept, want: Fail, says: "it stands at 1", tell: func(s *story) {
			op := s.ban("a", 0, 5, 10)
			op.Ban.Size, op.Ban.Head = 0, ""
			s.add(6, 7, Op{Kind: KindBan, Key: op.Key, Ban: &Ban{Agent: "a", Reason: op.Ban.Reason, Change: Change{EventID: "event-1", Size: 2}}})
		}},
		{name: "under another id than answered", check: kept, want: Fail, says: "answered with event", tell: func(s *story) { s.ban("a", 0, 5, 10).Ban.EventID = "other" }},
		{name: "nothing to look in", check: kept, want: Undecided, says: "no final chain", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			s.run.Finals = []Final{}
		}},
	})
}

func TestChains(t *testing.T) {
	const verifies = "chain verifies"
	three := func(s *story) {
		s.ban("a", 0, 5, 10)
		s.ban("b", 6, 7, 11)
		s.lift("a", 8, 9, 12)
	}
	after := func(spoil func(s *story)) func(*story) {
		return func(s *story) {
			three(s)
			spoil(s)
		}
	}
	served := func(spoil func(audits []*client.Audit)) func(*story) {
		return after(func(s *story) {
			s.finals()
			spoil([]*client.Audit{s.run.Finals[0].Audit, s.run.Finals[1].Audit})
		})
	}
	tell(t, []tale{
		{name: "three events", tell: three},
		{name: "odd characters in a reason", tell: func(s *story) {
			op := s.unknownBan("a", 0, 5, false)
			op.Ban.Reason = "a\"b\\c\n\t\x01\u2028<&>é\U0001F600\x7f"
			s.event("a", op.Ban.Reason, false)
		}},
		{name: "another reason than was hashed", check: verifies, want: Fail, says: "event_hash_mismatch", tell: after(func(s *story) { s.events[1].Reason += "!" })},
		{name: "an event taken out", check: verifies, want: Fail, says: "hash_chain_break", tell: after(func(s *story) { s.events = append(s.events[:1:1], s.events[2]) })},
		{name: "signed by a stranger", check: verifies, want: Fail, says: "missing_coordinator_key", tell: after(func(s *story) {
			other, _ := crypto.GenerateKey(&counter{77})
			s.events[2].Link(s.events[1].EventHash, other)
		})},
		{name: "signature of another event", check: verifies, want: Fail, says: "coordinator_signature_invalid", tell: after(func(s *story) {
			s.events[2].CoordinatorSignature = s.events[1].CoordinatorSignature
		})},
		{name: "a claimed reporter's signature", check: verifies, want: Fail, says: "reporter_signature_invalid", tell: after(func(s *story) {
			s.events[2].EvidenceSignatureVerified = true
			s.events[2].Link(s.events[1].EventHash, s.key)
		})},
		{name: "an id twice", check: verifies, want: Fail, says: "the same id", tell: after(func(s *story) {
			s.events[2].EventID = s.events[0].EventID
			s.events[2].Link(s.events[1].EventHash, s.key)
		})},
		{name: "lifts another ban", check: verifies, want: Fail, says: "not the ban in force", tell: after(func(s *story) {
			s.events[2].EvidenceHashSHA256 = s.events[1].EventHash
			s.events[2].Link(s.events[1].EventHash, s.key)
		})},
		{name: "the head is another", check: verifies, want: Fail, says: "chain_head_mismatch", tell: served(func(a []*client.Audit) { a[0].ChainHead = hexSum("x") })},
		{name: "the count is another", check: verifies, want: Fail, says: "claims 4 events", tell: served(func(a []*client.Audit) { a[0].Version = 4 })},
		{name: "a node is behind", check: verifies, want: Fail, says: "after healing n2 has 2 events and n1 has 3", tell: served(func(a []*client.Audit) { a[1].Events = a[1].Events[:2] })},
		{name: "what is not hashed differs", check: verifies, want: Fail, says: "event 2 differs", tell: served(func(a []*client.Audit) {
			var e crypto.BlacklistEvent
			_ = json.Unmarshal(a[1].Events[1], &e)
			e.ReportedBy = "somebody else"
			a[1].Events[1] = e.WireJSON()
		})},
		{name: "an unknown member", check: verifies, want: Fail, says: "unknown field", tell: served(func(a []*client.Audit) { a[0].Events[0] = json.RawMessage(`{"x":1}`) })},
		{name: "a key under another's id", check: verifies, want: Fail, says: "under the id", tell: after(func(s *story) {
			s.finals()
			s.run.Finals[0].Peers[0].PeerID = "coord-000000000000"
		})},
	})
}

// TestGoldenChain checks the own verifier against the vectors of the protocol
// that WIRE.md describes, which no code of this project made.
func TestGoldenChain(t *testing.T) {
	var vectors struct {
		Keys struct {
			Ed25519 map[string]struct{ Name, PublicKeyPem string }
		}
		Blacklist struct {
			Chain []struct {
				Record       json.RawMessage
				HashPreimage string
				SignerKey    string
			}
			ChainHead        string
			ReporterEvidence struct{ CanonicalString string }
		}
	}
	golden.Load(t, &vectors)
	pems := map[string]string{} // the vectors use alias and name alike
	for alias, key := range vectors.Keys.Ed25519 {
		pems[alias], pems[key.Name] = key.PublicKeyPem, key.PublicKeyPem
	}
	prev, reported := genesis, false
	for i, row := range vectors.Blacklist.Chain {
		var e chainEvent
		if err := strictJSON(row.Record, &e); err != nil {
			t.Fatal(err)
		}
		if got := string(e.preimage()); got != row.HashPreimage {
			t.Errorf("event %d: preimage %s, want %s", i+1, got, row.HashPreimage)
		}
		key, err := crypto.ParsePublicKeyPEM(pems[row.SignerKey])
		if err != nil {
			t.Fatalf("key %s: %v", row.SignerKey, err)
		}
		if fault := verifyEvent(&e, prev, map[string]crypto.PublicKey{e.SourceCoordinatorID: key}); fault != "" {
			t.Errorf("event %d: %s", i+1, fault)
		}
		reported = reported || string(e.evidence()) == vectors.Blacklist.ReporterEvidence.CanonicalString
		prev = e.EventHash
	}
	if prev != vectors.Blacklist.ChainHead || len(vectors.Blacklist.Chain) == 0 {
		t.Errorf("the chain ends with %s, want %s", prev, vectors.Blacklist.ChainHead)
	}
	if !reported {
		t.Error("no event gives the reporter's golden evidence text")
	}
}

// TestWireForm holds that a record read and written is the record served.
func TestWireForm(t *testing.T) {
	s := newStory()
	s.event("a", "one \"two\" \u2028 \x01", false)
	s.event("a", "lift", true)
	s.events[0].EvidenceRef, s.events[0].ReporterPublicKeyPEM, s.events[0].ReporterSignature = "ref", "pem\n", "sig"
	for i := range s.events {
		var e chainEvent
		if err := strictJSON(s.events[i].WireJSON(), &e); err != nil {
			t.Fatal(err)
		}
		if got, want := string(e.wire()), string(s.events[i].WireJSON()); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestHeads(t *testing.T) {
	const consistent, trees = "heads consistent", "checkpoints consistent"
	show := func(size uint64, head func(s *story) string) func(*story) {
		return func(s *story) {
			s.ban("a", 0, 5, 10)
			s.ban("b", 6, 7, 11)
			s.add(8, 9, Op{Kind: KindChainRead, ChainRead: &ChainRead{Size: size, Head: head(s)}})
		}
	}
	tree := func(size uint64, spoil string) func(*story) {
		return func(s *story) {
			for i := range 5 {
				s.ban("a", int64(10*i), int64(10*i+5), uint64(10+i))
			}
			s.finals()
			s.add(60, 61, Op{Kind: KindCheckpoint, Checkpoint: &Checkpoint{Size: size, Root: s.run.chain().root(int(min(size, 5))) + spoil}})
		}
	}
	hashOf := func(i int) func(s *story) string { return func(s *story) string { return s.events[i].EventHash } }
	tell(t, []tale{
		{name: "empty", tell: show(0, func(*story) string { return genesis })},
		{name: "the first", tell: show(1, hashOf(0))},
		{name: "the second", tell: show(2, hashOf(1))},
		{name: "another history", check: consistent, want: Fail, says: "head was shown", tell: show(1, hashOf(1))},
		{name: "a lost future", check: consistent, want: Fail, says: "a chain of 3 events was shown", tell: show(3, hashOf(1))},
		{name: "an answer with another head", check: consistent, want: Fail, says: "head was shown", tell: func(s *story) { s.ban("a", 0, 5, 10).Ban.Head = hexSum("x") }},
		{name: "a tree", tell: tree(5, "")},
		{name: "another tree", check: trees, want: Fail, says: "with root", tell: tree(3, "0")},
		{name: "a lost tree", check: trees, want: Fail, says: "a tree of 6", tell: tree(6, "")},
	})
}

// TestMerkleRoot holds the tree's shape: the left part is the largest power of
// two below, and leaves and nodes hash differently.
func TestMerkleRoot(t *testing.T) {
	if got, want := (&chainIndex{}).root(0), hexSum(""); got != want {
		t.Errorf("empty tree %s, want %s", got, want)
	}
	leaves := make([]chainEvent, 5)
	for i := range leaves {
		leaves[i].EventID = string(rune('a' + i))
	}
	left, right := treeHash(leaves[:4]), treeHash(leaves[4:])
	want := hexSum("\x01" + string(left[:]) + string(right[:]))
	if got := (&chainIndex{events: leaves}).root(5); got != want {
		t.Errorf("root of five %s, want %s", got, want)
	}
	one := treeHash(leaves[:1])
	if string(one[:]) == string(right[:]) {
		t.Error("two leaves hash alike")
	}
}
