package api

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// keyRoutes calls the routes of keys through the Go client. The cluster of the
// fixture is below their level, so changes are refused with a conflict.
func keyRoutes(t *testing.T, c *client.Client) {
	t.Helper()
	list, err := c.KeyList(t.Context(), "coordinator", client.Page("", 5))
	if err != nil || len(list.Keys) != 1 || list.Keys[0].Subject != "coordinator/node-1" {
		t.Errorf("keys: %+v, %v", list, err)
	}
	one, err := c.Keys(t.Context(), "coordinator/node-1", client.Strong())
	if err != nil || one.KeyID == "" || one.Schedule.PeriodMs == 0 {
		t.Errorf("keys of one: %+v, %v", one, err)
	}
	byName, err := c.Keys(t.Context(), "coordinator/"+one.Name)
	if err != nil || one.Name == "" || byName.Subject != one.Subject || byName.KeyID != one.KeyID {
		t.Errorf("keys of the node named %q: %+v, %v", one.Name, byName, err)
	}
	past, err := c.KeyPast(t.Context(), "coordinator/node-1")
	if err != nil || len(past.Keys) != 1 || past.Keys[0].How != "genesis" || past.Keys[0].PublicKey == "" {
		t.Errorf("the past of one: %+v, %v", past, err)
	}
	d, err := c.KeySchedule(t.Context(), "agent")
	if err != nil || d.Version != 0 || d.OverlapMs == 0 {
		t.Errorf("schedule: %+v, %v", d, err)
	}
	_, rotated := c.RotateKey(t.Context(), "coordinator/"+one.Name, client.RotateRequest{})
	_, revoked := c.RevokeKey(t.Context(), "coordinator/node-1", client.RevokeKeyRequest{KeyID: one.KeyID})
	_, set := c.SetKeySchedule(t.Context(), "agent", 0, client.KeyScheduleUpdate{})
	for what, err := range map[string]error{"rotate": rotated, "revoke": revoked, "schedule": set} {
		if e, ok := err.(*client.Error); !ok || e.Code != client.CodeConflict {
			t.Errorf("%s below the level: %v", what, err)
		}
	}
}

// keyFixture is a cluster at LevelKeys with an active agent.
func keyFixture(t *testing.T) (*fixture, *agent) {
	f := newFixtureAt(t, fsm.LevelKeys)
	a := f.agent("a/ü", fsm.AgentActive)
	f.passes(1000)
	return f, a
}

// passes moves the clock of the cluster and of the server.
func (f *fixture) passes(ms int64) {
	for ms > 0 {
		step := min(ms, fsm.MaxAheadMs)
		f.node.nowMs += step
		ms -= step
		f.node.mustApply(fsm.Actor{}, fsm.Tick{})
	}
}

func (a *agent) path(what string) string {
	return "/v1/keys/" + url.PathEscape("agent/"+a.id) + what
}

func (a *agent) rotation(f *fixture, next crypto.PrivateKey, notBeforeMs int64) client.RotateRequest {
	return client.SignRotation(clusterID, "agent/"+a.id, a.key, next, notBeforeMs, f.node.nowMs)
}

func (f *fixture) verdict(a *agent) string {
	f.t.Helper()
	r := a.request(f.node.nowMs, "")
	rec := f.do(ask{method: "POST", path: "/v1/admissions", token: f.tokens[fsm.RoleVerifier], body: r})
	return decodeReply[client.Admission](f.t, rec, 200).Code
}

