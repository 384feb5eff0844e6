package cmd

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// TestTaskAndResult: a task goes there and its result comes back, in both versions; each key is good for one result.
func TestTaskAndResult(t *testing.T) {
	cleanEnv(t)
	agent, pub := reader(t, 1)
	signer := privateKeyOf(t, "sender")
	signerKey := writeTemp(t, "sender.pem", string(crypto.MarshalPrivateKeyPEM(signer)))
	for name, v := range map[string]struct{ seal, open []string }{
		"version 2": {[]string{"--key", signerKey}, []string{"--from", crypto.PublicOf(signer).String()}},
		"version 1": {[]string{"--v1"}, []string{"--v1"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			at := func(name string) string { return filepath.Join(dir, name) }
			seal := append([]string{"envelope", "task", "seal", "--to", publicText(pub), "--subtask-id", "s-1", "--class", "gpu", "--priority", "0", "--language", "python",
				"--limit", "1m", "--session", at("sender.session"), "--out", at("task"), "--format", "json"}, v.seal...)
			r := runArgs(t, "do it", seal...)
			wantStatus(t, r, exitDone)
			var view taskView
			if err := json.Unmarshal([]byte(r.out), &view); err != nil || view.SubtaskID != "s-1" || view.Bytes != 5 {
				t.Errorf("%s, %v", r.out, err)
			}
			if text := string(readTemp(t, at("task"))); strings.Contains(text, "do it") || !strings.Contains(text, `"resourceClass":"gpu","priority":0,"language":"python","timeoutMs":60000`) {
				t.Errorf("the envelope is %s", text)
			}
			if info, err := os.Stat(at("sender.session")); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			wantStatus(t, runArgs(t, "again", seal...), exitUsage) // the session is there

			open := append([]string{"envelope", "task", "open", "--key", agent, "--session", at("agent.session"), at("task")}, v.open...)
			if r := runArgs(t, "", open...); r.status != exitDone || r.out != "do it" {
				t.Fatalf("%+v", r)
			}
			wrong := runArgs(t, "x", "envelope", "result", "seal", "--session", at("sender.session"))
			if wrong.status != exitUsage || wrong.out != "" {
				t.Errorf("the sender's session seals: %+v", wrong)
			}
			wantStatus(t, runArgs(t, "done", "envelope", "result", "seal", "--session", at("agent.session"), "--out", at("result")), exitDone)
			wantStatus(t, runArgs(t, "twice", "envelope", "result", "seal", "--session", at("agent.session")), exitUsage)

			altered := strings.Replace(string(readTemp(t, at("result"))), "s-1", "s-2", 1)
			if r := runArgs(t, altered, "envelope", "result", "open", "--session", at("sender.session")); r.status != exitRefused || r.out != "" {
				t.Errorf("altered: %+v", r)
			}
			if r := runArgs(t, "", "envelope", "result", "open", "--session", at("sender.session"), at("result")); r.status != exitDone || r.out != "done" {
				t.Errorf("%+v", r)
			}
			wantStatus(t, runArgs(t, "", "envelope", "result", "open", "--session", at("sender.session"), at("result")), exitUsage)
			wantNames(t, dir, "result", "task")
		})
	}
}

// TestTaskRefused: a task of another sender, key or version leaves nothing behind, no session either.
func TestTaskRefused(t *testing.T) {
	cleanEnv(t)
	agent, pub := reader(t, 1)
	other, _ := reader(t, 2)
	signer, stranger := privateKeyOf(t, "sender"), privateKeyOf(t, "stranger")
	signerKey := writeTemp(t, "sender.pem", string(crypto.MarshalPrivateKeyPEM(signer)))
	session := filepath.Join(t.TempDir(), "session")
	task := runArgs(t, "do it", "envelope", "task", "seal", "--key", signerKey, "--to", publicText(pub), "--subtask-id", "s-1", "--session", session).out
	v1 := runArgs(t, "do it", "envelope", "task", "seal", "--v1", "--to", publicText(pub), "--subtask-id", "s-1", "--session", session+"1").out
	from := []string{"--from", crypto.PublicOf(signer).String()}
	dir := t.TempDir()
	for name, c := range map[string]struct {
		task, key string
		args      []string
		status    int
	}{
		"of a stranger":   {task, agent, []string{"--from", crypto.PublicOf(stranger).String()}, exitRefused},
		"for another key": {task, other, from, exitRefused},
		"altered":         {strings.Replace(task, "s-1", "s-2", 1), agent, from, exitRefused},
		"downgraded":      {v1, agent, from, exitRefused},
		"v2 as v1":        {task, agent, []string{"--v1"}, exitRefused},
		"from nobody":     {task, agent, nil, exitUsage},
		"both":            {task, agent, append([]string{"--v1"}, from...), exitUsage},
	} {
		args := append([]string{"envelope", "task", "open", "--key", c.key, "--session", filepath.Join(dir, "session"), "--out", filepath.Join(dir, "out"), "-"}, c.args...)
		if r := runArgs(t, c.task, args...); r.status != c.status || r.out != "" {
			t.Errorf("%s: %+v", name, r)
		}
		wantNames(t, dir)
	}
	for _, args := range [][]string{
		{"--key", signerKey, "--to", publicText(pub), "--subtask-id", "s-1"}, {"--key", signerKey, "--to", publicText(pub), "--session", "x"},
		{"--to", publicText(pub), "--subtask-id", "s-1", "--session", "x"}, {"--key", signerKey, "--to", publicText(pub), "--subtask-id", "s-1", "--session", filepath.Join(dir, "s"), "--priority", "101"},
	} {
		if r := runArgs(t, "x", append([]string{"envelope", "task", "seal"}, args...)...); r.status != exitUsage || r.out != "" {
			t.Errorf("%v: %+v", args, r)
		}
		wantNames(t, dir)
	}
}
