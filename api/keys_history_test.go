package api

import (
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// modelPast is what a subject's keys went through, written down by who drives the
// cluster, which answers only whether a change was taken.
type modelPast struct {
	keys    []*modelOld
	overlap int64
	most    int // keys of a ring
}

type modelOld struct {
	key         crypto.PrivateKey
	from, until int64
	revokedAt   uint64
	by          *modelOld
	closes      bool // by had no end before
	gone        bool
}

func (k *modelOld) id() string           { return crypto.PublicOf(k.key).KeyID() }
func (k *modelOld) public() fsm.KeyRef   { return crypto.PublicOf(k.key).Fingerprint() }
func (k *modelOld) ended(now int64) bool { return k.revokedAt != 0 || k.until != 0 && now > k.until }
func (k *modelOld) pending(now int64) bool {
	return k.revokedAt == 0 && now < k.from
}

func (m *modelPast) last(is func(*modelOld) bool) *modelOld {
	for _, k := range slices.Backward(m.keys) {
		if !k.gone && is(k) {
			return k
		}
	}
	return nil
}

func (m *modelPast) active(now int64) *modelOld {
	return m.last(func(k *modelOld) bool { return k.from <= now && !k.ended(now) })
}

// add has the keys that ended longest ago leave, and those before the new one end.
func (m *modelPast) add(k *modelOld, now int64) {
	left := 0
	for _, have := range m.keys {
		if !have.gone {
			left++
		}
	}
	for _, have := range m.keys {
		if left+1 > m.most && !have.gone && have.ended(now) {
			have.gone = true
			left--
		}
		if have.until == 0 && have.revokedAt == 0 {
			have.until = k.from + m.overlap
		}
	}
	m.keys = append(m.keys, k)
}

// keyDrama has random things happen to the keys of an agent.
type keyDrama struct {
	*fixture
	a *agent
	m *modelPast
	r *mathrand.Rand
}

func (d *keyDrama) step() {
	now, of := d.node.nowMs, "agent/"+d.a.id
	next := &modelOld{key: must(crypto.GenerateKey(rand.Reader))}
	switch active := d.m.active(now); d.r.IntN(6) {
	case 0, 1, 2:
		if active == nil {
			return
		}
		next.from, next.by, next.closes = now, active, active.until == 0
		b := fsm.KeyPrepare{Subject: of, Public: crypto.PublicOf(next.key), By: crypto.PublicOf(active.key), SignedMs: now, Order: []byte("o"), Proof: []byte("p")}
		if d.r.IntN(2) == 0 {
			next.from += 3_600_000
			b.NotBeforeMs = next.from
		}
		if d.takes(fsm.Actor{}, b) != 0 {
			d.m.add(next, now)
		}
	case 3:
		k := d.m.keys[d.r.IntN(len(d.m.keys))]
		at := d.takes(d.actor(), fsm.KeyRevoke{Subject: of, Key: k.public(), Reason: "step"})
		if at == 0 || k.revokedAt != 0 || k.gone {
			return
		}
		pending := d.m.last(func(k *modelOld) bool { return k.pending(now) })
		k.revokedAt = at
		if k == pending && k.closes {
			k.by.until = 0
		} else if pending != nil && pending.by == k {
			pending.revokedAt = at
		}
	case 4:
		next.from = now
		if at := d.takes(d.actor(), fsm.KeyRecover{Subject: of, Public: crypto.PublicOf(next.key), SignedMs: now, Proof: []byte("p"), Reason: "step"}); at != 0 {
			for _, k := range d.m.keys {
				if !k.gone && k.revokedAt == 0 {
					k.revokedAt = at
				}
			}
			d.m.add(next, now)
		}
	}
	d.passes(int64(1_800_000 * (1 + d.r.IntN(4))))
}

// takes returns the log index of a change, 0 if it was refused.
func (d *keyDrama) takes(actor fsm.Actor, body any) uint64 {
	res := must(d.node.apply(must(fsm.New(actor, body))))
	if !res.OK() {
		return 0
	}
	return d.node.index
}

// TestKeyHistoryTellsAllKeys: whatever happened to the keys of an agent, the windows
// of all that it ever had are those that an independent model has, in pages of any
// size.
func TestKeyHistoryTellsAllKeys(t *testing.T) {
	var gone, taken int
	for seed := range uint64(12) {
		f, a := keyFixture(t)
		f.node.mustApply(f.actor(), fsm.KeyScheduleSet{Subject: "agent", Schedule: fsm.Schedule{OverlapMs: 5_400_000}})
		d := &keyDrama{fixture: f, a: a, r: mathrand.New(mathrand.NewPCG(seed, 1)),
			m: &modelPast{keys: []*modelOld{{key: a.key}}, overlap: 5_400_000, most: fsm.MaxAgentKeys}}
		for range 40 {
			d.step()
		}
		past := must(f.served(t).KeyPast(t.Context(), "agent/"+a.id, client.Strong()))
		if len(past.Keys) != len(d.m.keys) {
			t.Fatalf("seed %d: %d keys are told, there were %d", seed, len(past.Keys), len(d.m.keys))
		}
		for i, k := range d.m.keys {
			got, want := past.Keys[i], client.KeyWindow{KeyID: k.id(), NotBeforeMs: k.from, UntilMs: k.until, RevokedAt: k.revokedAt}
			if got.KeyWindow != want {
				t.Fatalf("seed %d: key %d is told as %+v, it is %+v", seed, i, got, want)
			}
			if got.How == "" || got.Index == 0 || len(got.Steps) == 0 || k.by != nil && got.Predecessor != k.by.id() || k.revokedAt != 0 && (got.Reason != "step" || got.RevokedBy.TokenID != f.actor().TokenID) {
				t.Errorf("seed %d: how key %d came and went: %+v", seed, i, got)
			}
			if k.gone {
				gone++
			}
			taken++
		}
		var paged []client.KeyStep
		for from := uint64(1); from != 0; {
			page := must(f.served(t).KeyHistory(t.Context(), "agent/"+a.id, from, 1+d.r.IntN(5)))
			paged, from = append(paged, page.Steps...), page.Next
		}
		if !slices.EqualFunc(paged, past.Steps, func(a, b client.KeyStep) bool { return a.Seq == b.Seq }) {
			t.Errorf("seed %d: pages have other steps than the whole", seed)
		}
	}
	if gone == 0 || taken < 60 {
		t.Errorf("%d keys, %d of them gone from their rings: this shows nothing", taken, gone)
	}
}

// TestKeyHistoryIsBounded: a page looks at so many records and says where to go on;
// subjects without any history are not found.
func TestKeyHistoryIsBounded(t *testing.T) {
	f, a := keyFixture(t)
	for i := range uint64(maxKeyLook + 10) {
		f.node.mustApply(f.actor(), fsm.KeyScheduleSet{Subject: "gossip", IfVersion: i, Schedule: fsm.DefaultSchedule(fsm.SubjectGossip)})
	}
	f.node.mustApply(f.actor(), fsm.KeyRevoke{Subject: "agent/" + a.id, Key: crypto.PublicOf(a.key).Fingerprint()})
	first := decodeReply[client.KeyHistory](t, f.admin("GET", a.path("/history"), nil), 200)
	if first.Next != maxKeyLook+1 || len(first.Steps) != 2 {
		t.Errorf("%d steps, next %d", len(first.Steps), first.Next)
	}
	rest := decodeReply[client.KeyHistory](t, f.admin("GET", fmt.Sprintf("%s?from=%d", a.path("/history"), first.Next), nil), 200)
	if rest.Next != 0 || len(rest.Steps) != 1 || rest.Steps[0].Action != "key_revoke" || !rest.Steps[0].Changed {
		t.Errorf("%+v", rest)
	}
	wantProblem(t, f.admin("GET", a.path("/history?from=x"), nil), client.CodeInvalid, "from")
	wantProblem(t, f.admin("GET", a.path("/history?limit=0"), nil), client.CodeInvalid, "limit")
	wantProblem(t, f.admin("GET", "/v1/keys/nothing/history", nil), client.CodeInvalid, "path")
	if _, err := f.served(t).KeyPast(t.Context(), "agent/nobody"); err == nil || err.(*client.Error).Code != client.CodeNotFound {
		t.Errorf("the keys of nobody: %v", err)
	}
}

// TestChainVerifiesAfterManyRotations: events of a coordinator's first key, of keys
// that left its ring and of the newest one verify from genesis with the keys that the
// API serves, and its history has them all.
func TestChainVerifiesAfterManyRotations(t *testing.T) {
	f, _ := keyFixture(t)
	of := fsm.CoordinatorSubject("node-1")
	f.node.mustApply(f.actor(), fsm.KeyScheduleSet{Subject: of.String(), Schedule: fsm.Schedule{OverlapMs: fsm.MinOverlapMs}})
	signers := map[string]crypto.PublicKey{}
	const rotations = 20
	for i := range rotations + 1 {
		f.banAgent(fmt.Sprint("bad", i))
		signers[crypto.PublicOf(f.node.key).KeyID()] = crypto.PublicOf(f.node.key)
		next := must(crypto.GenerateKey(rand.Reader))
		f.node.mustApply(fsm.Actor{NodeID: "node-1"}, fsm.KeyPrepare{Subject: of.String(), Public: crypto.PublicOf(next), By: crypto.PublicOf(f.node.key),
			SignedMs: f.node.nowMs, Order: []byte("o"), Proof: []byte("p")})
		f.node.key = next
		f.passes(fsm.RekeyPauseMs + 1)
	}
	c := f.served(t)
	keys := map[string]crypto.PublicKey{}
	for _, p := range must(c.MeshPeers(t.Context())).Peers {
		keys[p.PeerID] = must(crypto.ParsePublicKeyPEM(p.PublicKeyPEM))
	}
	chain := crypto.NewChainVerifier(keys)
	by := map[string]bool{}
	page := must(c.ChainEvents(t.Context(), 1, 100))
	for _, raw := range page.Events {
		e := must(crypto.ParseBlacklistEvent(raw.Event))
		if err := chain.Add(e); err != nil {
			t.Fatal(err)
		}
		by[e.SourceCoordinatorID] = true
	}
	if chain.Head() != page.ChainHead || len(by) != rotations+1 {
		t.Errorf("head %s of %s, %d keys signed", chain.Head(), page.ChainHead, len(by))
	}
	past := must(c.KeyPast(t.Context(), of.String()))
	if len(past.Keys) != rotations+2 || past.Keys[0].How != "genesis" {
		t.Fatalf("history tells of %d keys: %+v", len(past.Keys), past.Keys[0])
	}
	for _, k := range past.Keys[:rotations+1] {
		if _, signed := signers[k.KeyID]; !signed {
			t.Errorf("history has the key %s, which signed nothing", k.KeyID)
		}
	}
}

// TestKeyHistoryOfWhoIsGone: a coordinator that was removed has a history still.
func TestKeyHistoryOfWhoIsGone(t *testing.T) {
	f, _ := keyFixture(t)
	gone := f.node.coordinator("node-2", "n2", crypto.PublicOf(must(crypto.GenerateKey(rand.Reader))))
	gone.Level = fsm.LevelKeys
	joiner := must(crypto.ParseTokenText(f.tokens[fsm.RoleCoordinator]))
	f.node.mustApply(fsm.Actor{TokenID: joiner.ID}, fsm.CoordinatorJoin{Coordinator: gone})
	of := fsm.CoordinatorSubject("node-2").String()
	f.node.mustApply(f.actor(), fsm.KeyRevoke{Subject: of, Key: gone.SigningKey.Fingerprint(), Reason: "stolen"})
	f.node.mustApply(f.actor(), fsm.CoordinatorRemove{ID: "node-2"})
	wantProblem(t, f.admin("GET", "/v1/keys/coordinator%2Fnode-2", nil), client.CodeNotFound, "")
	past := must(f.served(t).KeyPast(t.Context(), of))
	if len(past.Keys) != 1 || past.Keys[0].How != "coordinator_join" || past.Keys[0].RevokedAt != f.node.index-1 || past.Keys[0].GoneAt != f.node.index || len(past.Steps) != 3 {
		t.Errorf("%+v", past)
	}
}
