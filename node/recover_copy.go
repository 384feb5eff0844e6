package node

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/store"
)

// SurvivingCopy is what the data directory of one stopped coordinator holds.
// Indexes, chain and clock include the newest entries of its log, which may
// never have been acknowledged to anybody: a directory does not say.
type SurvivingCopy struct {
	DataDir       string      `json:"data_dir"`
	NodeID        string      `json:"node_id"`
	Name          string      `json:"name"`
	Role          string      `json:"role"`
	ClusterID     string      `json:"cluster_id"`
	Epoch         uint64      `json:"epoch"`
	Lineage       uint64      `json:"recovered_epoch"` // that the last recovery opened, 0 without one
	SnapshotIndex uint64      `json:"snapshot_index"`  // of the newest snapshot, 0 without one
	LastIndex     uint64      `json:"last_index"`      // of the newest entry, or of the snapshot if that is newer
	LastTerm      uint64      `json:"last_term"`
	CurrentTerm   uint64      `json:"current_term"`
	ChainSize     uint64      `json:"chain_size"`
	ChainHead     string      `json:"chain_head"`
	Digest        string      `json:"digest"` // of the state after the newest entry
	ClockMs       int64       `json:"clock_ms"`
	Voters        []string    `json:"voters"`    // node ids of the newest configuration
	Recovered     bool        `json:"recovered"` // by a recovery, and nothing was written since
	Diverged      bool        `json:"diverged"`  // the cluster found that its state differs from the others'
	Restore       string      `json:"restore"`   // what is wrong with a restore that it holds: "", "unconfirmed" or "passed over"
	Retired       *Retirement `json:"retired,omitempty"`
	Damage        []string    `json:"damage"`
}

// sound tells whether the copy counts: it is whole and is to be kept.
func (c *SurvivingCopy) sound() bool { return len(c.Damage) == 0 && c.Retired == nil && !c.Diverged }

// newerThan orders copies as raft orders logs, below what a recovery began anew.
// The epoch does not count: a clock recovery or a restore that never took effect
// may have raised it in one copy only, while the others went on.
func (c *SurvivingCopy) newerThan(other *SurvivingCopy) bool {
	return cmp.Or(cmp.Compare(c.Lineage, other.Lineage), cmp.Compare(c.LastTerm, other.LastTerm), cmp.Compare(c.LastIndex, other.LastIndex)) > 0
}

// label is how people name the copy.
func (c *SurvivingCopy) label() string { return cmp.Or(c.Name, c.NodeID, c.DataDir) }

// candidate is a copy with what the choice needs of it.
type candidate struct {
	SurvivingCopy
	passphrase []byte
	state      *fsm.State // after the newest entry; nil when it could not be rebuilt
	configs    []configuration
	committed  uint64 // an index that is certainly committed
	tail       *tail  // records that the entries behind the snapshot make
	fresh      bool   // the newest snapshot looks like a recovery's

	noted  uint64   // the newest epoch that the node knew to be the cluster's
	undo   uint64   // the epoch whose restore the node was about to take back
	newest fsm.Meta // of the newest snapshot's state
}

// What may be wrong with a restore.
const (
	restoreUnconfirmed = "unconfirmed"
	restorePassedOver  = "passed over"
)

// configuration is who voted from a log index on.
type configuration struct {
	index  uint64
	voters []string
}

func newConfiguration(index uint64, c raft.Configuration) configuration {
	return configuration{index: index, voters: voters(c.Servers)}
}

// inForce returns the configurations that an acknowledged entry may have been
// counted by. A leader changes one server at a time and not before the last
// change is committed, so only the newest can be in doubt.
func (c *candidate) inForce() []configuration {
	n := len(c.configs)
	if n < 2 || c.configs[n-1].index <= c.committed {
		return c.configs[max(0, n-1):]
	}
	return c.configs[n-2:]
}

// readCopy looks at one directory, whose lock the caller holds. It changes
// nothing. What is wrong with the copy is told in Damage; an error means that it
// could not be looked at.
func readCopy(dir string, passphrase []byte) (*candidate, error) {
	c := &candidate{passphrase: passphrase, SurvivingCopy: SurvivingCopy{DataDir: dir, Voters: []string{}, Damage: []string{}}}
	id, err := loadIdentity(dir, passphrase)
	switch {
	case err != nil:
		return nil, err
	case id == nil:
		hint := ""
		if _, err := os.Stat(filepath.Join(dir, "data", fileKeys)); err == nil {
			hint = ", did you mean " + filepath.Join(dir, "data") + "?"
		}
		return nil, fmt.Errorf("%s holds no %s: it is no server's data directory%s", dir, fileKeys, hint)
	case id.ClusterID == "":
		return nil, fmt.Errorf("%s belongs to a server that never joined a cluster", dir)
	}
	c.NodeID, c.ClusterID, c.Role = id.NodeID, id.ClusterID, string(id.Role)
	if c.Retired, err = retirement(dir); err != nil {
		return nil, err
	}
	if err := c.survey(); err != nil {
		return nil, err
	}
	if id.Resync {
		c.Diverged = true
	}
	c.undo = id.Undo
	if c.noted, err = notedEpoch(dir); err != nil {
		c.noted = 0 // then nothing is certain, as for a start
	}
	err = c.replay()
	if errors.Is(err, fsm.ErrLevel) {
		return nil, newerHint(dir, err)
	}
	if err != nil {
		c.damaged(err)
	}
	if c.state != nil {
		c.describe()
	}
	return c, nil
}

func (c *candidate) damaged(err error) {
	if text := err.Error(); !slices.Contains(c.Damage, text) {
		c.Damage = append(c.Damage, text)
	}
}

