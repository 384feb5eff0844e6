package fsm

import (
	"fmt"

	"github.com/edgecoder/edgecoder/crypto"
)

// RestoreBegin is logged before a cluster takes a backup (from LevelRecovery
// on). The restore itself is no entry of the log: raft replaces the state of one
// node after the other. If the leader dies over it the others may go on without,
// so the epoch that it opens must belong to this try alone: it is reserved here,
// and no later recovery takes it, whatever became of this one.
type RestoreBegin struct {
	BackupEpoch uint64      `cbor:"1,keyasint"`
	Backup      crypto.Hash `cbor:"2,keyasint"` // SHA-256 of the backup's file
}

const (
	// maxEpoch bounds epochs: the numbers stay exact in JSON.
	maxEpoch = 1 << 52
	// maxEpochAhead is how far the epoch of a backup may be ahead of the cluster that
	// takes it: more recoveries than anybody makes. An epoch never falls, so one
	// backup must not use up those that are left.
	maxEpochAhead = 1 << 20
)

// epochFault says what is wrong with the epoch of a backup for this cluster, or "".
func (s *State) epochFault(backupEpoch uint64) string {
	if most := s.NextEpoch(0) + maxEpochAhead; backupEpoch > most {
		return fmt.Sprintf("its epoch is %d, the next one here is %d; at most %d", backupEpoch, s.NextEpoch(0), most)
	}
	return ""
}

func (s *State) applyRestoreBegin(c *change, b RestoreBegin) Result {
	if res, ok := s.actorCan(c, CapAdmin); !ok {
		return res
	}
	if b.BackupEpoch > maxEpoch {
		return refuse(CodeInvalid, "backup_epoch", "%d, at most %d", b.BackupEpoch, uint64(maxEpoch))
	}
	if fault := s.epochFault(b.BackupEpoch); fault != "" && s.meta.v.Level >= LevelProfiles {
		return refuse(CodeInvalid, "backup_epoch", "%s", fault)
	}
	s.meta.v.Reserved = s.NextEpoch(b.BackupEpoch)
	s.record(c, "restore_begin", s.meta.v.ClusterID, fmt.Sprintf("backup_sha256=%s reserved_epoch=%d", b.Backup, s.meta.v.Reserved))
	return Result{Code: CodeOK, ID: s.meta.v.ClusterID}
}

// NextEpoch returns the epoch that a restore of a backup of the given epoch
// reserves if it begins now.
func (s *State) NextEpoch(backupEpoch uint64) uint64 {
	return max(s.meta.v.Epoch, s.meta.v.Reserved, backupEpoch) + 1
}

// Rebase makes the state of a backup fit a log that is at index, which may be
// that of another cluster and much shorter. Indexes in a backup name entries of
// the log it came from; here they only need to be in order. If the state kept a
// higher one, raft would have to leave a gap in the log, and a node that holds
// a restore which the others did not take would misjudge whose log is newer.
// The records of its history are rebased with RebaseRecord.
func (s *State) Rebase(index uint64) {
	s.meta.v.Index = min(s.meta.v.Index, index)
}

// RebaseRecord does for a record what Rebase does for the state.
func RebaseRecord(r Record, index uint64) Record {
	r.Index = min(r.Index, index)
	return r
}
