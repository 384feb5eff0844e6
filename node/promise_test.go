package node

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// TestP1OnceUnderRace: one signed request at three nodes, 100 times at once.
func TestP1OnceUnderRace(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	a := c.enroll(1, "racer")
	verifier := c.token("verifier", -1)
	r := a.request(t, "raced")
	var admitted, replayed atomic.Int64
	var all sync.WaitGroup
	clients := []*client.Client{c.client(0, verifier), c.client(1, verifier), c.client(2, verifier)}
	for i := range 100 {
		for _, cl := range clients {
			all.Go(func() {
				own := r
				own.ClaimID = fmt.Sprintf("claim-%d-%p", i, cl)
				got, err := cl.Admit(t.Context(), own)
				switch {
				case err != nil:
					t.Errorf("admit: %v", err)
				case got.Verdict == client.VerdictAdmitted:
					admitted.Add(1)
				case got.Code == client.VerdictReplay:
					replayed.Add(1)
				default:
					t.Errorf("got %+v", got)
				}
			})
		}
	}
	all.Wait()
	if admitted.Load() != 1 || replayed.Load() != 299 {
		t.Fatalf("%d admitted, %d replays", admitted.Load(), replayed.Load())
	}
}

// TestP1SameClaimGetsFirstAnswer: a retry under the same claim id and token is
// no replay; under another token it is.
func TestP1SameClaimGetsFirstAnswer(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	a := c.enroll(0, "retrier")
	verifier, other := c.token("verifier", -1), c.token("verifier", -1)
	r := a.request(t, "n1")
	r.ClaimID = "claim-1"
	first, err := c.client(0, verifier).Admit(t.Context(), r)
	if err != nil || first.Verdict != client.VerdictAdmitted {
		t.Fatalf("first: %+v %v", first, err)
	}
	for i := range c.nodes {
		again, err := c.client(i, verifier).Admit(t.Context(), r)
		if err != nil || !again.Repeated || again.Index != first.Index || again.ClockMs != first.ClockMs {
			t.Fatalf("retry at %d: %+v, first %+v, %v", i, again, first, err)
		}
		stolen, err := c.client(i, other).Admit(t.Context(), r)
		if err != nil || stolen.Code != client.VerdictReplay {
			t.Fatalf("another caller at %d: %+v %v", i, stolen, err)
		}
	}
	reused := a.request(t, "n2")
	reused.ClaimID = "claim-1"
	var e *client.Error
	if got, err := c.client(2, verifier).Admit(t.Context(), reused); !errors.As(err, &e) || e.Code != client.CodeConflict {
		t.Fatalf("claim id reused for another request: %+v %v", got, err)
	}
}

// TestP2BanHoldsAtTheNextNode: an approval and a ban acknowledged at one node
// count at the next in the following call.
func TestP2BanHoldsAtTheNextNode(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	verifier := c.token("verifier", -1)
	for round := range 20 {
		id := fmt.Sprintf("hopper-%d", round)
		a := c.enroll(round%3, id)
		at := c.client((round+1)%3, verifier)
		if got, err := at.Admit(t.Context(), a.request(t, "before")); err != nil || got.Verdict != client.VerdictAdmitted {
			t.Fatalf("approved at node %d, asked at the next: %+v %v", round%3, got, err)
		}
		c.ban((round+2)%3, id)
		if got, err := at.Admit(t.Context(), a.request(t, "after")); err != nil || got.Code != client.VerdictBlacklisted {
			t.Fatalf("banned at another node: %+v %v", got, err)
		}
	}
}

func (c *trio) ban(i int, id string) client.BlacklistChange {
	c.t.Helper()
	got, err := c.client(i, c.admin).Ban(c.t.Context(), client.BanRequest{AgentID: id, ReasonCode: "manual_review",
		Reason: "test ban — \"quoted\" <&> üñï", EvidenceSHA256: strings.Repeat("ab", 32), ReporterID: "operator"})
	if err != nil {
		c.t.Fatalf("ban %s: %v", id, err)
	}
	return got
}

