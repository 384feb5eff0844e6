package fsm

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// LevelUpgrades is the feature level from which a cluster's level is raised in
// its log (LevelRaise), servers that know less are refused, and coordinators that
// have been silent for long may be cleaned up.
const LevelUpgrades = 5

// LevelSupported is the highest feature level that this binary knows.
const LevelSupported uint32 = LevelCheckpoints

// ErrLevel is wrapped by the refusal of a log, a snapshot or a backup that is of
// a newer binary than this one: nothing is wrong with it, an upgrade reads it.
var ErrLevel = errors.New("it is of a newer binary, upgrade this one")

// checkLevel refuses a level that this binary does not know. The version is that
// of a binary which does, empty when nobody told.
func checkLevel(level uint32, version string) error {
	if level <= LevelSupported {
		return nil
	}
	if version != "" {
		version = fmt.Sprintf(" (version %.*q or newer)", MaxLabelBytes, version)
	}
	return fmt.Errorf("feature level %d is needed%s, this binary knows %d: %w", level, version, LevelSupported, ErrLevel)
}

// LevelRaise raises the feature level of the cluster for ever. The leader
// proposes it once every server of raft's configuration, whether it votes or
// not, told over mutual TLS that its running binary knows the level. It goes
// straight to what all of them know: a step in between would let nothing be used
// that the last one does not. It is logged below LevelUpgrades, where older
// binaries would stop at it; but none is left when it is proposed.
type LevelRaise struct {
	From    uint32 `cbor:"1,keyasint"`
	To      uint32 `cbor:"2,keyasint"`
	Version string `cbor:"3,keyasint"` // of the proposing binary, which knows the level
}

// applyLevelRaise asks the records again, at this index: a member of an older
// binary that joined since the leader asked holds the level back. One that joins
// later is refused.
func (s *State) applyLevelRaise(c *change, b LevelRaise) Result {
	n, known := s.coordinators.get(c.actor.NodeID)
	switch now := s.meta.v.Level; {
	case !known || n.Role != RoleCoordinator:
		return refuse(CodeForbidden, "", "a coordinator raises the level, %q is none", c.actor.NodeID)
	case b.From != now:
		return refuse(CodeConflict, "from", "the cluster is at feature level %d, not %d", now, b.From)
	case b.To <= now || b.To < LevelUpgrades:
		return refuse(CodeInvalid, "to", "from feature level %d to %d: a level only rises, to %d at least", now, b.To, LevelUpgrades)
	case len(b.Version) > MaxLabelBytes:
		return refuse(CodeTooLarge, "version", "%d bytes, at most %d", len(b.Version), MaxLabelBytes)
	}
	for _, n := range s.coordinators.values() {
		if n.Level < b.To {
			return refuse(CodeConflict, "to", "the binary of node %s knows feature level %d", n.ID, n.Level)
		}
	}
	s.meta.v.Level, s.meta.v.LevelVersion = b.To, b.Version
	s.countMost()
	s.record(c, "level_raise", s.meta.v.ClusterID, fmt.Sprintf("from=%d to=%d version=%s", b.From, b.To, b.Version))
	return Result{Code: CodeOK, ID: s.meta.v.ClusterID}
}

// checkMemberLevel refuses a member whose binary knows less than the cluster's
// level: it would stop at the first command that it cannot read.
func (s *State) checkMemberLevel(level uint32) (Result, bool) {
	if now := s.meta.v.Level; now >= LevelUpgrades && level < now { // older logs were applied without
		return refuse(CodeConflict, "level", "the cluster is at feature level %d, this binary knows %d: upgrade it", now, level), false
	}
	return Result{}, true
}

// checkMetaLevel looks for the level in the encoded Meta of a snapshot that this
// binary may not be able to read. What is not there is for the strict reader.
func checkMetaLevel(row []byte) error {
	var m struct {
		Level   uint32 `cbor:"7,keyasint"`
		Version string `cbor:"17,keyasint"`
	}
	if cbor.Unmarshal(row, &m) != nil {
		return nil
	}
	return checkLevel(m.Level, m.Version)
}
