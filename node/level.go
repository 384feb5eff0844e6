package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
	"github.com/edgecoder/edgecoder/fsm"
)

// A cluster is upgraded server by server. What a new binary would log and an old
// one cannot read waits for the feature level, which is replicated state. The
// leader raises it by itself, once the running process of every server in raft's
// configuration, whether it votes or not, told in a ping of the last rounds that
// it knows the new one. A server that is silent holds it back: its binary may
// have been taken back to an older one since it was last heard.

// fileLevel notes the level that the cluster was last seen at, so that an older
// binary (from fsm.LevelUpgrades on) refuses to start before it reads anything
// that may be of a newer form. Log and snapshots say the same, and are what
// counts when the note is missing.
const fileLevel = "level.json"

// levelNote is what fileLevel holds.
type levelNote struct {
	Level   uint32 `json:"level"`
	Version string `json:"version"` // of a binary that knows it
}

// supports is the highest feature level that this binary knows.
func (c *Config) supports() uint32 {
	if c.level != 0 {
		return c.level
	}
	return fsm.LevelSupported
}

// clusterLevel returns the level of the state, and the version that raised it.
func (n *Node) clusterLevel() (level uint32, version string) {
	n.machine.Read(func(s *fsm.State) { level, version = s.Meta().Level, s.Meta().LevelVersion })
	return level, version
}

// newerHint adds to ErrLevel what to do about it.
func newerHint(dir string, err error) error {
	return fmt.Errorf("%w\nnothing in %s was changed: install a newer edgecoder on this machine and start this server again", err, dir)
}

// checkLevelNote refuses the start of a binary that is below the level of its cluster.
func (c *Config) checkLevelNote() error {
	path := filepath.Join(c.DataDir, fileLevel)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var note levelNote
	if err := json.Unmarshal(text, &note); err != nil {
		c.Log.Warn("the note of the cluster's feature level cannot be read: log and snapshots are asked", "file", path, "error", err)
		return nil
	}
	if note.Level > c.supports() {
		return newerHint(c.DataDir, fmt.Errorf("the cluster is at feature level %d (version %q or newer), this binary, version %q, knows %d: %w",
			note.Level, note.Version, c.Version, c.supports(), fsm.ErrLevel))
	}
	return nil
}

// noteLevel writes down a level that the state has come to; noted is what is
// written already. It is called by the news loop alone.
func (n *Node) noteLevel(noted levelNote) levelNote {
	level, version := n.clusterLevel()
	if version == "" {
		version = n.cfg.Version // this binary reads the state, so it knows the level
	}
	if level <= noted.Level {
		return noted
	}
	now := levelNote{Level: level, Version: version}
	text, err := json.Marshal(now)
	if err == nil {
		err = keyfile.WriteAtomic(filepath.Join(n.cfg.DataDir, fileLevel), append(text, '\n'))
	}
	if err != nil {
		n.log.Warn("the cluster's feature level cannot be noted: an older binary would find it in log and snapshots only", "error", err)
		return noted
	}
	n.log.Info("the cluster's feature level", "level", level, "version", version, "supported", n.cfg.supports())
	return now
}

// outdated ends this node at an entry of the log that only a newer binary
// understands. It is called in raft's apply loop, which it keeps until raft was
// told to stop.
func (n *Node) outdated(err error) {
	n.fail(newerHint(n.cfg.DataDir, err))
	<-n.ending
}

// newerSink ends this node when the leader sends a snapshot that only a newer
// binary understands: raft would ask for it again and again.
type newerSink struct {
	raft.SnapshotSink
	n *Node
}

// Close implements raft.SnapshotSink.
func (s newerSink) Close() error {
	err := s.SnapshotSink.Close()
	if errors.Is(err, fsm.ErrLevel) {
		s.n.fail(newerHint(s.n.cfg.DataDir, fmt.Errorf("the leader's snapshot: %w", err)))
	}
	return err
}

// commonLevel returns the level that every server of raft's configuration knows,
// and which of them keep it below what this binary supports. The level is 0 while
// a server is silent.
func (n *Node) commonLevel() (common uint32, waits []client.LevelWait) {
	var records []fsm.Coordinator
	names := map[string]string{}
	n.machine.Read(func(s *fsm.State) { records = s.Coordinators() })
	for _, c := range records {
		names[c.ID] = c.Name
	}
	common = n.cfg.supports()
	hold := func(level uint32, w client.LevelWait) {
		common, waits = min(common, level), append(waits, w)
	}
	for _, s := range n.servers() {
		id := string(s.ID)
		row := client.LevelWait{ID: id, Name: names[id]}
		h, heard := n.health.get(id)
		switch {
		case id == n.id.NodeID:
		case !heard || !n.fresh(id):
			row.Reason = client.LevelSilent
			hold(0, row)
		case h.level < n.cfg.supports():
			row.Reason, row.Level, row.Version = client.LevelOlder, h.level, h.version
			hold(h.level, row)
		}
	}
	for _, c := range records { // Apply asks these too
		if c.Level < common {
			hold(c.Level, client.LevelWait{ID: c.ID, Name: c.Name, Level: c.Level, Version: c.Version, Reason: client.LevelRecord})
		}
	}
	return common, waits
}

// raiseLevel has the level raised when nothing holds it back.
func (n *Node) raiseLevel(ctx context.Context, l *leadership) {
	now, _ := n.clusterLevel()
	if now >= n.cfg.supports() {
		return
	}
	to, _ := n.commonLevel()
	if to <= now || to < fsm.LevelUpgrades {
		return
	}
	cmd, err := fsm.New(fsm.Actor{NodeID: n.id.NodeID}, fsm.LevelRaise{From: now, To: to, Version: n.cfg.Version})
	if err != nil {
		n.log.Error("cannot make the command that raises the feature level", "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	res, err := n.proposeHere(ctx, l, cmd)
	if err != nil || !res.OK() { // the next round asks again
		n.log.Warn("the feature level was not raised", "from", now, "to", to, "error", err, "code", res.Code, "detail", res.Detail)
		pause(ctx, n.cfg.Timing.Ping)
		return
	}
	n.log.Info("feature level raised: every server knows it", "from", now, "to", to)
	n.note("feature_level_raised", audit.LevelHigh, "ok", map[string]string{"from": strconv.FormatUint(uint64(now), 10), "to": strconv.FormatUint(uint64(to), 10), "version": n.cfg.Version})
}

// joinLevelAllows refuses a joiner whose binary would stop at what the log may
// hold. Apply asks the same from fsm.LevelUpgrades on.
func (n *Node) joinLevelAllows(cmd fsm.Command) *client.Error {
	body, err := fsm.BodyOf[fsm.CoordinatorJoin](cmd)
	if err != nil {
		return &client.Error{Code: client.CodeInvalid, Detail: err.Error()}
	}
	level, _ := n.clusterLevel()
	if c := body.Coordinator; c.Level < level {
		return &client.Error{Code: client.CodeConflict, Reason: reasonLevel, Field: "level", Detail: fmt.Sprintf(
			"the cluster is at feature level %d, which the leader's version %q knows; the joining binary, version %q, knows %d: install a newer one and join again",
			level, n.cfg.Version, c.Version, c.Level)}
	}
	return nil
}
