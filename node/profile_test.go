package node

import (
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/api"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/httpsig"
	"github.com/edgecoder/edgecoder/fsm"
)

// message signs a request with an HTTP message signature of a minute.
func (a agent) message(t *testing.T, nonce string) client.AdmissionRequest {
	t.Helper()
	r := httpsig.Request{Method: "POST", Authority: "service.example", Target: "/pull?x=1", BodySHA256: crypto.Sum([]byte("{}"))}
	now := time.Now().Unix()
	signed, err := httpsig.Sign(a.key, httpsig.Params{AgentID: a.id, Created: now, Expires: now + 60, Nonce: nonce}, r)
	if err != nil {
		t.Fatal(err)
	}
	req := client.AdmissionRequest{Method: r.Method, Path: r.Target, Headers: map[string]string{httpsig.HeaderHost: r.Authority}}
	for _, h := range signed.Headers() {
		req.Headers[h[0]] = h[1]
	}
	return req
}

// P1 and W4 through real nodes: message signatures are admitted once everywhere,
// their end and the policy of profiles reach the leader from any node, and a
// policy that wants them is never passed over.
func TestP1OnceW4MessageSignaturesOnEveryNode(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	a, old := c.enroll(0, "agent-1"), c.enroll(0, "old")
	verifier := c.token("verifier", -1)
	tokenID := func() string {
		text, err := crypto.ParseTokenText(verifier)
		if err != nil {
			t.Fatal(err)
		}
		return text.ID
	}()
	ask := func(i int, r client.AdmissionRequest) client.Admission {
		t.Helper()
		got, err := c.client(i, verifier).Admit(t.Context(), r)
		if err != nil {
			t.Fatalf("node %d: %v", i, err)
		}
		return got
	}
	for i := range c.nodes {
		r := a.message(t, "nonce-"+c.cfgs[i].Name)
		if got := ask(i, r); got.Verdict != client.VerdictAdmitted {
			t.Fatalf("node %d: %+v", i, got)
		}
		for j := range c.nodes {
			if got := ask(j, r); got.Code != client.VerdictReplay {
				t.Errorf("replay at node %d: %+v", j, got)
			}
		}
		stolen := a.message(t, "stolen-"+c.cfgs[i].Name)
		stolen.Headers[httpsig.HeaderSignatureInput] = strings.Replace(stolen.Headers[httpsig.HeaderSignatureInput],
			crypto.PublicOf(a.key).KeyID(), crypto.PublicOf(old.key).KeyID(), 1)
		if got := ask(i, stolen); got.Code != client.VerdictInvalidSignature {
			t.Errorf("node %d, a key that is not the agent's: %+v", i, got)
		}
		ended := fsm.Claim{AgentID: a.id, Key: crypto.PublicOf(a.key).Fingerprint(), TimestampMs: c.nodes[i].clockMs(), Nonce: "ended-" + c.cfgs[i].Name,
			Profile: crypto.ProfileRFC9421, ExpiresMs: c.nodes[i].clockMs() - 5_000}
		reply, err := c.nodes[i].decide(t.Context(), fsm.AdmitBatch{Callers: []string{tokenID}, Claims: []fsm.Claim{ended}})
		if err != nil || reply.Results[0].Code != fsm.CodeTimestampSkew {
			t.Errorf("node %d had a claim decided whose signature had ended: %+v, %v", i, reply, err)
		}
	}
	admin := c.client(1, c.admin)
	now, err := admin.Policy(t.Context(), client.Strong())
	if err != nil {
		t.Fatal(err)
	}
	rule := "rfc9421"
	if _, err := admin.SetPolicy(t.Context(), now.Version, client.PolicyUpdate{SignatureProfiles: &rule, AgentProfiles: map[string]string{"old": "any"}}); err != nil {
		t.Fatal(err)
	}
	for i := range c.nodes {
		if got := ask(i, a.request(t, "five-"+c.cfgs[i].Name)); got.Code != client.VerdictInvalidSignature || !strings.Contains(got.Detail, "RFC 9421") {
			t.Errorf("node %d, the five headers against the rule: %+v", i, got)
		}
		for what, r := range map[string]client.AdmissionRequest{"message": a.message(t, "after-"+c.cfgs[i].Name), "exempt": old.request(t, "old-"+c.cfgs[i].Name)} {
			if got := ask(i, r); got.Verdict != client.VerdictAdmitted {
				t.Errorf("node %d, %s: %+v", i, what, got)
			}
		}
	}
}

