package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// TestGoClientSpeaksEveryRoute calls every route through the Go client.
// notForTheClient are the routes that others speak: existing agents and peers,
// Prometheus, readers of the document.
var notForTheClient = map[string]bool{
	"/register": true, "/heartbeat": true, "/pull": true, "/result": true, "/submit": true,
	"/mesh/register-peer": true, "/mesh/ingest": true, "/v1/openapi.json": true, "/metrics": true,
}

func TestGoClientSpeaksEveryRoute(t *testing.T) {
	f := newFixtureAt(t, fsm.LevelLedger)
	var mu sync.Mutex
	reached := map[*route]bool{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rt, _, err := f.server.router.find(r.Method, r.URL); err == nil {
			mu.Lock()
			reached[rt] = true
			mu.Unlock()
		}
		f.server.Handler().ServeHTTP(w, r)
	}))
	defer srv.Close()
	c := must(client.New(client.Config{Addrs: []string{srv.URL}, Token: f.tokens[fsm.RoleAdmin]}))
	ctx := context.Background()
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("health", c.Health(ctx))
	check("ready", c.Ready(ctx))
	_, err := c.Status(ctx, client.Strong())
	check("status", err)
	_, err = c.Members(ctx)
	check("members", err)
	_, err = c.Peers(ctx)
	check("peers", err)
	question := client.AuditQuery{Type: "ban", Level: "HIGH", Actor: "a", SinceMs: 5, Limit: 7, Cursor: "x"}
	_, err = c.AuditEvents(ctx, question)
	check("audit events", err)
	if f.node.auditQuery != question {
		t.Errorf("audit events: %+v arrived", f.node.auditQuery)
	}
	_, err = c.AuditHeads(ctx)
	check("audit heads", err)
	_, err = c.RemovePeer(ctx, "n9", true)
	if e, ok := err.(*client.Error); !ok || e.Code != client.CodeNotFound {
		t.Errorf("remove peer: %v", err)
	}
	_, err = c.TransferLeader(ctx, "")
	check("transfer", err)
	_, err = c.Clocks(ctx, client.Strong())
	check("clocks", err)
	_, err = c.RecoverClock(ctx, client.ClockRecovery{Reason: "why"})
	if e, ok := err.(*client.Error); !ok || e.Code != client.CodeConflict {
		t.Errorf("recover a clock that is right: %v", err)
	}
	p, err := c.Policy(ctx)
	check("policy", err)
	yes := true
	_, err = c.SetPolicy(ctx, p.Version, client.PolicyUpdate{AutoApprove: &yes})
	check("set policy", err)
	tok, err := c.CreateToken(ctx, client.TokenRequest{Role: "agent"})
	check("create token", err)
	_, err = c.Tokens(ctx, client.Page("", 5))
	check("tokens", err)
	key := must(crypto.GenerateKey(rand.Reader))
	id := "a/b c%ü"
	_, err = c.Enroll(ctx, enrolment(id, tok.Token, key))
	check("enroll", err)
	_, err = c.RevokeToken(ctx, tok.ID)
	check("revoke token", err)
	_, err = c.Agents(ctx)
	check("agents", err)
	_, err = c.SuspendAgent(ctx, id)
	check("suspend", err)
	_, err = c.ApproveAgent(ctx, id)
	check("approve", err)
	a, err := c.Agent(ctx, id)
	check("agent", err)
	if a.AgentID != id || a.State != "active" {
		t.Errorf("%+v", a)
	}
	worker := &agent{id: id, key: key}
	out, err := c.Admit(ctx, worker.request(testClock, ""))
	check("admit", err)
	if out.Verdict != client.VerdictAdmitted {
		t.Errorf("%+v", out)
	}
	_, err = c.AdmitBatch(ctx, []client.AdmissionRequest{worker.request(testClock, "")})
	check("batch", err)
	_, err = c.Ban(ctx, worker.report("bad"))
	check("ban", err)
	_, err = c.Bans(ctx)
	check("bans", err)
	_, err = c.BanOn(ctx, "bad")
	check("ban on", err)
	_, err = c.ChainEvents(ctx, 1, 10)
	check("events", err)
	_, err = c.Checkpoint(ctx)
	check("checkpoint", err)
	_, err = c.ProveInclusion(ctx, 1, 0)
	check("inclusion", err)
	_, err = c.ProveConsistency(ctx, 0, 0)
	check("consistency", err)
	_, err = c.CosignerSets(ctx, 1, 10)
	check("cosigners", err)
	_, err = c.Enforcement(ctx, 1, client.EnforcedAll, 0)
	check("enforcement", err)
	_, err = c.SyncBlacklist(ctx, "", func(d client.BlacklistDelta) error {
		if len(d.New) != 1 || d.New[0].AgentID != "bad" || !d.Reset {
			t.Errorf("%+v", d)
		}
		return nil
	})
	check("delta", err)
	for e, err := range c.Events(ctx, client.EventFilter{After: client.EventStart, Types: []string{client.EventBan}}) {
		check("follow events", err)
		if e.Subject != "bad" || e.ID == "" {
			t.Errorf("%+v", e)
		}
		break
	}
	_, err = c.Lift(ctx, "bad", "appeal granted")
	check("lift", err)
	_, err = c.RevokeAgent(ctx, id)
	check("revoke", err)
	_, err = c.Identity(ctx)
	check("identity", err)
	_, err = c.MeshPeers(ctx)
	check("mesh peers", err)
	cas, err := c.CAs(ctx)
	check("CAs", err)
	if len(cas.CAs) != 1 || cas.CAs[0].State != "active" || !strings.Contains(cas.Bundle(), "BEGIN CERTIFICATE") {
		t.Errorf("CAs: %+v", cas)
	}
	_, err = c.MeshBan(ctx, client.MeshBanRequest{AgentID: "bad", ReasonCode: "manual_review", Reason: "why not", EvidenceHashSHA256: someEvidence})
	check("mesh ban", err)
	_, err = c.MeshBlacklist(ctx)
	check("mesh blacklist", err)
	_, err = c.Audit(ctx, func(json.RawMessage) error { return nil })
	check("audit", err)
	manifestRoutes(t, f, c)
	keyRoutes(t, c)
	ledgerRoutes(t, f, c)
	_, err = c.Snapshot(ctx, io.Discard)
	check("snapshot", err)
	f.node.leads = &client.Leader{ID: "node-1", API: srv.URL}
	backup := client.Backup{ReaderAt: strings.NewReader("backup"), Size: 6}
	plan, err := c.RestorePlan(ctx, backup)
	check("restore plan", err)
	_, err = c.Restore(ctx, backup, client.RestoreOrder{Confirm: plan.Confirm})
	check("restore", err)
	for _, candidates := range f.server.router.fixed {
		for _, rt := range candidates {
			if !reached[rt] && !notForTheClient[rt.pattern] {
				t.Errorf("the client has no method for %s %s", rt.method, rt.pattern)
			}
		}
	}
	for _, list := range f.server.router.patterns {
		for _, rt := range list {
			if !reached[rt] {
				t.Errorf("the client has no method for %s %s", rt.method, rt.pattern)
			}
		}
	}
}

// TestBodyWithoutLength covers chunked bodies.
func TestBodyWithoutLength(t *testing.T) {
	f := newFixture(t)
	for body, status := range map[string]int{`{"role":"viewer"}`: 201, strings.Repeat(" ", bodyBytes+1): 413} {
		req := httptest.NewRequest("POST", "/v1/tokens", strings.NewReader(body))
		req.ContentLength = -1
		req.Header.Set("Authorization", "Bearer "+f.tokens[fsm.RoleAdmin])
		rec := httptest.NewRecorder()
		f.server.Handler().ServeHTTP(rec, req)
		if rec.Code != status {
			t.Errorf("%d bytes: %d, want %d", len(body), rec.Code, status)
		}
	}
}