// TestW2AgentRotatesByItsCurrentKey: the order is the credential; both keys verify
// in the overlap and neither outside its window.
func TestW2AgentRotatesByItsCurrentKey(t *testing.T) {
	f, a := keyFixture(t)
	next := &agent{id: a.id, key: must(crypto.GenerateKey(rand.Reader))}
	f.node.mustApply(f.actor(), fsm.KeyScheduleSet{Subject: "agent", Schedule: fsm.Schedule{OverlapMs: fsm.MinOverlapMs}}) // less than a window
	decodeReply[client.KeysChanged](t, f.do(ask{method: "POST", path: a.path("/rotate"), token: f.tokens[fsm.RoleOperator]}), 200)
	if k := decodeReply[client.Keys](t, f.admin("GET", a.path(""), nil), 200); !k.Due || k.AskedMs == 0 || len(k.Keys) != 1 {
		t.Fatalf("asked: %+v", k)
	}
	order := a.rotation(f, next.key, f.node.nowMs+60_000)
	got := decodeReply[client.KeysChanged](t, f.do(ask{method: "POST", path: a.path("/rotate"), body: order}), 200)
	if len(got.Keys.Keys) != 2 || got.Keys.Keys[1].State != client.KeyNext || got.Keys.Keys[0].Successor != got.Keys.Keys[1].KeyID || got.Due {
		t.Fatalf("%+v", got)
	}
	if again := decodeReply[client.KeysChanged](t, f.do(ask{method: "POST", path: a.path("/rotate"), body: order}), 200); !again.Repeated {
		t.Errorf("the same order again: %+v", again)
	}
	if old, early := f.verdict(a), f.verdict(next); old != "ok" || early != client.VerdictKeyExpired {
		t.Errorf("before it begins: %s and %s", old, early)
	}
	f.passes(60_000)
	if old, now := f.verdict(a), f.verdict(next); old != "ok" || now != "ok" {
		t.Errorf("in the overlap: %s and %s", old, now)
	}
	shown := decodeReply[client.Agent](t, f.admin("GET", "/v1/agents/"+url.PathEscape(a.id), nil), 200)
	if shown.PublicKey != crypto.PublicOf(next.key).PEM() {
		t.Error("the agent is shown with another key than the active one")
	}
	f.passes(fsm.DefaultSkewMs + 1)
	if old, now := f.verdict(a), f.verdict(next); old != client.VerdictKeyExpired || now != "ok" {
		t.Errorf("after the overlap: %s and %s", old, now)
	}
	if again := decodeReply[client.KeysChanged](t, f.do(ask{method: "POST", path: a.path("/rotate"), body: order}), 200); !again.Repeated {
		t.Errorf("the same order long after: %+v", again)
	}
}

// TestW2NobodyElseRotates: not a stranger, not an old key, not a captured order in
// another form.
func TestW2NobodyElseRotates(t *testing.T) {
	f, a := keyFixture(t)
	thief := must(crypto.GenerateKey(rand.Reader))
	next := must(crypto.GenerateKey(rand.Reader))
	good := a.rotation(f, next, 0)
	for name, tc := range map[string]struct {
		change func(*client.RotateRequest)
		status int
	}{
		"no order": {func(r *client.RotateRequest) { r.Signature = "" }, 401},
		"another's order": {func(r *client.RotateRequest) {
			*r = client.SignRotation(clusterID, "agent/"+a.id, thief, next, 0, f.node.nowMs)
		}, 401},
		"of another cluster": {func(r *client.RotateRequest) {
			*r = client.SignRotation("c", "agent/"+a.id, a.key, next, 0, f.node.nowMs)
		}, 401},
		"of another agent": {func(r *client.RotateRequest) {
			*r = client.SignRotation(clusterID, "agent/b", a.key, next, 0, f.node.nowMs)
		}, 401},
		"a key it has not": {func(r *client.RotateRequest) { r.PublicKey = crypto.PublicOf(thief).PEM() }, 401},
		"another begin":    {func(r *client.RotateRequest) { r.NotBeforeMs = 5 }, 401},
		"another time":     {func(r *client.RotateRequest) { r.SignedMs++ }, 401},
		"too old": {func(r *client.RotateRequest) {
			*r = client.SignRotation(clusterID, "agent/"+a.id, a.key, next, 0, f.node.nowMs-fsm.DefaultSkewMs-1)
		}, 422},
		"no key":              {func(r *client.RotateRequest) { r.PublicKey = "x" }, 422},
		"recovery, no token":  {func(r *client.RotateRequest) { r.Recover = true }, 401},
		"a proof that is not": {func(r *client.RotateRequest) { r.EncryptionProof = r.Proof }, 422},
	} {
		req := good
		tc.change(&req)
		if rec := f.do(ask{method: "POST", path: a.path("/rotate"), body: req, from: fmt.Sprintf("192.0.2.%d:1", len(name))}); rec.Code != tc.status {
			t.Errorf("%s: %d %s, want %d", name, rec.Code, rec.Body, tc.status)
		}
	}
	if k := decodeReply[client.Keys](t, f.admin("GET", a.path(""), nil), 200); len(k.Keys) != 1 {
		t.Fatalf("%+v", k)
	}
	for _, subject := range []string{"coordinator/node-1", "gossip"} {
		rec := f.admin("POST", "/v1/keys/"+url.PathEscape(subject)+"/rotate", good)
		wantProblem(t, rec, client.CodeInvalid, "public_key")
	}
	wantProblem(t, f.do(ask{method: "POST", path: "/v1/keys/ca/rotate", token: f.tokens[fsm.RoleOperator]}), client.CodeForbidden, "")
	wantProblem(t, f.admin("GET", "/v1/keys/agent%2Fnobody", nil), client.CodeNotFound, "")
	for _, bad := range []string{"nothing", "agent", "agent%2F", "gossip%2Fx"} {
		if rec := f.admin("GET", "/v1/keys/"+bad, nil); rec.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", bad, rec.Code)
		}
	}
}

