package api

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

var someEvidence = crypto.Sum([]byte("evidence")).String()

func manualBan(agentID string) client.BanRequest {
	return client.BanRequest{AgentID: agentID, ReasonCode: "manual_review", Reason: "operator decision", EvidenceSHA256: someEvidence, ReporterID: "ops"}
}

// report is a ban that its reporter signed.
func (a *agent) report(agentID string) client.BanRequest {
	req := client.BanRequest{AgentID: agentID, ReasonCode: "forged_results", Reason: "outputs don't match — \"<html>\" & ünï", EvidenceSHA256: someEvidence,
		ReporterID: a.id, TimestampMs: testClock - 5}
	evidence := crypto.ReporterEvidence{AgentID: req.AgentID, ReasonCode: req.ReasonCode, Reason: req.Reason,
		EvidenceHashSHA256: req.EvidenceSHA256, ReporterID: req.ReporterID, TimestampMs: req.TimestampMs}
	req.ReporterSignature = b64(ed25519.Sign(a.key, evidence.Canonical()))
	req.ReporterPublicKey = crypto.PublicOf(a.key).PEM()
	return req
}

func TestBanAndLift(t *testing.T) {
	f := newFixture(t)
	change := decodeReply[client.BlacklistChange](t, f.admin("POST", "/v1/blacklist", manualBan("bad")), 201)
	event := must(crypto.ParseBlacklistEvent(change.Event))
	if change.Size != 1 || change.ChainHead != event.EventHash || change.EventID != event.EventID || change.Index == 0 ||
		event.TimestampMs != testClock || event.EvidenceSignatureVerified || event.ReportedBy != "token:"+f.actor().TokenID {
		t.Fatalf("%+v %+v", change, event)
	}
	ban := decodeReply[client.Ban](t, f.admin("GET", "/v1/blacklist/agents/bad", nil), 200)
	if ban.EventHash != event.EventHash || string(ban.Event) != string(change.Event) || ban.Seq != 1 {
		t.Errorf("%+v", ban)
	}
	lift := decodeReply[client.BlacklistChange](t, f.admin("DELETE", "/v1/blacklist/agents/bad", client.LiftRequest{Reason: "appeal granted"}), 200)
	lifted := must(crypto.ParseBlacklistEvent(lift.Event))
	if lifted.EvidenceHashSHA256 != event.EventHash || lifted.ReasonCode != "manual_review" || *lifted.ExpiresAtMs != lifted.TimestampMs-1 || lift.Size != 2 {
		t.Errorf("%+v", lifted)
	}
	wantProblem(t, f.admin("GET", "/v1/blacklist/agents/bad", nil), client.CodeNotFound, "")
	wantProblem(t, f.admin("DELETE", "/v1/blacklist/agents/bad", client.LiftRequest{Reason: "again please"}), client.CodeNotFound, "agent_id")
	wantProblem(t, f.admin("DELETE", "/v1/blacklist/agents/bad", client.LiftRequest{}), client.CodeInvalid, "reason")
}

