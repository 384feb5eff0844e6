package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/api"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// What a node may answer from is asked of the very state that it read: others
// read a state before the apply loop has looked at it.

const standingStart = 1_800_000_000_000

// loneState is a state machine of the coordinator n0 without a node around it.
type loneState struct {
	t       *testing.T
	machine *fsm.Machine
	index   uint64
}

func newLoneState(t *testing.T) *loneState {
	t.Helper()
	return newLoneCluster(t, "00112233445566778899aabbccddeeff")
}

func newLoneCluster(t *testing.T, id string) *loneState {
	t.Helper()
	l := &loneState{t: t, machine: fsm.NewMachine(fsm.NewMemoryHistory(), nil)}
	l.apply(fsm.Actor{}, fsm.Genesis{ClusterID: id, CACert: []byte("ca"), Level: fsm.LevelRecovery,
		AdminToken:  fsm.TokenCreate{ID: "admin", Hash: crypto.Sum([]byte("admin")), Role: fsm.RoleAdmin, Uses: -1},
		Coordinator: coordinatorOf(t, "n0")})
	return l
}

func coordinatorOf(t *testing.T, id string) fsm.Coordinator {
	t.Helper()
	key, err := crypto.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return fsm.Coordinator{ID: id, Name: id, Role: fsm.RoleCoordinator, SigningKey: crypto.PublicOf(key), EncryptionKey: bytes.Repeat([]byte{7}, 32),
		API: "a:1", Raft: "a:2", Gossip: "a:3", Level: fsm.LevelRecovery}
}

func (l *loneState) apply(actor fsm.Actor, body any) {
	l.t.Helper()
	cmd, err := fsm.New(actor, body)
	if err != nil {
		l.t.Fatal(err)
	}
	l.index++
	cmd.AtMs = standingStart + int64(l.index)
	data, err := fsm.EncodeCommand(cmd)
	if err != nil {
		l.t.Fatal(err)
	}
	if res := l.machine.Apply(&raft.Log{Index: l.index, Term: 1, Data: data}).(fsm.Result); !res.OK() {
		l.t.Fatalf("%T: %+v", body, res)
	}
}

// node is a node on the state whose apply loop has looked at nothing yet.
func (l *loneState) node() *Node {
	n := &Node{id: &identity{NodeID: "n0"}, machine: l.machine}
	n.cfg.Timing.Request = time.Minute
	n.epochs.confirmed = 1
	return n
}

func (l *loneState) diverge() {
	l.t.Helper()
	l.apply(fsm.Actor{TokenID: "admin"}, fsm.TokenCreate{ID: "join", Role: fsm.RoleCoordinator, Uses: -1})
	for _, id := range []string{"n1", "n2"} {
		l.apply(fsm.Actor{TokenID: "join"}, fsm.CoordinatorJoin{Coordinator: coordinatorOf(l.t, id)})
	}
	l.apply(fsm.Actor{}, fsm.Tick{Term: 1, Mark: true})
	mark := l.index
	other := crypto.Sum([]byte("of the others"))
	var mine crypto.Hash
	l.machine.Read(func(s *fsm.State) { mine = s.Marks()[len(s.Marks())-1].Digest })
	l.apply(fsm.Actor{}, fsm.Tick{Term: 1, Mark: true, Round: &fsm.Round{Mark: mark, Voters: 3, Reports: []fsm.Report{
		{NodeID: "n0", Votes: true, Digest: mine}, {NodeID: "n1", Votes: true, Digest: other}, {NodeID: "n2", Votes: true, Digest: other}}}})
}

func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	if e := (*client.Error)(nil); !errors.As(err, &e) || e.Code != client.CodeUnavailable || e.Reason != reason {
		t.Errorf("%v, want %s", err, reason)
	}
}

// TestP9ReadWaitsForTheDivergingTick: a read that the finding itself wakes does
// not answer from the state that was found to differ.
func TestP9ReadWaitsForTheDivergingTick(t *testing.T) {
	l := newLoneState(t)
	n := l.node()
	if _, err := n.Read(t.Context(), api.ReadOptions{}, func(*fsm.State) {}); err != nil {
		t.Fatal(err)
	}
	l.diverge()
	if err := n.Serving(); err != nil {
		t.Fatalf("the test is about the moment before the node knows: %v", err)
	}
	_, err := n.Read(t.Context(), api.ReadOptions{MinIndex: l.index}, func(*fsm.State) {})
	wantReason(t, err, reasonDiverged)
	if index, err := n.Read(t.Context(), api.ReadOptions{Always: true}, func(*fsm.State) {}); err != nil || index != l.index {
		t.Errorf("a read that is always answered: %d %v", index, err)
	}
}

// TestP9EpochArrivesBeforeItsState: at no moment can a state of an epoch that
// nobody confirmed be read by somebody who does not hear so.
func TestP9EpochArrivesBeforeItsState(t *testing.T) {
	l := newLoneState(t)
	var snapshot bytes.Buffer
	if err := l.machine.Freeze().Write(&snapshot); err != nil {
		t.Fatal(err)
	}
	s, _, err := fsm.ReadSnapshot(bytes.NewReader(snapshot.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	before, err := l.machine.History().Read(fsm.StreamAdmin, 1, 100)
	if err != nil {
		t.Fatal(err)
	}
	more, err := s.Recover(fsm.Recovery{ID: "0123456789abcdef", AtMs: standingStart, Actor: fsm.Actor{NodeID: "n0"}, Action: "recover"}, "n0")
	if err != nil {
		t.Fatal(err)
	}
	snapshot.Reset()
	f := s.Freeze()
	history := fsm.NewMemoryHistory()
	if err := errors.Join(history.Append(2, append(before, more...)), f.Write(&snapshot), fsm.WriteHistory(&snapshot, f.Totals(), history.UpTo(f.Totals()))); err != nil {
		t.Fatal(err)
	}
	n := l.node()
	l.machine.BeforeRestored(func(s *fsm.State) {
		n.arriveEpoch(s)
		wantReason(t, n.Serving(), reasonRecovery)
		_, err := n.Records(fsm.StreamAdmin, 1, 1)
		wantReason(t, err, reasonRecovery)
	})
	if err := l.machine.Restore(io.NopCloser(&snapshot)); err != nil {
		t.Fatal(err)
	}
	if n.epoch() != 2 {
		t.Fatalf("epoch %d", n.epoch())
	}
	_, err = n.Read(t.Context(), api.ReadOptions{}, func(*fsm.State) {})
	wantReason(t, err, reasonRecovery)
	n.observeEpoch(fsm.Result{Code: fsm.CodeOK, Index: l.index}, fsm.KindRestored)
	n.holdEpoch(2)
	wantReason(t, n.Serving(), reasonRecovery) // no entry was applied in it
}

// TestConfirmAnswersNothingFromADivergedState: nor does an admission.
func TestConfirmAnswersNothingFromADivergedState(t *testing.T) {
	l := newLoneState(t)
	n := l.node()
	l.diverge()
	n.reads = &readIndexer{fetch: func(context.Context) (readPoint, error) { return readPoint{Index: l.index}, nil }, limit: time.Minute}
	call := &admitCall{ctx: t.Context(), done: make(chan struct{}), outcomes: make([]api.AdmitOutcome, 1), missing: 1, answered: make([]bool, 1), sent: make([]bool, 1)}
	n.confirm(t.Context(), []*admission{{call: call, AdmitRequest: api.AdmitRequest{TokenID: "nobody's"}}})
	<-call.done
	wantReason(t, call.outcomes[0].Err, reasonDiverged)
}
