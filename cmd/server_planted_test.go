package cmd

import (
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/node"
)

// TestPlantsAreTold holds in builds of both kinds (make chaos-planted).
func TestPlantsAreTold(t *testing.T) {
	cleanEnv(t)
	t.Setenv("EDGECODER_PASSPHRASE", "long enough")
	if r := runArgs(t, "", "version"); strings.Contains(r.out, plantedText) != plantedBuild {
		t.Errorf("version: %+v", r)
	}
	if r := runArgs(t, "", "version", "--format", "json"); strings.Contains(r.out, `"planted": true`) != plantedBuild {
		t.Errorf("version: %+v", r)
	}
	args := []string{"--data-dir", t.TempDir(), "--name", "n"}
	if _, r := checkConfig(t, args...); r.status != exitDone || strings.Contains(r.err, plantedText) != plantedBuild {
		t.Errorf("server: %+v", r)
	}
	want := exitDone
	if plantedBuild {
		want = exitUsage
	}
	_, r := checkConfig(t, append(args, "--gossip-addr", "10.0.0.1:4401")...)
	wantStatus(t, r, want)
}

func TestPlantsStayOnTestAddresses(t *testing.T) {
	for addr, ok := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "198.18.0.1:1": true, "198.19.255.254:1": true, "[::ffff:127.0.0.1]:1": true,
		"0.0.0.0:1": false, ":1": false, "[::]:1": false, "10.0.0.1:1": false, "198.20.0.1:1": false, "198.17.255.255:1": false,
		"example.org:1": false, "localhost:1": false, "127.0.0.1": false,
	} {
		for i := range 3 {
			cfg := node.DefaultConfig()
			*[]*string{&cfg.APIAddr, &cfg.RaftAddr, &cfg.GossipAddr}[i] = addr
			if err := onlyTestAddrs(cfg); (err == nil) != ok || (err != nil && exitStatus(err) != exitUsage) {
				t.Errorf("%s: %v", addr, err)
			}
		}
	}
}