func TestBanRefusals(t *testing.T) {
	f := newFixture(t)
	reporter := f.agent("reporter", fsm.AgentActive)
	other := f.agent("other", fsm.AgentActive)
	pending := f.agent("pending", fsm.AgentPending)
	stranger := &agent{id: "stranger", key: other.key}
	manual := func(change func(*client.BanRequest)) client.BanRequest { r := manualBan("bad"); change(&r); return r }
	signed := func(a *agent, change func(*client.BanRequest)) client.BanRequest {
		r := a.report("bad")
		change(&r)
		return r
	}
	none := func(*client.BanRequest) {}
	for name, c := range map[string]struct {
		req   client.BanRequest
		field string
	}{
		"evidence not hex":      {manual(func(r *client.BanRequest) { r.EvidenceSHA256 = strings.Repeat("Z", 64) }), "evidence_sha256"},
		"evidence upper case":   {manual(func(r *client.BanRequest) { r.EvidenceSHA256 = strings.ToUpper(someEvidence) }), "evidence_sha256"},
		"evidence short":        {manual(func(r *client.BanRequest) { r.EvidenceSHA256 = someEvidence[1:] }), "evidence_sha256"},
		"unknown reason code":   {manual(func(r *client.BanRequest) { r.ReasonCode = "tampered_binary" }), "reason_code"},
		"no reporter":           {manual(func(r *client.BanRequest) { r.ReporterID = "" }), "reporter_id"},
		"no agent":              {manual(func(r *client.BanRequest) { r.AgentID = "" }), "agent_id"},
		"short reason":          {manual(func(r *client.BanRequest) { r.Reason = "ab" }), "reason"},
		"long reason":           {manual(func(r *client.BanRequest) { r.Reason = strings.Repeat("x", 1025) }), "reason"},
		"expired already":       {manual(func(r *client.BanRequest) { r.ExpiresAtMs = testClock }), "expires_at_ms"},
		"expires at its time":   {manual(func(r *client.BanRequest) { r.TimestampMs, r.ExpiresAtMs = testClock+110_000, testClock+110_000 }), "expires_at_ms"},
		"expires before it":     {manual(func(r *client.BanRequest) { r.TimestampMs, r.ExpiresAtMs = testClock+110_000, testClock+109_000 }), "expires_at_ms"},
		"negative expiry":       {manual(func(r *client.BanRequest) { r.ExpiresAtMs = -1 }), "expires_at_ms"},
		"old timestamp":         {manual(func(r *client.BanRequest) { r.TimestampMs = testClock - 120_001 }), "timestamp_ms"},
		"negative timestamp":    {manual(func(r *client.BanRequest) { r.TimestampMs = -1 }), "timestamp_ms"},
		"unsigned":              {manual(func(r *client.BanRequest) { r.ReasonCode = "abuse_spam" }), "reporter_signature"},
		"key without signature": {signed(reporter, func(r *client.BanRequest) { r.ReporterSignature = "" }), "reporter_signature"},
		"no timestamp":          {signed(reporter, func(r *client.BanRequest) { r.TimestampMs = 0 }), "timestamp_ms"},
		"other timestamp":       {signed(reporter, func(r *client.BanRequest) { r.TimestampMs++ }), "reporter_signature"},
		"other reason":          {signed(reporter, func(r *client.BanRequest) { r.Reason += "!" }), "reporter_signature"},
		"other agent":           {signed(reporter, func(r *client.BanRequest) { r.AgentID = "innocent" }), "reporter_signature"},
		"signature not base64":  {signed(reporter, func(r *client.BanRequest) { r.ReporterSignature = "!" }), "reporter_signature"},
		"key not pem":           {signed(reporter, func(r *client.BanRequest) { r.ReporterPublicKey = "key" }), "reporter_public_key"},
		"somebody else's key":   {signed(reporter, func(r *client.BanRequest) { r.ReporterPublicKey = crypto.PublicOf(other.key).PEM() }), "reporter_public_key"},
		"reporter not enrolled": {signed(stranger, none), "reporter_public_key"},
		"not enrolled, no key":  {signed(stranger, func(r *client.BanRequest) { r.ReporterPublicKey = "" }), "reporter_id"},
		"reporter not active":   {signed(pending, none), "reporter_id"},
		"manual, bad signature": {signed(reporter, func(r *client.BanRequest) { r.ReasonCode = "manual_review" }), "reporter_signature"},
	} {
		t.Run(name, func(t *testing.T) {
			wantProblem(t, f.admin("POST", "/v1/blacklist", c.req), client.CodeInvalid, c.field)
		})
	}
	if _, size := f.node.leader.Chain(); size != 0 {
		t.Errorf("refused bans made %d events", size)
	}
}

func TestSignedReport(t *testing.T) {
	f := newFixture(t)
	reporter := f.agent("reporter", fsm.AgentActive)
	for i, change := range []func(*client.BanRequest){
		func(*client.BanRequest) {},
		func(r *client.BanRequest) { r.ReporterPublicKey = strings.TrimSpace(r.ReporterPublicKey) },
		func(r *client.BanRequest) { r.ReporterPublicKey = "" }, // looked up
	} {
		req := reporter.report(fmt.Sprintf("bad-%d", i))
		change(&req)
		out := decodeReply[client.BlacklistChange](t, f.admin("POST", "/v1/blacklist", req), 201)
		event := must(crypto.ParseBlacklistEvent(out.Event))
		if !event.EvidenceSignatureVerified || event.TimestampMs != testClock-5 || event.VerifyReporter() != nil {
			t.Errorf("%+v: %v", event, event.VerifyReporter())
		}
	}
}

