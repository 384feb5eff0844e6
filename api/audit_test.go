package api

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// events returns what was recorded since the last call.
func (n *fakeNode) events() []AuditEvent {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := n.audited
	n.audited = nil
	return out
}

// oneEvent asks and wants exactly one event for it.
func (f *fixture) oneEvent(a ask) (AuditEvent, int) {
	f.t.Helper()
	f.node.events()
	rec := f.do(a)
	got := f.node.events()
	if len(got) != 1 {
		f.t.Fatalf("%s %s: %d %s: %d events: %+v", a.method, a.path, rec.Code, rec.Body, len(got), got)
	}
	if got[0].RequestID != rec.Header().Get(headerRequestID) {
		f.t.Errorf("%s %s: the event is of request %q, the answer of %q", a.method, a.path, got[0].RequestID, rec.Header().Get(headerRequestID))
	}
	return got[0], rec.Code
}

// TestEveryRouteLeavesOneTrace walks the table: each refused credential, each
// refused role and each governing call of an admin is one event.
func TestEveryRouteLeavesOneTrace(t *testing.T) {
	f := newFixture(t)
	governed := 0
	for _, rt := range f.server.table() {
		if rt.class == classHealth || rt.class == classEvents {
			continue
		}
		name := rt.method + " " + rt.pattern
		path := strings.NewReplacer("{peer}", "nobody", "{id}", "nobody", "{agent}", "nobody", "{name}", "nobody", "{subject}", "agent%2Fnobody").Replace(rt.pattern)
		if rt.access == byToken {
			e, _ := f.oneEvent(ask{method: rt.method, path: path})
			if e.Type != "failed_auth" || e.Code != client.CodeUnauthorized || e.Actor.Proved || e.Actor.Kind != "address" || e.Action != name {
				t.Errorf("%s without a token: %+v", name, e)
			}
			e, _ = f.oneEvent(ask{method: rt.method, path: path, token: f.tokens[fsm.RoleAgent]})
			if e.Type != "access_denied" || e.Code != client.CodeForbidden || !e.Actor.Proved || e.Actor.Kind != "token" {
				t.Errorf("%s as agent: %+v", name, e)
			}
		}
		if !rt.governs() {
			continue
		}
		governed++
		want, ok := changes[name]
		if !ok {
			want.typ = "admin_action"
		}
		if e, status := f.oneEvent(ask{method: rt.method, path: path, token: f.tokens[fsm.RoleAdmin]}); e.Type != want.typ || (e.Code == "ok") != (status < 300) {
			t.Errorf("%s as admin: %d %+v", name, status, e)
		}
	}
	if governed < 15 {
		t.Errorf("only %d routes govern", governed)
	}
	for name := range changes {
		if _, ok := matrix[name]; !ok {
			t.Errorf("%q names no route", name)
		}
	}
}

func TestEveryErrorCodeIsOneEvent(t *testing.T) {
	f := newFixture(t)
	for _, code := range []string{client.CodeNotFound, client.CodeConflict, client.CodeInvalid, client.CodeTooLarge, client.CodeRateLimited, client.CodeOverloaded,
		client.CodeUnavailable, client.CodeUnknownOutcome, client.CodeDiskFull, client.CodeInternal, client.CodeUnauthorized, client.CodeForbidden} {
		f.node.proposeErr = &client.Error{Code: code, Detail: "because"}
		e, _ := f.oneEvent(ask{method: "POST", path: "/v1/agents/a/approve", token: f.tokens[fsm.RoleAdmin]})
		want := "agent_approve"
		if own, ok := refusedEvents[code]; ok {
			want = own.typ
		}
		if e.Code != code || e.Type != want || e.Details["subject"] != "a" {
			t.Errorf("%s: %+v", code, e)
		}
	}
}

func TestChangesAreRecordedWithWhoAndWhat(t *testing.T) {
	f := newFixture(t)
	f.agent("agent-1", fsm.AgentActive)
	e, status := f.oneEvent(ask{method: "POST", path: "/v1/blacklist", token: f.tokens[fsm.RoleOperator], body: map[string]any{
		"agent_id": "agent-1", "reason_code": "manual_review", "reason": "because of this", "evidence_sha256": strings.Repeat("ab", 32), "reporter_id": "ops"}})
	if status != http.StatusCreated || e.Type != "ban" || e.Code != "ok" || e.Details["subject"] != "agent-1" || e.Details["role"] != "operator" || e.Index == 0 {
		t.Errorf("%d %+v", status, e)
	}
	e, _ = f.oneEvent(ask{method: "POST", path: "/v1/tokens", token: f.tokens[fsm.RoleAdmin], body: map[string]any{"role": "viewer"}})
	if e.Type != "token_create" || e.Details["result"] == "" {
		t.Errorf("%+v", e)
	}
	e, _ = f.oneEvent(ask{method: "DELETE", path: "/v1/tokens/" + f.tokens[fsm.RoleViewer], token: f.tokens[fsm.RoleAdmin]})
	for _, text := range append([]string{e.Actor.ID, e.Action}, e.Details["subject"], e.Details["field"], e.Details["reason"]) {
		if strings.Contains(text, tokenMark) {
			t.Errorf("the text of a token is in %+v", e)
		}
	}
	if !strings.HasPrefix(f.tokens[fsm.RoleViewer], tokenMark) {
		t.Errorf("tokens do not begin with %q any more", tokenMark)
	}
	f.node.events()
	if rec := f.do(ask{method: "GET", path: "/v1/policy", token: f.tokens[fsm.RoleAdmin]}); rec.Code != 200 || len(f.node.events()) != 0 {
		t.Error("a read that was answered is an event")
	}
}

