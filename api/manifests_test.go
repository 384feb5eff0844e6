package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/dsse"
	"github.com/edgecoder/edgecoder/crypto/manifest"
	"github.com/edgecoder/edgecoder/fsm"
)

// signer is a signer of manifests whose key is the same in every run.
func signer(name string) crypto.PrivateKey {
	seed := crypto.Sum([]byte("manifest signer " + name))
	return must(crypto.GenerateKey(strings.NewReader(string(seed[:]))))
}

func (f *fixture) trustSigners(threshold int64, names ...string) client.ManifestTrust {
	f.t.Helper()
	now := decodeReply[client.ManifestTrust](f.t, f.admin("GET", "/v1/manifests/trust?level=strong", nil), 200)
	update := client.ManifestTrustUpdate{Threshold: threshold, Signers: []client.ManifestSigner{}, Sources: []string{"https://models.example/"}}
	for _, name := range names {
		update.Signers = append(update.Signers, client.ManifestSigner{Name: name, PublicKey: crypto.PublicOf(signer(name)).String()})
	}
	rec := f.do(ask{method: "PUT", path: "/v1/manifests/trust", token: f.tokens[fsm.RoleAdmin], body: update, header: map[string]string{"If-Match": fmt.Sprint(now.Version)}})
	return decodeReply[client.ManifestTrust](f.t, rec, 200)
}

func (f *fixture) statement(version, artifact string) manifest.Statement {
	return manifest.Statement{Name: "bin/ü", Version: version, SHA256: crypto.Sum([]byte(artifact)), Size: int64(len(artifact)),
		Source: "https://models.example/bin", IssuedMs: f.node.nowMs, ExpiresMs: f.node.nowMs + 3_600_000}
}

func envelopeOf(st manifest.Statement, names ...string) dsse.Envelope {
	e := dsse.Envelope{PayloadType: manifest.PayloadType, Payload: st.Encode()}
	for _, name := range names {
		if err := e.Sign(signer(name)); err != nil {
			panic(err)
		}
	}
	return e
}

func manifestBody(e dsse.Envelope) client.ManifestRequest {
	return client.ManifestRequest{Envelope: e.Encode()}
}

func TestManifestAcceptedAndListed(t *testing.T) {
	f := newFixture(t)
	trust := f.trustSigners(2, "a", "b", "c")
	if trust.Version != 1 || trust.Signers[0].KeyID != crypto.PublicOf(signer("a")).KeyID() || trust.Signers[0].AddedMs == 0 {
		t.Errorf("trust %+v", trust)
	}
	st := f.statement("1.4.2", "x")
	st.ExpiresMs = f.node.nowMs + 30_000
	got := decodeReply[client.ManifestAccepted](t, f.do(ask{method: "POST", path: "/v1/manifests", token: f.tokens[fsm.RoleOperator], body: manifestBody(envelopeOf(st, "c", "a"))}), 201)
	if got.Name != st.Name || got.Version != "1.4.2" || got.SHA256 != st.SHA256.String() || got.Index == 0 || got.Repeated ||
		strings.Join(got.Signers, " ") != crypto.PublicOf(signer("a")).KeyID()+" "+crypto.PublicOf(signer("c")).KeyID() {
		t.Errorf("accepted %+v", got)
	}
	again := decodeReply[client.ManifestAccepted](t, f.admin("POST", "/v1/manifests", manifestBody(envelopeOf(st, "a", "b"))), 201)
	if !again.Repeated || again.Index != got.Index {
		t.Errorf("again %+v", again)
	}
	row := decodeReply[client.Manifest](t, f.do(ask{method: "GET", path: "/v1/manifests/accepted/bin%2F%C3%BC", token: f.tokens[fsm.RoleMesh]}), 200)
	if len(row.Versions) != 1 || row.Versions[0].SHA256 != got.SHA256 || row.Versions[0].State != "active" || row.Versions[0].Source != st.Source {
		t.Errorf("row %+v", row)
	}
	f.node.nowMs += 30_001
	f.makeToken(fsm.RoleViewer, 1) // the clock moves with the next entry
	page := decodeReply[client.Manifests](t, f.admin("GET", "/v1/manifests?limit=1", nil), 200)
	if len(page.Manifests) != 1 || page.Manifests[0].Versions[0].State != "expired" || page.Next != "" {
		t.Errorf("page %+v", page)
	}
	wantProblem(t, f.admin("GET", "/v1/manifests/accepted/other", nil), client.CodeNotFound, "")
}

