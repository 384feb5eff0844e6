package node

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// keyLoad signs requests for one agent and bans others all the time. Nothing of it
// may be refused for a rotation; what a lost leader leaves open is asked again.
type keyLoad struct {
	c        *trio
	verifier string
	key      atomic.Pointer[agent]
	admitted atomic.Int64
	banned   atomic.Int64
	stop     context.CancelFunc
	loops    sync.WaitGroup
}

func (c *trio) loadOf(a agent) *keyLoad {
	ctx, cancel := context.WithCancel(c.t.Context())
	l := &keyLoad{c: c, verifier: c.token("verifier", -1), stop: cancel}
	l.key.Store(&a)
	for i := range c.cfgs {
		verifier, admin := c.client(i, l.verifier), c.client(i, c.admin)
		// Slow enough that the race detector leaves processors for what is tested.
		l.loops.Go(func() {
			for n := 0; pause(ctx, 100*time.Millisecond); n++ {
				l.admit(ctx, verifier, fmt.Sprintf("load-%d-%d", i, n))
			}
		})
		l.loops.Go(func() {
			for n := 0; pause(ctx, 400*time.Millisecond); n++ {
				l.ban(ctx, admin, fmt.Sprintf("bad-%d-%d", i, n))
			}
		})
	}
	c.t.Cleanup(l.end)
	return l
}

func (l *keyLoad) end() { l.stop(); l.loops.Wait() }

func (l *keyLoad) admit(ctx context.Context, cl *client.Client, nonce string) {
	a := l.key.Load()
	s, err := crypto.SignRequest(a.key, a.id, "POST", "/pull", []byte("{}"), time.Now().UnixMilli(), nonce)
	if err != nil {
		l.c.t.Error(err)
		return
	}
	r := client.AdmissionRequest{Method: "POST", Path: "/pull", Headers: map[string]string{}, ClaimID: nonce}
	for _, h := range s.Headers() {
		r.Headers[h[0]] = h[1]
	}
	got, err := cl.Admit(ctx, r)
	if err == nil && got.Verdict != client.VerdictAdmitted {
		l.c.t.Errorf("a legitimate request was refused: %+v", got)
	}
	if err == nil {
		l.admitted.Add(1)
	}
}

func (l *keyLoad) ban(ctx context.Context, cl *client.Client, id string) {
	_, err := cl.Ban(ctx, client.BanRequest{AgentID: id, ReasonCode: crypto.ReasonManualReview, Reason: "seen to misbehave",
		EvidenceSHA256: crypto.Sum([]byte(id)).String(), ReporterID: "operator"})
	switch c := code(err); {
	case err == nil:
		l.banned.Add(1)
	case c == client.CodeInvalid || c == client.CodeConflict || c == client.CodeForbidden || c == client.CodeUnauthorized:
		l.c.t.Errorf("a legitimate ban was refused: %v", err)
	}
}

// ringOf is the keys of a coordinator as node i has them, and the clock there.
func (c *trio) ringOf(i int, nodeID string) (ring fsm.Ring, clock int64) {
	c.nodes[i].machine.Read(func(s *fsm.State) {
		ring, _ = s.KeyRing(fsm.CoordinatorSubject(nodeID))
		clock = s.ClockMs()
	})
	return ring, clock
}

