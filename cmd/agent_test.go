package cmd

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
)

// cheapKeys makes key files cost less; the floor of the format still holds.
func cheapKeys(t *testing.T) {
	t.Helper()
	keyIterations = keyfile.MinIterations
	t.Cleanup(func() { keyIterations = 0 })
}

func TestKeygenThenSign(t *testing.T) {
	cleanEnv(t)
	cheapKeys(t)
	path := filepath.Join(t.TempDir(), "agent.key")
	pass := writeTemp(t, "pass", "correct horse\n")
	r := runArgs(t, "", "agent", "keygen", "--out", path, "--passphrase-file", pass, "--format", "json")
	wantStatus(t, r, exitDone)
	var key keyView
	if err := json.Unmarshal([]byte(r.out), &key); err != nil || !key.Encrypted {
		t.Fatalf("%v, %+v", err, key)
	}
	if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), "PRIVATE KEY") {
		t.Fatalf("%v: the key lies in the clear", err)
	}
	t.Setenv("EDGECODER_PASSPHRASE", "correct horse")
	r = runArgs(t, "", "sign", "--key", path, "--agent", "a", "GET", "/")
	wantStatus(t, r, exitDone)
	headers, err := parseHeaders(r.out)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := crypto.ParseSignedRequest("GET", "/", func(name string) string { return headers[name] })
	if err != nil || signed.TimestampMs != testNowMs {
		t.Fatalf("%v, %+v", err, signed)
	}
	pub, err := crypto.ParsePublicKeyPEM(key.PublicKey)
	if err != nil || pub.KeyID() != key.KeyID || !crypto.Verify(pub, signed.Canonical(), signed.Signature[:]) {
		t.Errorf("the printed key does not verify: %v", err)
	}
	t.Setenv("EDGECODER_PASSPHRASE", "wrong horse")
	r = runArgs(t, "", "sign", "--key", path, "--agent", "a", "GET", "/")
	if r.status != exitUsage || !strings.Contains(r.err, "wrong passphrase") {
		t.Errorf("%+v", r)
	}
}

func TestKeygenNeverOverwritesByItself(t *testing.T) {
	cleanEnv(t)
	path := writeTemp(t, "agent.key", "precious")
	wantStatus(t, runArgs(t, "", "agent", "keygen", "--out", path, "--plaintext"), exitUsage)
	if text, _ := os.ReadFile(path); string(text) != "precious" {
		t.Fatal("overwritten")
	}
	r := runArgs(t, "", "agent", "keygen", "--out", path, "--plaintext", "--force")
	wantStatus(t, r, exitDone)
	if !strings.Contains(r.err, "warning") || !strings.HasPrefix(r.out, "key id  ") {
		t.Errorf("%+v", r)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %s", info.Mode())
	}
}

// TestKeyFilesNeverReplaceOneThatCameInTheMeantime: two runs at once both saw a free name; the second must not take it.
func TestKeyFilesNeverReplaceOneThatCameInTheMeantime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.key")
	if err := (newKeyFile{path: path}).write([]byte("first")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	err := newKeyFile{path: path}.write([]byte("second"))
	if exitStatus(err) != exitUsage || !strings.Contains(err.Error(), "--force") {
		t.Errorf("%v", err)
	}
	wantFile(t, path, "first")
	if err := (newKeyFile{path: path, replace: true}).write([]byte("third")); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "third")
	wantNames(t, filepath.Dir(path), "agent.key")
}