func TestManifestRevoked(t *testing.T) {
	f := newFixture(t)
	f.trustSigners(1, "a")
	for _, version := range []string{"1", "2"} {
		decodeReply[client.ManifestAccepted](t, f.admin("POST", "/v1/manifests", manifestBody(envelopeOf(f.statement(version, "artifact "+version), "a"))), 201)
	}
	const path = "/v1/manifests/accepted/bin%2F%C3%BC"
	state := func(i int) string {
		return decodeReply[client.Manifest](t, f.admin("GET", path+"?level=strong", nil), 200).Versions[i].State
	}
	wantProblem(t, f.do(ask{method: "POST", path: path + "/revoke", token: f.tokens[fsm.RoleOperator], body: client.ManifestRevokeRequest{Version: "1"}}), client.CodeForbidden, "")
	wantProblem(t, f.admin("POST", path+"/revoke", client.ManifestRevokeRequest{Version: "7"}), client.CodeNotFound, "version")
	if got := decodeReply[client.ManifestRevoked](t, f.admin("POST", path+"/revoke", client.ManifestRevokeRequest{Version: "1"}), 200); got.Version != "1" || got.Index == 0 || state(0) != "active" || state(1) != "revoked" {
		t.Errorf("%+v, now %s and %s", got, state(0), state(1))
	}
	f.trustSigners(1, "b")
	if state(0) != "untrusted" || state(1) != "revoked" {
		t.Errorf("of a signer trusted no more it is %s and %s", state(0), state(1))
	}
	if got := decodeReply[client.ManifestRevoked](t, f.admin("POST", path+"/revoke", client.ManifestRevokeRequest{Version: "2", Forget: true}), 200); !got.Forgotten || state(0) != "revoked" {
		t.Errorf("%+v, then %s", got, state(0))
	}
}

