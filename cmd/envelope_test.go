package cmd

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/envelope"
)

// reader is somebody to seal for: the key's file and the public half.
func reader(t *testing.T, b byte) (keyFile string, pub *ecdh.PublicKey) {
	t.Helper()
	key, err := crypto.GenerateEncryptionKey(bytes.NewReader(bytes.Repeat([]byte{b}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	text, err := crypto.MarshalEncryptionKeyPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	return writeTemp(t, "reader.key", string(text)), key.PublicKey()
}

func publicText(pub *ecdh.PublicKey) string { return base64.StdEncoding.EncodeToString(pub.Bytes()) }

// chunks is a text of n chunks, the last a byte short.
func chunks(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n*envelope.ChunkSize; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()[:n*envelope.ChunkSize-1]
}

func TestEnvelopeThroughFiles(t *testing.T) {
	cleanEnv(t)
	key, pub := reader(t, 1)
	plain := chunks(3)
	dir := t.TempDir()
	in, sealed, out := filepath.Join(dir, "in"), filepath.Join(dir, "sealed"), filepath.Join(dir, "out")
	if err := os.WriteFile(in, []byte(plain), 0o644); err != nil {
		t.Fatal(err)
	}
	r := runArgs(t, "", "envelope", "seal", "--to", publicText(pub), "--out", sealed, in, "--format", "json")
	wantStatus(t, r, exitDone)
	var view envelopeView
	if err := json.Unmarshal([]byte(r.out), &view); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(sealed)
	if err != nil || view != (envelopeView{sealed, crypto.EncryptionKeyID(pub), int64(len(plain)), int64(len(data))}) || strings.Contains(string(data), "line") {
		t.Errorf("%+v, %d bytes, %v", view, len(data), err)
	}
	r = runArgs(t, "", "envelope", "open", "--key", key, "--out", out, sealed)
	wantStatus(t, r, exitDone)
	if !strings.Contains(r.out, "opened") || !strings.Contains(r.out, number(len(plain))) || r.err != "" {
		t.Errorf("stdout %q, stderr %q", r.out, r.err)
	}
	wantFile(t, out, plain)
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the opened file: %v, %v", info.Mode(), err)
	}

	again := [][]string{{"envelope", "seal", "--to", publicText(pub), "--out", out, in}, {"envelope", "open", "--key", key, "--out", out, sealed}}
	for _, args := range again {
		r := runArgs(t, "", args...)
		if r.status != exitUsage || !strings.Contains(r.err, "--force") {
			t.Errorf("%q: %d, %q", args, r.status, r.err)
		}
		wantFile(t, out, plain)
	}
	for _, args := range again {
		wantStatus(t, runArgs(t, "", append(args, "--force")...), exitDone)
	}
	wantFile(t, out, plain)
	wantNames(t, dir, "in", "out", "sealed")
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s: %d bytes, want %d; %v", path, len(got), len(want), err)
	}
}

// wantNames: nothing is in dir but these; no part of a file was left behind.
func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%s holds %q, want %q; %v", dir, got, want, err)
	}
}

func TestEnvelopeThroughPipes(t *testing.T) {
	cleanEnv(t)
	key, pub := reader(t, 1)
	for _, to := range []string{publicText(pub), writeTemp(t, "a.pub", publicText(pub)+"\n"), writeTemp(t, "b.pub", crypto.EncryptionPublicKeyPEM(pub))} {
		for _, plain := range []string{"", "x", chunks(2)} {
			sealed := runArgs(t, plain, "envelope", "seal", "--to", to)
			wantStatus(t, sealed, exitDone)
			opened := runArgs(t, sealed.out, "envelope", "open", "-", "--key", key)
			wantStatus(t, opened, exitDone)
			if opened.out != plain || sealed.err+opened.err != "" {
				t.Errorf("%d bytes became %d, stderr %q %q", len(plain), len(opened.out), sealed.err, opened.err)
			}
		}
	}
}

// TestEnvelopeOpenRefuses: what does not verify leaves no file behind and replaces none; to a pipe goes only what
// verified, and the exit status tells.
func TestEnvelopeOpenRefuses(t *testing.T) {
	cleanEnv(t)
	key, pub := reader(t, 1)
	other, _ := reader(t, 2)
	plain := chunks(3)
	sealed := runArgs(t, plain, "envelope", "seal", "--to", publicText(pub)).out
	for name, tt := range map[string]struct {
		key, stream string
		whole       int // chunks that verify
		want        string
	}{
		"cut after a chunk": {key, sealed[:envelope.HeaderSize+2*(envelope.ChunkSize+16)], 1, "cut off"},
		"cut in a chunk":    {key, sealed[:len(sealed)-1], 2, "does not verify"},
		"altered":           {key, strings.Replace(sealed, sealed[70000:70010], "0123456789", 1), 1, "does not verify"},
		"something added":   {key, sealed + "x", 2, "does not verify"},
		"another key":       {other, sealed, 0, "sealed to another key"},
		"no envelope":       {key, "plain text", 0, "malformed"},
		"nothing":           {key, "", 0, "malformed"},
	} {
		r := runArgs(t, tt.stream, "envelope", "open", "--key", tt.key)
		if r.status != exitRefused || r.out != plain[:tt.whole*envelope.ChunkSize] || !strings.Contains(r.err, tt.want) {
			t.Errorf("%s: exit status %d, %d bytes, %q", name, r.status, len(r.out), r.err)
		}
		if warned := strings.Contains(r.err, "only the beginning"); warned != (tt.whole > 0) {
			t.Errorf("%s: %q", name, r.err)
		}
		out := writeTemp(t, "out", "precious")
		r = runArgs(t, tt.stream, "envelope", "open", "--key", tt.key, "--out", out, "--force")
		if r.status != exitRefused || r.out != "" || !strings.Contains(r.err, tt.want) {
			t.Errorf("%s, to a file: exit status %d, %q, %q", name, r.status, r.out, r.err)
		}
		wantFile(t, out, "precious")
		wantNames(t, filepath.Dir(out), "out")
	}
}

