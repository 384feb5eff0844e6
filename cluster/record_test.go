package cluster

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAPidOfSomebodyElseIsNotOurServer(t *testing.T) {
	dir := newDir(t)
	rec := Record{Nodes: []Node{{Name: "node1", API: "https://127.0.0.1:1", DataDir: filepath.Join(dir, "node1", "data"), PID: os.Getpid(), Joined: true}}}
	if err := writeRecord(dir, rec, true); err != nil {
		t.Fatal(err)
	}
	c, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if c.Record().Nodes[0].Running() {
		t.Fatal("this test is no server")
	}
	if err := c.Stop(t.Context(), "node1", true); err != nil { // would kill this very test
		t.Fatal(err)
	}
	if c.Record().Nodes[0].PID != 0 {
		t.Error("the stale pid stayed")
	}
}

func TestEnvFileSurvivesOddDirectories(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's $HOME `id`")
	rec := Record{CAFile: dir + "/ca.pem", AdminTokenFile: dir + "/admin.token", PassphraseFile: dir + "/passphrase",
		Nodes: []Node{{API: "https://127.0.0.1:1"}, {API: "https://127.0.0.1:2"}}}
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, envFile(dir, rec), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", `. "$1" && printf '%s\n' "$EDGECODER_ADDR" "$EDGECODER_CA" "$EDGECODER_TOKEN_FILE" "$EDGECODER_PASSPHRASE_FILE"`, "sh", file).CombinedOutput()
	want := strings.Join([]string{"https://127.0.0.1:1,https://127.0.0.1:2", rec.CAFile, rec.AdminTokenFile, rec.PassphraseFile, ""}, "\n")
	if err != nil || string(out) != want {
		t.Fatalf("got %q, %v; want %q", out, err, want)
	}
}

func TestServersGetNoneOfOurVariables(t *testing.T) {
	t.Setenv("EDGECODER_BOOTSTRAP", "true")
	t.Setenv("OTHER", "stays")
	env := strings.Join(serverEnviron("EDGECODER_JOIN_TOKEN=x"), "\n")
	if strings.Contains(env, "EDGECODER_BOOTSTRAP") || !strings.Contains(env, "OTHER=stays") || !strings.Contains(env, "EDGECODER_JOIN_TOKEN=x") {
		t.Fatal(env)
	}
}

func TestADamagedRecordIsNamed(t *testing.T) {
	dir := newDir(t)
	if _, err := Load(dir); !errors.Is(err, errNoCluster) {
		t.Fatalf("empty directory: %v", err)
	}
	for _, text := range []string{"", "{", `{"nodes":[]}`, `{"nodes":[{"name":"a","api":"x","data_dir":"relative"}]}`} {
		if err := os.WriteFile(filepath.Join(dir, readyName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "cluster.json is damaged") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestLockIsExclusiveAndWaitsWithItsContext(t *testing.T) {
	dir := newDir(t)
	told := 0
	note := func(string, ...any) { told++ }
	first, err := acquire(t.Context(), dir, note)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 120*time.Millisecond)
	defer cancel()
	if _, err := acquire(ctx, dir, note); !errors.Is(err, context.DeadlineExceeded) || told != 1 {
		t.Fatalf("second lock: %v, told %d times", err, told)
	}
	first.release()
	second, err := acquire(t.Context(), dir, note)
	if err != nil {
		t.Fatal(err)
	}
	second.release()
}

// TestFreePorts: what one caller got no other gets, though nobody listens there yet.
func TestFreePorts(t *testing.T) {
	taken := map[string]bool{}
	for range 100 {
		p, err := FreePorts(2)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Release)
		if p.Base < firstFreePort || p.Base+portStep+2 > lastFreePort {
			t.Errorf("base %d", p.Base)
		}
		for i := range 2 {
			for _, addr := range []string{p.API(i), p.Raft(i), p.Gossip(i)} {
				if taken[addr] {
					t.Errorf("%s was given away twice", addr)
				}
				taken[addr] = true
			}
		}
	}
	p, err := FreePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	again := &Ports{Base: p.Base}
	defer again.Release()
	if again.guard(2) == nil {
		t.Error("ports that somebody has are free")
	}
	if got, err := choosePorts(2, p.Base); err != nil || got.API(0) != loopback(p.Base) || got.Gossip(1) != loopback(p.Base+12) {
		t.Errorf("base %d gave %+v, %v", p.Base, got, err)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{}, {Dir: "x", Nodes: 8}, {Dir: "x", Nodes: -1}, {Dir: "x", BasePort: -1}, {Dir: "x", BasePort: 65_500},
		{Dir: "x", Nodes: 3, Members: 4}, {Dir: "x", Nodes: 3, Members: -1}} {
		if err := o.check(); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