func TestWithoutAuditNothingChanges(t *testing.T) {
	f := newFixture(t)
	a := f.agent("agent-1", fsm.AgentActive)
	f.node.auditErr = errors.New("no space left")
	for _, rt := range f.server.table() {
		if !rt.governs() {
			continue
		}
		path := strings.NewReplacer("{peer}", "nobody", "{id}", "agent-1", "{agent}", "agent-1", "{name}", "nobody", "{subject}", "agent%2Fnobody").Replace(rt.pattern)
		before := f.node.index
		rec := f.do(ask{method: rt.method, path: path, token: f.tokens[fsm.RoleAdmin]})
		if rec.Code != http.StatusServiceUnavailable || f.node.index != before {
			t.Errorf("%s %s: %d, index %d to %d", rt.method, rt.pattern, rec.Code, before, f.node.index)
		}
		if strings.HasPrefix(path, "/v1/") && !strings.Contains(rec.Body.String(), `"reason":"audit"`) {
			t.Errorf("%s %s: %s", rt.method, rt.pattern, rec.Body)
		}
	}
	if rec := f.do(ask{method: "GET", path: "/v1/policy", token: f.tokens[fsm.RoleAdmin]}); rec.Code != 200 {
		t.Errorf("a read: %d", rec.Code)
	}
	if rec := f.do(ask{method: "POST", path: "/v1/admissions", token: f.tokens[fsm.RoleVerifier], body: a.request(testClock, "x")}); rec.Code != 200 || !strings.Contains(rec.Body.String(), "admitted") {
		t.Errorf("an admission: %d %s", rec.Code, rec.Body)
	}
}

func TestAChangeThatCouldNotBeRecordedIsNoSuccess(t *testing.T) {
	f := newFixture(t)
	f.agent("agent-1", fsm.AgentPending)
	f.node.auditNowErr = errors.New("no space left")
	rec := f.do(ask{method: "POST", path: "/v1/agents/agent-1/approve", token: f.tokens[fsm.RoleAdmin]})
	p := wantProblem(t, rec, client.CodeUnknownOutcome, "")
	if p.Reason != "audit" || p.IdempotencyKey == "" {
		t.Errorf("%+v", p)
	}
}

func TestDenialsAreEventsAndAdmissionsAreNone(t *testing.T) {
	f := newFixture(t)
	a := f.agent("agent-1", fsm.AgentActive)
	verifier := f.tokens[fsm.RoleVerifier]
	req := a.request(testClock, "x")
	f.node.events()
	f.do(ask{method: "POST", path: "/v1/admissions", token: verifier, body: req})
	if got := f.node.events(); len(got) != 0 {
		t.Errorf("an admitted request: %+v", got)
	}
	e, _ := f.oneEvent(ask{method: "POST", path: "/v1/admissions", token: verifier, body: req})
	if e.Type != "replay_attempt" || e.Level != auditHigh || e.Code != client.VerdictReplay || e.Actor != (client.AuditActor{Kind: "agent", ID: "agent-1", Proved: true}) {
		t.Errorf("a replay: %+v", e)
	}
	stranger := &agent{id: "nobody", key: a.key}
	e, _ = f.oneEvent(ask{method: "POST", path: "/v1/admissions", token: verifier, body: stranger.request(testClock, "y")})
	if e.Code != client.VerdictUnknownAgent || e.Actor.Proved || e.Actor.ID != "nobody" || e.Details["asked_by"] == "" {
		t.Errorf("an unknown agent: %+v", e)
	}
	e, _ = f.oneEvent(ask{method: "POST", path: "/v1/admissions", token: verifier, body: client.AdmissionRequest{Method: "GET", Path: "/x"}})
	if e.Code != client.VerdictMissingHeaders || e.Actor.Kind != "token" {
		t.Errorf("missing headers: %+v", e)
	}
	f.node.events()
	f.do(ask{method: "POST", path: "/v1/admissions/batch", token: verifier, body: client.AdmissionBatch{Requests: []client.AdmissionRequest{
		req, a.request(testClock, "z"), {Method: "GET", Path: "/x"}}}})
	if got := f.node.events(); len(got) != 2 {
		t.Errorf("a batch with two denials: %+v", got)
	}
	for code := range denied {
		if kept := denied[code]; kept.typ == "" || kept.level == "" {
			t.Errorf("%s: %+v", code, kept)
		}
	}
}

func TestAuditQuestionsAreChecked(t *testing.T) {
	f := newFixture(t)
	viewer := f.tokens[fsm.RoleViewer]
	if rec := f.do(ask{method: "GET", path: "/v1/audit/events?since_ms=5&type=ban&level=HIGH&actor=a&limit=7&cursor=x", token: viewer}); rec.Code != 200 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	if want := (client.AuditQuery{SinceMs: 5, Type: "ban", Level: "HIGH", Actor: "a", Limit: 7, Cursor: "x"}); f.node.auditQuery != want {
		t.Errorf("%+v", f.node.auditQuery)
	}
	for query, field := range map[string]string{"level=strong": "level", "type=": "type", "actor=%0A": "actor", "since_ms=-1": "since_ms", "limit=0": "limit", "limit=1001": "limit",
		"cursor=" + strings.Repeat("x", maxCursor+1): "cursor", "nonsense=1": "nonsense"} {
		wantProblem(t, f.do(ask{method: "GET", path: "/v1/audit/events?" + query, token: viewer}), client.CodeInvalid, field)
	}
	heads := decodeReply[client.AuditHeads](t, f.do(ask{method: "GET", path: "/v1/audit/heads", token: viewer}), 200)
	if len(heads.Heads) != 1 || heads.Heads[0].Seq != 7 {
		t.Errorf("%+v", heads)
	}
}
