package api

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

func TestBadCredentialsAreRefused(t *testing.T) {
	f := newFixture(t)
	good := must(crypto.ParseTokenText(f.tokens[fsm.RoleAdmin]))
	other, forged, unknown := good, good, good
	other.ClusterID = strings.Repeat("f", 32)
	forged.Secret = strings.Repeat("0", 64)
	unknown.ID = strings.Repeat("0", 16)
	revoked := f.makeToken(fsm.RoleAdmin, -1)
	f.node.mustApply(f.actor(), fsm.TokenRevoke{ID: must(crypto.ParseTokenText(revoked)).ID})
	for name, c := range map[string]struct{ header, detail string }{
		"none":           {"", "Bearer"},
		"basic":          {"Basic Zm9vOmJhcg==", "Bearer"},
		"empty":          {"Bearer ", "no EdgeCoder token"},
		"garbage":        {"Bearer hello", "no EdgeCoder token"},
		"non-ascii":      {"Bearer " + strings.Repeat("é", len(good.String())/2), "no EdgeCoder token"},
		"other cluster":  {"Bearer " + other.String(), "belongs to cluster " + other.ClusterID},
		"wrong secret":   {"Bearer " + forged.String(), "unknown, expired"},
		"unknown id":     {"Bearer " + unknown.String(), "unknown, expired"},
		"revoked":        {"Bearer " + revoked, "revoked"},
		"two spaces":     {"Bearer  " + good.String(), "no EdgeCoder token"},
		"role rewritten": {"Bearer " + strings.Replace(f.tokens[fsm.RoleViewer], "_viewer_", "_admin_", 1), "unknown, expired"},
	} {
		h := map[string]string{}
		if c.header != "" {
			h["Authorization"] = c.header
		}
		rec := f.do(ask{method: "GET", path: "/v1/status", header: h})
		p := wantProblem(t, rec, client.CodeUnauthorized, "")
		if !strings.Contains(p.Detail, c.detail) {
			t.Errorf("%s: detail %q lacks %q", name, p.Detail, c.detail)
		}
		if rec.Header().Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no WWW-Authenticate", name)
		}
	}
}

func TestTokenExpiresByTheClusterClock(t *testing.T) {
	f := newFixture(t)
	viewer := f.tokens[fsm.RoleViewer]
	if rec := f.do(ask{method: "GET", path: "/v1/status", token: viewer}); rec.Code != 200 {
		t.Fatal(rec.Code)
	}
	for range 61 { // the clock may move a minute at a time
		f.node.nowMs += 60_000
		f.node.mustApply(fsm.Actor{}, fsm.Tick{})
	}
	wantProblem(t, f.do(ask{method: "GET", path: "/v1/status", token: viewer}), client.CodeUnauthorized, "")
}

// TestTokenMadeElsewhereWorksHere is "an answer acknowledged at one node works
// at the next": the replica does not know the token yet.
func TestTokenMadeElsewhereWorksHere(t *testing.T) {
	f := newFixture(t)
	f.node.held = true
	fresh := f.makeToken(fsm.RoleViewer, -1)
	if rec := f.do(ask{method: "GET", path: "/v1/status", token: fresh}); rec.Code != 200 || f.node.strong != 1 {
		t.Fatalf("status %d after %d strong reads", rec.Code, f.node.strong)
	}
	fresh = f.makeToken(fsm.RoleViewer, -1)
	f.node.strongErr = &client.Error{Code: client.CodeUnavailable, Detail: "no leader"}
	wantProblem(t, f.do(ask{method: "GET", path: "/v1/status", token: fresh}), client.CodeUnavailable, "")
}

func TestForgedSecretAsksNoLeader(t *testing.T) {
	f := newFixture(t)
	forged := must(crypto.ParseTokenText(f.tokens[fsm.RoleAdmin]))
	forged.Secret = strings.Repeat("0", 64)
	wantProblem(t, f.do(ask{method: "GET", path: "/v1/status", token: forged.String()}), client.CodeUnauthorized, "")
	if f.node.strong != 0 {
		t.Error("a wrong secret is final here, yet the leader was asked")
	}
}

func TestGuardStopsFloodsButNotHonestNeighbours(t *testing.T) {
	f := newFixture(t)
	const addr = "198.51.100.7:1234"
	flood := func(n int) (last int) {
		for i := range n {
			rec := f.do(ask{method: "GET", path: "/v1/status", from: addr, token: "nonsense",
				header: map[string]string{"X-Forwarded-For": fmt.Sprintf("10.0.0.%d", i)}})
			last = rec.Code
		}
		return last
	}
	if last := flood(guardBurst); last != http.StatusUnauthorized {
		t.Fatalf("within the budget: %d", last)
	}
	if last := flood(1); last != http.StatusTooManyRequests {
		t.Fatalf("over the budget: %d", last)
	}
	strong := f.node.strong
	unknown := must(crypto.NewTokenText(rand.Reader, clusterID, "viewer", ""))
	wantProblem(t, f.do(ask{method: "GET", path: "/v1/status", from: addr, token: unknown.String()}), client.CodeRateLimited, "")
	wantProblem(t, f.do(ask{method: "POST", path: "/v1/agents", from: addr, body: client.EnrollRequest{Token: "x"}}), client.CodeRateLimited, "")
	if f.do(ask{method: "GET", path: "/identity", from: addr}).Code != http.StatusTooManyRequests {
		t.Error("/identity is not guarded")
	}
	if f.node.strong != strong {
		t.Error("the leader was asked for a caller over its budget")
	}
	for _, a := range []ask{
		{method: "GET", path: "/v1/status", from: addr, token: f.tokens[fsm.RoleViewer]}, // honest, same address
		{method: "GET", path: "/identity", from: "198.51.100.8:1"},                       // another address
		{method: "GET", path: "/healthz", from: addr},
	} {
		if rec := f.do(a); rec.Code != 200 {
			t.Errorf("%s %s from %s: %d", a.method, a.path, a.from, rec.Code)
		}
	}
	f.now = f.now.Add(time.Second)
	if last := flood(1); last != http.StatusUnauthorized {
		t.Errorf("a second later: %d", last)
	}
}

