package cmd

import (
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/golden"
	"github.com/edgecoder/edgecoder/crypto/httpsig"
)

// vectors are the golden vectors of WIRE.md that this room needs.
type vectors struct {
	Keys struct {
		Ed25519 map[string]struct {
			Name, PrivateKeyPem, PublicKeyPem string
		}
	}
	RequestSigning struct {
		Valid []struct {
			Method, Path, AgentID, Body, SignerKey string
			Headers                                map[string]string
		}
	}
	Blacklist struct {
		Chain []struct {
			Record    json.RawMessage
			SignerKey string
		}
		ChainHead string
	}
}

func loadVectors(t *testing.T) vectors {
	t.Helper()
	var v vectors
	golden.Load(t, &v)
	return v
}

// keyOf finds the private key that made a vector: agents sign their own.
func (v vectors) keyOf(agentID string) string {
	alias := strings.ReplaceAll(agentID, "-", "")
	return v.Keys.Ed25519[alias].PrivateKeyPem
}

func TestSignMakesTheVectors(t *testing.T) {
	cleanEnv(t)
	v := loadVectors(t)
	if len(v.RequestSigning.Valid) == 0 {
		t.Fatal("no vectors")
	}
	for _, tt := range v.RequestSigning.Valid {
		key := writeTemp(t, "agent.pem", v.keyOf(tt.Headers[crypto.HeaderAgentID]))
		args := []string{
			"sign", "--key", key, "--agent", tt.Headers[crypto.HeaderAgentID], tt.Method, tt.Path, "--body", "-",
			"--timestamp-ms", tt.Headers[crypto.HeaderTimestamp], "--nonce", tt.Headers[crypto.HeaderNonce],
		}
		r := runArgs(t, tt.Body, args...)
		wantStatus(t, r, exitDone)
		got, err := parseHeaders(r.out)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range tt.Headers {
			if got[name] != want {
				t.Errorf("%s %s: %s is %q, want %q", tt.Method, tt.Path, name, got[name], want)
			}
		}
		r = runArgs(t, tt.Body, append(args, "--format", "json")...)
		var object map[string]string
		if err := json.Unmarshal([]byte(r.out), &object); err != nil || object[crypto.HeaderSignature] != tt.Headers[crypto.HeaderSignature] {
			t.Errorf("json: %v, %v", object, err)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	cleanEnv(t)
	v := loadVectors(t)
	key := writeTemp(t, "agent.pem", v.Keys.Ed25519["agent1"].PrivateKeyPem)
	open := writeTemp(t, "open.pem", v.Keys.Ed25519["agent1"].PrivateKeyPem)
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--agent", "a", "GET", "/"}, "--key is missing"},
		{[]string{"--key", key, "GET", "/"}, "--agent is missing"},
		{[]string{"--key", key, "--agent", "a", "get", "/"}, "method"},
		{[]string{"--key", key, "--agent", "a", "GET", "tasks"}, "path"},
		{[]string{"--key", key, "--agent", "a", "GET"}, "PATH is missing"},
		{[]string{"--key", key, "--agent", "a", "GET", "/", "--timestamp-ms", "-1"}, "timestamp"},
		{[]string{"--key", key, "--agent", "a", "GET", "/", "--nonce", "two words"}, "nonce"},
		{[]string{"--key", key, "--agent", "a", "GET", "https://h/x", "--profile", "none"}, "--profile"},
		{[]string{"--key", key, "--agent", "a", "GET", "/x", "--profile", "rfc9421"}, "--authority is missing"},
		{[]string{"--key", key, "--agent", "a", "GET", "/x", "--authority", "h"}, "belong to --profile rfc9421"},
		{[]string{"--key", key, "--agent", "a", "GET", "/x", "--expires", "5s"}, "belong to --profile rfc9421"},
		{[]string{"--key", key, "--agent", "a", "GET", "https://h/x?q", "--profile", "five-header"}, "do not sign a query"},
		{[]string{"--key", key, "--agent", "a", "GET", "https://u@h/x"}, "without user"},
		{[]string{"--key", key, "--agent", "a", "GET", "ftp://h/x"}, "want a URL"},
		{[]string{"--key", key, "--agent", "a", "GET", "https://h/x#y"}, "fragment"},
		{[]string{"--key", key, "--agent", "a", "GET", "https://h:x/"}, "no URL"},
		{[]string{"--key", key, "--agent", "a", "get", "https://h/x"}, "method"},
		{[]string{"--key", key, "--agent", "a", "GET", "https://h/x", "--expires", "1h1s"}, "--expires"},
		{[]string{"--key", key, "--agent", "a", "GET", "https://h/x", "--expires", "1500ms"}, "whole seconds"},
		{[]string{"--key", key, "--agent", "a", "GET", "/x", "--profile", "rfc9421", "--authority", "h/x"}, "host"},
		{[]string{"--key", key, "--agent", "a", "GET", "https://h/x", "--timestamp-ms", "-1"}, "created"},
		{[]string{"--key", open, "--agent", "a", "GET", "/"}, "chmod 600"},
		{[]string{"--key", writeTemp(t, "x", "junk"), "--agent", "a", "GET", "/"}, "key file"},
	} {
		r := runArgs(t, "", append([]string{"sign"}, tt.args...)...)
		if r.status != exitUsage || !strings.Contains(r.err, tt.want) || r.out != "" {
			t.Errorf("%q: exit status %d, stdout %q, stderr %q; want %q", tt.args, r.status, r.out, r.err, tt.want)
		}
	}
}

// A URL, or a path and a host, give the same HTTP message signature, which
// verifies for that host, query and body alone.
func TestSignMessageSignature(t *testing.T) {
	cleanEnv(t)
	v := loadVectors(t)
	pem := v.Keys.Ed25519["agent1"].PrivateKeyPem
	priv, err := crypto.ParsePrivateKeyPEM([]byte(pem))
	if err != nil {
		t.Fatal(err)
	}
	pub := crypto.PublicOf(priv)
	key := writeTemp(t, "agent.pem", pem)
	base := []string{"sign", "--key", key, "--agent", "agent-1", "--body", "-", "--nonce", "n-1", "--timestamp-ms", "1767225600999"}
	var outputs []string
	for _, args := range [][]string{
		{"POST", "https://Service.example:443/tasks?urgent=1"},
		{"POST", "/tasks?urgent=1", "--profile", "rfc9421", "--authority", "service.example"},
		{"POST", "https://10.0.0.1:8443/tasks?urgent=1", "--authority", "service.example", "--expires", "60s"},
	} {
		r := runArgs(t, "body", append(base, args...)...)
		wantStatus(t, r, exitDone)
		outputs = append(outputs, r.out)
		headers, err := parseHeaders(r.out)
		if err != nil {
			t.Fatal(err)
		}
		headers["host"] = "service.example"
		signed, err := httpsig.Read("POST", "/tasks?urgent=1", func(name string) string { return headers[name] })
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		if !crypto.Verify(pub, signed.Canonical(), signed.Signature[:]) || !signed.MatchesBody([]byte("body")) ||
			signed.AgentID != "agent-1" || signed.TimestampMs != 1767225600000 || signed.ExpiresMs() != 1767225660000 || signed.Nonce != "n-1" {
			t.Errorf("%v: %+v", args, signed)
		}
	}
	if outputs[0] != outputs[1] || outputs[0] != outputs[2] {
		t.Errorf("three ways to say the same gave\n%s", strings.Join(outputs, "\n"))
	}
	r := runArgs(t, "body", append(base, "GET", "https://h", "--format", "json")...)
	var object map[string]string
	if err := json.Unmarshal([]byte(r.out), &object); err != nil || len(object) != 3 || object["signature-input"] == "" {
		t.Errorf("json: %v, %v", object, err)
	}
	r = runArgs(t, "body", append(base, "POST", "https://h/tasks", "--profile", "five-header")...)
	if wantStatus(t, r, exitDone); !strings.Contains(r.out, "x-signature: ") || strings.Contains(r.out, "signature-input") {
		t.Errorf("five headers of a URL: %s", r.out)
	}
}

func TestAdmitPassesMessageSignaturesOn(t *testing.T) {
	f := newFakeAPI(t, map[string]reply{"POST /v1/admissions": func(call) any {
		return client.Admission{Verdict: client.VerdictAdmitted, Code: client.VerdictOK}
	}})
	pointAt(t, f)
	const headers = "Signature-Input: a=1\nsignature-input: b=2\nSignature: s\nContent-Digest: d\nCookie: secret\n"
	wantStatus(t, runArgs(t, headers+"Host: other\n", "admit", "--method", "GET", "--path", "/x?y", "--authority", "h"), exitDone)
	wantStatus(t, runArgs(t, headers, "admit", "--method", "GET", "--path", "/x?y", "--authority", "h:81"), exitDone)
	for i, host := range []string{"h", "h:81"} {
		var req client.AdmissionRequest
		if err := json.Unmarshal([]byte(f.asked("POST /v1/admissions")[i].body), &req); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"signature-input": "a=1, b=2", "signature": "s", "content-digest": "d", "host": host}
		if !maps.Equal(req.Headers, want) || req.Path != "/x?y" {
			t.Errorf("asked %+v", req)
		}
	}
}