func TestReporterEnrolledElsewhere(t *testing.T) {
	f := newFixture(t)
	f.node.held = true
	req := f.agent("reporter", fsm.AgentActive).report("bad")
	if rec := f.admin("POST", "/v1/blacklist", req); rec.Code != 201 || f.node.strong == 0 {
		t.Errorf("%d after %d strong reads: %s", rec.Code, f.node.strong, rec.Body)
	}
}

func TestBanIdempotency(t *testing.T) {
	f := newFixture(t)
	first := decodeReply[client.BlacklistChange](t, f.withKey("POST", "/v1/blacklist", "k", manualBan("bad")), 201)
	again := decodeReply[client.BlacklistChange](t, f.withKey("POST", "/v1/blacklist", "k", manualBan("bad")), 201)
	if !again.Repeated || again.EventID != first.EventID || again.Index != first.Index || again.Event != nil {
		t.Errorf("%+v", again)
	}
	wantProblem(t, f.withKey("POST", "/v1/blacklist", "k", manualBan("other")), client.CodeConflict, "")
	lift := client.LiftRequest{Reason: "appeal granted"}
	one := decodeReply[client.BlacklistChange](t, f.withKey("DELETE", "/v1/blacklist/agents/bad", "l", lift), 200)
	two := decodeReply[client.BlacklistChange](t, f.withKey("DELETE", "/v1/blacklist/agents/bad", "l", lift), 200)
	if !two.Repeated || two.EventID != one.EventID {
		t.Errorf("a lift asked for again: %+v", two)
	}
}

// TestLiftFollowsTheBanInForce covers a replica that has not heard of the ban,
// and one that knows an older ban than the one in force.
func TestLiftFollowsTheBanInForce(t *testing.T) {
	f := newFixture(t)
	f.node.held = true
	f.admin("POST", "/v1/blacklist", manualBan("bad"))
	lift := client.LiftRequest{Reason: "appeal granted"}
	if rec := f.admin("DELETE", "/v1/blacklist/agents/bad", lift); rec.Code != 200 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	f.admin("POST", "/v1/blacklist", manualBan("bad"))
	f.node.catchUp()
	f.admin("POST", "/v1/blacklist", manualBan("bad"))
	if rec := f.admin("DELETE", "/v1/blacklist/agents/bad", lift); rec.Code != 200 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
}

func TestBlacklistPages(t *testing.T) {
	f := newFixture(t)
	for i := range 5 {
		f.admin("POST", "/v1/blacklist", manualBan(fmt.Sprintf("bad-%d", i)))
	}
	page := decodeReply[client.Bans](t, f.admin("GET", "/v1/blacklist?limit=3", nil), 200)
	rest := decodeReply[client.Bans](t, f.admin("GET", "/v1/blacklist?after="+page.Next, nil), 200)
	if len(page.Bans) != 3 || len(rest.Bans) != 2 || rest.Next != "" || page.Size != 5 || page.ChainHead != rest.ChainHead {
		t.Errorf("%+v %+v", page, rest)
	}
	verifier := crypto.NewChainVerifier(map[string]crypto.PublicKey{crypto.PublicOf(f.node.key).CoordinatorID(): crypto.PublicOf(f.node.key)})
	head := ""
	for from := uint64(1); from != 0; {
		p := decodeReply[client.ChainPage](t, f.admin("GET", fmt.Sprintf("/v1/blacklist/events?from=%d&limit=2", from), nil), 200)
		for _, e := range p.Events {
			if err := verifier.Add(must(crypto.ParseBlacklistEvent(e.Event))); err != nil {
				t.Fatal(err)
			}
		}
		from, head = p.Next, p.ChainHead
	}
	if err := verifier.Finish(head); err != nil || verifier.Size() != 5 {
		t.Errorf("%d events: %v", verifier.Size(), err)
	}
	if p := decodeReply[client.ChainPage](t, f.admin("GET", "/v1/blacklist/events?from=6", nil), 200); len(p.Events) != 0 || p.Size != 5 || p.Next != 0 {
		t.Errorf("%+v", p)
	}
}
