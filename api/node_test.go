package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

const (
	testClock = 1_767_225_600_000
	testPin   = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
)

// fakeNode is a cluster of one leader and one replica in memory: commands go
// through real states. While held, the replica does not hear of new commands
// until a strong read.
type fakeNode struct {
	keyUses []client.KeyUse // of whatever subject is asked for
	mu      sync.Mutex
	leader  *fsm.State
	replica *fsm.State
	backlog []logged
	held    bool
	index   uint64
	nowMs   int64
	history *fsm.MemoryHistory
	key     crypto.PrivateKey

	enforced func(size uint64) client.Enforcement

	proposeErr error  // returned instead of deciding
	loseAnswer bool   // decide, then answer unknown_outcome
	unsealed   uint64 // newest records that no checkpoint holds yet
	strongErr  error
	readyErr   error
	servingErr error

	auditErr, auditNowErr error
	audited               []AuditEvent
	auditQuery            client.AuditQuery
	admitErr              *client.Error
	backupErr             error // in the middle of a backup
	restoreErr            error // before anything of a backup is read
	received              int64 // bytes of backups
	orders                []RestoreOrder
	strong                int // strong reads so far
	proposals             []fsm.Command
	transfers             []string
	leads                 *client.Leader // as Status tells it; a transfer changes it
	moved                 chan struct{}  // closed when the replica next moves
}

type logged struct {
	index uint64
	cmd   fsm.Command
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newFakeNode(clusterID string, admin crypto.TokenText, level uint32) *fakeNode {
	n := &fakeNode{leader: fsm.NewState(), replica: fsm.NewState(), nowMs: testClock,
		history: fsm.NewMemoryHistory(), key: must(crypto.GenerateKey(rand.Reader))}
	n.mustApply(fsm.Actor{}, fsm.Genesis{
		ClusterID: clusterID, CACert: []byte("ca"), Level: level,
		AdminToken:  fsm.TokenCreate{ID: admin.ID, Hash: admin.Hash(), Role: fsm.RoleAdmin, Uses: -1},
		Coordinator: n.coordinator("node-1", "n1", crypto.PublicOf(n.key)),
	})
	return n
}

func (n *fakeNode) coordinator(id, name string, key crypto.PublicKey) fsm.Coordinator {
	return fsm.Coordinator{ID: id, Name: name, Role: fsm.RoleCoordinator, SigningKey: key, EncryptionKey: make([]byte, 32), TLSKey: crypto.Sum([]byte("tls " + id)),
		API: "127.0.0.1:4301", Raft: "127.0.0.1:4301", Gossip: "127.0.0.1:4401", Level: 1}
}

func (n *fakeNode) mustApply(actor fsm.Actor, body any) fsm.Result {
	res := must(n.apply(must(fsm.New(actor, body))))
	if !res.OK() {
		panic(res.Detail)
	}
	return res
}

func (n *fakeNode) apply(cmd fsm.Command) (fsm.Result, error) {
	n.index++
	cmd.AtMs = n.nowMs
	res, records, err := n.leader.Apply(n.index, cmd)
	if err != nil {
		return res, err
	}
	if err := n.history.Append(1, records); err != nil {
		return res, err
	}
	n.backlog = append(n.backlog, logged{n.index, cmd})
	if !n.held {
		n.catchUp()
	}
	return res, nil
}

func (n *fakeNode) catchUp() {
	for _, l := range n.backlog {
		if _, _, err := n.replica.Apply(l.index, l.cmd); err != nil {
			panic(err)
		}
	}
	n.backlog = nil
	if n.moved != nil {
		close(n.moved)
		n.moved = nil
	}
}

func (n *fakeNode) Propose(_ context.Context, cmd fsm.Command) (fsm.Result, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proposeErr != nil {
		return fsm.Result{}, n.proposeErr
	}
	if cmd.Kind == fsm.KindBlacklistAppend {
		cmd = n.link(cmd)
	}
	if cmd.Kind == fsm.KindClockRecover {
		body := must(fsm.BodyOf[fsm.ClockRecover](cmd))
		body.Voters, body.Walls = 1, []fsm.VoterWall{{NodeID: "node-1", WallMs: n.nowMs}}
		whole := must(fsm.New(cmd.Actor, body))
		whole.Idem = cmd.Idem
		cmd = whole
	}
	n.proposals = append(n.proposals, cmd)
	res, err := n.apply(cmd)
	if n.loseAnswer {
		return fsm.Result{}, &client.Error{Code: client.CodeUnknownOutcome, Detail: "leadership was lost"}
	}
	return res, err
}

// link does the leader's part of an append.
func (n *fakeNode) link(cmd fsm.Command) fsm.Command {
	body := must(fsm.BodyOf[fsm.BlacklistAppend](cmd))
	if body.Event.TimestampMs == 0 {
		body.Event.TimestampMs = n.nowMs
	}
	if body.Lift {
		expires := body.Event.TimestampMs - 1
		body.Event.ExpiresAtMs = &expires
	}
	head, _ := n.leader.Chain()
	body.Event.Link(head, n.key)
	linked := must(fsm.New(cmd.Actor, body))
	linked.Idem = cmd.Idem
	return linked
}

func (n *fakeNode) Read(ctx context.Context, opts ReadOptions, f func(*fsm.State)) (uint64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if opts.Strong {
		n.strong++
		if n.strongErr != nil {
			return 0, n.strongErr
		}
		n.catchUp()
	}
	if opts.MinIndex > n.index {
		return 0, context.DeadlineExceeded
	}
	if opts.MinIndex > n.replica.Index() {
		n.catchUp()
	}
	f(n.replica)
	return n.replica.Index(), ctx.Err()
}

func (n *fakeNode) Records(stream fsm.Stream, from uint64, limit int) ([]fsm.Record, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.history.Read(stream, from, limit)
}

func (n *fakeNode) Admit(_ context.Context, requests []AdmitRequest) []AdmitOutcome {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]AdmitOutcome, len(requests))
	for i, r := range requests {
		out[i] = n.admitOne(r)
	}
	return out
}