// survey checks every file.
func (c *candidate) survey() error {
	found, err := store.Survey(c.DataDir)
	if errors.Is(err, os.ErrNotExist) {
		c.damaged(fmt.Errorf("%s is gone: the node forgot its log and its votes", fileRaft))
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.DataDir, err)
	}
	c.CurrentTerm, c.LastTerm, c.LastIndex = found.CurrentTerm, found.LastTerm, found.LastIndex
	if len(found.Snapshots) > 0 {
		newest := found.Snapshots[0]
		c.SnapshotIndex = newest.Index
		c.LastIndex = max(c.LastIndex, newest.Index)
		c.fresh = madeByRecovery(newest.Configuration, newest.Index, found.LastIndex, c.NodeID)
	}
	for _, d := range found.Damage {
		c.damaged(fmt.Errorf("%s: %s", d.File, d.Error))
	}
	return nil
}

// replay rebuilds the state in memory.
func (c *candidate) replay() (err error) {
	defer func() {
		if p := recover(); p != nil { // raft panics on a configuration that it cannot decode
			err = fmt.Errorf("the log cannot be replayed: %v", p)
		}
		if err != nil {
			c.state = nil
		}
	}()
	c.state, c.tail = fsm.NewState(), newTail(nil)
	return store.Replay(c.DataDir, func(meta raft.SnapshotMeta, in io.Reader) (err error) {
		c.state, _, err = fsm.ReadSnapshot(in)
		c.configs = []configuration{newConfiguration(meta.ConfigurationIndex, meta.Configuration)}
		if err == nil {
			c.committed, c.tail, c.newest = meta.Index, newTail(c.state.Totals()), c.state.Meta()
		}
		return err
	}, c.apply)
}

// apply applies one entry and notes what it says of the log itself.
func (c *candidate) apply(l *raft.Log) error {
	if l.Type == raft.LogConfiguration {
		c.configs = append(c.configs, newConfiguration(l.Index, raft.DecodeConfiguration(l.Data)))
	}
	if l.Type != raft.LogCommand {
		return nil
	}
	cmd, err := fsm.DecodeCommand(l.Data)
	if err != nil {
		return fmt.Errorf("log index %d: %w", l.Index, err)
	}
	cmd.Term = l.Term
	_, records, err := c.state.Apply(l.Index, cmd)
	if err != nil {
		return err
	}
	c.tail.add(records)
	if cmd.Kind != fsm.KindTick {
		return nil
	}
	tick, err := fsm.BodyOf[fsm.Tick](cmd)
	if err == nil && tick.Round != nil {
		c.committed = max(c.committed, tick.Round.Mark) // replicas that reported its digest had applied it
	}
	return err
}

// describe tells what the state says.
func (c *candidate) describe() {
	meta := c.state.Meta()
	if n := len(c.configs); n > 0 {
		c.Voters = append(c.Voters, c.configs[n-1].voters...)
	}
	c.Epoch, c.ChainSize, c.ChainHead, c.ClockMs = meta.Epoch, meta.ChainSize, meta.ChainHead, meta.ClockMs
	c.Lineage = meta.Recovered
	c.Recovered = c.fresh && meta.Recovered == meta.Epoch // a restore leaves a snapshot of the same shape for a moment
	c.Restore = c.restoreHeld()
	c.Digest = c.state.Digest().String()
	if self, ok := c.state.Coordinator(c.NodeID); ok {
		c.Name = self.Name
	}
	if d, found := c.state.Diverged(c.NodeID); found && d.NodeID != "" {
		c.Diverged = true
	}
	switch {
	case meta.ClusterID == "":
		c.damaged(errors.New("its log has no genesis: it never caught up with the cluster"))
	case meta.ClusterID != c.ClusterID:
		c.damaged(fmt.Errorf("its state is of cluster %s, its keys are of %s", meta.ClusterID, c.ClusterID))
	}
}

// restoreHeld tells what is wrong with the restore that the newest snapshot is of,
// if it is of one. A recovery and a sole voter's restore need nobody else.
func (c *candidate) restoreHeld() string {
	epoch := c.newest.Epoch
	switch {
	case c.undo > 0 && c.undo == epoch:
		return restorePassedOver
	case epoch <= max(c.noted, 1), c.newest.Recovered == epoch, slices.Equal(c.configs[0].voters, []string{c.NodeID}):
		return ""
	}
	return restoreUnconfirmed
}

// disagree returns an index at which two replicas of the same log have another
// digest, 0 when none is known. Marks that may not be committed say nothing: the
// two logs may differ there.
func (c *candidate) disagree(other *candidate) uint64 {
	if c.state == nil || other.state == nil || c.Epoch != other.Epoch || c.forked(other) {
		return 0
	}
	for _, m := range c.state.Marks() {
		for _, o := range other.state.Marks() {
			if m.Index == o.Index && m.Digest != o.Digest && m.Index <= min(c.committed, other.committed) {
				return m.Index
			}
		}
	}
	if c.LastTerm == other.LastTerm && c.LastIndex == other.LastIndex && c.Digest != other.Digest {
		return c.LastIndex
	}
	return 0
}

// forked tells whether each of two copies went on without the other: both were
// recovered, separately.
func (c *candidate) forked(other *candidate) bool {
	if c.state == nil || other.state == nil {
		return false
	}
	mine, its := c.state.Meta(), other.state.Meta()
	return c.state.IsRemoved(other.NodeID) && other.state.IsRemoved(c.NodeID) || !mine.IsPastOf(its) && !its.IsPastOf(mine)
}
