package api

import (
	"crypto/rand"
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/httpsig"
	"github.com/edgecoder/edgecoder/fsm"
)

const testHost = "service.example"

// message signs a fresh request of the agent with an HTTP message signature
// that is good for a minute.
func (a *agent) message(timestampMs int64, body string) client.AdmissionRequest {
	const target = "/pull?queue=1"
	signed := must(httpsig.Sign(a.key,
		httpsig.Params{AgentID: a.id, Created: timestampMs / 1000, Expires: timestampMs/1000 + 60, Nonce: must(crypto.NewUUID(rand.Reader))},
		httpsig.Request{Method: "POST", Authority: testHost, Target: target, BodySHA256: crypto.Sum([]byte(body))}))
	headers := map[string]string{httpsig.HeaderHost: testHost}
	for _, h := range signed.Headers() {
		headers[h[0]] = h[1]
	}
	return client.AdmissionRequest{Method: "POST", Path: target, Headers: headers}
}

func TestAdmitMessageSignature(t *testing.T) {
	f := newFixture(t)
	a := f.agent("agent ünï:1", fsm.AgentActive)
	req := a.message(testClock, "body")
	req.ClaimID, req.BodySHA256 = "claim-1", crypto.Sum([]byte("body")).String()
	first := f.admit(req)
	if first.Verdict != client.VerdictAdmitted || first.AgentID != a.id {
		t.Fatalf("%+v", first)
	}
	if again := f.admit(req); !again.Repeated || again.Index != first.Index {
		t.Errorf("the same claim: %+v", again)
	}
	req.ClaimID = "claim-2"
	if got := f.admit(req); got.Code != client.VerdictReplay {
		t.Errorf("another claim: %+v", got)
	}
	if got := f.admit(with(a.message(testClock, ""), "accept", "x")); got.Code != client.VerdictOK {
		t.Errorf("other headers are ignored: %+v", got)
	}
	batch := client.AdmissionBatch{Requests: []client.AdmissionRequest{a.request(testClock, ""), a.message(testClock, ""), with(a.message(testClock, ""), "host", "other.example")}}
	got := decodeReply[client.AdmissionResults](t, f.do(ask{method: "POST", path: "/v1/admissions/batch", token: f.tokens[fsm.RoleVerifier], body: batch}), 200)
	for i, want := range []string{client.VerdictOK, client.VerdictOK, client.VerdictInvalidSignature} {
		if got.Results[i].Code != want {
			t.Errorf("%d of a batch of both: %+v, want %s", i, got.Results[i], want)
		}
	}
}