func (n *fakeNode) admitOne(r AdmitRequest) AdmitOutcome {
	if n.admitErr != nil {
		return AdmitOutcome{Err: n.admitErr}
	}
	denied := func(code fsm.Code) AdmitOutcome {
		return AdmitOutcome{Result: fsm.ClaimResult{Code: code, Index: n.index, ClockMs: n.nowMs}}
	}
	keys, ok := n.leader.AgentKeys(r.Signed.AgentID)
	if !ok {
		return denied(fsm.CodeUnknownAgent)
	}
	signer := slices.IndexFunc(keys, func(k crypto.PublicKey) bool {
		return r.Signed.MayBeOf(k) && crypto.Verify(k, r.Signed.Canonical(), r.Signed.Signature[:])
	})
	if signer < 0 {
		return denied(fsm.CodeInvalidSignature)
	}
	claim := fsm.Claim{AgentID: r.Signed.AgentID, Key: keys[signer].Fingerprint(), TimestampMs: r.Signed.TimestampMs, Nonce: r.Signed.Nonce,
		Tag:     fsm.NewClaimTag(r.TokenID, r.ClaimID, r.Signed.Method, r.Signed.Path, r.Signed.BodySHA256, r.Signed.TimestampMs),
		Profile: r.Signed.Profile(), ExpiresMs: r.Signed.ExpiresMs()}
	if r.ClaimChosen {
		claim.ClaimID = tagOf(r.TokenID, r.ClaimID)
	}
	res := must(n.apply(must(fsm.New(fsm.Actor{NodeID: "node-1"}, fsm.AdmitBatch{Callers: []string{r.TokenID}, Claims: []fsm.Claim{claim}}))))
	return AdmitOutcome{Result: res.Claims[0], MaxSkewMs: n.leader.Policy().MaxSkewMs}
}

func tagOf(parts ...string) fsm.ClaimTag {
	sum := hashParts("test tag", parts...)
	return fsm.ClaimTag(sum[:16])
}

func (n *fakeNode) Status() client.Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	return client.Status{Node: client.NodeRef{ID: "node-1", Name: "n1"}, State: "leader",
		AppliedIndex: n.index, CommitIndex: n.index, Leader: n.leads}
}
func (n *fakeNode) Members() []client.Member { return nil }