// Below its feature level nothing may get into the log that an older server
// could not read: message signatures wait, the five headers go on.
func TestMessageSignaturesWaitForTheirLevel(t *testing.T) {
	message := crypto.SignedRequest{Message: &crypto.MessageSignature{}}
	for level, want := range map[uint32]int{fsm.LevelRecovery: 1, fsm.LevelProfiles: 2, fsm.LevelProfiles + 1: 2} {
		call := &admitCall{done: make(chan struct{}), missing: 2, outcomes: make([]api.AdmitOutcome, 2), answered: make([]bool, 2), sent: make([]bool, 2)}
		items := []*admission{
			{AdmitRequest: api.AdmitRequest{Signed: message, ClaimID: "c"}, call: call, slot: 0},
			{call: call, slot: 1},
		}
		left := loggable(items, level)
		if len(left) != want || left[len(left)-1] != items[1] || call.answered[0] != (want == 1) || call.answered[1] {
			t.Errorf("level %d: %d go on, answered %v", level, len(left), call.answered)
		}
		if e := call.outcomes[0].Err; want == 1 && (e.Code != client.CodeUnavailable || e.Reason != reasonLevel || e.ClaimID != "c") {
			t.Errorf("level %d: %+v", level, e)
		}
	}
}

// P1: an agent that signs two requests with one nonce and time gets the first
// answer for the first one alone, whatever part of the signed text differs.
func TestP1MessagesUnderOneNonceAreTold(t *testing.T) {
	key := seededKey(t, 1)
	tag := func(authority, target string, expires int64) fsm.ClaimTag {
		t.Helper()
		signed, err := httpsig.Sign(key, httpsig.Params{AgentID: "a", Created: 1_767_225_600, Expires: 1_767_225_600 + expires, Nonce: "n"},
			httpsig.Request{Method: "GET", Authority: authority, Target: target, BodySHA256: crypto.Sum(nil)})
		if err != nil {
			t.Fatal(err)
		}
		a := &admission{AdmitRequest: api.AdmitRequest{Signed: signed.Request, TokenID: "t", ClaimID: "c"}}
		a.newClaim(crypto.PublicOf(key))
		return a.claim.Tag
	}
	first := tag("s.example", "/x?a", 60)
	if tag("S.example:443", "/x?a", 60) != first {
		t.Error("a retry has another tag")
	}
	for name, other := range map[string]fsm.ClaimTag{"authority": tag("other.example", "/x?a", 60), "end of the query": tag("s.example", "/x?a?", 60), "expiry": tag("s.example", "/x?a", 61)} {
		if other == first {
			t.Errorf("another %s has the same tag", name)
		}
	}
	five := &admission{AdmitRequest: api.AdmitRequest{TokenID: "t", ClaimID: "c", Signed: crypto.SignedRequest{Method: "GET", Path: "/x?a", BodySHA256: crypto.Sum(nil), TimestampMs: 1_767_225_600_000}}}
	if five.newClaim(crypto.PublicOf(key)); five.claim.Tag != fsm.NewClaimTag("t", "c", "GET", "/x?a", crypto.Sum(nil), 1_767_225_600_000) {
		t.Error("the tag of the five headers has changed: a retry at a server of another version would be a replay")
	}
}

// A key that the request does not name is not tried, although it would verify.
func TestOnlyTheNamedKeyIsTried(t *testing.T) {
	signer := seededKey(t, 1)
	pub, other := crypto.PublicOf(signer), crypto.PublicOf(seededKey(t, 2))
	signed, err := httpsig.Sign(signer, httpsig.Params{AgentID: "a", Created: 1_767_225_600, Expires: 1_767_225_660, Nonce: "n"},
		httpsig.Request{Method: "GET", Authority: "h", Target: "/", BodySHA256: crypto.Sum(nil)})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		keyID string
		want  fsm.Code
	}{"its own": {pub.KeyID(), ""}, "another of the agent": {other.KeyID(), fsm.CodeInvalidSignature}, "none of the agent": {"0123456789abcdef", fsm.CodeInvalidSignature}} {
		message := *signed.Request.Message
		message.KeyID = tt.keyID
		req := signed.Request
		req.Message = &message
		a := &admission{AdmitRequest: api.AdmitRequest{Signed: req}, keys: []crypto.PublicKey{other, pub}}
		n := &Node{admit: newAdmitter()}
		n.verifyAll([]*admission{a})
		if a.denial != tt.want {
			t.Errorf("%s: denial %q, want %q", name, a.denial, tt.want)
		}
		if a.denial == "" && (a.claim.Profile != crypto.ProfileRFC9421 || a.claim.ExpiresMs != 1_767_225_660_000 || a.claim.Key != pub.Fingerprint()) {
			t.Errorf("%s: %+v", name, a.claim)
		}
	}
}

func seededKey(t *testing.T, seed byte) crypto.PrivateKey {
	t.Helper()
	key, err := crypto.GenerateKey(strings.NewReader(strings.Repeat(string(rune('a'+seed)), 32)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}