func TestEnvelopeUsage(t *testing.T) {
	cleanEnv(t)
	key, pub := reader(t, 1)
	to := publicText(pub)
	there := writeTemp(t, "there", "x")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"seal", there}, "--to or --agent is missing"},
		{[]string{"seal", there, "--to", to, "--agent", "a"}, "give one"},
		{[]string{"seal", there, "--to", "AAAA"}, "there is no such file"},
		{[]string{"seal", there, "--to", there}, "not canonical base64"},
		{[]string{"seal", there, "--to", key}, "PUBLIC KEY"},
		{[]string{"seal", there, "--to", base64.StdEncoding.EncodeToString(make([]byte, 32))}, "small order"},
		{[]string{"seal", "-", "--to", "-"}, "cannot be both"},
		{[]string{"seal", "--to", to, "--format", "json"}, "give --out"},
		{[]string{"seal", "--to", to, there, there}, "unexpected argument"},
		{[]string{"seal", "--to", to, there + "x"}, "no such file"},
		{[]string{"seal", "--to", to, filepath.Dir(there)}, "directory"},
		{[]string{"seal", "--to", to, there, "--out", filepath.Join(there, "x")}, "not a directory"},
		{[]string{"seal", "--to", to, there, "--out", os.DevNull, "--force"}, "no regular file"},
		{[]string{"open", there}, "--key is missing"},
		{[]string{"open", "--key", there + "x", there}, "no such file"},
		{[]string{"open", "--key", key, "--passphrase-file", "-"}, "cannot be both"},
	} {
		r := runArgs(t, "", append([]string{"envelope"}, tt.args...)...)
		if r.status != exitUsage || !strings.Contains(r.err, tt.want) || r.out != "" {
			t.Errorf("%q: exit status %d, stdout %q, stderr %q; want %q", tt.args, r.status, r.out, r.err, tt.want)
		}
	}
}

func TestEnvelopeForAgent(t *testing.T) {
	key, pub := reader(t, 1)
	agentKey, thief := privateKeyOf(t, "agent"), privateKeyOf(t, "thief")
	agentOf := func(signer crypto.PrivateKey, clusterID, id string, of *ecdh.PublicKey) client.Agent {
		return client.Agent{State: "active", PublicKey: crypto.PublicOf(agentKey).PEM(), EncryptionKey: publicText(pub),
			EncryptionProof: base64.StdEncoding.EncodeToString(crypto.SignEncryptionKey(signer, clusterID, id, of.Bytes()))}
	}
	good := agentOf(agentKey, testClusterID, "agent-1", pub)
	bare := good
	bare.EncryptionProof = ""
	_, foreign := reader(t, 2)
	var answer any
	pointAt(t, newFakeAPI(t, map[string]reply{"GET /v1/agents/agent-1": func(call) any { return answer }}))
	for name, tt := range map[string]struct {
		answer any
		status int
		want   string
	}{
		"active":          {good, exitDone, ""},
		"no proof":        {bare, exitRefused, "without a proof by its present signing key"},
		"another's proof": {agentOf(thief, testClusterID, "agent-1", pub), exitRefused, "not signed by that agent"},
		"of another key":  {agentOf(agentKey, testClusterID, "agent-1", foreign), exitRefused, "not signed by that agent"},
		"of another id":   {agentOf(agentKey, testClusterID, "agent-2", pub), exitRefused, "not signed by that agent"},
		"of elsewhere":    {agentOf(agentKey, strings.Repeat("e", 32), "agent-1", pub), exitRefused, "not signed by that agent"},
		"pending":         {client.Agent{State: "pending", EncryptionKey: publicText(pub)}, exitRefused, "is pending"},
		"revoked":         {client.Agent{State: "revoked", EncryptionKey: publicText(pub)}, exitRefused, "is revoked"},
		"without a key":   {client.Agent{State: "active"}, exitRefused, "without an encryption key"},
		"with a weak key": {client.Agent{State: "active", EncryptionKey: base64.StdEncoding.EncodeToString(make([]byte, 32))}, exitRefused, "small order"},
		"unknown":         {&client.Error{Code: client.CodeNotFound, Detail: "no agent"}, exitRefused, "no agent"},
		"no leader":       {&client.Error{Code: client.CodeUnavailable, Detail: "no leader"}, exitUnknown, "no leader"},
	} {
		answer = tt.answer
		r := runArgs(t, "secret", "envelope", "seal", "--agent", "agent-1", "--timeout", "1s")
		if r.status != tt.status || !strings.Contains(r.err, tt.want) || (r.out == "") != (tt.status != exitDone) {
			t.Errorf("%s: exit status %d, %d bytes, %q", name, r.status, len(r.out), r.err)
		}
		if tt.status == exitDone {
			if opened := runArgs(t, r.out, "envelope", "open", "--key", key); opened.out != "secret" {
				t.Errorf("%s: %+v", name, opened)
			}
		}
	}
}