// TestKeysLostAndRevoked: a lost key is replaced on an operator's word alone, and a
// revoked one is refused from that index on.
func TestKeysLostAndRevoked(t *testing.T) {
	f, a := keyFixture(t)
	next := &agent{id: a.id, key: must(crypto.GenerateKey(rand.Reader))}
	recovery := client.SignRecovery(clusterID, "agent/"+a.id, next.key, f.node.nowMs, "the disk died")
	wantProblem(t, f.do(ask{method: "POST", path: a.path("/rotate"), token: f.tokens[fsm.RoleVerifier], body: recovery}), client.CodeForbidden, "")
	got := decodeReply[client.KeysChanged](t, f.do(ask{method: "POST", path: a.path("/rotate"), token: f.tokens[fsm.RoleOperator], body: recovery}), 200)
	if old, now := f.verdict(a), f.verdict(next); old != client.VerdictKeyExpired || now != "ok" {
		t.Errorf("after the recovery: %s and %s", old, now)
	}
	if got.Keys.Keys[0].RevokedAt != got.Index || got.Keys.Keys[0].State != client.KeyRevoked {
		t.Errorf("%+v", got)
	}
	wantProblem(t, f.admin("POST", a.path("/revoke"), client.RevokeKeyRequest{KeyID: "0011223344556677"}), client.CodeNotFound, "key_id")
	cut := decodeReply[client.KeysChanged](t, f.admin("POST", a.path("/revoke"), client.RevokeKeyRequest{KeyID: crypto.PublicOf(next.key).KeyID(), Reason: "left on a train"}), 200)
	if now := f.verdict(next); now != client.VerdictKeyExpired || cut.KeyID != "" {
		t.Errorf("after the revocation: %s, %+v", now, cut)
	}
	third := must(crypto.GenerateKey(rand.Reader))
	if rec := f.do(ask{method: "POST", path: a.path("/rotate"), body: next.rotation(f, third, 0)}); rec.Code != 401 {
		t.Errorf("a revoked key orders its successor: %d %s", rec.Code, rec.Body)
	}
}

