package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRecoverInput: what is no use to recover from, and retiring, on a cluster
// of one.
func TestRecoverInput(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 1)
	cfg := c.cfgs[0]
	here := RecoveryDir{cfg.DataDir, cfg.Passphrase}
	if err := Retire(cfg.DataDir, "why", time.Now()); err == nil {
		t.Error("retired under a running server")
	}
	c.stopAll()
	second, foreign := filepath.Join(t.TempDir(), "copy"), filepath.Join(t.TempDir(), "foreign")
	copyDir(t, cfg.DataDir, second)
	copyDir(t, cfg.DataDir, foreign)
	other := loadedIdentity(t, cfg)
	other.ClusterID, other.NodeID = strings.Repeat("f", len(other.ClusterID)), "somebody-else"
	if err := other.save(foreign, cfg.Passphrase); err != nil {
		t.Fatal(err)
	}
	for what, dirs := range map[string][]RecoveryDir{
		"of cluster":        {here, {foreign, cfg.Passphrase}},
		"are both of node":  {here, {second, cfg.Passphrase}},
		"wrong passphrase":  {{cfg.DataDir, []byte("not this one")}},
		"no such file":      {{filepath.Join(t.TempDir(), "none"), cfg.Passphrase}},
		"no server's data":  {{t.TempDir(), cfg.Passphrase}},
		"no data directory": {},
		"is in use by":      {here, here},
	} {
		r, err := OpenRecovery(t.Context(), RecoveryOptions{Dirs: dirs})
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
		if r != nil {
			_ = r.Close()
		}
	}
	if _, err := OpenRecovery(t.Context(), RecoveryOptions{Dirs: []RecoveryDir{here}, Reason: "\xff"}); err == nil {
		t.Error("a reason that is no text was taken")
	}
	whole := open(t, RecoveryOptions{Dirs: []RecoveryDir{here}})
	if p := whole.Plan(); len(p.Refusals) != 0 || p.MayLose {
		t.Errorf("a cluster of one: %+v", p)
	}
	if err := whole.Close(); err != nil {
		t.Fatal(err)
	}
	retireAndTakeBack(t, c)
}

func retireAndTakeBack(t *testing.T, c *trio) {
	t.Helper()
	cfg := c.cfgs[0]
	if err := Retire(filepath.Join(t.TempDir(), "nowhere"), "why", time.Now()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
	if err := Retire(t.TempDir(), "why", time.Now()); err == nil {
		t.Error("retired a directory that is no server's")
	}
	for _, why := range []string{"first", "second"} {
		if err := Retire(cfg.DataDir, why, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Start(t.Context(), cfg); !errors.Is(err, ErrRetired) || !strings.Contains(err.Error(), "first") {
		t.Fatalf("started: %v", err)
	}
	r := open(t, RecoveryOptions{Dirs: []RecoveryDir{{cfg.DataDir, cfg.Passphrase}}})
	if p := r.Plan(); p.Chosen != "" || p.Copies[0].Retired == nil || len(p.Refusals) == 0 {
		t.Errorf("a retired copy was chosen: %+v", p)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(cfg.DataDir, fileRetired)); err != nil {
		t.Fatal(err)
	}
	c.start(0)
}