// TestEnvelopeForAKnownAgent: who knows the agent's signing key need not take the cluster's word for it.
func TestEnvelopeForAKnownAgent(t *testing.T) {
	_, pub := reader(t, 1)
	thief := privateKeyOf(t, "thief")
	pointAt(t, newFakeAPI(t, map[string]reply{"GET /v1/agents/agent-1": always(client.Agent{State: "active", PublicKey: crypto.PublicOf(thief).PEM(), EncryptionKey: publicText(pub),
		EncryptionProof: base64.StdEncoding.EncodeToString(crypto.SignEncryptionKey(thief, testClusterID, "agent-1", pub.Bytes()))})}))
	seal := func(key crypto.PrivateKey) ran {
		return runArgs(t, "secret", "envelope", "seal", "--agent", "agent-1", "--agent-key", crypto.PublicOf(key).String())
	}
	wantStatus(t, seal(thief), exitDone)
	if r := seal(privateKeyOf(t, "agent")); r.status != exitRefused || r.out != "" || !strings.Contains(r.err, "--agent-key is") {
		t.Errorf("%+v", r)
	}
	wantStatus(t, runArgs(t, "x", "envelope", "seal", "--to", publicText(pub), "--agent-key", crypto.PublicOf(thief).String()), exitUsage)
}

// privateKeyOf is a signing key that is the same in every run.
func privateKeyOf(t *testing.T, name string) crypto.PrivateKey {
	t.Helper()
	seed := crypto.Sum([]byte("envelope " + name))
	key, err := crypto.GenerateKey(bytes.NewReader(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestSealNeverClosesHalfAFile: if the source fails, what was sealed so far must not pass for the whole file.
func TestSealNeverClosesHalfAFile(t *testing.T) {
	cleanEnv(t)
	_, pub := reader(t, 1)
	key, err := crypto.GenerateEncryptionKey(bytes.NewReader(bytes.Repeat([]byte{1}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	fault := errors.New("bad sector")
	var sealed bytes.Buffer
	if err := sealStream(&sealed, io.MultiReader(strings.NewReader(chunks(1)), &failing{fault}), pub); !errors.Is(err, fault) {
		t.Fatalf("%v", err)
	}
	r, err := envelope.NewReader(&sealed, key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); !errors.Is(err, envelope.ErrTruncated) || len(got) > 0 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

func TestMeter(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	m := &meter{ctx: ctx, Reader: strings.NewReader(strings.Repeat("x", 1000))}
	if n, err := m.Read(make([]byte, 100)); n != 100 || err != nil || m.n != 100 {
		t.Errorf("read %d, counted %d, %v", n, m.n, err)
	}
	cancel()
	if n, err := m.Read(make([]byte, 100)); n != 0 || !errors.Is(err, context.Canceled) || exitStatus(err) != exitUnknown {
		t.Errorf("after Ctrl-C: %d, %v", n, err)
	}
}

// TestOpenEndsWhileItsInputIsStuck: a signal ends the command though nothing comes through the pipe any more, and no
// plaintext is left behind. Where the system knows files without a name there never is any.
func TestOpenEndsWhileItsInputIsStuck(t *testing.T) {
	cleanEnv(t)
	key, pub := reader(t, 1)
	sealed := runArgs(t, chunks(3), "envelope", "seal", "--to", publicText(pub)).out
	dir := t.TempDir()
	stuck, feed := io.Pipe()
	defer feed.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p := testProgram()
	p.in, p.err = stuck, io.Discard
	ended := make(chan int, 1)
	go func() {
		ended <- p.run(ctx, []string{"envelope", "open", "--key", key, "--out", filepath.Join(dir, "out"), "-"})
	}()
	if _, err := io.WriteString(feed, sealed[:2*envelope.ChunkSize]); err != nil { // it returns once all was read
		t.Fatal(err)
	}
	if runtime.GOOS == "linux" {
		wantNames(t, dir)
	}
	cancel()
	if status := <-ended; status != exitUnknown {
		t.Errorf("exit status %d", status)
	}
	wantNames(t, dir)
}

// TestHangupEndsAFileJob: SIGHUP, which would end the process with a part of the file in its place, is caught.
func TestHangupEndsAFileJob(t *testing.T) {
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGHUP) // under nohup it is ignored until somebody listens
	defer signal.Stop(heard)
	ctx, stop := testProgram().untilHangup(context.Background())
	defer stop()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
}