// Which host an HTTP message signature must be for is the caller's to say: the
// sender's word may be that of another service.
func TestAdmitWantsTheAuthority(t *testing.T) {
	f := newFakeAPI(t, map[string]reply{"POST /v1/admissions": func(call) any {
		return client.Admission{Verdict: client.VerdictAdmitted, Code: client.VerdictOK}
	}})
	pointAt(t, f)
	const headers = "Host: evil.example\nSignature-Input: edgecoder=(\"@method\");tag=\"edgecoder\"\nSignature: s\nContent-Digest: d\n"
	r := runArgs(t, headers, "admit", "--method", "GET", "--path", "/")
	if r.status != exitUsage || !strings.Contains(r.err, "--authority is missing") || len(f.asked("POST /v1/admissions")) != 0 {
		t.Errorf("%+v", r)
	}
	wantStatus(t, runArgs(t, headers, "admit", "--method", "GET", "--path", "/", "--authority", "h"), exitDone)
	wantStatus(t, runArgs(t, "Host: evil.example\nx-nonce: n\n", "admit", "--method", "GET", "--path", "/"), exitDone)
	for i, host := range []string{"h", ""} {
		var req client.AdmissionRequest
		if err := json.Unmarshal([]byte(f.asked("POST /v1/admissions")[i].body), &req); err != nil || req.Headers["host"] != host {
			t.Errorf("asked %+v, %v, want the host %q", req, err, host)
		}
	}
}

