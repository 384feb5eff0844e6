package judge

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// story writes the history of a run by hand. Times are milliseconds.
type story struct {
	run    Run
	key    crypto.PrivateKey
	events []crypto.BlacklistEvent
}

const (
	wall0   = int64(1_800_000_000_000) // wall and cluster clock at time zero
	skew    = int64(120_000)
	someKey = "key-of-a"
)

func newStory() *story {
	key, err := crypto.GenerateKey(&counter{})
	if err != nil {
		panic(err)
	}
	s := &story{key: key}
	s.run.About = About{Scenario: "story", Nodes: []string{"n1", "n2"}, Agents: []string{"a", "b"}, Healed: true,
		Policy: &PolicyRead{Version: 1, Policy: Policy{RateLimit: client.RateLimit{Requests: 3, WindowMs: 1000}, MaxSkewMs: skew}}}
	return s
}

// counter is a deterministic source of key material.
type counter struct{ n byte }

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		c.n++
		p[i] = c.n
	}
	return len(p), nil
}

// add appends an operation asked at start and answered at end.
func (s *story) add(start, end int64, op Op) *Op {
	op.ID = int64(len(s.run.Ops) + 1)
	op.StartNS, op.EndNS, op.WallMs = start*int64(time.Millisecond), end*int64(time.Millisecond), wall0+start
	if op.Outcome == "" {
		op.Outcome = OutcomeOf(op.Code)
	}
	if op.Node == "" {
		op.Node = "n1"
	}
	s.run.Ops = append(s.run.Ops, op)
	return &s.run.Ops[len(s.run.Ops)-1]
}

// claim asks for the nonce under a claim id; answer changes what came back.
func (s *story) claim(start, end int64, nonce, id string, answer func(*Op)) {
	op := Op{Kind: KindClaim, Claim: &Claim{Key: someKey, Agent: "a", Nonce: nonce, TimestampMs: wall0, ClaimID: id, Request: "POST /x", ClockMs: wall0 + start}}
	answer(&op)
	s.add(start, end, op)
}

// claimBy is claim for another agent.
func (s *story) claimBy(agent string, start, end int64, nonce string, answer func(*Op)) {
	s.claim(start, end, nonce, nonce, func(op *Op) {
		op.Claim.Agent, op.Claim.Key = agent, "key-of-"+agent
		answer(op)
	})
}

func admitted(index uint64, clock int64) func(*Op) {
	return func(op *Op) {
		c := op.Claim
		c.Verdict, c.Code, c.Index, c.ClockMs = client.VerdictAdmitted, client.VerdictOK, index, wall0+clock
		op.Index = index
	}
}

func repeated(index uint64, clock int64) func(*Op) {
	return func(op *Op) {
		admitted(index, clock)(op)
		op.Claim.Repeated = true
	}
}

func denied(code string) func(*Op) {
	return func(op *Op) { op.Claim.Verdict, op.Claim.Code = client.VerdictDenied, code }
}

// signedAt has the agent sign at a time of its own.
func signedAt(ms int64, answer func(*Op)) func(*Op) {
	return func(op *Op) {
		op.Claim.TimestampMs = wall0 + ms
		answer(op)
	}
}

// both does one after the other.
func both(a, b func(*Op)) func(*Op) {
	return func(op *Op) {
		a(op)
		b(op)
	}
}

// at sets the index that a denial reflects.
func at(index uint64) func(*Op) {
	return func(op *Op) { op.Index, op.Claim.Index = index, index }
}

// burst has agent a admitted, once for each clock, under nonces of their own.
func (s *story) burst(index uint64, clocks ...int64) {
	for i, clock := range clocks {
		name := fmt.Sprintf("burst %d of %d", i, index)
		s.claim(clock, clock+1, name, name, admitted(index+uint64(i), clock))
	}
}

func unknown(op *Op) { op.Code, op.Outcome = client.CodeUnknownOutcome, Unknown }

func unavailable(op *Op) { op.Code, op.Outcome = client.CodeUnavailable, Refused }

// event puts an event into the chain and returns its place.
func (s *story) event(agent, reason string, lift bool) uint64 {
	seq := uint64(len(s.events) + 1)
	e := crypto.BlacklistEvent{EventID: fmt.Sprintf("event-%d", seq), AgentID: agent, ReasonCode: crypto.ReasonManualReview, Reason: reason,
		EvidenceHashSHA256: hexSum(reason), ReporterID: "tester", ReportedBy: "tester", TimestampMs: wall0 + int64(seq)}
	if lift {
		expires := e.TimestampMs - 1
		e.ExpiresAtMs = &expires
		for _, old := range s.events {
			if old.AgentID == agent {
				e.EvidenceHashSHA256 = old.EventHash
			}
		}
	}
	e.Link(s.head(), s.key)
	s.events = append(s.events, e)
	return seq
}

func hexSum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func (s *story) head() string {
	if len(s.events) == 0 {
		return genesis
	}
	return s.events[len(s.events)-1].EventHash
}

// ban bans with a fresh event, answered well at the given index.
func (s *story) ban(agent string, start, end int64, index uint64) *Op {
	reason := fmt.Sprintf("ban %d", len(s.run.Ops)+1)
	seq := s.event(agent, reason, false)
	return s.add(start, end, Op{Kind: KindBan, Index: index, Ban: &Ban{Agent: agent, Reason: reason,
		Change: Change{EventID: s.events[seq-1].EventID, Head: s.head(), Size: seq}}})
}