func TestManifestPages(t *testing.T) {
	f := newFixture(t)
	f.trustSigners(1, "a")
	for i := range 5 {
		st := f.statement("1", "x")
		st.Name = fmt.Sprint("name-", i)
		decodeReply[client.ManifestAccepted](t, f.admin("POST", "/v1/manifests", manifestBody(envelopeOf(st, "a"))), 201)
	}
	var names []string
	after := ""
	for range 10 {
		page := decodeReply[client.Manifests](t, f.admin("GET", "/v1/manifests?limit=2&after="+after, nil), 200)
		for _, m := range page.Manifests {
			names = append(names, m.Name)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if strings.Join(names, " ") != "name-0 name-1 name-2 name-3 name-4" {
		t.Errorf("listed %v", names)
	}
}

func TestManifestRefused(t *testing.T) {
	f := newFixture(t)
	good := f.statement("2", "x")
	wantProblem(t, f.admin("POST", "/v1/manifests", manifestBody(envelopeOf(good, "a", "b"))), client.CodeConflict, "") // nobody is trusted yet
	f.trustSigners(2, "a", "b")
	decodeReply[client.ManifestAccepted](t, f.admin("POST", "/v1/manifests", manifestBody(envelopeOf(good, "a", "b"))), 201)
	forged := envelopeOf(good, "a", "b")
	forged.Payload = f.statement("3", "evil").Encode()
	twice := envelopeOf(f.statement("3", "y"), "a")
	twice.Signatures = append(twice.Signatures, dsse.Signature{KeyID: crypto.PublicOf(signer("b")).KeyID(), Sig: twice.Signatures[0].Sig}, twice.Signatures[0])
	otherType := envelopeOf(f.statement("3", "y"))
	otherType.PayloadType = "application/vnd.in-toto+json"
	for _, name := range []string{"a", "b"} {
		if err := otherType.Sign(signer(name)); err != nil {
			t.Fatal(err)
		}
	}
	elsewhere := f.statement("3", "y")
	elsewhere.Source = "https://evil.example/bin"
	for name, c := range map[string]struct {
		body  any
		code  string
		field string
	}{
		"no body":                    {"", client.CodeInvalid, "body"},
		"no envelope":                {"{}", client.CodeInvalid, "envelope"},
		"an envelope that is none":   {`{"envelope":7}`, client.CodeInvalid, "envelope"},
		"an unknown member":          {`{"envelope":{},"x":1}`, client.CodeInvalid, "x"},
		"broken JSON in it":          {`{"envelope":{"payload":}}`, client.CodeInvalid, "envelope"},
		"a legacy manifest":          {`{"envelope":{"modelId":"m","version":"1","source":"https://huggingface.co/m.gguf","sha256":"00","signature":"AA==","signerPeerId":"coord-a"}}`, client.CodeInvalid, "envelope"},
		"one of two signers":         {manifestBody(envelopeOf(f.statement("3", "y"), "a")), client.CodeInvalid, "signatures"},
		"one signer for two":         {manifestBody(twice), client.CodeInvalid, "signatures"},
		"a signer nobody trusts":     {manifestBody(envelopeOf(f.statement("3", "y"), "a", "c")), client.CodeInvalid, "signatures"},
		"signatures of another text": {manifestBody(forged), client.CodeInvalid, "signatures"},
		"another kind of payload":    {manifestBody(otherType), client.CodeInvalid, "envelope"},
		"another source":             {manifestBody(envelopeOf(elsewhere, "a", "b")), client.CodeInvalid, "source"},
		"a rollback":                 {manifestBody(envelopeOf(f.statement("1.9", "y"), "a", "b")), client.CodeConflict, "version"},
		"two digests":                {manifestBody(envelopeOf(f.statement("2.0", "y"), "a", "b")), client.CodeConflict, "sha256"},
	} {
		t.Run(name, func(t *testing.T) {
			_, totals := f.node.history.Totals()
			wantProblem(t, f.admin("POST", "/v1/manifests", c.body), c.code, c.field)
			if _, now := f.node.history.Totals(); now[fsm.StreamAdmin] != totals[fsm.StreamAdmin] {
				t.Error("a refusal is in the history")
			}
		})
	}
	for _, role := range allRoles {
		if role != fsm.RoleOperator && role != fsm.RoleAdmin {
			rec := f.do(ask{method: "POST", path: "/v1/manifests", token: f.tokens[role], body: manifestBody(envelopeOf(f.statement("3", "y"), "a", "b"))})
			wantProblem(t, rec, client.CodeForbidden, "")
		}
	}
}

// A signer that was added at another node works here, though this replica lags.
func TestManifestSignerOfALaggingReplica(t *testing.T) {
	f := newFixture(t)
	f.node.held = true
	f.node.mustApply(f.actor(), fsm.ManifestTrustSet{Trust: fsm.ManifestTrust{Threshold: 1, Sources: []string{"https://models.example/"},
		Signers: []fsm.ManifestSigner{{Name: "a", Key: crypto.PublicOf(signer("a"))}}}})
	decodeReply[client.ManifestAccepted](t, f.admin("POST", "/v1/manifests", manifestBody(envelopeOf(f.statement("1", "x"), "a"))), 201)
}

// The same idempotency key gets the first answer, even when nobody is trusted any
// more; with another body it is a conflict.
func TestManifestIdempotent(t *testing.T) {
	f := newFixture(t)
	f.trustSigners(1, "a")
	key := map[string]string{client.HeaderIdempotencyKey: "k1"}
	post := func(version string) ask {
		return ask{method: "POST", path: "/v1/manifests", token: f.tokens[fsm.RoleOperator], header: key, body: manifestBody(envelopeOf(f.statement(version, version), "a"))}
	}
	first := decodeReply[client.ManifestAccepted](t, f.do(post("1")), 201)
	f.trustSigners(0)
	again := decodeReply[client.ManifestAccepted](t, f.do(post("1")), 201)
	if again.Index != first.Index || !again.Repeated {
		t.Errorf("%+v, first %+v", again, first)
	}
	wantProblem(t, f.do(post("2")), client.CodeConflict, "")
}

func TestManifestTrustChanges(t *testing.T) {
	f := newFixture(t)
	empty := f.admin("GET", "/v1/manifests/trust", nil)
	if got := decodeReply[client.ManifestTrust](t, empty, 200); got.Version != 0 || got.Signers == nil || got.Sources == nil || empty.Header().Get("ETag") != `"0"` {
		t.Errorf("before it is set: %+v", got)
	}
	put := func(match string, body any) ask {
		a := ask{method: "PUT", path: "/v1/manifests/trust", token: f.tokens[fsm.RoleAdmin], body: body, header: map[string]string{"If-Match": match}}
		if match == "" {
			a.header = nil
		}
		return a
	}
	good := func() client.ManifestTrustUpdate {
		return client.ManifestTrustUpdate{Threshold: 1, Sources: []string{"https://models.example/"},
			Signers: []client.ManifestSigner{{Name: "a", PublicKey: crypto.PublicOf(signer("a")).String(), Prefix: "m-"}}}
	}
	wantProblem(t, f.do(put("", good())), client.CodeInvalid, "If-Match")
	wantProblem(t, f.do(put("7", good())), client.CodeConflict, "version")
	for field, change := range map[string]func(*client.ManifestTrustUpdate){
		"threshold": func(u *client.ManifestTrustUpdate) { u.Threshold = 2 },
		"signers":   func(u *client.ManifestTrustUpdate) { u.Signers[0].PublicKey = "AAAA" },
		"sources":   func(u *client.ManifestTrustUpdate) { u.Sources[0] = "http://models.example/" },
	} {
		u := good()
		change(&u)
		wantProblem(t, f.do(put("0", u)), client.CodeInvalid, field)
	}
	wantProblem(t, f.do(put("0", `{"threshold":1,"signers":[{"name":"a","key":"b"}]}`)), client.CodeInvalid, "signers[0].key")
	wantProblem(t, f.do(put("0", `{"sources":["a",7]}`)), client.CodeInvalid, "sources[1]")
	rec := f.do(put(`"0"`, good()))
	if got := decodeReply[client.ManifestTrust](t, rec, http.StatusOK); got.Version != 1 || got.Signers[0].Prefix != "m-" || rec.Header().Get("ETag") != `"1"` {
		t.Errorf("%+v", got)
	}
	// Of other names the signer may not sign.
	wantProblem(t, f.admin("POST", "/v1/manifests", manifestBody(envelopeOf(f.statement("1", "x"), "a"))), client.CodeInvalid, "signatures")
}

// manifestRoutes calls each route of manifests through the Go client.
func manifestRoutes(t *testing.T, f *fixture, c *client.Client) {
	t.Helper()
	trust, err := c.ManifestTrust(t.Context(), client.Strong())
	if err != nil {
		t.Fatal(err)
	}
	set, err := c.SetManifestTrust(t.Context(), trust.Version, client.ManifestTrustUpdate{Threshold: 1, Sources: []string{"https://models.example/"},
		Signers: []client.ManifestSigner{{Name: "a", PublicKey: crypto.PublicOf(signer("a")).String()}}})
	if err != nil || set.Version != trust.Version+1 {
		t.Errorf("set trust: %+v, %v", set, err)
	}
	st := f.statement("1", "x")
	if _, err := c.AcceptManifest(t.Context(), envelopeOf(st, "a").Encode()); err != nil {
		t.Errorf("accept: %v", err)
	}
	if row, err := c.Manifest(t.Context(), st.Name); err != nil || row.Name != st.Name {
		t.Errorf("manifest: %+v, %v", row, err)
	}
	if page, err := c.Manifests(t.Context(), client.Page("", 5)); err != nil || len(page.Manifests) != 1 {
		t.Errorf("manifests: %+v, %v", page, err)
	}
	if done, err := c.RevokeManifest(t.Context(), st.Name, client.ManifestRevokeRequest{Version: "1"}); err != nil || done.Index == 0 {
		t.Errorf("revoke: %+v, %v", done, err)
	}
}

// FuzzManifestBody: whatever the body, the answer is an error or names what the
// statement says.
func FuzzManifestBody(f *testing.F) {
	fx := newFixture(f)
	fx.trustSigners(1, "a")
	f.Add(string(must(json.Marshal(manifestBody(envelopeOf(fx.statement("1", "x"), "a"))))))
	f.Add(`{"envelope":{"payload":"e30=","payloadType":"x","signatures":[{"sig":"AA=="}]}}`)
	f.Fuzz(func(t *testing.T, body string) {
		fx := newFixture(t)
		fx.trustSigners(1, "a")
		rec := fx.do(ask{method: "POST", path: "/v1/manifests", token: fx.tokens[fsm.RoleOperator], body: body})
		if rec.Code == http.StatusCreated {
			got := decodeReply[client.ManifestAccepted](t, rec, http.StatusCreated)
			if len(got.Signers) != 1 || got.Name == "" {
				t.Errorf("accepted %+v", got)
			}
		}
	})
}
