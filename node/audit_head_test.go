package node

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
)

// auditHead is what node i tells of the log of another.
func (c *trio) auditHead(i int, node string) (out client.AuditHead) {
	c.t.Helper()
	heads, err := c.client(i, c.admin).AuditHeads(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, h := range heads.Heads {
		if h.Node == node {
			out = h
		}
	}
	return out
}

// cutAudit takes the lines from a seq on off the end of a log in one file.
func cutAudit(t *testing.T, dir string, from uint64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(text, []byte(`{"seq":`+strconv.FormatUint(from, 10)+`,`))
	if at < 1 {
		t.Fatalf("there is no line %d", from)
	}
	if err := os.WriteFile(files[0], text[:at], 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAuditCutOffIsFoundAfterARestart: lines that were cut off while the node was
// down are missed by the others at once, by the node itself when it starts, and
// for good; and the node goes on.
func TestAuditCutOffIsFoundAfterARestart(t *testing.T) {
	heavy(t)
	t.Parallel()
	t.TempDir()
	c := &trio{t: t, adjust: func(_ int, cfg *Config) { cfg.Timing.Mark, cfg.Timing.Ping = time.Second, 200*time.Millisecond }}
	t.Cleanup(c.stopAll)
	c.grow(3)
	ctx := t.Context()
	victim, dir := c.nodes[2].id.NodeID, audit.Dir(c.cfgs[2].DataDir)
	for range 5 {
		if _, err := c.client(2, c.admin).CreateToken(ctx, client.TokenRequest{Role: "viewer"}); err != nil {
			t.Fatal(err)
		}
	}
	last := c.nodes[2].audit.Head().Seq
	var known client.AuditHead
	c.eventually("the others know the end of n3's log", func() bool {
		known = c.auditHead(0, victim)
		return known.Known != nil && known.Known.Seq >= last && !known.Truncated
	})
	if err := c.nodes[2].shutdown(); err != nil {
		t.Fatal(err)
	}
	c.nodes[2] = nil
	cutAudit(t, dir, known.Known.Seq-2)
	want := audit.Head{Seq: known.Known.Seq, Hash: known.Known.Hash}
	if r, err := audit.Verify(dir); err != nil || len(r.Faults) > 0 {
		t.Fatalf("the chain alone shows it: %+v, %v", r, err)
	}
	away := c.auditHead(0, victim)
	if away.Known == nil || away.Known.Seq < want.Seq || away.Seq != 0 {
		t.Fatalf("of a node that is away the cluster knows %+v", away)
	}
	if r, err := audit.Verify(dir, audit.Head{Seq: away.Known.Seq, Hash: away.Known.Hash}); err != nil || len(r.Faults) != 1 || r.Faults[0].Kind != audit.FaultHead {
		t.Errorf("against what the others know: %+v, %v", r, err)
	}
	want.Seq, want.Hash = away.Known.Seq, away.Known.Hash

	c.start(2)
	c.eventually("every log tells of it", func() bool {
		out, err := c.client(1, c.admin).AuditEvents(ctx, client.AuditQuery{Type: typeTruncated, Level: audit.LevelCritical, Limit: 100})
		from := map[string]bool{}
		for _, e := range out.Events {
			from[e.Node] = e.Details["subject"] == victim && e.Details["seq"] == strconv.FormatUint(want.Seq, 10) && e.Details["hash"] == want.Hash
		}
		return err == nil && len(out.Events) == 3 && len(from) == 3 && from[c.nodes[0].id.NodeID] && from[c.nodes[1].id.NodeID] && from[victim]
	})
	remembers := func(i int) bool {
		h := c.auditHead(i, victim)
		return h.Losses == 1 && len(h.Lost) == 1 && h.Lost[0].Seq == want.Seq && h.Lost[0].Hash == want.Hash && h.Known != nil && !h.Truncated && h.Seq >= h.Known.Seq && h.Seq > 0
	}
	c.eventually("the loss is remembered and the log goes on", func() bool { return remembers(0) && remembers(2) })
	if _, err := c.client(2, c.admin).CreateToken(ctx, client.TokenRequest{Role: "viewer"}); err != nil {
		t.Errorf("the node does not go on: %v", err)
	}

	if err := c.nodes[2].shutdown(); err != nil {
		t.Fatal(err)
	}
	c.start(2)
	last = c.nodes[2].audit.Head().Seq
	c.eventually("it goes on after another restart", func() bool { h := c.auditHead(0, victim); return h.Known.Seq >= last })
	if !remembers(0) {
		t.Errorf("after a restart with the log as it was: %+v", c.auditHead(0, victim))
	}
}

// TestAuditCutOffWhileTheNodeRuns is found when somebody asks for the heads, and
// remembered: the first line behind the cut, which tells of it here, is not readable
// in the file, since what was cut off lies in front of it as a hole.
func TestAuditCutOffWhileTheNodeRuns(t *testing.T) {
	t.Parallel()
	t.TempDir()
	c := &trio{t: t, adjust: func(_ int, cfg *Config) { cfg.Timing.Mark, cfg.Timing.Ping = time.Second, 200*time.Millisecond }}
	t.Cleanup(c.stopAll)
	c.grow(1)
	id := c.nodes[0].id.NodeID
	c.token("viewer", -1)
	var known client.AuditHead
	c.eventually("the cluster knows the end", func() bool {
		known = c.auditHead(0, id)
		return known.Known != nil && known.Known.Seq == known.Seq && known.Losses == 0
	})
	cutAudit(t, audit.Dir(c.cfgs[0].DataDir), known.Seq)
	c.eventually("the loss is remembered", func() bool {
		h := c.auditHead(0, id)
		return h.Losses > 0 && h.Lost[0].Seq == known.Seq && h.Lost[0].Hash == known.Hash && h.Known.Seq > known.Seq
	})
	if _, err := c.client(0, c.admin).CreateToken(t.Context(), client.TokenRequest{Role: "viewer"}); err != nil {
		t.Errorf("the node does not go on: %v", err)
	}
}