// banUntil is ban with an expiry.
func (s *story) banUntil(agent string, start, end int64, index uint64, expires int64) *Op {
	prev := s.head()
	op := s.ban(agent, start, end, index)
	op.Ban.ExpiresMs = wall0 + expires
	e := &s.events[len(s.events)-1]
	e.ExpiresAtMs = &op.Ban.ExpiresMs
	e.Link(prev, s.key)
	op.Ban.Head = s.head()
	return op
}

func (s *story) lift(agent string, start, end int64, index uint64) *Op {
	reason := fmt.Sprintf("lift %d", len(s.run.Ops)+1)
	seq := s.event(agent, reason, true)
	return s.add(start, end, Op{Kind: KindLift, Index: index, Lift: &Lift{Agent: agent, Reason: reason,
		Change: Change{EventID: s.events[seq-1].EventID, Head: s.head(), Size: seq}}})
}

// unknownBan asks for a ban and never learns what became of it.
func (s *story) unknownBan(agent string, start, end int64, happened bool) *Op {
	reason := fmt.Sprintf("ban %d", len(s.run.Ops)+1)
	if happened {
		s.event(agent, reason, false)
	}
	return s.add(start, end, Op{Kind: KindBan, Code: client.CodeUnknownOutcome, Ban: &Ban{Agent: agent, Reason: reason}})
}

func (s *story) read(agent string, start, end int64, inForce, strong bool) *Op {
	return s.add(start, end, Op{Kind: KindBanRead, Strong: strong, BanRead: &BanRead{Agent: agent, InForce: inForce}})
}

func (s *story) policy(requests int64) Policy {
	return Policy{RateLimit: client.RateLimit{Requests: requests, WindowMs: 1000}, MaxSkewMs: skew}
}

func (s *story) setPolicy(start, end int64, ifVersion uint64, requests int64, change func(*Op)) {
	op := Op{Kind: KindPolicySet, PolicySet: &PolicySet{IfVersion: ifVersion, Policy: s.policy(requests), Version: ifVersion + 1}}
	if change != nil {
		change(&op)
	}
	s.add(start, end, op)
}

func (s *story) readPolicy(start, end int64, version uint64, requests int64, strong bool) {
	s.add(start, end, Op{Kind: KindPolicyRead, Strong: strong, PolicyRead: &PolicyRead{Version: version, Policy: s.policy(requests)}})
}

// finals lets both nodes show the chain and a shared mark.
func (s *story) finals() {
	if s.run.Finals != nil {
		return
	}
	pub := crypto.PublicOf(s.key)
	for i, node := range s.run.About.Nodes {
		audit := &client.Audit{Version: uint64(len(s.events)), ChainHead: s.head()}
		for j := range s.events {
			audit.Events = append(audit.Events, s.events[j].WireJSON())
		}
		s.run.Finals = append(s.run.Finals, Final{Node: node, Audit: audit,
			Peers:  []client.MeshPeer{peerOf(pub)},
			Status: &Status{NodeID: "id-" + node, State: []string{"leader", "follower"}[min(i, 1)], Term: 9, Digests: []client.Mark{{Index: 100, Digest: "d100"}}}})
	}
}

func peerOf(pub crypto.PublicKey) client.MeshPeer {
	return client.MeshPeer{PeerID: pub.CoordinatorID(), PublicKeyPEM: pub.PEM()}
}

// tale is one synthetic history and what the judge must say of it.
type tale struct {
	name  string
	check string // the checker that must speak up; empty: the run passes
	want  Result
	says  string // part of the finding
	tell  func(s *story)
}

func (tl tale) run(t *testing.T) {
	t.Helper()
	s := newStory()
	tl.tell(s)
	s.finals()
	v := Decide(&s.run, Limits{Linear: time.Minute, Shrink: time.Minute})
	if tl.check == "" {
		if v.Result != Pass {
			t.Fatalf("a legal history was judged %s:\n%s", v.Result, v.text())
		}
		return
	}
	i := slices.IndexFunc(v.Checks, func(c Check) bool { return c.Name == tl.check })
	if i < 0 {
		t.Fatalf("there is no check %q", tl.check)
	}
	if v.Checks[i].Result != tl.want || !strings.Contains(v.text(), tl.says) {
		t.Fatalf("%s: judged %s, want %s with %q:\n%s", tl.check, v.Checks[i].Result, tl.want, tl.says, v.text())
	}
	if v.Result != tl.want {
		t.Fatalf("the verdict is %s although a check said %s", v.Result, tl.want)
	}
}

func (v Verdict) text() string {
	var b strings.Builder
	for _, c := range v.Checks {
		for _, f := range c.Findings {
			fmt.Fprintf(&b, "%s: %s (%s) %s\n  %s\n", c.Name, f.Result, f.Promise, f.What, strings.Join(f.Evidence, "\n  "))
		}
	}
	return b.String()
}

func tell(t *testing.T, tales []tale) {
	t.Helper()
	for _, tl := range tales {
		t.Run(tl.name, func(t *testing.T) {
			t.Parallel()
			tl.run(t)
		})
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