// TestEnrollNoticesAForeignEncryptionKey: the answer is held against what was sent.
func TestEnrollNoticesAForeignEncryptionKey(t *testing.T) {
	_, own := reader(t, 1)
	_, foreign := reader(t, 2)
	key := writeTemp(t, "agent.pem", loadVectors(t).Keys.Ed25519["agent1"].PrivateKeyPem)
	token := testToken(t, "agent")
	for name, c := range map[string]struct {
		change func(*client.Agent)
		status int
		says   string
	}{
		"as it was sent": {func(*client.Agent) {}, exitDone, ""},
		"another key":    {func(a *client.Agent) { a.EncryptionKey = publicText(foreign) }, exitRefused, "not with the one"},
		"no key":         {func(a *client.Agent) { a.EncryptionKey = "" }, exitRefused, "not with the one"},
		"no proof":       {func(a *client.Agent) { a.EncryptionProof = "" }, exitDone, "warning"},
	} {
		var req client.EnrollRequest
		f := newFakeAPI(t, map[string]reply{"POST /v1/agents": func(asked call) any {
			_ = json.Unmarshal([]byte(asked.body), &req)
			a := client.Agent{AgentID: req.AgentID, State: "active", EncryptionKey: req.EncryptionKey, EncryptionProof: req.EncryptionProof}
			c.change(&a)
			return a
		}})
		cleanEnv(t)
		t.Setenv("EDGECODER_ADDR", f.URL)
		t.Setenv("EDGECODER_ENROLL_TOKEN", token)
		r := runArgs(t, "", "agent", "enroll", "--key", key, "--encryption-key", publicText(own), "agent-1")
		if r.status != c.status || !strings.Contains(r.err, c.says) || c.says == "" && r.err != "" {
			t.Errorf("%s: %+v", name, r)
		}
		pub, err := crypto.ParsePublicKeyPEM(req.PublicKey)
		proof, decodeErr := base64.StdEncoding.DecodeString(req.EncryptionProof)
		if err != nil || decodeErr != nil || !crypto.VerifyEncryptionKey(pub, proof, testClusterID, "agent-1", own.Bytes()) {
			t.Errorf("%s: sent %+v, %v", name, req, err)
		}
	}
}

func enrolmentAPI(t *testing.T, made string) *fakeAPI {
	return newFakeAPI(t, map[string]reply{
		"POST /v1/agents": func(c call) any {
			var req client.EnrollRequest
			_ = json.Unmarshal([]byte(c.body), &req)
			return client.Agent{AgentID: req.AgentID, State: "pending"}
		},
		"POST /v1/tokens": always(client.Token{ID: "t", Role: "agent", Token: made}),
	})
}

// checkProof verifies an enrolment as a server would.
func checkProof(t *testing.T, c call, token string) {
	t.Helper()
	var req client.EnrollRequest
	if err := json.Unmarshal([]byte(c.body), &req); err != nil {
		t.Fatal(err)
	}
	pub, err := crypto.ParsePublicKeyPEM(req.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := base64.StdEncoding.DecodeString(req.Proof)
	if err != nil || !ed25519.Verify(pub[:], crypto.EnrollProofText(testClusterID, "agent-1", token), proof) || req.Token != token || req.AgentID != "agent-1" {
		t.Errorf("enrolment %+v, %v", req, err)
	}
	if c.header.Get("Authorization") != "" {
		t.Error("the enrolment carried an API token")
	}
}

func TestEnrollWithAToken(t *testing.T) {
	token := testToken(t, "agent")
	f := enrolmentAPI(t, "")
	cleanEnv(t)
	t.Setenv("EDGECODER_ADDR", f.URL)
	key := writeTemp(t, "agent.pem", loadVectors(t).Keys.Ed25519["agent1"].PrivateKeyPem)
	r := runArgs(t, token+"\n", "agent", "enroll", "--key", key, "agent-1", "--enroll-token-file", "-")
	wantStatus(t, r, exitDone)
	if !strings.Contains(r.err, "edgecoder agent approve agent-1") {
		t.Errorf("stderr %q", r.err)
	}
	t.Setenv("EDGECODER_ENROLL_TOKEN", token)
	wantStatus(t, runArgs(t, "", "agent", "enroll", "--key", key, "--agent", "agent-1"), exitDone)
	for _, c := range f.asked("POST /v1/agents") {
		checkProof(t, c, token)
	}
	if n := len(f.asked("POST /v1/tokens")); n != 0 {
		t.Errorf("%d tokens were made", n)
	}
}

func TestEnrollMakesItsOwnTokenOnTheFirstDay(t *testing.T) {
	made := testToken(t, "agent")
	f := enrolmentAPI(t, made)
	pointAt(t, f)
	key := writeTemp(t, "agent.pem", loadVectors(t).Keys.Ed25519["agent1"].PrivateKeyPem)
	r := runArgs(t, "", "agent", "enroll", "--key", key, "--agent", "agent-1")
	wantStatus(t, r, exitDone)
	if !strings.Contains(r.err, "making one") {
		t.Errorf("stderr %q", r.err)
	}
	checkProof(t, f.asked("POST /v1/agents")[0], made)
}

func TestEnrollRefuses(t *testing.T) {
	f := enrolmentAPI(t, "")
	cleanEnv(t)
	t.Setenv("EDGECODER_ADDR", f.URL)
	key := writeTemp(t, "agent.pem", loadVectors(t).Keys.Ed25519["agent1"].PrivateKeyPem)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--key", key}, "id is missing"},
		{[]string{"--key", key, "--agent", "a", "b"}, "two agent ids"},
		{[]string{"--key", key, "a"}, "no enrolment token"},
		{[]string{"--key", key, "a", "--enroll-token", testToken(t, "viewer")}, "role viewer"},
		{[]string{"--key", key, "a", "--enroll-token", testToken(t, "agent"), "--encryption-key", "AAAA"}, "--encryption-key"},
	} {
		r := runArgs(t, "", append([]string{"agent", "enroll"}, tt.args...)...)
		if r.status != exitUsage || !strings.Contains(r.err, tt.want) {
			t.Errorf("%q: %+v, want %q", tt.args, r, tt.want)
		}
	}
	if n := len(f.asked("POST /v1/agents")); n != 0 {
		t.Errorf("%d enrolments were sent", n)
	}
}

