package node

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/store"
)

// How a directory is recovered, and why a crash does no harm:
//
//  1. what a start would do: the history is brought up to the newest snapshot
//  2. raft's term is raised. A term that nobody led is no change
//  3. a snapshot is written: the recovered state, all history, a configuration
//     of one voter. It lies one index and one term behind the newest entry, so
//     it is newer than all that is there, whatever the clock. It takes its name in
//     one rename: before that nothing has happened, after it all is decided
//  4. what the last run noted for the next start, to give its state up, is void
//  5. the history of the new epoch replaces the old one, from that snapshot
//  6. older snapshots and the log go; the other directories are retired
//
// After 3 raft starts from that snapshot and reads nothing older. What is left
// of 4 to 6 is done by the next recovery or the next start, whichever comes
// first: they know the snapshot by its shape (madeByRecovery).
//
// raft.RecoverCluster does the same with one difference that matters here: its
// snapshot has the index and term of the newest entry. If that is a snapshot
// too, only the wall clock tells the two apart, and a clock that went back would
// bring the old configuration back without a word.

// madeByRecovery tells whether a newest snapshot is a recovery's, and nothing
// was written since: it knows one voter, this node, and lies behind the log.
// A running node's log always reaches its newest snapshot, unless a leader sent
// that, and then the leader is in it.
func madeByRecovery(conf raft.Configuration, index, lastLog uint64, nodeID string) bool {
	return len(conf.Servers) == 1 && conf.Servers[0].Suffrage == raft.Voter && string(conf.Servers[0].ID) == nodeID && lastLog < index
}

// RecoveryDone is what became of a recovery.
type RecoveryDone struct {
	ClusterID string `json:"cluster_id"`
	NodeID    string `json:"node_id"`
	Name      string `json:"name"`
	DataDir   string `json:"data_dir"`
	Epoch     uint64 `json:"epoch"`
	Finished  bool   `json:"finished"` // an earlier recovery was, no new epoch began
	ChainSize uint64 `json:"chain_size"`
	ChainHead string `json:"chain_head"`
	// AdmissionsFromMs is when admissions begin again: what was signed before
	// cannot be told from what was used.
	AdmissionsFromMs int64            `json:"admissions_from_ms"`
	Removed          []RemovedMember  `json:"removed"`
	Retired          []string         `json:"retired"` // directories that were given and are not to run again
	LeftAside        []*SurvivingCopy `json:"left_aside"`
	Risk             *RecoveryRisk    `json:"risk,omitempty"`           // what may have come back, as the plan said
	AdminToken       string           `json:"admin_token_id,omitempty"` // of the one token that stays; the next start shows it
}

// RemovedMember is a coordinator that the recovered cluster does not know any
// more; its old directory must never run again.
type RemovedMember struct {
	NodeID string `json:"node_id"`
	Name   string `json:"name"`
}

// Execute does what the plan says, once. It may be interrupted anywhere: open
// the recovery again and execute that.
func (r *Recovery) Execute() (RecoveryDone, error) {
	c := r.chosen
	if r.executed {
		return RecoveryDone{}, errors.New("this recovery was executed already: open it again")
	}
	if len(r.plan.Refusals) > 0 || c == nil {
		var reasons []string
		for _, f := range r.plan.Refusals {
			reasons = append(reasons, f.Reason)
		}
		return RecoveryDone{}, fmt.Errorf("%w: %s", ErrRecovery, strings.Join(reasons, "; "))
	}
	r.executed = true
	done, err := r.recoverHere(c)
	if err != nil {
		return done, fmt.Errorf("recover %s: %w", c.DataDir, err)
	}
	for _, other := range r.copies {
		if other == c {
			continue
		}
		if err := retire(other.DataDir, fmt.Sprintf("the cluster was recovered from the copy of %s in epoch %d", c.label(), done.Epoch), r.o.Now()); err != nil {
			return done, fmt.Errorf("recovered, but %s is not retired: it must not run again: %w", other.DataDir, err)
		}
		done.Retired, done.LeftAside = append(done.Retired, other.DataDir), append(done.LeftAside, &other.SurvivingCopy)
		if err := r.o.step("retired"); err != nil {
			return done, err
		}
	}
	return done, nil
}

// recoverHere recovers one directory, or finishes an earlier recovery of it.
func (r *Recovery) recoverHere(c *candidate) (done RecoveryDone, err error) {
	st, err := store.Open(c.DataDir, store.Options{Log: r.o.Log, HCLog: raftLogger(r.o.Log), Keep: snapshotsKept})
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if !c.Recovered {
		if err := r.commit(st, c); err != nil {
			return done, err
		}
	}
	if err := errors.Join(c.dropNotes(), r.o.step("notes dropped")); err != nil {
		return done, err
	}
	machine := fsm.NewMachine(st.History, nil)
	if err := restoreNewest(st, machine); err != nil {
		return done, err
	}
	if err := errors.Join(st.History.Flush(), r.o.step("history replaced")); err != nil {
		return done, err
	}
	if err := st.KeepNewest(); err != nil {
		return done, err
	}
	machine.Read(func(s *fsm.State) {
		done = doneOf(s, c)
		done.AdminToken, err = c.waitingAdmin(s)
	})
	done.Risk = r.plan.Risk
	return done, errors.Join(err, r.o.step("log dropped"))
}

// dropNotes forgets what the last run noted for the next start.
func (c *candidate) dropNotes() error {
	id, err := loadIdentity(c.DataDir, c.passphrase)
	if err != nil || id == nil {
		return errors.Join(err, fmt.Errorf("%s cannot be read any more", fileKeys))
	}
	return id.dropNotes(c.DataDir, c.passphrase)
}

