package fsm

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// P1: a signed request is admitted at most once, cluster-wide, across
// restarts, policy changes and restores.

func TestP1OnceReplayRefused(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	first := claimOf("a", "n", w.wallMs, "c1")
	w.wantVerdict(first, CodeOK)

	again := first
	again.Tag, again.ClaimID = NewClaimTag("verifier", "c2", "POST", "/pull", crypto.Sum(nil), w.wallMs), NewClaimID("verifier", "c2")
	w.wantVerdict(again, CodeReplay)

	// The nonce, not the timestamp, is what was used.
	w.wantVerdict(claimOf("a", "n", w.wallMs-5, "c3"), CodeReplay)
	w.wantVerdict(claimOf("a", "n", w.wallMs+90_000, "c4"), CodeReplay)

	// A claim without an id is a replay of itself: the server made a fresh tag for each.
	w.wantVerdict(claimOf("a", "m", w.wallMs, "server-made-1"), CodeOK)
	w.wantVerdict(claimOf("a", "m", w.wallMs, "server-made-2"), CodeReplay)
}

func TestP1OnceInOneBatch(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a", "b")
	now := w.wallMs
	got := w.admit(claimOf("a", "n", now, "c1"), claimOf("a", "n", now, "c2"), claimOf("a", "n", now, "c1"), claimOf("b", "n", now, "c3"))
	want := []Code{CodeOK, CodeReplay, CodeOK, CodeOK} // the same nonce under another key is another nonce
	for i, r := range got {
		if r.Code != want[i] || r.Repeated != (i == 2) {
			t.Errorf("claim %d: %s repeated=%t, want %s", i, r.Code, r.Repeated, want[i])
		}
	}
}

func TestP1OnceFirstAnswerAgain(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	c := claimOf("a", "n", w.wallMs, "c1")
	first := w.admit(c)[0]
	w.pass(30_000)
	again := w.admit(c)[0]
	if again.Code != CodeOK || !again.Repeated || again.Index != first.Index || again.ClockMs != first.ClockMs {
		t.Fatalf("the retry got %+v, first %+v", again, first)
	}
	if got := w.s.Check(&c, w.wallMs); got.Code != CodeOK || !got.Repeated {
		t.Errorf("a replica's own check says %+v", got)
	}
	if w.s.IsReplay(&c) {
		t.Error("the same claim is called a replay")
	}

	// Not for an agent that may no longer act.
	ban := w.banOf("a", "e1", "n0", nil)
	w.must(w.do(operator, ban))
	w.wantVerdict(c, CodeBlacklisted)
	w.must(w.do(operator, w.liftOf("a", "e2", "n0")))
	w.wantVerdict(c, CodeOK)
	w.must(w.do(operator, AgentSetState{AgentID: "a", State: AgentSuspended}))
	w.wantVerdict(c, CodeAgentNotActive)
	w.must(w.do(operator, AgentSetState{AgentID: "a", State: AgentActive}))

	// Nor once the timestamp left the window.
	w.pass(DefaultSkewMs)
	w.wantVerdict(c, CodeTimestampSkew)
}

func TestP1OnceClaimIDForAnotherRequest(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a", "b")
	w.wantVerdict(claimOf("a", "n1", w.wallMs, "c1"), CodeOK)
	w.wantVerdict(claimOf("a", "n2", w.wallMs, "c1"), CodeConflict)
	w.wantVerdict(claimOf("b", "n1", w.wallMs, "c1"), CodeConflict)
	w.wantVerdict(claimOf("a", "n2", w.wallMs, "c2"), CodeOK) // the conflict left the nonce unused
}

func TestP1OnceWidenedSkewReopensNothing(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	w.setPolicy(func(p *Policy) { p.MaxSkewMs = 2_000 })
	at := w.wallMs
	c := claimOf("a", "n", at, "c1")
	w.wantVerdict(c, CodeOK)
	w.pass(5_000)
	if n := w.s.Sizes()["nonces"]; n != 0 {
		t.Fatalf("%d nonces are kept beyond the window: the test shows nothing", n)
	}
	w.setPolicy(func(p *Policy) { p.MaxSkewMs = MaxSkewMs })
	replayed := c
	replayed.Tag = ClaimTag{1}
	w.wantVerdict(replayed, CodeTimestampSkew)
	w.wantVerdict(c, CodeTimestampSkew)
	floor := w.s.Meta().NonceFloorMs
	w.wantVerdict(claimOf("a", "fresh", floor, "c2"), CodeTimestampSkew)
	w.wantVerdict(claimOf("a", "fresh", floor+1, "c3"), CodeOK)
}

