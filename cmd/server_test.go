package cmd

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// checkConfig returns the settings that --check-config shows.
func checkConfig(t *testing.T, args ...string) (serverSettings, ran) {
	t.Helper()
	r := runArgs(t, "", append([]string{"server", "--check-config", "--format", "json"}, args...)...)
	var s serverSettings
	if r.status == exitDone {
		if err := json.Unmarshal([]byte(r.out), &s); err != nil {
			t.Fatalf("%v: %+v", err, r)
		}
	}
	return s, r
}

func TestSettingsPrecedence(t *testing.T) {
	cleanEnv(t)
	t.Setenv("EDGECODER_PASSPHRASE", "long enough")
	dir := t.TempDir()
	file := writeTemp(t, "c.yaml", "name: from-file\ngossip_addr: 127.0.0.1:1111\napi_addr: 127.0.0.1:2222\nbootstrap: true\njoin: [a:1, b:2]\ntrusted_proxies: [10.0.0.0/8, 192.0.2.7]\nlog_level: warn\n")
	s, r := checkConfig(t, "--data-dir", dir, "--config", file)
	wantStatus(t, r, exitDone)
	want := serverSettings{DataDir: dir, Name: "from-file", APIAddr: "127.0.0.1:2222", GossipAddr: "127.0.0.1:1111", Bootstrap: true, Join: seedList{"a:1", "b:2"}, TrustedProxies: proxyList{"10.0.0.0/8", "192.0.2.7"}, DiskReserve: "64MiB", BackupEvery: "0", BackupKeep: "7", Timing: "local", LogLevel: "warn", LogFormat: "text"}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("file: got %+v, want %+v", s, want)
	}
	t.Setenv("EDGECODER_NAME", "from-env")
	t.Setenv("EDGECODER_JOIN", "c:3")
	t.Setenv("EDGECODER_TRUSTED_PROXIES", "::1/128")
	t.Setenv("EDGECODER_BOOTSTRAP", "false")
	t.Setenv("EDGECODER_JOIN_TOKEN", testToken(t, "coordinator"))
	t.Setenv("EDGECODER_API_ADDR", "") // left out, not emptied
	t.Setenv("EDGECODER_DISK_RESERVE", "0")
	t.Setenv("EDGECODER_BACKUP_KEEP", "3")
	t.Setenv("EDGECODER_TIMING", "wan")
	want.DiskReserve, want.BackupKeep, want.Timing = "0", "3", "wan"
	want.TrustedProxies = proxyList{"::1/128"}
	want.Name, want.Join, want.Bootstrap = "from-env", seedList{"c:3"}, false
	if s, r = checkConfig(t, "--data-dir", dir, "--config", file); !reflect.DeepEqual(s, want) {
		t.Errorf("env: got %+v, want %+v: %s", s, want, r.err)
	}
	want.Name, want.Join, want.Bootstrap = "from-flag", seedList{"d:4", "e:5"}, true
	if s, r = checkConfig(t, "--data-dir", dir, "--config", file, "--name", "from-flag", "--join", "d:4, e:5", "--bootstrap"); !reflect.DeepEqual(s, want) {
		t.Errorf("flag: got %+v, want %+v: %s", s, want, r.err)
	}
}

func TestDefaultsAreLoopback(t *testing.T) {
	cleanEnv(t)
	t.Setenv("EDGECODER_PASSPHRASE", "long enough")
	s, r := checkConfig(t, "--data-dir", t.TempDir(), "--name", "n")
	wantStatus(t, r, exitDone)
	if !strings.HasPrefix(s.APIAddr, "127.0.0.1:") || !strings.HasPrefix(s.GossipAddr, "127.0.0.1:") {
		t.Errorf("%+v", s)
	}
}