// Enforcement is what enforced says, and moves whenever it is asked again.
func (n *fakeNode) Enforcement(size uint64) (client.Enforcement, <-chan struct{}) {
	moved := make(chan struct{})
	close(moved)
	if n.enforced == nil {
		return client.Enforcement{Size: size, Members: []client.Enforcing{}}, moved
	}
	return n.enforced(size), moved
}
func (n *fakeNode) Identity() client.Identity {
	pub := crypto.PublicOf(n.key)
	return client.Identity{PeerID: pub.CoordinatorID(), PublicKeyPEM: pub.PEM(), CoordinatorURL: "https://127.0.0.1:4301", NetworkMode: "enterprise_overlay"}
}
func (n *fakeNode) Clocks() client.Clocks {
	n.mu.Lock()
	defer n.mu.Unlock()
	return client.Clocks{Epoch: n.replica.Meta().Epoch, ClockMs: n.replica.ClockMs(), Voters: []client.VoterClock{{ID: "node-1", Name: "n1", Leader: true, WallMs: n.nowMs, AheadMs: 7}, {ID: "node-2", Name: "n2"}}}
}
func (n *fakeNode) Servers() map[string]ServerView {
	return map[string]ServerView{"node-1": {Suffrage: "voter", Health: "healthy", Heard: true, SilentMs: 40, Lag: 3}}
}
func (n *fakeNode) TransferLeadership(_ context.Context, id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.transfers = append(n.transfers, id)
	id = cmp.Or(id, fmt.Sprintf("node-%d", len(n.transfers)+1))
	n.leads = &client.Leader{ID: id, Name: "n-" + id}
	return nil
}
func (n *fakeNode) Ready() error { return n.readyErr }

func (n *fakeNode) Backup() (Backup, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f := n.replica.Freeze()
	return Backup{Name: "edgecoder-test.snapshot", Index: f.Index(), Write: func(w io.Writer) error {
		if err := f.Write(w); err != nil {
			return err
		}
		if n.backupErr != nil {
			return n.backupErr
		}
		return fsm.WriteHistory(w, f.Totals(), n.history.UpTo(f.Totals()))
	}}, nil
}

func (n *fakeNode) PlanRestore(_ context.Context, backup io.Reader) (client.RestorePlan, error) {
	text, err := n.receive(backup)
	return client.RestorePlan{Confirm: "c-" + text, Backup: client.SnapshotRef{Bytes: int64(len(text))}}, err
}

func (n *fakeNode) Restore(_ context.Context, backup io.Reader, order RestoreOrder) (client.Restored, error) {
	text, err := n.receive(backup)
	if err == nil && order.Confirm != "c-"+text {
		err = &client.Error{Code: client.CodeConflict, Field: "confirm", Detail: "another plan"}
	}
	n.orders = append(n.orders, order)
	return client.Restored{Epoch: 2, Index: n.index}, err
}

// receive takes a body as the leader does, which refuses before it reads.
func (n *fakeNode) receive(backup io.Reader) (string, error) {
	if n.restoreErr != nil {
		return "", n.restoreErr
	}
	text, err := io.ReadAll(backup)
	n.received += int64(len(text))
	return string(text), err
}

func (n *fakeNode) Serving() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.servingErr
}

func (n *fakeNode) AuditErr() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.auditErr
}

func (n *fakeNode) Audit(e AuditEvent) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.audited = append(n.audited, e)
}

func (n *fakeNode) AuditNow(_ context.Context, e AuditEvent) error {
	n.Audit(e)
	return n.auditNowErr
}

func (n *fakeNode) AuditEvents(_ context.Context, q client.AuditQuery) (client.AuditEvents, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.auditQuery = q
	return client.AuditEvents{Events: []client.AuditEvent{}, Unreachable: []client.AuditMissing{}}, nil
}

func (n *fakeNode) AuditHeads(context.Context) client.AuditHeads {
	return client.AuditHeads{Heads: []client.AuditHead{{Node: "node-1", Seq: 7}}, Unreachable: []client.AuditMissing{}}
}

func (n *fakeNode) Collectors() []prometheus.Collector { return nil }

func (n *fakeNode) Applied() (uint64, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.moved == nil { // made by who waits: a test may fake its time
		n.moved = make(chan struct{})
	}
	return n.replica.Index(), n.moved
}

func TestFakeNodeReplicasAgree(t *testing.T) {
	f := newFixture(t)
	if f.node.leader.Digest() != f.node.replica.Digest() {
		t.Fatal("leader and replica differ after the fixture")
	}
}

// KeyUses implements Keys.
func (n *fakeNode) KeyUses(string) []client.KeyUse { return n.keyUses }