func TestP1OnceWindowEdgesAccepted(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	for i, d := range []int64{-DefaultSkewMs - 1, -DefaultSkewMs, DefaultSkewMs, DefaultSkewMs + 1} {
		want := CodeOK
		if d < -DefaultSkewMs || d > DefaultSkewMs {
			want = CodeTimestampSkew
		}
		w.wantVerdict(claimOf("a", fmt.Sprint("n", i), w.wallMs+d, ""), want)
	}
	for _, ts := range []int64{-1 << 63, -1, 0, 1<<63 - 1} { // the difference must not wrap into the window
		w.wantVerdict(claimOf("a", "x", ts, ""), CodeTimestampSkew)
	}
}

// A nonce stays used as long as its timestamp is acceptable, to the millisecond.
func TestP1OnceUntilTheWindowCloses(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	for _, offset := range []int64{-DefaultSkewMs, -1, 0, 1, 999, DefaultSkewMs} {
		ts, nonce := w.wallMs+offset, fmt.Sprint("n", offset)
		w.wantVerdict(claimOf("a", nonce, ts, nonce), CodeOK)
		replayed := claimOf("a", nonce, ts, nonce+"-other")
		for w.wallMs+30_000 <= ts+DefaultSkewMs {
			w.pass(30_000)
			w.wantVerdict(replayed, CodeReplay)
		}
		w.pass(ts + DefaultSkewMs - w.wallMs)
		w.wantVerdict(replayed, CodeReplay)
		w.pass(1)
		w.wantVerdict(replayed, CodeTimestampSkew)
	}
}

func TestP1OnceAcrossRestore(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	c := claimOf("a", "n", w.wallMs, "c1")
	first := w.admit(c)[0]
	w.s, _ = restored(t, snapshotOf(t, w.s, w.history))
	again := w.admit(c)[0]
	if again.Code != CodeOK || !again.Repeated || again.Index != first.Index {
		t.Fatalf("after the restore the retry got %+v, first %+v", again, first)
	}
	replayed := c
	replayed.Tag = ClaimTag{9}
	w.wantVerdict(replayed, CodeReplay)
	w.wantVerdict(claimOf("a", "n2", w.wallMs, "c1"), CodeConflict) // the claim ids are remembered too
}

// The vectors are the reference's own sequence; it forgets by a timer, we by
// the window, and both agree on these steps. Equal times are put side by side
// because the cluster clock does not run back.
func TestP1OnceReferenceVectors(t *testing.T) {
	var v struct {
		MaxSkewMs int64 `json:"maxSkewMs"`
		Sequence  []struct {
			Nonce       string `json:"nonce"`
			AtMs        int64  `json:"atMs"`
			TimestampMs int64  `json:"timestampMs"`
			Result      struct {
				Valid  bool   `json:"valid"`
				Reason string `json:"reason"`
			} `json:"result"`
		} `json:"sequence"`
	}
	referenceVectors(t, "nonce", &v)
	w := genesisWorld(t)
	w.enroll("a")
	w.setPolicy(func(p *Policy) { p.MaxSkewMs = v.MaxSkewMs })
	start := w.wallMs
	for _, at := range ascending(v.Sequence, func(i int) int64 { return v.Sequence[i].AtMs }) {
		for i, step := range v.Sequence {
			if step.AtMs != at {
				continue
			}
			w.pass(start + at - w.wallMs)
			want := CodeOK
			if !step.Result.Valid {
				want = Code(step.Result.Reason)
			}
			w.wantVerdict(claimOf("a", step.Nonce, start+step.TimestampMs, fmt.Sprint("step", i)), want)
		}
	}
}