// TestKeySchedules: they merge, are versioned, and hold for a kind or for one.
func TestKeySchedules(t *testing.T) {
	f, a := keyFixture(t)
	const day = int64(86_400_000)
	put := func(path, version string, body any) ask {
		return ask{method: "PUT", path: path + "/schedule", token: f.tokens[fsm.RoleAdmin], body: body, header: map[string]string{"If-Match": version}}
	}
	got := decodeReply[client.KeyScheduleSet](t, f.do(put("/v1/keys/agent", "0", `{"period_ms":7776000000}`)), 200)
	if got.Version != 1 || got.PeriodMs != 90*day || got.OverlapMs != 2*day || got.Subject != "agent" {
		t.Errorf("%+v", got)
	}
	if k := decodeReply[client.Keys](t, f.admin("GET", a.path(""), nil), 200); k.DueMs == 0 || k.Schedule.PeriodMs != 90*day {
		t.Errorf("%+v", k)
	}
	wantProblem(t, f.do(put("/v1/keys/agent", "0", `{}`)), client.CodeConflict, "version")
	wantProblem(t, f.do(put("/v1/keys/agent", "1", `{"lead_ms":-1}`)), client.CodeInvalid, "lead_ms")
	wantProblem(t, f.do(put("/v1/keys/agent", "1", `{"period":1}`)), client.CodeInvalid, "period")
	decodeReply[client.KeyScheduleSet](t, f.do(put(a.path(""), "0", `{"period_ms":0}`)), 200)
	if k := decodeReply[client.Keys](t, f.admin("GET", a.path(""), nil), 200); k.DueMs != 0 {
		t.Errorf("%+v", k)
	}
}

