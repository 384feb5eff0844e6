package node

import (
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// TestRestartTakesNoOldKeysUp: a node that starts has its newest snapshot first and the log behind it later. It does not go back to the keys of
// that snapshot meanwhile: they were revoked, and it would forget those of now.
func TestRestartTakesNoOldKeysUp(t *testing.T) {
	heavy(t)
	t.Parallel()
	log := &syncedLog{}
	c := &trio{t: t, adjust: func(i int, cfg *Config) {
		if i == 2 {
			cfg.Log = slog.New(slog.NewTextHandler(log, nil))
		}
	}}
	t.TempDir() // first, so that it is removed last: after the nodes have stopped
	t.Cleanup(c.stopAll)
	c.grow(3)
	c.eventually("the keys are on record", func() bool { return !c.activeKey(gossipSubject).IsZero() })
	c.snapshot(c.nodes[2])
	for range 3 {
		before := c.activeKey(gossipSubject)
		if res := c.asAdmin(fsm.KeyRevoke{Subject: gossipSubject.String(), Key: crypto.PublicKey(before).Fingerprint(), Reason: "a test"}); !res.OK() {
			t.Fatalf("%+v", res)
		}
		c.rotated(gossipSubject, before)
		want := c.nodes[2].shared.Load()
		if err := c.nodes[2].shutdown(); err != nil {
			t.Fatal(err)
		}
		c.nodes[2] = nil
		c.start(2)
		c.eventually("it has applied what it had", func() bool { i, _ := c.nodes[2].machine.Index(); return i >= want.asOf && c.nodes[2].Ready() == nil })
		c.eventually("all go by one key", func() bool { return !c.activeKey(gossipSubject).IsZero() })
	}
	var steps []uint64
	for _, m := range regexp.MustCompile(`taken up.* as_of=(\d+)`).FindAllStringSubmatch(log.String(), -1) {
		index, err := strconv.ParseUint(m[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		steps = append(steps, index)
	}
	if len(steps) < 3 || !slices.IsSorted(steps) {
		t.Error(fmt.Sprint("sets were taken up as of the indexes ", steps))
	}
}
