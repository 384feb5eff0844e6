package api

import (
	"encoding/json"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

func (f *fixture) admit(body any) client.Admission {
	f.t.Helper()
	rec := f.do(ask{method: "POST", path: "/v1/admissions", token: f.tokens[fsm.RoleVerifier], body: body})
	return decodeReply[client.Admission](f.t, rec, 200)
}

// with returns req with one header changed; an empty value drops it.
func with(req client.AdmissionRequest, name, value string) client.AdmissionRequest {
	req.Headers = maps.Clone(req.Headers)
	req.Headers[name] = value
	if value == "" {
		delete(req.Headers, name)
	}
	return req
}

func TestAdmitOnceThenRepeatThenReplay(t *testing.T) {
	f := newFixture(t)
	req := f.agent("agent-1", fsm.AgentActive).request(testClock, `{"a":1}`)
	req.ClaimID = "claim-1"
	first := f.admit(req)
	if first.Verdict != client.VerdictAdmitted || first.Code != "ok" || first.AgentID != "agent-1" ||
		first.Index == 0 || first.ClockMs != testClock || first.ClaimID != "claim-1" || first.Repeated {
		t.Fatalf("%+v", first)
	}
	again := f.admit(req)
	if !again.Repeated || again.Index != first.Index || again.Verdict != client.VerdictAdmitted {
		t.Errorf("same claim: %+v", again)
	}
	req.ClaimID = "claim-2"
	if replay := f.admit(req); replay.Verdict != client.VerdictDenied || replay.Code != client.VerdictReplay || !strings.Contains(replay.Detail, "nonce") {
		t.Errorf("other claim: %+v", replay)
	}
	req.ClaimID = ""
	if replay := f.admit(req); replay.Code != client.VerdictReplay || replay.ClaimID == "" {
		t.Errorf("no claim id: %+v", replay)
	}
}

func TestAdmissionVerdicts(t *testing.T) {
	f := newFixture(t)
	a := f.agent("agent-1", fsm.AgentActive)
	good := a.request(testClock, "body")
	stranger := &agent{id: "stranger", key: a.key}
	wrongKey := &agent{id: "agent-1", key: f.agent("agent-2", fsm.AgentActive).key}
	banned := f.agent("banned", fsm.AgentActive)
	if rec := f.admin("POST", "/v1/blacklist", manualBan("banned")); rec.Code != 201 {
		t.Fatal(rec.Body)
	}
	swapped := good
	swapped.BodySHA256 = crypto.Sum([]byte("another body")).String()
	otherPath := good
	otherPath.Path = "/result"
	for name, c := range map[string]struct {
		req  client.AdmissionRequest
		code string
	}{
		"unknown agent":       {stranger.request(testClock, ""), client.VerdictUnknownAgent},
		"pending":             {f.agent("pending", fsm.AgentPending).request(testClock, ""), client.VerdictAgentNotActive},
		"suspended":           {f.agent("suspended", fsm.AgentSuspended).request(testClock, ""), client.VerdictAgentNotActive},
		"banned":              {banned.request(testClock, ""), client.VerdictBlacklisted},
		"other agent's key":   {wrongKey.request(testClock, ""), client.VerdictInvalidSignature},
		"other path":          {otherPath, client.VerdictInvalidSignature},
		"swapped body":        {swapped, client.VerdictInvalidSignature},
		"too old":             {a.request(testClock-120_001, ""), client.VerdictTimestampSkew},
		"too new":             {a.request(testClock+120_001, ""), client.VerdictTimestampSkew},
		"no headers":          {client.AdmissionRequest{Method: "POST", Path: "/"}, client.VerdictMissingHeaders},
		"no nonce":            {with(good, "x-nonce", ""), client.VerdictMissingHeaders},
		"no signature":        {with(good, "x-signature", ""), client.VerdictMissingHeaders},
		"fractional time":     {with(good, "x-timestamp-ms", "1767225600000.5"), client.VerdictMalformed},
		"NaN":                 {with(good, "x-timestamp-ms", "NaN"), client.VerdictMalformed},
		"signed time":         {with(good, "x-timestamp-ms", "+1767225600000"), client.VerdictMalformed},
		"spaced time":         {with(good, "x-timestamp-ms", " 1767225600000"), client.VerdictMalformed},
		"huge time":           {with(good, "x-timestamp-ms", "99999999999999999999"), client.VerdictMalformed},
		"long nonce":          {with(good, "x-nonce", strings.Repeat("n", 129)), client.VerdictMalformed},
		"nonce with newline":  {with(good, "x-nonce", "a\nb"), client.VerdictMalformed},
		"upper-case hash":     {with(good, "x-body-sha256", strings.ToUpper(good.Headers["x-body-sha256"])), client.VerdictMalformed},
		"short signature":     {with(good, "x-signature", "AAAA"), client.VerdictMalformed},
		"control in id":       {with(good, "x-agent-id", "agent\x00"), client.VerdictMalformed},
		"header in two cases": {with(good, "X-Nonce", "other"), client.VerdictMalformed},
		"header in odd case":  {with(with(good, "x-nonce", ""), "X-NONCE", "n"), client.VerdictMalformed},
		"lower-case method":   {client.AdmissionRequest{Method: "post", Path: "/pull", Headers: good.Headers}, client.VerdictMalformed},
		"path without slash":  {client.AdmissionRequest{Method: "POST", Path: "pull", Headers: good.Headers}, client.VerdictMalformed},
		"path with newline":   {client.AdmissionRequest{Method: "POST", Path: "/a\nb", Headers: good.Headers}, client.VerdictMalformed},
	} {
		got := f.admit(c.req)
		if skewed := c.code == client.VerdictTimestampSkew; skewed != (got.NodeClocks == "n1 -7 ms, n2 not heard lately") {
			t.Errorf("%s: clocks told: %q", name, got.NodeClocks)
		}
		if got.Verdict != client.VerdictDenied || got.Code != c.code {
			t.Errorf("%s: %+v, want %s", name, got, c.code)
		}
		if len(got.Detail) < 20 || strings.Contains(got.Detail, "crypto") || strings.Contains(got.Detail, "fsm") {
			t.Errorf("%s: the detail %q helps nobody", name, got.Detail)
		}
		if got.ClaimID == "" || got.Index == 0 || got.ClockMs == 0 {
			t.Errorf("%s: answer lacks claim id, index or clock: %+v", name, got)
		}
	}
	if got := f.admit(with(good, "authorization", "ignored\x01")); got.Code != "ok" {
		t.Errorf("other headers are ignored: %+v", got)
	}
}

// TestEveryDenialHasADetail: a verdict that is a bare code leaves its reader alone.
func TestEveryDenialHasADetail(t *testing.T) {
	for code := range verdictCodes {
		out, failure := admission(&AdmitRequest{}, &AdmitOutcome{Result: fsm.ClaimResult{Code: code, RetryAfterMs: 5}})
		if failure != nil || (out.Detail == "") != (code == fsm.CodeOK) {
			t.Errorf("%s: %+v, %v", code, out, failure)
		}
	}
	f := newFixture(t)
	forger := &agent{id: "agent-1", key: f.node.key}
	f.agent("agent-1", fsm.AgentActive)
	if got := f.admit(forger.request(testClock, "")); !strings.HasPrefix(got.Detail, "the signature does not verify with any enrolled key of this agent") {
		t.Errorf("%+v", got)
	}
}

func TestSkewDenialTellsTimes(t *testing.T) {
	f := newFixture(t)
	a := f.agent("agent-1", fsm.AgentActive)
	for _, ts := range []int64{testClock - 120_000, testClock + 120_000} {
		if got := f.admit(a.request(ts, "")); got.Code != "ok" {
			t.Errorf("at exactly the skew: %+v", got)
		}
	}
	got := f.admit(a.request(testClock-130_000, ""))
	if got.MaxSkewMs != 120_000 || got.ClockMs != testClock || !strings.Contains(got.Detail, "130000 ms behind") || !strings.Contains(got.Detail, "1767225600000") {
		t.Errorf("%+v", got)
	}
	if d := skewDetail(5, 6, 10); !strings.Contains(d, "no longer known") {
		t.Error(d)
	}
}

func TestRateLimitedCarriesRetryAfter(t *testing.T) {
	f := newFixture(t)
	a := f.agent("agent-1", fsm.AgentActive)
	for range 30 {
		if got := f.admit(a.request(testClock, "")); got.Code != "ok" {
			t.Fatalf("%+v", got)
		}
	}
	if got := f.admit(a.request(testClock, "")); got.Code != client.VerdictRateLimited || got.RetryAfterMs <= 0 || !strings.Contains(got.Detail, "rate limit") {
		t.Errorf("%+v", got)
	}
}

func TestAdmissionBodiesAreStrict(t *testing.T) {
	f := newFixture(t)
	verifier := f.tokens[fsm.RoleVerifier]
	for name, c := range map[string]struct{ body, code, field string }{
		"empty":              {``, client.CodeInvalid, "body"},
		"malformed":          {`{"method":`, client.CodeInvalid, "method"},
		"trailing":           {`{"method":"GET","path":"/"} x`, client.CodeInvalid, "body"},
		"unknown":            {`{"method":"GET","path":"/","agent":"a"}`, client.CodeInvalid, "agent"},
		"no method":          {`{"path":"/"}`, client.CodeInvalid, "method"},
		"no path":            {`{"method":"GET"}`, client.CodeInvalid, "path"},
		"header number":      {`{"method":"GET","path":"/","headers":{"x-timestamp-ms":5}}`, client.CodeInvalid, "headers.x-timestamp-ms"},
		"header list":        {`{"method":"GET","path":"/","headers":{"x-nonce":["a"]}}`, client.CodeInvalid, "headers.x-nonce"},
		"header twice":       {`{"method":"GET","path":"/","headers":{"x-nonce":"a","x-nonce":"b"}}`, client.CodeInvalid, "headers.x-nonce"},
		"empty claim id":     {`{"method":"GET","path":"/","claim_id":""}`, client.CodeInvalid, "claim_id"},
		"long claim id":      {`{"method":"GET","path":"/","claim_id":"` + strings.Repeat("c", 129) + `"}`, client.CodeInvalid, "claim_id"},
		"control claim id":   {`{"method":"GET","path":"/","claim_id":"a\u0007"}`, client.CodeInvalid, "claim_id"},
		"body hash not hex":  {`{"method":"GET","path":"/","body_sha256":"zz"}`, client.CodeInvalid, "body_sha256"},
		"oversized":          {`{"method":"GET","path":"/","x":"` + strings.Repeat("a", admissionBytes) + `"}`, client.CodeTooLarge, "body"},
		"oversized by space": {strings.Repeat(" ", admissionBytes+1), client.CodeTooLarge, "body"},
	} {
		t.Run(name, func(t *testing.T) {
			p := wantProblem(t, f.do(ask{method: "POST", path: "/v1/admissions", token: verifier, body: c.body}), c.code, c.field)
			if c.code == client.CodeTooLarge && !strings.Contains(p.Detail, "16384") {
				t.Errorf("detail %q does not name the limit", p.Detail)
			}
		})
	}
}

func TestAdmissionFailuresNameTheClaim(t *testing.T) {
	f := newFixture(t)
	a := f.agent("agent-1", fsm.AgentActive)
	req := a.request(testClock, "")
	for code, status := range map[string]int{client.CodeUnavailable: 503, client.CodeUnknownOutcome: 503, client.CodeOverloaded: 503, client.CodeDiskFull: 507} {
		f.node.admitErr = &client.Error{Code: code, Detail: "not now"}
		req.ClaimID = "mine"
		rec := f.do(ask{method: "POST", path: "/v1/admissions", token: f.tokens[fsm.RoleVerifier], body: req})
		if p := wantProblem(t, rec, code, ""); p.ClaimID != "mine" || rec.Code != status {
			t.Errorf("%s: %d %+v", code, rec.Code, p)
		}
		req.ClaimID = ""
		rec = f.do(ask{method: "POST", path: "/v1/admissions", token: f.tokens[fsm.RoleVerifier], body: req})
		if p := wantProblem(t, rec, code, ""); len(p.ClaimID) != 36 {
			t.Errorf("%s: server-made claim id %q", code, p.ClaimID)
		}
	}
	if f.node.admitErr.ClaimID != "" {
		t.Error("the node's own error was changed")
	}
}

func TestReusedClaimIDIsAConflict(t *testing.T) {
	f := newFixture(t)
	a := f.agent("agent-1", fsm.AgentActive)
	one, two := a.request(testClock, ""), a.request(testClock, "")
	one.ClaimID, two.ClaimID = "same", "same"
	f.admit(one)
	rec := f.do(ask{method: "POST", path: "/v1/admissions", token: f.tokens[fsm.RoleVerifier], body: two})
	if p := wantProblem(t, rec, client.CodeConflict, "claim_id"); p.ClaimID != "same" {
		t.Errorf("%+v", p)
	}
	rec = f.do(ask{method: "POST", path: "/v1/admissions/batch", token: f.tokens[fsm.RoleVerifier], body: client.AdmissionBatch{Requests: []client.AdmissionRequest{two}}})
	got := decodeReply[client.AdmissionResults](t, rec, 200)
	if got.Results[0].Verdict != client.VerdictDenied || got.Results[0].Code != client.CodeConflict {
		t.Errorf("%+v", got.Results[0])
	}
}

func TestBatchKeepsOrder(t *testing.T) {
	f := newFixture(t)
	a, b := f.agent("a", fsm.AgentActive), f.agent("b", fsm.AgentActive)
	first := a.request(testClock, "")
	replay := first
	first.ClaimID = "c1"
	batch := client.AdmissionBatch{Requests: []client.AdmissionRequest{
		first, {Method: "POST", Path: "/"}, b.request(testClock, ""), replay, b.request(testClock-200_000, ""), with(b.request(testClock, ""), "x-nonce", "ü"),
	}}
	got := decodeReply[client.AdmissionResults](t, f.do(ask{method: "POST", path: "/v1/admissions/batch", token: f.tokens[fsm.RoleVerifier], body: batch}), 200)
	want := []string{"ok", client.VerdictMissingHeaders, "ok", client.VerdictReplay, client.VerdictTimestampSkew, client.VerdictMalformed}
	for i, code := range want {
		r := got.Results[i]
		if r.Code != code || r.ClaimID == "" || r.Index == 0 || r.ClockMs == 0 || r.Verdict == "" {
			t.Errorf("%d: %+v, want %s", i, r, code)
		}
	}
	if len(got.Results) != len(want) || got.Results[0].ClaimID != "c1" {
		t.Errorf("%+v", got)
	}
}

func TestBatchBounds(t *testing.T) {
	f := newFixture(t)
	verifier := f.tokens[fsm.RoleVerifier]
	one := `{"method":"POST","path":"/"}`
	batch := func(n int) string {
		return `{"requests":[` + strings.TrimSuffix(strings.Repeat(one+",", n), ",") + `]}`
	}
	post := func(body string) ask {
		return ask{method: "POST", path: "/v1/admissions/batch", token: verifier, body: body}
	}
	if got := decodeReply[client.AdmissionResults](t, f.do(post(batch(1024))), 200); len(got.Results) != 1024 {
		t.Error(len(got.Results))
	}
	if p := wantProblem(t, f.do(post(batch(1025))), client.CodeTooLarge, "requests"); !strings.Contains(p.Detail, "1024") {
		t.Error(p.Detail)
	}
	wantProblem(t, f.do(post(`{"requests":[]}`)), client.CodeInvalid, "requests")
	wantProblem(t, f.do(post(`{}`)), client.CodeInvalid, "requests")
	wantProblem(t, f.do(post(`{"requests":[`+one+`,{"method":"GET","path":1}]}`)), client.CodeInvalid, "requests[1].path")
	wantProblem(t, f.do(post(`{"requests":[],"requests":[]}`)), client.CodeInvalid, "requests")
	wantProblem(t, f.do(post(strings.Repeat(" ", batchBytes+1))), client.CodeTooLarge, "body")
}

func TestBatchFailures(t *testing.T) {
	f := newFixture(t)
	a := f.agent("a", fsm.AgentActive)
	body := client.AdmissionBatch{Requests: []client.AdmissionRequest{a.request(testClock, ""), a.request(testClock, "")}}
	post := ask{method: "POST", path: "/v1/admissions/batch", token: f.tokens[fsm.RoleVerifier], body: body}
	f.node.admitErr = &client.Error{Code: client.CodeUnavailable, Detail: "no leader"}
	wantProblem(t, f.do(post), client.CodeUnavailable, "") // certainly nothing was done
	f.node.admitErr = &client.Error{Code: client.CodeUnknownOutcome, Detail: "leadership lost"}
	for _, r := range decodeReply[client.AdmissionResults](t, f.do(post), 200).Results {
		if r.Verdict != "" || r.Code != client.CodeUnknownOutcome || r.ClaimID == "" {
			t.Errorf("%+v", r)
		}
	}
}

// TestRevokedTokenIsRefusedInApply covers a replica that lags: authentication
// passes here, the log decides.
func TestRevokedTokenIsRefusedInApply(t *testing.T) {
	f := newFixture(t)
	a := f.agent("a", fsm.AgentActive)
	f.node.held = true
	f.node.mustApply(f.actor(), fsm.TokenRevoke{ID: must(crypto.ParseTokenText(f.tokens[fsm.RoleVerifier])).ID})
	req := a.request(testClock, "")
	wantProblem(t, f.do(ask{method: "POST", path: "/v1/admissions", token: f.tokens[fsm.RoleVerifier], body: req}), client.CodeUnauthorized, "")
	wantProblem(t, f.do(ask{method: "POST", path: "/v1/admissions/batch", token: f.tokens[fsm.RoleVerifier],
		body: client.AdmissionBatch{Requests: []client.AdmissionRequest{req}}}), client.CodeUnauthorized, "")
}

func TestAppendAdmissionIsEncodingJSON(t *testing.T) {
	for _, a := range []client.Admission{
		{},
		{Verdict: "admitted", Code: "ok", AgentID: "a\"<ü>\u2028", Index: 1, ClockMs: 2, ClaimID: "c", Repeated: true},
		{Verdict: "denied", Code: "rate_limited", RetryAfterMs: 5, MaxSkewMs: 6, Detail: "a\nb", Index: 1 << 63},
	} {
		var back client.Admission
		if err := json.Unmarshal(appendAdmission(nil, &a), &back); err != nil || !reflect.DeepEqual(a, back) {
			t.Errorf("%+v: %s %v", a, appendAdmission(nil, &a), err)
		}
		var got, want map[string]any
		_ = json.Unmarshal(appendAdmission(nil, &a), &got)
		_ = json.Unmarshal(must(json.Marshal(a)), &want)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("members differ: %v, want %v", got, want)
		}
	}
}