// TestKeyListPages: every subject comes once, whatever the size of the pages.
func TestKeyListPages(t *testing.T) {
	f, _ := keyFixture(t)
	f.agent("b", fsm.AgentActive)
	f.node.mustApply(f.actor(), fsm.ManifestTrustSet{Trust: fsm.ManifestTrust{Threshold: 1, Signers: []fsm.ManifestSigner{{Name: "release", Key: crypto.PublicOf(signer("a"))}}}})
	want := []string{"coordinator/node-1", "certificate/node-1", "agent/a/ü", "agent/b", "manifest/release", "gossip", "ca"}
	for limit := 1; limit <= len(want)+1; limit++ {
		var got []string
		for after := ""; ; {
			page := decodeReply[client.KeyList](t, f.admin("GET", fmt.Sprintf("/v1/keys?limit=%d&after=%s", limit, url.QueryEscape(after)), nil), 200)
			for _, k := range page.Keys {
				got = append(got, k.Subject)
			}
			if after = page.Next; after == "" || len(got) > len(want) {
				break
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("pages of %d: %v", limit, got)
		}
	}
}

// TestRegisterInTheOverlap: an agent whose next key is announced, or whose old one
// retires on schedule, registers with either as before.
func TestRegisterInTheOverlap(t *testing.T) {
	f := newFixtureAt(t, fsm.LevelKeys)
	w := f.enrolled("worker-1")
	f.passes(1000)
	f.node.mustApply(f.actor(), fsm.KeyRotate{Subject: "agent/worker-1"})
	if beat := decodeReply[client.Heartbeat](t, w.heartbeat(), 200); !beat.KeyRotationDue {
		t.Error("the worker is not told that it is to rotate")
	}
	next := must(crypto.GenerateKey(rand.Reader))
	order := client.SignRotation(clusterID, "agent/worker-1", w.key, next, f.node.nowMs+60_000, f.node.nowMs)
	decodeReply[client.KeysChanged](t, f.do(ask{method: "POST", path: "/v1/keys/agent%2Fworker-1/rotate", body: order}), 200)
	for range 3 { // announced, begun, old
		if rec := w.register(); rec.Code != 200 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		f.passes(60_000)
	}
	if a := w.agentOf(); len(a.Keys) != 2 {
		t.Errorf("%+v", a.Keys)
	}
	if beat := decodeReply[client.Heartbeat](t, w.heartbeat(), 200); beat.KeyRotationDue {
		t.Error("the worker is asked again")
	}
}

// FuzzRotate: whatever is sent without a token, no key changes and nothing breaks.
func FuzzRotate(f *testing.F) {
	x := newFixtureAt(f, fsm.LevelKeys)
	a := x.agent("a", fsm.AgentActive)
	x.passes(1000)
	good := string(must(json.Marshal(client.SignRotation(clusterID, "agent/a", must(crypto.GenerateKey(rand.Reader)), a.key, 0, x.node.nowMs))))
	f.Add("agent%2Fa", good)
	f.Add("gossip", `{"recover":true}`)
	f.Add("manifest%2Fx", `{"public_key":"-----BEGIN PUBLIC KEY-----"}`)
	f.Add("agent%2Fnobody", `{}`)
	f.Fuzz(func(t *testing.T, subject, body string) {
		if u, err := url.Parse("/v1/keys/" + subject + "/rotate"); err != nil || u.EscapedPath() != "/v1/keys/"+subject+"/rotate" || strings.ContainsAny(subject, " \x00\r\n\x7f") {
			return // no request that net/http would hand on
		}
		x.t = t
		before := x.node.leader.Digest()
		rec := x.do(ask{method: "POST", path: "/v1/keys/" + subject + "/rotate", body: body})
		if rec.Code < 400 || rec.Code == 500 || x.node.leader.Digest() != before {
			t.Errorf("%s: %d %s", subject, rec.Code, rec.Body)
		}
	})
}

// TestScheduleBuildsOnItsVersion: a replica that is behind takes nothing back of what
// the version that the caller read says.
func TestScheduleBuildsOnItsVersion(t *testing.T) {
	const hour = int64(3_600_000)
	f, _ := keyFixture(t)
	set := fsm.KeyScheduleSet{Subject: "gossip", Schedule: fsm.Schedule{PeriodMs: 720 * hour, OverlapMs: hour, LeadMs: hour}}
	f.node.mustApply(f.actor(), set)
	f.node.held = true // it lags from here on
	set.IfVersion, set.Schedule.OverlapMs = 1, 48*hour
	f.node.mustApply(f.actor(), set)
	period := 1440 * hour
	got := decodeReply[client.KeyScheduleSet](t, f.do(ask{method: "PUT", path: "/v1/keys/gossip/schedule", token: f.tokens[fsm.RoleAdmin],
		header: map[string]string{"If-Match": "2"}, body: client.KeyScheduleUpdate{PeriodMs: &period}}), 200)
	if got.OverlapMs != 48*hour || got.PeriodMs != period || got.Version != 3 {
		t.Errorf("%+v", got)
	}
}

// TestCertificateKeysAreListed: they are subjects beside the signing keys, and their
// names are no public keys.
func TestCertificateKeysAreListed(t *testing.T) {
	f, _ := keyFixture(t)
	list := decodeReply[client.KeyList](t, f.admin("GET", "/v1/keys?kind=certificate", nil), 200)
	if len(list.Keys) != 1 || list.Keys[0].Subject != "certificate/node-1" {
		t.Fatalf("%+v", list)
	}
	next := decodeReply[client.KeyList](t, f.admin("GET", "/v1/keys?limit=1&after="+url.QueryEscape("coordinator/node-1"), nil), 200)
	if len(next.Keys) != 1 || next.Keys[0].Subject != "certificate/node-1" || next.Next != "certificate/node-1" {
		t.Errorf("after the signing keys: %+v", next)
	}
	one, path := list.Keys[0], "/v1/keys/"+url.PathEscape("certificate/node-1")
	if one.Schedule.PeriodMs != 180*24*3_600_000 || one.KeyID == "" || len(one.Keys) != 1 || one.Keys[0].PublicKey != "" {
		t.Errorf("%+v", one)
	}
	refused := wantProblem(t, f.admin("POST", path+"/revoke", client.RevokeKeyRequest{KeyID: one.KeyID}), client.CodeConflict, "key")
	if !strings.Contains(refused.Detail, "rotate first") {
		t.Errorf("the only key: %+v", refused)
	}
	if done := decodeReply[client.KeysChanged](t, f.admin("POST", path+"/rotate", nil), 200); !done.Due || done.AskedMs == 0 {
		t.Errorf("asked for: %+v", done)
	}
}