func TestSecretSources(t *testing.T) {
	f := newFakeAPI(t, map[string]reply{"GET /v1/status": always(client.Status{})})
	cleanEnv(t)
	t.Setenv("EDGECODER_ADDR", f.URL)
	fromFlag, fromFile, fromEnv := testToken(t, "admin"), testToken(t, "admin"), testToken(t, "admin")
	file := writeTemp(t, "token", fromFile+"\n")
	for _, tt := range []struct {
		name, env, fileEnv, want, stdin string
		args                            []string
	}{
		{"plain flag wins", fromEnv, file, fromFlag, "", []string{"--token", fromFlag, "--token-file", file}},
		{"file flag over variable", fromEnv, "", fromFile, "", []string{"--token-file", file}},
		{"variable over file variable", fromEnv, file, fromEnv, "", nil},
		{"file variable", "", file, fromFile, "", nil},
		{"standard input", "", "", fromFile, fromFile + "\n", []string{"--token-file", "-"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("EDGECODER_TOKEN", tt.env)
			t.Setenv("EDGECODER_TOKEN_FILE", tt.fileEnv)
			r := runArgs(t, tt.stdin, append([]string{"status"}, tt.args...)...)
			wantStatus(t, r, exitDone)
			calls := f.asked("GET /v1/status")
			if got := calls[len(calls)-1].header.Get("Authorization"); got != "Bearer "+tt.want {
				t.Errorf("another token was sent")
			}
			if strings.Contains(r.err, "warning") != (tt.name == "plain flag wins") {
				t.Errorf("stderr %q", r.err)
			}
		})
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := runArgs(t, "", "status", "--token-file", file); r.status != 0 || !strings.Contains(r.err, "chmod 600") {
		t.Errorf("a shared token file: %+v", r)
	}
}

func TestAgentListFollowsPages(t *testing.T) {
	f := newFakeAPI(t, nil)
	n := 0
	f.Config.Handler = pages(t, &n)
	pointAt(t, f)
	r := runArgs(t, "", "agent", "list", "--state", "active", "--format", "json")
	wantStatus(t, r, exitDone)
	var got client.Agents
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || len(got.Agents) != 2 || got.Next != "" || n != 3 {
		t.Errorf("%v, %+v after %d pages", err, got, n)
	}
}

// pages serves three pages of agents, the second of them pending.
func pages(t *testing.T, n *int) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*n++
		page := map[string]client.Agents{
			"":  {Agents: []client.Agent{{AgentID: "a", State: "active"}}, Next: "a"},
			"a": {Agents: []client.Agent{{AgentID: "b", State: "pending"}}, Next: "b"},
			"b": {Agents: []client.Agent{{AgentID: "c", State: "active"}}},
		}[r.URL.Query().Get("after")]
		_ = json.NewEncoder(w).Encode(page)
	})
}