// W4, and the four ways of WEAKNESSES C3 in which a signature did not bind: the
// body, the agent, the audience, and whether there was one at all.
func TestW4SignatureBindsBodyAgentAudienceAndItself(t *testing.T) {
	f := newFixture(t)
	a, other := f.agent("agent-1", fsm.AgentActive), f.agent("agent-2", fsm.AgentActive)
	good := func() client.AdmissionRequest { return a.message(testClock, "body") }
	change := func(req client.AdmissionRequest, do func(*client.AdmissionRequest)) client.AdmissionRequest {
		req.Headers = maps.Clone(req.Headers)
		do(&req)
		return req
	}
	renamed := func(from, to string) client.AdmissionRequest {
		return change(good(), func(r *client.AdmissionRequest) {
			r.Headers["signature-input"] = strings.Replace(r.Headers["signature-input"], from, to, 1)
		})
	}
	for name, c := range map[string]struct {
		req  client.AdmissionRequest
		code string
	}{
		"body swapped": {change(good(), func(r *client.AdmissionRequest) { r.BodySHA256 = crypto.Sum([]byte("another")).String() }), client.VerdictInvalidSignature},
		"body and digest swapped": {change(good(), func(r *client.AdmissionRequest) {
			r.BodySHA256 = crypto.Sum([]byte("another")).String()
			r.Headers["content-digest"] = httpsig.ContentDigest(crypto.Sum([]byte("another")))
		}), client.VerdictInvalidSignature},
		"agent swapped":          {renamed("agent-1:", "agent-2:"), client.VerdictInvalidSignature},
		"agent unknown":          {renamed("agent-1:", "agent-3:"), client.VerdictUnknownAgent},
		"agent and key swapped":  {renamed(httpsig.KeyID("agent-1", crypto.PublicOf(a.key)), httpsig.KeyID("agent-2", crypto.PublicOf(other.key))), client.VerdictInvalidSignature},
		"key of another":         {renamed(crypto.PublicOf(a.key).KeyID(), crypto.PublicOf(other.key).KeyID()), client.VerdictInvalidSignature},
		"audience swapped":       {with(good(), "host", "other.example"), client.VerdictInvalidSignature},
		"audience on a port":     {with(good(), "host", testHost+":8443"), client.VerdictInvalidSignature},
		"query swapped":          {change(good(), func(r *client.AdmissionRequest) { r.Path = "/pull?queue=2" }), client.VerdictInvalidSignature},
		"query dropped":          {change(good(), func(r *client.AdmissionRequest) { r.Path = "/pull" }), client.VerdictInvalidSignature},
		"method swapped":         {change(good(), func(r *client.AdmissionRequest) { r.Method = "PUT" }), client.VerdictInvalidSignature},
		"unsigned":               {change(good(), func(r *client.AdmissionRequest) { r.Headers = nil }), client.VerdictMissingHeaders},
		"signature dropped":      {with(good(), "signature", ""), client.VerdictMissingHeaders},
		"input dropped":          {with(good(), "signature-input", ""), client.VerdictMissingHeaders},
		"digest dropped":         {with(good(), "content-digest", ""), client.VerdictMissingHeaders},
		"host dropped":           {with(good(), "host", ""), client.VerdictMissingHeaders},
		"downgraded by a header": {with(good(), "x-agent-id", "agent-1"), client.VerdictMalformed},
		"both profiles": {change(good(), func(r *client.AdmissionRequest) {
			maps.Copy(r.Headers, a.request(testClock, "body").Headers)
		}), client.VerdictMalformed},
		"header in another case": {change(good(), func(r *client.AdmissionRequest) {
			r.Headers["Signature"] = r.Headers["signature"]
			delete(r.Headers, "signature")
		}), client.VerdictMalformed},
		"no nonce":     {renamed(";nonce=", ";nonse="), client.VerdictMalformed},
		"not a number": {renamed(";created=17", ";created=x7"), client.VerdictMalformed},
		"created late": {a.message(testClock+121_000, "body"), client.VerdictTimestampSkew},
		"expired":      {a.message(testClock-61_000, "body"), client.VerdictTimestampSkew},
	} {
		got := f.admit(c.req)
		if got.Verdict != client.VerdictDenied || got.Code != c.code {
			t.Errorf("%s: %+v, want %s", name, got, c.code)
		}
		if len(got.Detail) < 20 || strings.Contains(got.Detail, "fsm") {
			t.Errorf("%s: the detail %q helps nobody", name, got.Detail)
		}
	}
	if got := f.admit(good()); got.Code != client.VerdictOK {
		t.Errorf("the good one: %+v", got)
	}
}

func TestExpiredDenialSaysSo(t *testing.T) {
	f := newFixture(t)
	a := f.agent("agent-1", fsm.AgentActive)
	if got := f.admit(a.message(testClock-60_000, "")); got.Code != client.VerdictOK {
		t.Errorf("at its end: %+v", got)
	}
	if got := f.admit(a.message(testClock-61_000, "")); !strings.Contains(got.Detail, "expired at 1767225599000, 1000 ms before") || got.MaxSkewMs != 0 {
		t.Errorf("past its end: %+v", got)
	}
	if got := f.admit(a.message(testClock+200_000, "")); !strings.Contains(got.Detail, "ahead of the cluster clock") || got.MaxSkewMs != 120_000 {
		t.Errorf("in the future: %+v", got)
	}
}

// Services pass on what they got: what only the other profile needs does not
// matter to the five headers, as it never did.
func TestFiveHeadersBesideOthersHeaders(t *testing.T) {
	f := newFixture(t)
	a := f.agent("agent-1", fsm.AgentActive)
	for name, extra := range map[string]map[string]string{
		"host":                      {"host": "any thing"},
		"Host":                      {"Host": testHost, "Content-Digest": "x"},
		"a digest":                  {"content-digest": "junk"},
		"another party's signature": {"signature-input": `proxy=("@method");tag="proxy"`, "signature": "proxy=:AAAA:"},
	} {
		req := a.request(testClock, "")
		maps.Copy(req.Headers, extra)
		if got := f.admit(req); got.Code != client.VerdictOK {
			t.Errorf("%s: %+v", name, got)
		}
	}
	rec := f.do(ask{method: "POST", path: "/v1/admissions", token: f.tokens[fsm.RoleVerifier],
		body: `{"method":"POST","path":"/","headers":{"host":"a","host":"b"}}`})
	wantProblem(t, rec, client.CodeInvalid, "headers.host")
}