func doneOf(s *fsm.State, c *candidate) RecoveryDone {
	meta := s.Meta()
	done := RecoveryDone{ClusterID: meta.ClusterID, NodeID: c.NodeID, Name: c.Name, DataDir: c.DataDir, Epoch: meta.Epoch, Finished: c.Recovered,
		ChainSize: meta.ChainSize, ChainHead: meta.ChainHead, AdmissionsFromMs: s.Recovering(),
		Removed: []RemovedMember{}, Retired: []string{}, LeftAside: []*SurvivingCopy{}}
	for _, gone := range s.Removed() {
		if gone.RemovedMs == meta.ClockMs { // by the recovery, not long ago
			done.Removed = append(done.Removed, RemovedMember{NodeID: gone.ID, Name: gone.Name})
		}
	}
	return done
}

// restoreNewest restores the newest snapshot, if there is one, as a start does:
// with a look at the history, which it brings up to date.
func restoreNewest(st *store.Store, machine *fsm.Machine) error {
	all, err := st.Snapshots.List()
	if err != nil || len(all) == 0 {
		return err
	}
	_, in, err := st.Snapshots.Open(all[0].ID)
	if err != nil {
		return err
	}
	return machine.Restore(in) // closes it
}

// commit writes the snapshot that decides the recovery.
func (r *Recovery) commit(st *store.Store, c *candidate) error {
	if err := restoreNewest(st, fsm.NewMachine(st.History, nil)); err != nil {
		return err
	}
	if err := c.tail.check(st.History, c.state.Totals()); err != nil {
		return err
	}
	id := make([]byte, fsm.RecoveryIDBytes)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	detail := fmt.Sprintf("last_index=%d last_term=%d copies=%d voters=%d may_lose=%t %s",
		c.LastIndex, c.LastTerm, len(r.copies), len(c.Voters), r.plan.MayLose, r.o.Reason)
	admin, err := r.newAdmin(c)
	if err != nil {
		return err
	}
	recovered, err := c.state.Recover(fsm.Recovery{ID: hex.EncodeToString(id), AtMs: r.plan.WallMs, Actor: fsm.Actor{NodeID: c.NodeID},
		Action: "recover", Detail: detail, Forgetful: r.plan.MayLose, Admin: admin}, c.NodeID)
	if err != nil {
		return err
	}
	c.tail.add(recovered)
	term := max(c.CurrentTerm, c.LastTerm) + 1
	if err := errors.Join(r.o.step("begin"), st.Stable.SetUint64([]byte("CurrentTerm"), term), r.o.step("term raised")); err != nil {
		return err
	}
	self := raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(c.NodeID), Address: raft.ServerAddress(c.NodeID)}
	index := c.LastIndex + 1
	_, transport := raft.NewInmemTransport(self.Address) // only asked how an address is written
	sink, err := st.Snapshots.Create(raft.SnapshotVersionMax, index, term, raft.Configuration{Servers: []raft.Server{self}}, index, transport)
	if err != nil {
		return err
	}
	err = c.state.Freeze().Write(sink)
	if err == nil {
		err = r.o.step("state written")
	}
	if err == nil {
		err = fsm.WriteHistory(sink, c.state.Totals(), c.tail.all(st.History))
	}
	if err == nil {
		err = r.o.step("history written")
	}
	if err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return errors.Join(sink.Close(), r.o.step("snapshot stands"))
}

// tail is the history of a recovery: what is on disk up to base, then what the
// log adds. The records of the log do not go to the history file before the
// recovery is decided: they may be of entries that nobody committed.
type tail struct {
	base  fsm.Totals
	added map[fsm.Stream][]fsm.Record
}

func newTail(base fsm.Totals) *tail { return &tail{base: base, added: map[fsm.Stream][]fsm.Record{}} }

func (t *tail) add(records []fsm.Record) {
	for _, r := range records {
		t.added[r.Stream] = append(t.added[r.Stream], r)
	}
}

// check holds the records of the log against those that are on disk already: a
// last look before the state becomes the truth.
func (t *tail) check(h *store.History, whole fsm.Totals) error {
	_, onDisk := h.Totals()
	if !whole.Cover(onDisk) {
		return fmt.Errorf("history.db has %v records, snapshot and log lead to %v: one of them is damaged", onDisk, whole)
	}
	for _, s := range fsm.Streams() {
		for _, r := range t.added[s] {
			if r.Seq > onDisk[s] {
				break
			}
			have, err := h.Read(s, r.Seq, 1)
			if err != nil {
				return err
			}
			if len(have) != 1 || have[0].Index != r.Index || !bytes.Equal(have[0].Data, r.Data) {
				return fmt.Errorf("record %d of history stream %d differs from the one that the log makes: one of them is damaged", r.Seq, s)
			}
		}
	}
	return nil
}

// all yields the whole history in the order of a snapshot.
func (t *tail) all(h *store.History) iter.Seq2[fsm.Record, error] {
	return func(yield func(fsm.Record, error) bool) {
		for _, s := range fsm.Streams() {
			for r, err := range h.UpTo(fsm.Totals{s: t.base[s]}) {
				if !yield(r, err) || err != nil {
					return
				}
			}
			for _, r := range t.added[s] {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

// finishRecovery does what a recovery that was cut off after its decision left
// to do. Called at each start, before raft reads anything.
func finishRecovery(st *store.Store, nodeID string) error {
	all, err := st.Snapshots.List()
	if err != nil || len(all) == 0 {
		return err
	}
	last, err := st.Logs.LastIndex()
	if err != nil || !madeByRecovery(all[0].Configuration, all[0].Index, last, nodeID) {
		return err
	}
	return st.KeepNewest()
}