func TestGuardIsBounded(t *testing.T) {
	g := newGuard(func() time.Time { return time.UnixMilli(testClock) })
	addr := netip.MustParseAddr("10.0.0.0")
	for range 3 * guardEntries {
		addr = addr.Next()
		if err := g.charge(addr); err != nil {
			t.Fatal(err)
		}
	}
	if n := g.all.Size(); n > guardEntries {
		t.Errorf("%d entries", n)
	}
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff:1")
	if guardKey(a) != guardKey(b) {
		t.Error("two addresses of one /64 have two budgets")
	}
}

func TestGuardRemembersAcrossGenerations(t *testing.T) {
	g := newGuard(func() time.Time { return time.UnixMilli(testClock) })
	busy := netip.MustParseAddr("192.0.2.1")
	for range guardBurst {
		if err := g.charge(busy); err != nil {
			t.Fatal(err)
		}
	}
	other := netip.MustParseAddr("10.0.0.0")
	for range guardEntries/2 + 1 {
		other = other.Next()
		_ = g.charge(other)
	}
	if g.charge(busy) == nil {
		t.Error("a full table gave a spent address a new budget")
	}
}

func TestReadyTellsWhy(t *testing.T) {
	f := newFixture(t)
	f.node.readyErr = fmt.Errorf("no leader is known")
	p := wantProblem(t, f.do(ask{method: "GET", path: "/readyz"}), client.CodeUnavailable, "")
	if p.Reason != "not_ready" {
		t.Errorf("%+v", p)
	}
	f.node.readyErr = &client.Error{Code: client.CodeUnavailable, Reason: "no_leader", Detail: "no leader is known"}
	if p := wantProblem(t, f.do(ask{method: "GET", path: "/readyz"}), client.CodeUnavailable, ""); p.Reason != "no_leader" {
		t.Errorf("%+v", p)
	}
}

// A node whose state differs from the others' answers nothing but how it is.
func TestNotServingAnswersOnlyHealth(t *testing.T) {
	f := newFixture(t)
	f.node.servingErr = &client.Error{Code: client.CodeUnavailable, Reason: "diverged", Detail: "the state differs"}
	always := 0
	for _, rt := range f.server.table() {
		if rt.always {
			always++
		}
	}
	if always != 8 {
		t.Errorf("%d routes answer always, want healthz, readyz, metrics, status, peers, the removal of one, audit events and heads", always)
	}
	if rec := f.do(ask{method: "GET", path: "/v1/status", token: f.tokens[fsm.RoleAdmin]}); rec.Code != 200 {
		t.Errorf("status: %d", rec.Code)
	}
	for _, path := range []string{"/v1/policy", "/v1/agents", "/v1/blacklist", "/v1/tokens"} {
		if p := wantProblem(t, f.do(ask{method: "GET", path: path, token: f.tokens[fsm.RoleAdmin]}), client.CodeUnavailable, ""); p.Reason != "diverged" {
			t.Errorf("%s: %+v", path, p)
		}
	}
}

// TestStrangersHearNoDetail: who has shown no token is told that a node does not
// serve and by which reason, never names, epochs or paths.
func TestStrangersHearNoDetail(t *testing.T) {
	f := newFixture(t)
	f.node.servingErr = &client.Error{Code: client.CodeUnavailable, Reason: "superseded", Detail: "coordinator secret-name is in epoch 7"}
	f.node.readyErr = f.node.servingErr
	for _, a := range []ask{{method: "GET", path: "/readyz"}, {method: "GET", path: "/identity"}, {method: "POST", path: "/v1/agents", body: "{}"}} {
		rec := f.do(a)
		if text := rec.Body.String(); strings.Contains(text, "secret-name") || strings.Contains(text, "epoch 7") {
			t.Errorf("%s: %s", a.path, text)
		}
		if rec.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: %d", a.path, rec.Code)
		}
	}
	if p := wantProblem(t, f.do(ask{method: "GET", path: "/v1/policy", token: f.tokens[fsm.RoleViewer]}), client.CodeUnavailable, ""); !strings.Contains(p.Detail, "secret-name") {
		t.Errorf("who has a token: %+v", p)
	}
}

func TestHeadIsGet(t *testing.T) {
	f := newFixture(t)
	if rec := f.do(ask{method: "HEAD", path: "/healthz"}); rec.Code != 200 {
		t.Error(rec.Code)
	}
}