func TestAdmitExitStatus(t *testing.T) {
	var answer any
	f := newFakeAPI(t, map[string]reply{"POST /v1/admissions": func(call) any { return answer }})
	pointAt(t, f)
	const headers = "X-Agent-Id: a-1\r\nx-timestamp-ms: 1\nx-nonce:n\nCookie: secret\n\nx-body-sha256: h\nx-signature: s:=\n"
	for _, tt := range []struct {
		answer any
		want   int
	}{
		{client.Admission{Verdict: client.VerdictAdmitted, Code: client.VerdictOK}, exitDone},
		{client.Admission{Verdict: client.VerdictDenied, Code: client.VerdictReplay}, exitRefused},
		{client.Admission{Code: client.CodeUnavailable, ClaimID: "c"}, exitUnknown},
		{&client.Error{Code: client.CodeUnknownOutcome, Detail: "maybe"}, exitUnknown},
		{&client.Error{Code: client.CodeForbidden, Detail: "no"}, exitRefused},
	} {
		answer = tt.answer
		r := runArgs(t, headers, "admit", "--method", "POST", "--path", "/tasks", "--body", writeTemp(t, "body", "hello"), "--claim-id", "my-claim", "--timeout", "1s")
		wantStatus(t, r, tt.want)
	}
	asked := f.asked("POST /v1/admissions")[0]
	var req client.AdmissionRequest
	if err := json.Unmarshal([]byte(asked.body), &req); err != nil {
		t.Fatal(err)
	}
	if len(req.Headers) != 5 || req.Headers["x-agent-id"] != "a-1" || req.Headers["x-signature"] != "s:=" || req.ClaimID != "my-claim" ||
		req.BodySHA256 != crypto.Sum([]byte("hello")).String() || req.Method != "POST" || req.Path != "/tasks" {
		t.Errorf("asked %+v", req)
	}
	if !strings.HasPrefix(asked.header.Get("Authorization"), "Bearer edgc_") {
		t.Errorf("authorization %q", asked.header.Get("Authorization"))
	}
}

func TestParseHeadersRefuses(t *testing.T) {
	for _, text := range []string{"x-nonce", "x-nonce: a\nX-NONCE: b", "host: a\nhost: a"} {
		if got, err := parseHeaders(text); err == nil {
			t.Errorf("%q gave %v", text, got)
		}
	}
}

func TestAdmitNeedsOneStdin(t *testing.T) {
	cleanEnv(t)
	r := runArgs(t, "", "admit", "--method", "GET", "--path", "/", "--body", "-")
	if r.status != exitUsage || !strings.Contains(r.err, "standard input") {
		t.Errorf("%+v", r)
	}
}