func TestPolicyOfProfiles(t *testing.T) {
	f := newFixture(t)
	a, old := f.agent("agent-1", fsm.AgentActive), f.agent("old", fsm.AgentActive)
	if p := decodeReply[client.Policy](t, f.admin("GET", "/v1/policy", nil), 200); p.SignatureProfiles != "any" || p.AgentProfiles == nil || len(p.AgentProfiles) != 0 {
		t.Fatalf("%+v", p)
	}
	put := func(version, body string) client.Policy {
		t.Helper()
		return decodeReply[client.Policy](t, f.withKey("PUT", "/v1/policy", "", body, "If-Match", version), 200)
	}
	p := put("1", `{"signature_profiles":"rfc9421","agent_profiles":{"old":"any"}}`)
	if p.SignatureProfiles != "rfc9421" || p.AgentProfiles["old"] != "any" {
		t.Fatalf("%+v", p)
	}
	got := f.admit(a.request(testClock, ""))
	if got.Code != client.VerdictInvalidSignature || !strings.Contains(got.Detail, "RFC 9421") || !strings.Contains(got.Detail, "edgecoder policy set signature_profiles=any") {
		t.Errorf("five headers: %+v", got)
	}
	for who, req := range map[string]client.AdmissionRequest{"message": a.message(testClock, ""), "exempt": old.request(testClock, "")} {
		if got := f.admit(req); got.Code != client.VerdictOK {
			t.Errorf("%s: %+v", who, got)
		}
	}
	p = put("2", `{"agent_profiles":{}}`)
	if p.SignatureProfiles != "rfc9421" || len(p.AgentProfiles) != 0 {
		t.Errorf("%+v", p)
	}
	if got := f.admit(old.request(testClock, "")); got.Code != client.VerdictInvalidSignature {
		t.Errorf("exempt no more: %+v", got)
	}
	for body, field := range map[string]string{
		`{"signature_profiles":"five-header"}`: "signature_profiles", `{"signature_profiles":""}`: "signature_profiles",
		`{"agent_profiles":{"a":"none"}}`: "agent_profiles.a", `{"agent_profiles":{"a\n":"any"}}`: "agent_profiles",
	} {
		wantProblem(t, f.withKey("PUT", "/v1/policy", "", body, "If-Match", "3"), client.CodeInvalid, field)
	}
	records := must(f.node.Records(fsm.StreamAdmin, 1, 100))
	var last fsm.AdminRecord
	if err := fsm.Decode(records[len(records)-1].Data, &last); err != nil || last.Action != "policy_set" || !strings.Contains(last.Detail, "signature_profiles=rfc9421 agent_profiles=0") {
		t.Errorf("the audit says %+v, %v", last, err)
	}
}

// TestPolicyUpdateOfAnEmptyMapTakesAllAway: an empty map replaces, an absent one keeps.
func TestPolicyUpdateOfAnEmptyMapTakesAllAway(t *testing.T) {
	for want, u := range map[string]client.PolicyUpdate{
		`{}`:                                   {},
		`{"overrides":{},"agent_profiles":{}}`: {Overrides: map[string]client.RateLimit{}, AgentProfiles: map[string]string{}},
	} {
		if got := string(must(json.Marshal(u))); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// FuzzAdmissionHeaders: whatever headers a service passes on get a verdict or
// a named fault.
func FuzzAdmissionHeaders(f *testing.F) {
	a := &agent{id: "a", key: must(crypto.GenerateKey(rand.Reader))}
	for _, req := range []client.AdmissionRequest{a.request(testClock, ""), a.message(testClock, "")} {
		f.Add(string(must(json.Marshal(req))))
	}
	f.Fuzz(func(t *testing.T, text string) {
		body, err := decodeAdmission(text)
		if err != nil {
			return
		}
		req, code, detail := body.signed()
		if (code == "") != (detail == "") || code == "" && crypto.CheckID(req.AgentID) != nil {
			t.Errorf("%q %q: %+v", code, detail, req)
		}
	})
}
