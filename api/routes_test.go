package api

import (
	"crypto/rand"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// Who may do what, written from CONTRACT.md and not from the code.
var (
	trustReaders = []fsm.Role{fsm.RoleMesh, fsm.RoleVerifier, fsm.RoleViewer, fsm.RoleOperator, fsm.RoleAdmin}
	opsReaders   = []fsm.Role{fsm.RoleViewer, fsm.RoleOperator, fsm.RoleAdmin}
	verifiers    = []fsm.Role{fsm.RoleVerifier, fsm.RoleOperator, fsm.RoleAdmin}
	operators    = []fsm.Role{fsm.RoleOperator, fsm.RoleAdmin}
	admins       = []fsm.Role{fsm.RoleAdmin}
	anybody      = []fsm.Role{}

	ledgerReaders = []fsm.Role{fsm.RoleMesh, fsm.RoleViewer, fsm.RoleOperator, fsm.RoleAdmin}
)

var matrix = map[string][]fsm.Role{
	"GET /healthz":                              anybody,
	"GET /readyz":                               anybody,
	"GET /metrics":                              opsReaders,
	"GET /v1/events":                            trustReaders,
	"GET /v1/audit/events":                      opsReaders,
	"GET /v1/audit/heads":                       opsReaders,
	"GET /v1/status":                            opsReaders,
	"GET /v1/members":                           opsReaders,
	"GET /v1/peers":                             opsReaders,
	"DELETE /v1/peers/{peer}":                   admins,
	"POST /v1/leader/transfer":                  admins,
	"GET /v1/recover/clock":                     opsReaders,
	"POST /v1/recover/clock":                    admins,
	"GET /v1/policy":                            opsReaders,
	"PUT /v1/policy":                            admins,
	"POST /v1/tokens":                           admins,
	"GET /v1/tokens":                            admins,
	"DELETE /v1/tokens/{id}":                    admins,
	"POST /v1/agents":                           anybody, // the token in the body opens it
	"GET /v1/agents":                            trustReaders,
	"GET /v1/agents/{id}":                       trustReaders,
	"POST /v1/agents/{id}/approve":              operators,
	"POST /v1/agents/{id}/suspend":              operators,
	"POST /v1/agents/{id}/revoke":               admins,
	"POST /v1/admissions":                       verifiers,
	"POST /v1/admissions/batch":                 verifiers,
	"POST /v1/blacklist":                        operators,
	"GET /v1/blacklist":                         trustReaders,
	"GET /v1/blacklist/agents/{agent}":          trustReaders,
	"DELETE /v1/blacklist/agents/{agent}":       operators,
	"GET /v1/blacklist/events":                  trustReaders,
	"GET /v1/ledger":                            opsReaders,
	"GET /v1/ledger/policy":                     opsReaders,
	"PUT /v1/ledger/policy":                     admins,
	"POST /v1/ledger/accounts":                  operators,
	"GET /v1/ledger/accounts":                   opsReaders,
	"GET /v1/ledger/accounts/{id}":              opsReaders,
	"POST /v1/ledger/transfers":                 verifiers, // whose account it may be is asked where they are
	"POST /v1/ledger/transfers/batch":           verifiers,
	"POST /v1/ledger/holds":                     verifiers,
	"POST /v1/ledger/holds/{id}/post":           verifiers,
	"POST /v1/ledger/holds/{id}/void":           verifiers,
	"POST /v1/ledger/contributions":             anybody,   // the agents' signatures open it
	"GET /v1/ledger/contributions":              verifiers, // likewise
	"POST /v1/ledger/contributions/confirm":     verifiers,
	"GET /v1/ledger/epochs":                     opsReaders,
	"GET /v1/ledger/records":                    ledgerReaders,
	"GET /v1/ledger/verify":                     ledgerReaders,
	"GET /v1/ledger/checkpoint":                 ledgerReaders,
	"GET /v1/ledger/proof/inclusion":            ledgerReaders,
	"GET /v1/ledger/proof/consistency":          ledgerReaders,
	"GET /v1/ledger/export":                     ledgerReaders,
	"GET /ledger/snapshot":                      ledgerReaders,
	"GET /ledger/verify":                        ledgerReaders,
	"GET /v1/blacklist/checkpoint":              trustReaders,
	"GET /v1/blacklist/proof/inclusion":         trustReaders,
	"GET /v1/blacklist/proof/consistency":       trustReaders,
	"GET /v1/blacklist/cosigners":               trustReaders,
	"GET /v1/blacklist/enforcement":             opsReaders,
	"GET /v1/blacklist/delta":                   trustReaders,
	"POST /v1/manifests":                        operators,
	"GET /v1/manifests":                         trustReaders,
	"GET /v1/manifests/accepted/{name}":         trustReaders,
	"GET /v1/ca":                                trustReaders,
	"GET /v1/manifests/trust":                   trustReaders,
	"POST /v1/manifests/accepted/{name}/revoke": admins,
	"PUT /v1/manifests/trust":                   admins,
	"GET /v1/keys":                              trustReaders,
	"GET /v1/keys/{subject}":                    trustReaders,
	"GET /v1/keys/{subject}/history":            opsReaders,
	"POST /v1/keys/{subject}/rotate":            operators, // or an order of an agent's key
	"POST /v1/keys/{subject}/revoke":            admins,
	"GET /v1/keys/{subject}/schedule":           trustReaders,
	"PUT /v1/keys/{subject}/schedule":           admins,
	"GET /v1/snapshot":                          admins,
	"POST /v1/snapshot/restore":                 admins,
	"GET /identity":                             anybody,
	"GET /v1/openapi.json":                      trustReaders,
	"POST /register":                            anybody, // the agent's signature opens it
	"POST /heartbeat":                           anybody, // likewise
	"POST /pull":                                anybody, // likewise
	"POST /result":                              anybody, // it only says that it is not served
	"POST /submit":                              anybody, // likewise
	"POST /mesh/register-peer":                  trustReaders,
	"POST /mesh/ingest":                         trustReaders,
	"GET /mesh/peers":                           trustReaders,
	"GET /security/blacklist":                   trustReaders,
	"POST /security/blacklist":                  operators,
	"GET /security/blacklist/audit":             trustReaders,
}

func TestP8EveryRouteWithEveryRole(t *testing.T) {
	f := newFixture(t)
	ended := f.endedTokens()
	table := f.server.table()
	if len(table) != len(matrix) {
		t.Errorf("%d routes, the matrix has %d", len(table), len(matrix))
	}
	for i, rt := range table {
		from := fmt.Sprintf("192.0.2.%d:1", i%250) // or one address uses up what strangers may ask
		name := rt.method + " " + rt.pattern
		allowed, ok := matrix[name]
		if !ok {
			t.Errorf("%s is not in the matrix", name)
			continue
		}
		path := strings.NewReplacer("{peer}", "nobody", "{id}", "nobody", "{agent}", "nobody", "{name}", "nobody", "{subject}", "agent%2Fnobody").Replace(rt.pattern)
		if len(allowed) == 0 {
			rec := f.do(ask{method: rt.method, path: path})
			if rec.Code == http.StatusForbidden || (rec.Code == http.StatusUnauthorized && !rt.stranger()) {
				t.Errorf("%s without a token: %d %s", name, rec.Code, rec.Body)
			}
			if rt.stranger() && rec.Code/100 == 2 {
				t.Errorf("%s without any credential: %d %s", name, rec.Code, rec.Body)
			}
			continue
		}
		for what, token := range ended {
			rec := f.do(ask{method: rt.method, path: path, token: token, from: from})
			if rec.Code != http.StatusUnauthorized {
				t.Errorf("%s with a token that is %s: %d, want 401", name, what, rec.Code)
			}
		}
		if rec := f.do(ask{method: rt.method, path: path}); rec.Code != http.StatusUnauthorized {
			t.Errorf("%s without a token: %d, want 401", name, rec.Code)
		}
		for _, role := range allRoles {
			rec := f.do(ask{method: rt.method, path: path, token: f.tokens[role]})
			refused := rec.Code == http.StatusForbidden || rec.Code == http.StatusUnauthorized
			if refused == slices.Contains(allowed, role) {
				t.Errorf("%s as %s: %d %s", name, role, rec.Code, rec.Body)
			}
			if refused && rec.Code != http.StatusForbidden {
				t.Errorf("%s as %s: %d, want 403", name, role, rec.Code)
			}
		}
	}
}

// endedTokens are admin tokens that open nothing any more, or never did.
func (f *fixture) endedTokens() map[string]string {
	expired, revoked := must(crypto.NewTokenText(rand.Reader, clusterID, "admin", "")), f.makeToken(fsm.RoleAdmin, -1)
	f.node.mustApply(f.actor(), fsm.TokenCreate{ID: expired.ID, Hash: expired.Hash(), Role: fsm.RoleAdmin, Uses: -1, ExpiresMs: f.node.nowMs + 1})
	f.node.nowMs += 2
	f.node.mustApply(f.actor(), fsm.TokenRevoke{ID: must(crypto.ParseTokenText(revoked)).ID})
	return map[string]string{"expired": expired.String(), "revoked": revoked,
		"unknown": must(crypto.NewTokenText(rand.Reader, clusterID, "admin", "")).String(),
		"foreign": must(crypto.NewTokenText(rand.Reader, strings.Repeat("f", 32), "admin", "")).String()}
}

func TestEveryRouteIsBounded(t *testing.T) {
	for _, rt := range newFixture(t).server.table() {
		streams := rt.upload > 0 // it never lies in memory
		if rt.method != http.MethodGet && (rt.body <= 0 || rt.body > 4<<20) && !streams {
			t.Errorf("%s %s: body cap %d", rt.method, rt.pattern, rt.body)
		}
		if streams && (rt.body != 0 || rt.upload > client.MaxSnapshotBytes || rt.class != classBackup || rt.need != fsm.CapAdmin) {
			t.Errorf("%s %s: streams %d bytes", rt.method, rt.pattern, rt.upload)
		}
		if rt.access <= byMesh && rt.need == 0 {
			t.Errorf("%s %s needs no capability", rt.method, rt.pattern)
		}
	}
}

func TestHTTPServerBoundsEverything(t *testing.T) {
	srv := httpServer(http.NotFoundHandler(), newConnections(1, 1), slog.Default())
	if srv.ReadHeaderTimeout == 0 || srv.ReadTimeout == 0 || srv.WriteTimeout <= requestTimeout || srv.IdleTimeout == 0 || srv.MaxHeaderBytes != 16<<10 || srv.ErrorLog == nil {
		t.Errorf("%+v", srv)
	}
}

func TestUnknownRouteAndMethod(t *testing.T) {
	f := newFixture(t)
	for _, path := range []string{"/", "/v1", "/v1/", "/v1/nothing", "/v1/agents/", "/v1/agents/a/b/c", "/v1//status", "/metricsx", "/v1/agents/x/%zz"} {
		if strings.Contains(path, "%zz") {
			continue // net/http refuses it before us
		}
		wantProblem(t, f.do(ask{method: "GET", path: path}), client.CodeNotFound, "")
	}
	for path, allow := range map[string]string{"/v1/status": "GET", "/v1/policy": "GET, PUT", "/v1/agents/x": "GET", "/v1/blacklist/agents/x": "DELETE, GET"} {
		rec := f.do(ask{method: "PATCH", path: path})
		if rec.Code != http.StatusMethodNotAllowed || rec.Header().Get("Allow") != allow {
			t.Errorf("PATCH %s: %d, Allow %q, want 405 %q", path, rec.Code, rec.Header().Get("Allow"), allow)
		}
	}
}

func TestIDsInPathsAreUnescapedAndChecked(t *testing.T) {
	f := newFixture(t)
	f.agent("team/ü agent", fsm.AgentPending)
	a := decodeReply[client.Agent](t, f.admin("GET", "/v1/agents/team%2F%C3%BC%20agent", nil), 200)
	if a.AgentID != "team/ü agent" {
		t.Errorf("agent %q", a.AgentID)
	}
	for _, bad := range []string{"%ff", "a%0Ab", strings.Repeat("x", 129)} {
		wantProblem(t, f.admin("POST", "/v1/agents/"+bad+"/approve", nil), client.CodeInvalid, "path")
	}
}

// TestEveryCodeHasAHome reads the codes from fsm's source, so that a new one
// cannot be forgotten here.
func TestEveryCodeHasAHome(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../fsm/result.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); !ok || id.Name != "Code" {
			return true
		}
		found++
		code := fsm.Code(strings.Trim(spec.Values[0].(*ast.BasicLit).Value, `"`))
		_, refused := refusals[code]
		_, verdict := verdictCodes[code]
		_, operation := ledgerErrors[code]
		if !refused && !verdict && !operation {
			t.Errorf("fsm code %q has no API error and no verdict", code)
		}
		return true
	})
	if found < 15 {
		t.Errorf("found only %d codes in fsm/result.go: did they move?", found)
	}
	for code, e := range refusals {
		if !client.KnownCode(e.Code) {
			t.Errorf("%s maps to the unknown code %q", code, e.Code)
		}
	}
}

func TestPanicIsAnsweredAndLoggedWithoutSecrets(t *testing.T) {
	f := newFixture(t)
	f.server.router.fixed["/v1/members"][0].handle = func(*call) error { panic("boom") }
	rec := f.do(ask{method: "GET", path: "/v1/members", token: f.tokens[fsm.RoleAdmin]})
	wantProblem(t, rec, client.CodeInternal, "")
	if strings.Contains(f.log.String(), f.tokens[fsm.RoleAdmin]) || !strings.Contains(f.log.String(), "GET /v1/members") {
		t.Errorf("log: %s", f.log)
	}
	if strings.Contains(rec.Body.String(), "boom") {
		t.Error("the panic's text was told to the caller")
	}
}