// checkChainWithServedKeys walks the whole chain of each node with the keys that
// it serves and a verifier that knows nothing of ours, and counts events by key.
func (c *trio) checkChainWithServedKeys() (signers map[string]int) {
	c.t.Helper()
	for i, n := range c.nodes {
		if n == nil {
			continue
		}
		signers = map[string]int{}
		cl := c.client(i, c.admin)
		peers, err := cl.MeshPeers(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		keys := map[string]ed25519.PublicKey{}
		for _, p := range peers.Peers {
			keys[p.PeerID] = parsePEM(c.t, p.PublicKeyPEM)
		}
		var all []json.RawMessage
		audit, err := cl.Audit(c.t.Context(), func(text json.RawMessage) error {
			e, err := crypto.ParseBlacklistEvent(text)
			signers[e.SourceCoordinatorID]++
			all = append(all, slices.Clone(text))
			return err
		})
		if err == nil {
			err = walkChain(all, audit.ChainHead, keys)
		}
		if err != nil {
			c.t.Fatalf("node %d: the chain does not verify with the keys it serves: %v", i, err)
		}
	}
	return signers
}

// TestP5RotationUnderLoad: an agent and all coordinators change their keys while
// clients sign and bans are made, the leader is stopped in the middle, and nothing
// legitimate is refused. Old keys retire, the chain verifies from genesis with the
// keys that the API serves, and a revoked key is refused at every node at once.
func TestP5RotationUnderLoad(t *testing.T) {
	t.Parallel()
	heavy(t)
	c := newTrio(t, 3)
	admin := c.client(0, c.admin)
	c.quickKeys(admin)
	old := c.enroll(0, "agent-1")
	load := c.loadOf(old)
	c.eventually("load runs", func() bool { return load.admitted.Load() > 5 && load.banned.Load() > 2 })
	first := map[string]crypto.PublicKey{}
	var ids []string
	for _, n := range c.nodes {
		first[n.id.NodeID] = n.publicKey()
		ids = append(ids, n.id.NodeID)
	}

	young := agent{id: old.id, key: newTestKey(t)}
	order := client.SignRotation(c.nodes[0].id.ClusterID, "agent/agent-1", old.key, young.key, 0, time.Now().UnixMilli())
	if _, err := c.client(1, "").RotateKey(t.Context(), "agent/agent-1", order); err != nil {
		t.Fatal(err)
	}
	load.key.Store(&young) // at every node, from the answer on
	for _, id := range ids {
		if _, err := admin.RotateKey(t.Context(), "coordinator/"+id, client.RotateRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	lead := c.leader()
	if err := c.nodes[lead].shutdown(); err != nil {
		t.Fatal(err)
	}
	c.nodes[lead] = nil
	up := (lead + 1) % 3
	c.eventually("the others sign with new keys without it", func() bool {
		return c.nodes[up].publicKey() != first[ids[up]] && c.nodes[(lead+2)%3].publicKey() != first[ids[(lead+2)%3]]
	})
	c.start(lead)
	c.eventually("it catches up, and every old key retires", func() bool {
		for i := range c.nodes {
			for _, id := range ids {
				ring, clock := c.ringOf(i, id)
				if len(ring) != 2 || ring.StateOf(0, clock) != fsm.KeyRetired || ring.StateOf(1, clock) != fsm.KeyActive {
					return false
				}
			}
		}
		return true
	})
	for i, n := range c.nodes {
		c.eventually("the old key has left the file", func() bool { return !n.signer.holds(first[ids[i]]) })
	}
	load.end()
	signers := c.checkChainWithServedKeys()
	if len(signers) < 2 || signers[first[ids[lead]].CoordinatorID()] == 0 {
		t.Errorf("events by key: %v", signers)
	}
	c.checkRetiredPeers(first)
	c.checkAgentRevocation(old, young, load.verifier)
	c.checkCoordinatorRevocation()
}

// quickKeys makes overlaps as short as they can be, and the limits of agents wide.
func (c *trio) quickKeys(admin *client.Client) {
	c.t.Helper()
	p, err := admin.Policy(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := admin.SetPolicy(c.t.Context(), p.Version, client.PolicyUpdate{RateLimit: &client.RateLimit{Requests: 1_000_000, WindowMs: 1000}}); err != nil {
		c.t.Fatal(err)
	}
	overlap := int64(fsm.MinOverlapMs)
	if _, err := admin.SetKeySchedule(c.t.Context(), "coordinator", 0, client.KeyScheduleUpdate{OverlapMs: &overlap}); err != nil {
		c.t.Fatal(err)
	}
}

func newTestKey(t *testing.T) crypto.PrivateKey {
	t.Helper()
	key, err := crypto.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// checkRetiredPeers: existing clients find every old key, marked as such.
func (c *trio) checkRetiredPeers(first map[string]crypto.PublicKey) {
	c.t.Helper()
	c.eventually("old keys are listed as retired", func() bool {
		peers, err := c.client(1, c.admin).MeshPeers(c.t.Context())
		retired := 0
		for _, p := range peers.Peers {
			for _, key := range first {
				if p.PeerID == key.CoordinatorID() && p.Status == "retired" {
					retired++
				}
			}
		}
		return err == nil && len(peers.Peers) == 6 && retired == 3
	})
}

// checkAgentRevocation: the old key verifies in its overlap, its use is reported,
// and it is refused at every node from the answer of its revocation on.
func (c *trio) checkAgentRevocation(old, young agent, verifier string) {
	t := c.t
	for i := range c.nodes {
		if got, err := c.client(i, verifier).Admit(t.Context(), old.request(t, fmt.Sprint("old-", i))); err != nil || got.Verdict != client.VerdictAdmitted {
			t.Fatalf("the retiring key at node %d: %+v, %v", i, got, err)
		}
	}
	keys, err := c.client(1, c.admin).Keys(t.Context(), "agent/agent-1")
	if err != nil || len(keys.Uses) == 0 || keys.Uses[0].KeyID != crypto.PublicOf(old.key).KeyID() || keys.Uses[0].By == "" {
		t.Errorf("who uses the retiring key: %+v, %v", keys.Uses, err)
	}
	if _, err := c.client(2, c.admin).RevokeKey(t.Context(), "agent/agent-1", client.RevokeKeyRequest{KeyID: crypto.PublicOf(old.key).KeyID(), Reason: "stolen"}); err != nil {
		t.Fatal(err)
	}
	for i := range c.nodes {
		got, err := c.client(i, verifier).Admit(t.Context(), old.request(t, fmt.Sprint("gone-", i)))
		if err != nil || got.Code != client.VerdictKeyExpired {
			t.Errorf("a revoked key at node %d: %+v, %v", i, got, err)
		}
		if got, err := c.client(i, verifier).Admit(t.Context(), young.request(t, fmt.Sprint("new-", i))); err != nil || got.Verdict != client.VerdictAdmitted {
			t.Errorf("the key beside it at node %d: %+v, %v", i, got, err)
		}
	}
}

// checkCoordinatorRevocation: what the leader's key signed is refused from the
// index of its revocation on, and the leader gets a new one on its certificate's
// word. The chain goes on and verifies.
func (c *trio) checkCoordinatorRevocation() {
	t := c.t
	lead := c.leader()
	n := c.nodes[lead]
	stolen, err := n.signingKey()
	if err != nil {
		t.Fatal(err)
	}
	gone := crypto.PublicOf(stolen)
	if _, err := c.client(lead, c.admin).RevokeKey(t.Context(), "coordinator/"+n.id.NodeID, client.RevokeKeyRequest{KeyID: gone.KeyID(), Reason: "read from a backup"}); err != nil {
		t.Fatal(err)
	}
	text, err := crypto.ParseTokenText(c.admin)
	if err != nil {
		t.Fatal(err)
	}
	e := crypto.BlacklistEvent{EventID: "forged", AgentID: "victim", ReasonCode: crypto.ReasonManualReview, Reason: "forged", EvidenceHashSHA256: crypto.Sum(nil).String(),
		ReporterID: "operator", ReportedBy: "operator", TimestampMs: n.clockMs()}
	n.machine.Read(func(s *fsm.State) {
		head, _ := s.Chain()
		e.Link(head, stolen)
	})
	cmd, err := fsm.New(fsm.Actor{TokenID: text.ID}, fsm.BlacklistAppend{Event: e})
	if err != nil {
		t.Fatal(err)
	}
	future, err := n.enqueue(n.lead.Load(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := n.await(t.Context(), future); err != nil || res.Code != fsm.CodeInvalid || res.Field != "sourceCoordinatorId" {
		t.Errorf("an event by a revoked key: %+v, %v", res, err)
	}
	c.eventually("it has a new key", func() bool {
		ring, clock := c.ringOf(lead, n.id.NodeID)
		k, ok := ring.Active(clock)
		return ok && k.Public != gone && n.signer.holds(k.Public)
	})
	if !slices.ContainsFunc(c.nodes, func(n *Node) bool { return n.lead.Load() != nil }) {
		t.Fatal("nobody leads")
	}
	c.ban(lead, "after")
	if signers := c.checkChainWithServedKeys(); signers[gone.CoordinatorID()] == 0 {
		t.Errorf("events by key: %v", signers)
	}
}

// TestKeyAlarmsAreEvents: what the leader sees of keys stands in its audit log,
// under the types of WIRE.md section 11, and each alarm once.
func TestKeyAlarmsAreEvents(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	n := c.nodes[0]
	own := fsm.CoordinatorSubject(n.id.NodeID)
	var st fsm.KeyStanding
	var clock int64
	n.machine.Read(func(s *fsm.State) {
		clock = s.ClockMs()
		st, _ = s.KeyStanding(own, clock)
	})
	w := &keyWatch{active: map[fsm.Subject]string{}, alarms: map[string]time.Time{}}
	var got count
	late, old, other := st, st, st
	late.AskMs, late.DueMs = 1, clock+1
	old.Subject, old.AskMs, old.DueMs = fsm.AgentSubject("old"), 1, 2
	other.Ring, other.Active = append(slices.Clone(st.Ring), fsm.Key{Public: crypto.PublicOf(newTestKey(t))}), 1
	for _, st := range []fsm.KeyStanding{st, late, late, old, other} {
		n.lookAt(w, st, clock, &got)
	}
	if got != (count{due: 3, overdue: 2, expired: 1}) || len(w.alarms) != 2 {
		t.Errorf("%+v, alarms %v", got, w.alarms)
	}
	c.wantEvent(0, "key_rotation_overdue", "WARN", "subject", own.String(), "key_id", st.Ring[0].Public.KeyID())
	c.wantEvent(0, "key_expired", "CRITICAL", "subject", "agent/old")
	c.wantEvent(0, "key_rotation", "INFO", "subject", own.String(), "step", "active")
	n.lookAtKeys(w)
	if alarms := n.Status().KeyAlarms; len(alarms) != 0 {
		t.Errorf("a fresh cluster has alarms: %+v", alarms)
	}
}

// TestSigningKeySurvivesACrash: a key that was made and never announced is found
// again, and announced; one that the file lacks is never signed with.
func TestSigningKeySurvivesACrash(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	n := c.nodes[0]
	st, _ := n.standing(fsm.CoordinatorSubject(n.id.NodeID))
	made, err := n.nextSigningKey(st)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := n.nextSigningKey(st); err != nil || again != made {
		t.Fatalf("%v, %v, want %v", again, err, made)
	}
	if key, ok := n.signingPublic(); !ok || key == made {
		t.Error("it signs with a key that nobody knows")
	}
	if err := n.shutdown(); err != nil {
		t.Fatal(err)
	}
	c.start(0)
	c.eventually("it is back", c.allReady)
	n = c.nodes[0]
	if _, err := c.client(0, c.admin).RotateKey(t.Context(), "coordinator/"+n.id.NodeID, client.RotateRequest{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the key of before the crash is announced", func() bool {
		ring, clock := c.ringOf(0, n.id.NodeID)
		k, ok := ring.Active(clock)
		return ok && k.Public == made
	})
	n.signer.hold(nil) // as if the file had been put back from long ago
	if _, err := n.signingKey(); code(err) != client.CodeUnavailable {
		t.Errorf("without any key: %v", err)
	}
}

// TestOlderKeyFileStarts: a node whose key file was put back, so that none of its
// keys verifies, starts from a snapshot too, and brings another one: it proves by a key
// that it had whose word that is.
func TestOlderKeyFileStarts(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	n := c.nodes[0]
	dir, pass := c.cfgs[0].DataDir, c.cfgs[0].Passphrase
	older, err := loadIdentity(dir, pass)
	if err != nil {
		t.Fatal(err)
	}
	first, subject := older.publicKey(), fsm.CoordinatorSubject(n.id.NodeID).String()
	if _, err := c.client(0, c.admin).RotateKey(t.Context(), subject, client.RotateRequest{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("it has its second key", func() bool { ring, _ := c.ringOf(0, n.id.NodeID); return len(ring) == 2 })
	ring, _ := c.ringOf(0, n.id.NodeID)
	lost := ring[1].Public
	if res := c.asAdmin(fsm.KeyRevoke{Subject: subject, Key: first.Fingerprint(), Reason: "copied"}); !res.OK() {
		t.Fatalf("%+v", res)
	}
	c.snapshot(n)
	if err := n.shutdown(); err != nil {
		t.Fatal(err)
	}
	id, err := loadIdentity(dir, pass)
	if err != nil {
		t.Fatal(err)
	}
	id.Signing, id.LaterSigning = older.Signing, nil
	if err := id.save(dir, pass); err != nil {
		t.Fatal(err)
	}
	c.start(0)
	n = c.nodes[0]
	c.eventually("it leads", func() bool { return c.leader() == 0 && n.Ready() == nil })
	if _, ok := n.signingPublic(); ok {
		t.Fatal("a key that nobody knows signs")
	}
	if res := c.asAdmin(fsm.KeyRevoke{Subject: subject, Key: lost.Fingerprint(), Reason: "the file was lost"}); !res.OK() {
		t.Fatalf("%+v", res)
	}
	c.eventually("it signs again", func() bool { _, ok := n.signingPublic(); return ok })
}
