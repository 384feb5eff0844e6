package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

var updateOpenAPI = flag.Bool("openapi", false, "write docs/openapi.json from the code (make openapi)")

const storedOpenAPI = "../docs/openapi.json"

func TestOpenAPIIsStoredAndServed(t *testing.T) {
	f := newFixture(t)
	text := f.server.openAPI()
	if again := f.server.openAPI(); !bytes.Equal(text, again) {
		t.Fatal("two documents of one code differ")
	}
	if *updateOpenAPI {
		if err := os.WriteFile(storedOpenAPI, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if stored := must(os.ReadFile(storedOpenAPI)); !bytes.Equal(stored, text) {
		t.Error("docs/openapi.json is not what the code makes: run `make openapi`")
	}
	rec := f.do(ask{method: "GET", path: "/v1/openapi.json", token: f.tokens[fsm.RoleMesh]})
	if rec.Code != 200 || !bytes.Equal(rec.Body.Bytes(), text) || rec.Header().Get("Content-Type") != "application/json" {
		t.Errorf("served: %d, %d bytes", rec.Code, rec.Body.Len())
	}
}

// TestOpenAPITellsOfEveryRoute compares the document with the matrix that was
// written from CONTRACT.md, not with the table that it is made from.
func TestOpenAPITellsOfEveryRoute(t *testing.T) {
	f := newFixture(t)
	var d struct {
		Paths map[string]map[string]struct {
			OperationID string   `json:"operationId"`
			Summary     string   `json:"summary"`
			Roles       []string `json:"x-edgecoder-roles"`
			Security    []map[string][]string
			Responses   map[string]json.RawMessage
		}
	}
	if err := json.Unmarshal(f.server.openAPI(), &d); err != nil {
		t.Fatal(err)
	}
	seen, ids := 0, map[string]bool{}
	for name, roles := range matrix {
		method, path, _ := strings.Cut(name, " ")
		op, ok := d.Paths[path][strings.ToLower(method)]
		if !ok {
			t.Errorf("%s is not in the document", name)
			continue
		}
		seen++
		if op.Summary == "" || ids[op.OperationID] || len(op.Responses) < 2 {
			t.Errorf("%s: id %q, summary %q, %d responses", name, op.OperationID, op.Summary, len(op.Responses))
		}
		ids[op.OperationID] = true
		want := map[string]bool{}
		for _, r := range roles {
			want[string(r)] = true
		}
		byToken := len(op.Security) == 1 && op.Security[0]["agent"] == nil || len(op.Security) == 2 && op.Security[0]["bearer"] != nil // an agent's signature, or its order, may stand beside the token
		if len(op.Roles) != len(want) || (len(want) > 0) != byToken {
			t.Errorf("%s: roles %v, want %v, security %v", name, op.Roles, roles, op.Security)
		}
		for _, r := range op.Roles {
			if !want[r] {
				t.Errorf("%s: the document lets %s in", name, r)
			}
		}
	}
	for path, ops := range d.Paths {
		for method := range ops {
			if _, ok := matrix[strings.ToUpper(method)+" "+path]; !ok {
				t.Errorf("the document has %s %s, which nobody serves", method, path)
			}
		}
	}
	if seen != len(matrix) {
		t.Errorf("%d of %d routes", seen, len(matrix))
	}
}

// openAPIMeta is the JSON Schema of OpenAPI 3.1 documents,
// https://spec.openapis.org/oas/3.1/schema/2022-10-07 (Apache 2.0).
const openAPIMeta = "testdata/oas31-schema.json"

// judgeOfAnswers holds answers to the document, with an implementation of JSON
// Schema 2020-12 that is not ours.
type judgeOfAnswers struct {
	server   *Server
	compiler *jsonschema.Compiler
	document any
}

func newJudge(t *testing.T, s *Server) *judgeOfAnswers {
	j := &judgeOfAnswers{server: s, compiler: jsonschema.NewCompiler(), document: must(jsonschema.UnmarshalJSON(bytes.NewReader(s.openAPI())))}
	if err := j.compiler.AddResource("openapi.json", j.document); err != nil {
		t.Fatal(err)
	}
	return j
}

func (j *judgeOfAnswers) fault(method, path string, rec *httptest.ResponseRecorder) error {
	rt, _, err := j.server.router.find(method, must(url.Parse(path)))
	if err != nil {
		return err
	}
	media := rec.Header().Get("Content-Type")
	escape := strings.NewReplacer("~", "~0", "/", "~1").Replace
	at := []string{"paths", rt.pattern, strings.ToLower(method), "responses", strconv.Itoa(rec.Code), "content", media, "schema"}
	node, where := j.document, "openapi.json#"
	for _, name := range at {
		next, ok := node.(map[string]any)[name]
		if !ok {
			return fmt.Errorf("the document has no %s at %s", name, where)
		}
		node, where = next, where+"/"+url.PathEscape(escape(name))
		if ref, ok := next.(map[string]any)["$ref"].(string); ok && name != "schema" {
			shared := strings.TrimPrefix(ref, "#/components/responses/")
			node = j.document.(map[string]any)["components"].(map[string]any)["responses"].(map[string]any)[shared]
			where = "openapi.json" + ref
		}
	}
	body, err := jsonschema.UnmarshalJSON(rec.Body)
	if err != nil {
		return err
	}
	schema, err := j.compiler.Compile(where)
	if err != nil {
		return err
	}
	return schema.Validate(body)
}

func TestOpenAPIIsADocumentOfItsKind(t *testing.T) {
	meta := must(jsonschema.NewCompiler().Compile(openAPIMeta))
	document := must(jsonschema.UnmarshalJSON(bytes.NewReader(newFixture(t).server.openAPI())))
	if err := meta.Validate(document); err != nil {
		t.Error(err)
	}
	delete(document.(map[string]any), "info") // the judge can say no
	if meta.Validate(document) == nil {
		t.Error("a document without info passed")
	}
}

// TestOpenAPIHoldsForRealAnswers judges answers of the server by the document.
func TestOpenAPIHoldsForRealAnswers(t *testing.T) {
	f := newFixture(t)
	judge := newJudge(t, f.server)
	statuses, answered := map[int]int{}, map[string]bool{}
	check := func(a ask) *httptest.ResponseRecorder {
		t.Helper()
		rec := f.do(a)
		text := rec.Body.String()
		if err := judge.fault(a.method, a.path, rec); err != nil {
			t.Errorf("%s %s: %d %s\n%v", a.method, a.path, rec.Code, text, err)
		}
		statuses[rec.Code]++
		if rec.Code < 300 {
			answered[a.method+" "+a.path] = true
		}
		return rec
	}
	f.agent("a", fsm.AgentActive)
	w := f.enrolled("worker-1")
	for _, rt := range f.server.table() { // what each answers to nobody, and each read to an admin
		path := strings.NewReplacer("{peer}", "node-1", "{id}", "a", "{agent}", "bad", "{name}", "nothing").Replace(rt.pattern)
		if rt.class != classEvents && rt.doc.media != "text/plain" {
			check(ask{method: rt.method, path: path})
			if rt.method == http.MethodGet && rt.class != classBackup && rt.doc.media == "" {
				check(ask{method: rt.method, path: path, token: f.tokens[fsm.RoleAdmin]})
			}
		}
	}
	post := func(path string, body any) *httptest.ResponseRecorder {
		return check(ask{method: "POST", path: path, token: f.tokens[fsm.RoleAdmin], body: body})
	}
	check(ask{method: "GET", path: "/v1/status", token: f.tokens[fsm.RoleMesh]})
	post("/v1/tokens", client.TokenRequest{Role: "viewer"})
	post("/v1/tokens", `{"role":"nonsense"}`)
	post("/v1/blacklist", manualBan("bad"))
	post("/v1/admissions", f.agent("b", fsm.AgentActive).request(testClock, "x"))
	post("/v1/admissions", client.AdmissionRequest{Method: "POST", Path: "/pull"})
	post("/v1/admissions/batch", client.AdmissionBatch{Requests: []client.AdmissionRequest{f.agent("c", fsm.AgentActive).request(testClock, "x")}})
	post("/v1/agents/a/suspend", nil)
	check(ask{method: "PUT", path: "/v1/policy", token: f.tokens[fsm.RoleAdmin], body: `{"max_skew_ms":60000}`, header: map[string]string{"If-Match": "1"}})
	check(ask{method: "PUT", path: "/v1/policy", token: f.tokens[fsm.RoleAdmin], body: `{"max_skew_ms":60000}`, header: map[string]string{"If-Match": "1"}})
	for _, path := range []string{"/v1/blacklist", "/v1/blacklist/agents/bad", "/v1/blacklist/events", "/security/blacklist", "/security/blacklist/audit", "/v1/policy", "/v1/agents", "/v1/tokens"} {
		check(ask{method: "GET", path: path, token: f.tokens[fsm.RoleAdmin]})
	}
	check(ask{method: "DELETE", path: "/v1/blacklist/agents/bad", token: f.tokens[fsm.RoleAdmin], body: client.LiftRequest{Reason: "a mistake"}})
	check(ask{method: "POST", path: "/register", body: w.registerBody(), header: w.sign("/register", w.registerBody(), w.key)})
	check(ask{method: "POST", path: "/heartbeat", body: w.call(), header: w.sign("/heartbeat", w.call(), w.key)})
	check(ask{method: "POST", path: "/pull", body: w.call(), header: w.sign("/pull", w.call(), w.key)})
	for _, status := range []int{200, 201, 400, 401, 403, 404, 409, 422} {
		if statuses[status] == 0 {
			t.Errorf("no answer had status %d", status)
		}
	}
	if len(answered) < 30 {
		t.Errorf("only %d routes answered: %v", len(answered), answered)
	}
	broken := httptest.NewRecorder() // the judge can say no
	broken.Header().Set("Content-Type", "application/json")
	broken.WriteString(`{"node":"n1"}`)
	if judge.fault("GET", "/v1/status", broken) == nil {
		t.Error("a status that is none passed")
	}
}