// TestP3OneUnbrokenChain: bans and lifts through all nodes at once form one
// chain that a verifier written from WIRE.md section 9 alone accepts.
func TestP3OneUnbrokenChain(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	var all sync.WaitGroup
	const each = 25
	for i := range c.nodes {
		all.Go(func() {
			cl := c.client(i, c.admin)
			for k := range each {
				id := fmt.Sprintf("agent-%d-%d", i, k)
				c.ban(i, id)
				if k%2 == 0 {
					if _, err := cl.Lift(t.Context(), id, "lifted again"); err != nil {
						t.Errorf("lift %s: %v", id, err)
					}
				}
			}
		})
	}
	all.Wait()
	keys := map[string]ed25519.PublicKey{}
	for i := range c.nodes {
		me, err := c.client(i, "").Identity(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		keys[me.PeerID] = parsePEM(t, me.PublicKeyPEM)
	}
	var head string
	for i := range c.nodes {
		var events []json.RawMessage
		_, err := c.client(i, c.admin).Policy(t.Context(), client.Strong()) // bring the replica up to date
		if err != nil {
			t.Fatal(err)
		}
		audit, err := c.client(i, c.admin).Audit(t.Context(), func(e json.RawMessage) error {
			events = append(events, append(json.RawMessage(nil), e...))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if want := 3 * (each + (each+1)/2); len(events) != want || audit.Version != uint64(want) {
			t.Fatalf("node %d: %d events, version %d, want %d", i, len(events), audit.Version, want)
		}
		if err := walkChain(events, audit.ChainHead, keys); err != nil {
			t.Fatalf("node %d: %v", i, err)
		}
		if head != "" && head != audit.ChainHead {
			t.Fatalf("node %d has head %s, another %s", i, audit.ChainHead, head)
		}
		head = audit.ChainHead
	}
}

func parsePEM(t *testing.T, text string) ed25519.PublicKey {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no PEM: %q", text)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(ed25519.PublicKey)
}

// walkChain is an independent verifier: WIRE.md 9.1 and 9.6, nothing of ours.
func walkChain(events []json.RawMessage, head string, keys map[string]ed25519.PublicKey) error {
	prev := "BLACKLIST_GENESIS"
	for i, raw := range events {
		var m map[string]json.RawMessage
		if err := json.Unmarshal(raw, &m); err != nil {
			return err
		}
		text := func(k string) (s string) { _ = json.Unmarshal(m[k], &s); return s }
		var pre strings.Builder
		for k, name := range []string{"eventId", "agentId", "reasonCode", "reason", "evidenceHashSha256", "reporterId",
			"sourceCoordinatorId", "timestampMs", "expiresAtMs", "prevEventHash", "evidenceSignatureVerified"} {
			value := m[name]
			if value == nil {
				value = json.RawMessage("null") // absent hashes as null
			}
			fmt.Fprintf(&pre, "%c%q:%s", "{,"[min(k, 1)], name, value)
		}
		pre.WriteString("}")
		sum := sha256.Sum256([]byte(pre.String()))
		hash := hex.EncodeToString(sum[:])
		sig, err := base64.StdEncoding.DecodeString(text("coordinatorSignature"))
		switch key := keys[text("sourceCoordinatorId")]; {
		case text("prevEventHash") != prev:
			return fmt.Errorf("event %d: hash_chain_break", i)
		case text("eventHash") != hash:
			return fmt.Errorf("event %d: event_hash_mismatch %s of %s", i, hash, pre.String())
		case key == nil:
			return fmt.Errorf("event %d: missing_coordinator_key", i)
		case err != nil || !ed25519.Verify(key, []byte(hash), sig):
			return fmt.Errorf("event %d: coordinator_signature_invalid", i)
		}
		prev = hash
	}
	if prev != head {
		return fmt.Errorf("chain_head_mismatch: %s, claimed %s", prev, head)
	}
	return nil
}

// TestP1WideningTheSkewReopensNothing: what left the old window stays refused.
func TestP1WideningTheSkewReopensNothing(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	a := c.enroll(0, "old-timer")
	verifier := c.token("verifier", -1)
	cl, admin := c.client(0, verifier), c.client(0, c.admin)
	c.setSkew(admin, 2000)
	r := a.request(t, "n1")
	if got, err := cl.Admit(t.Context(), r); err != nil || got.Verdict != client.VerdictAdmitted {
		t.Fatalf("first: %+v %v", got, err)
	}
	c.eventually("the nonce leaves its window", func() bool {
		got, err := cl.Admit(t.Context(), r)
		return err == nil && got.Code == client.VerdictTimestampSkew
	})
	c.eventually("its bucket is dropped", func() bool {
		var size int
		c.nodes[0].machine.Read(func(s *fsm.State) { size = s.Sizes()["nonces"] })
		return size == 0
	})
	c.setSkew(admin, 600_000)
	got, err := cl.Admit(t.Context(), r)
	if err != nil || got.Verdict != client.VerdictDenied {
		t.Fatalf("after widening: %+v %v", got, err)
	}
}

func (c *trio) setSkew(admin *client.Client, ms int64) {
	c.t.Helper()
	p, err := admin.Policy(c.t.Context())
	if err == nil {
		_, err = admin.SetPolicy(c.t.Context(), p.Version, client.PolicyUpdate{MaxSkewMs: &ms})
	}
	if err != nil {
		c.t.Fatalf("set skew: %v", err)
	}
}

// TestP4DigestsAgree: nodes at a common mark have the same digest.
func TestP4DigestsAgree(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	a := c.enroll(0, "digested")
	verifier := c.token("verifier", -1)
	for i := range 20 {
		if _, err := c.client(i%3, verifier).Admit(t.Context(), a.request(t, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("a common mark after the traffic", func() bool {
		seen := map[uint64]map[string]int{}
		for _, n := range c.nodes {
			for _, m := range n.Status().Digests {
				if seen[m.Index] == nil {
					seen[m.Index] = map[string]int{}
				}
				seen[m.Index][m.Digest]++
			}
		}
		common := 0
		for index, digests := range seen {
			if len(digests) > 1 {
				t.Fatalf("mark %d: digests differ: %v", index, digests)
			}
			for _, nodes := range digests {
				if nodes == 3 {
					common++
				}
			}
		}
		return common >= 2
	})
}

// TestP9NoQuorumFailsClosed: with the others gone, writes and admissions are
// refused as unavailable, soon, and local reads go on.
func TestP9NoQuorumFailsClosed(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	a := c.enroll(0, "lonely")
	verifier := c.token("verifier", -1)
	c.eventually("a leader", func() bool { return c.leader() >= 0 })
	keep := c.leader()
	for i, n := range c.nodes {
		if i != keep {
			if err := n.shutdown(); err != nil {
				t.Logf("stop %d: %v", i, err)
			}
		}
	}
	once := func(token string) *client.Client {
		cl, err := client.New(client.Config{Addrs: []string{"https://" + c.cfgs[keep].APIAddr}, CAFile: c.cfgs[keep].DataDir + "/" + fileCA, Token: token, Attempts: 1})
		if err != nil {
			t.Fatal(err)
		}
		return cl
	}
	start := time.Now()
	got, err := once(verifier).Admit(t.Context(), a.request(t, "n1"))
	var e *client.Error
	if !errors.As(err, &e) || (e.Code != client.CodeUnavailable && e.Code != client.CodeUnknownOutcome) || e.ClaimID == "" {
		t.Fatalf("admission without quorum: %+v %v", got, err)
	}
	if _, err := once(c.admin).Ban(t.Context(), client.BanRequest{AgentID: "x", ReasonCode: "manual_review", Reason: "why not",
		EvidenceSHA256: strings.Repeat("00", 32), ReporterID: "operator"}); !errors.As(err, &e) {
		t.Fatalf("ban without quorum: %v", err)
	}
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("two refusals took %s", d)
	}
	if _, err := once(c.admin).Policy(t.Context()); err != nil {
		t.Errorf("a local read without quorum: %v", err)
	}
	if _, err := once(c.admin).Policy(t.Context(), client.Strong()); !errors.As(err, &e) || e.Code != client.CodeUnavailable {
		t.Errorf("a strong read without quorum: %v", err)
	}
}