func TestP1OneKeyOneAgent(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	key := publicKey("a")
	// Two ids for one key would be two quotas and, were nonces kept by id, two admissions.
	w.want(w.do(enroller, AgentEnroll{AgentID: "b", PublicKey: key}), CodeConflict)
	w.must(w.do(admin, AgentSetState{AgentID: "a", State: AgentRevoked}))
	w.want(w.do(enroller, AgentEnroll{AgentID: "b", PublicKey: key}), CodeConflict)
	w.want(w.do(enroller, AgentEnroll{AgentID: "c", PublicKey: publicKey("node n0")}), CodeConflict)
	n := nodeOf("n1", RoleCoordinator)
	n.SigningKey = key
	w.want(w.do(joiner, CoordinatorJoin{Coordinator: n}), CodeConflict)
}

func TestP1IdempotencyKeyOnce(t *testing.T) {
	w := genesisWorld(t)
	idem := &Idempotency{Key: crypto.Hash{1}, Body: crypto.Hash{2}}
	first := w.must(w.doAt(w.wallMs, admin, idem, TokenCreate{ID: "t1", Role: RoleViewer, Uses: -1}))
	w.pass(IdempotencyMs)
	again := w.must(w.doAt(w.wallMs, admin, idem, TokenCreate{ID: "t1", Role: RoleViewer, Uses: -1}))
	if !again.Repeated || again.ID != first.ID || again.Index != first.Index {
		t.Errorf("the repeat got %+v, first %+v", again, first)
	}
	other := &Idempotency{Key: idem.Key, Body: crypto.Hash{3}}
	w.want(w.doAt(w.wallMs, admin, other, TokenCreate{ID: "t2", Role: RoleViewer, Uses: -1}), CodeConflict)
	w.pass(1)
	w.must(w.doAt(w.wallMs, admin, other, TokenCreate{ID: "t2", Role: RoleViewer, Uses: -1}))

	// A refusal changed nothing and is not remembered.
	idem = &Idempotency{Key: crypto.Hash{4}}
	w.want(w.doAt(w.wallMs, Actor{TokenID: "viewer"}, idem, TokenCreate{ID: "t3", Role: RoleViewer, Uses: -1}), CodeForbidden)
	w.must(w.doAt(w.wallMs, admin, idem, TokenCreate{ID: "t3", Role: RoleViewer, Uses: -1}))

	// Verdicts are not remembered by it: a batch answered "ok" without verdicts would lie.
	w.want(w.doAt(w.wallMs, Actor{}, idem, AdmitBatch{Callers: []string{"verifier"}}), CodeInvalid)
}

func TestClaimTagsTellRequestsApart(t *testing.T) {
	body := crypto.Sum([]byte("x"))
	base := NewClaimTag("t", "c", "POST", "/p", body, 5)
	for i, other := range []ClaimTag{
		NewClaimTag("t2", "c", "POST", "/p", body, 5), NewClaimTag("t", "c2", "POST", "/p", body, 5),
		NewClaimTag("t", "c", "PUT", "/p", body, 5), NewClaimTag("t", "c", "POST", "/p2", body, 5),
		NewClaimTag("t", "c", "POST", "/p", crypto.Sum(nil), 5), NewClaimTag("t", "c", "POST", "/p", body, 6),
		NewClaimTag("tc", "", "POST", "/p", body, 5), NewClaimTag("t", "cPOST", "", "/p", body, 5),
	} {
		if bytes.Equal(base[:], other[:]) {
			t.Errorf("variation %d has the same tag", i)
		}
	}
	message := NewMessageClaimTag("t", "c", []byte("signed"))
	for i, other := range []ClaimTag{
		NewMessageClaimTag("t2", "c", []byte("signed")), NewMessageClaimTag("t", "c2", []byte("signed")),
		NewMessageClaimTag("t", "c", []byte("signed?")), NewMessageClaimTag("tc", "", []byte("signed")), base,
	} {
		if message == other {
			t.Errorf("variation %d of a message has the same tag", i)
		}
	}
	if NewClaimID("ab", "c") == NewClaimID("a", "bc") {
		t.Error("claim ids of two tokens collide")
	}
}
