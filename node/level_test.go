package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// older makes nodes say that they know no more than fsm.LevelClients.
func older(_ int, cfg *Config) { cfg.level, cfg.Version = fsm.LevelClients, "v4" }

func (c *trio) upgrade(i int) {
	c.t.Helper()
	if err := c.nodes[i].shutdown(); err != nil {
		c.t.Fatal(err)
	}
	c.nodes[i] = nil
	c.cfgs[i].level, c.cfgs[i].Version = 0, "v5"
	c.start(i)
	c.eventually("it is back", c.allReady)
}

func (c *trio) waits(i int) map[string]string {
	out := map[string]string{}
	for _, w := range c.nodes[i].Status().LevelWaits {
		out[w.Name] = w.Reason
	}
	return out
}

// TestLevelRisesWhenTheLastServerIsUpgraded: voters and non-voters hold it back,
// whether they run an older binary or are silent; once none does it rises by
// itself, and older binaries neither start nor join.
func TestLevelRisesWhenTheLastServerIsUpgraded(t *testing.T) {
	t.Parallel()
	heavy(t)
	c := &trio{t: t, adjust: older}
	t.TempDir() // first, so that it is removed last
	t.Cleanup(c.stopAll)
	c.grow(2)
	cfg := testConfig(t, "watcher")
	cfg.Join, cfg.JoinToken = []string{c.cfgs[0].GossipAddr}, c.token("observer", 1)
	older(2, &cfg)
	c.cfgs = append(c.cfgs, cfg)
	c.start(2)
	c.eventually("the observer is a server", func() bool { return len(c.nodes[0].servers()) == 3 && c.allReady() })
	for i := range 2 {
		c.upgrade(i)
	}
	c.eventually("the observer alone holds the level back", func() bool {
		return maps.Equal(c.waits(0), map[string]string{"watcher": client.LevelOlder})
	})
	if level, _ := c.nodes[0].clusterLevel(); level != fsm.LevelClients {
		t.Fatalf("level %d while one server runs an older binary", level)
	}
	if err := c.nodes[2].shutdown(); err != nil {
		t.Fatal(err)
	}
	c.nodes[2] = nil
	c.eventually("its silence holds it back", func() bool {
		return maps.Equal(c.waits(0), map[string]string{"watcher": client.LevelSilent})
	})
	if level, _ := c.nodes[0].clusterLevel(); level != fsm.LevelClients {
		t.Fatalf("level %d while a server is silent", level)
	}
	c.cfgs[2].level, c.cfgs[2].Version = 0, "v5"
	c.start(2)
	c.eventually("all nodes are at the new level", func() bool {
		return !slices.ContainsFunc(c.nodes, func(n *Node) bool {
			level, version := n.clusterLevel()
			return level != fsm.LevelSupported || version != "v5" || len(n.Status().LevelWaits) > 0
		})
	})
	c.refusesOlder()
}

// refusesOlder: neither the start nor the join of an older binary.
func (c *trio) refusesOlder() {
	t := c.t
	t.Helper()
	c.eventually("the level is noted", func() bool {
		text, err := os.ReadFile(filepath.Join(c.cfgs[2].DataDir, fileLevel))
		return err == nil && strings.Contains(string(text), fmt.Sprintf(`"level":%d`, fsm.LevelSupported))
	})
	late := testConfig(t, "late")
	late.Join, late.JoinToken = []string{c.cfgs[0].GossipAddr}, c.token("coordinator", 1)
	older(3, &late)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := Start(ctx, late)
	e := (*client.Error)(nil)
	if !errors.As(err, &e) || e.Code != client.CodeConflict || e.Reason != reasonLevel || !strings.Contains(e.Detail, `"v5"`) {
		t.Errorf("an older binary joins: %v", err)
	}
	late.level = 0
	n, err := Start(ctx, late) // the refusal cost neither token nor directory
	if err != nil {
		t.Fatalf("upgraded, it does not join: %v", err)
	}
	c.nodes = append(c.nodes, n)
	if err := c.nodes[2].shutdown(); err != nil {
		t.Fatal(err)
	}
	c.nodes[2] = nil
	back := c.cfgs[2]
	older(2, &back)
	if _, err := Start(ctx, back); !errors.Is(err, fsm.ErrLevel) || !strings.Contains(err.Error(), fmt.Sprintf("feature level %d (version \"v5\" or newer)", fsm.LevelSupported)) {
		t.Errorf("an older binary starts on a directory of a newer level: %v", err)
	}
}

// TestNewerLogStopsTheNode: it says what it needs, and does so again at every
// start; its log stays as it is.
func TestNewerLogStopsTheNode(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	body, err := fsm.Encode(fsm.LevelRaise{From: fsm.LevelSupported, To: fsm.LevelSupported + 1, Version: "v9"})
	if err != nil {
		t.Fatal(err)
	}
	entry, err := fsm.Encode(fsm.Command{Version: 1, Kind: fsm.KindLevelRaise, AtMs: c.nodes[0].wallMs(), Actor: fsm.Actor{NodeID: c.nodes[0].id.NodeID}, Body: body})
	if err != nil {
		t.Fatal(err)
	}
	n := c.nodes[0]
	n.raft.Apply(entry, time.Second)
	for start := range 2 {
		err := n.Err()
		if !errors.Is(err, fsm.ErrLevel) || errors.Is(err, ErrResync) || !strings.Contains(err.Error(), `version "v9" or newer`) || !strings.Contains(err.Error(), "nothing in "+c.cfgs[0].DataDir+" was changed") {
			t.Fatalf("start %d: stopped by %v", start, err)
		}
		if n, err = Start(t.Context(), c.cfgs[0]); err != nil {
			t.Fatal(err)
		}
		c.nodes[0] = n
	}
}

// TestPingReadByOlderBinaries: what a healthy node answers has no member that the
// binaries of level 2 do not know; their leaders could not read its clock.
func TestPingReadByOlderBinaries(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	reply, err := c.nodes[0].servePing(t.Context(), "anybody", pingRequest{WallMs: 1})
	if err != nil {
		t.Fatal(err)
	}
	data, err := fsm.Encode(reply)
	if err != nil {
		t.Fatal(err)
	}
	var older struct {
		WallMs   int64      `cbor:"1,keyasint"`
		Applied  uint64     `cbor:"2,keyasint"`
		Level    uint32     `cbor:"3,keyasint"`
		Version  string     `cbor:"4,keyasint"`
		Term     uint64     `cbor:"5,keyasint"`
		Marks    []fsm.Mark `cbor:"6,keyasint,omitempty"`
		WriteUs  int64      `cbor:"7,keyasint"`
		Full     bool       `cbor:"8,keyasint"`
		Epoch    uint64     `cbor:"9,keyasint,omitempty"`
		Released bool       `cbor:"10,keyasint,omitempty"`
	}
	if err := fsm.Decode(data, &older); err != nil || older.Level != fsm.LevelSupported || older.Applied == 0 {
		t.Errorf("%+v, %v", older, err)
	}
	newer, err := fsm.Encode(map[int]any{1: 7, 99: "more"})
	if err != nil {
		t.Fatal(err)
	}
	var now pingReply
	if err := fsm.DecodeReply(newer, &now); err != nil || now.WallMs != 7 {
		t.Errorf("the answer of a newer binary: %+v, %v", now, err)
	}
}