func TestSettingsRefused(t *testing.T) {
	cleanEnv(t)
	t.Setenv("EDGECODER_PASSPHRASE", "long enough")
	dir := t.TempDir()
	for _, tt := range []struct {
		file string
		args []string
		want string
	}{
		{"nmae: x", nil, "nmae"},
		{"name: [a]", nil, "line 1"},
		{"join: {a: b}", nil, "join"},
		{"trusted_proxies: {a: b}", nil, "trusted_proxies"},
		{"trusted_proxies: nearby", []string{"--name", "n"}, `EDGECODER_TRUSTED_PROXIES) "nearby"`},
		{"", []string{"--name", "n", "--trusted-proxy", "10.0.0.1/8"}, "10.0.0.0/8"},
		{"", []string{"--name", "n", "--api-cert", "c.pem"}, "belong together"},
		{"", []string{"--name", "n", "--api-cert", "/nowhere.crt", "--api-key", "/nowhere.key"}, "/nowhere.key"},
		{"name: x\n---\nname: y", nil, "more than one document"},
		{"", []string{"--name", "a\x01b"}, "--name"},
		{"", []string{"--name", "n", "--api-addr", "nowhere"}, "--api-addr"},
		{"", []string{"--name", "n", "--log-level", "loud"}, "--log-level"},
		{"", []string{"--name", "n", "--log-format", "xml"}, "--log-format"},
		{"", []string{"--name", "n", "--disk-reserve", "much"}, "--disk-reserve"},
		{"disk_reserve: -1", []string{"--name", "n"}, "--disk-reserve"},
		{"", []string{"--name", "n", "--disk-reserve", "2TiB"}, "--disk-reserve"},
		{"", []string{"--name", "n", "--backup-every", "daily"}, "--backup-every"},
		{"backup_every: 24h", []string{"--name", "n"}, "--backup-dir"},
		{"", []string{"--name", "n", "--backup-dir", "d", "--backup-every", "1h", "--backup-keep", "0"}, "--backup-keep"},
		{"backup_keep: some", []string{"--name", "n"}, "--backup-keep"},
		{"", []string{"--name", "n", "--join-token-file", "/nowhere"}, "/nowhere"},
		{"", []string{"--name", "n", "--passphrase-file", "/nowhere"}, "/nowhere"},
		{"", []string{"--config", "/nowhere.yaml"}, "/nowhere.yaml"},
	} {
		args := append([]string{"--data-dir", dir, "--config", writeTemp(t, "c.yaml", tt.file)}, tt.args...)
		_, r := checkConfig(t, args...)
		if r.status != exitUsage || !strings.Contains(r.err, tt.want) || r.out != "" {
			t.Errorf("%q %q: %+v, want %q", tt.file, tt.args, r, tt.want)
		}
	}
	os.Unsetenv("EDGECODER_PASSPHRASE")
	if _, r := checkConfig(t, "--name", "n", "--disk-reserve", "x"); !strings.Contains(r.err, "--data-dir") || !strings.Contains(r.err, "passphrase") || !strings.Contains(r.err, "--disk-reserve") {
		t.Errorf("all faults should be told together: %s", r.err)
	}
}

func TestFirstTokenGoesToItsFileOrStdout(t *testing.T) {
	var out, errOut strings.Builder
	p := &program{out: &out, err: &errOut}
	file := filepath.Join(t.TempDir(), "admin.token")
	if err := p.showFirstToken("secret", file); err != nil || out.Len() != 0 {
		t.Fatalf("%v, %q", err, out.String())
	}
	text, _ := os.ReadFile(file)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || string(text) != "secret\n" {
		t.Errorf("%v, %q", err, text)
	}
	if err := p.showFirstToken("secret", ""); err != nil || out.String() != "secret\n" || !strings.Contains(errOut.String(), "only now") {
		t.Errorf("%v, %q, %q", err, out.String(), errOut.String())
	}
	if err := p.showFirstToken("", file); err != nil || out.String() != "secret\n" {
		t.Errorf("%v, %q", err, out.String())
	}
}
