package fsm

import (
	"bytes"
	"slices"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// keysWorld is a cluster of n0 and n1 at LevelKeys with agents whose keys have
// their names, and a signer m.
func keysWorld(t testing.TB, agents ...string) *world {
	w := genesisWorld(t)
	w.s.meta.v.Level = LevelKeys
	n1 := nodeOf("n1", RoleCoordinator)
	n1.Level = LevelKeys
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: n1}))
	w.enroll(agents...)
	w.must(w.trust(trustOf(1, "m")))
	w.pass(RekeyPauseMs)
	return w
}

// order is the next key of a subject, signed by the one before as of now. Keys
// go by their names.
func (w *world) order(of Subject, by, next string, notBeforeMs int64) KeyPrepare {
	b := KeyPrepare{Subject: of.String(), By: publicKey(by), Public: publicKey(next), NotBeforeMs: notBeforeMs, SignedMs: w.wallMs}
	st := b.Succession(w.s.Meta().ClusterID)
	b.Order, b.Proof = st.Order(privateKey(by)), st.Prove(privateKey(next))
	return b
}

// tlsKey names a TLS key by a name.
func tlsKey(name string) crypto.PublicKey { return crypto.PublicKey(crypto.Sum([]byte("tls " + name))) }

// withTLS is the node with a TLS key that has its name.
func withTLS(n Coordinator) Coordinator {
	n.Level, n.TLSKey = LevelKeys, crypto.Hash(tlsKey(n.ID))
	return n
}

// tlsOrder is the next TLS key of a node, ordered by a signing key of it as of now.
func (w *world) tlsOrder(nodeID, signer, by, next string, notBeforeMs int64) KeyPrepare {
	b := KeyPrepare{Subject: CertificateSubject(nodeID).String(), By: tlsKey(by), Public: tlsKey(next), NotBeforeMs: notBeforeMs, SignedMs: w.wallMs, Signer: publicKey(signer)}
	b.Order = b.Succession(w.s.Meta().ClusterID).Order(privateKey(signer))
	return b
}

// orphanOrder is the next signing key of a node none of whose keys verifies, ordered
// with one that it had.
func (w *world) orphanOrder(nodeID, had, next string) KeyPrepare {
	b := KeyPrepare{Subject: CoordinatorSubject(nodeID).String(), Public: publicKey(next), SignedMs: w.wallMs, Signer: publicKey(had)}
	st := b.Succession(w.s.Meta().ClusterID)
	b.Order, b.Proof = st.Order(privateKey(had)), st.Prove(privateKey(next))
	return b
}

// recovery is an agent's new key on an operator's word.
func (w *world) recovery(agent, next string) KeyRecover {
	b := KeyRecover{Subject: AgentSubject(agent).String(), Public: publicKey(next), SignedMs: w.wallMs, Reason: "the disk died"}
	st := crypto.Succession{ClusterID: w.s.Meta().ClusterID, Subject: b.Subject, Successor: b.Public, SignedMs: b.SignedMs}
	b.Proof = st.Prove(privateKey(next))
	return b
}

// poolKey is a pool key by a name.
func poolKey(name string) []byte { h := crypto.Sum([]byte("pool " + name)); return h[:] }

// sharedPoolKey is the next pool key, or the first when by is empty.
func sharedPoolKey(by, next string, members ...string) KeyPrepare {
	b := KeyPrepare{Subject: "gossip", Public: PoolKeyName(poolKey(next))}
	if by != "" {
		b.By, b.Order = PoolKeyName(poolKey(by)), []byte("mac")
	}
	for _, id := range members {
		b.Copies = append(b.Copies, SealedCopy{NodeID: id, Sealed: []byte("sealed for " + id)})
	}
	return b
}

// sharedCA is the next CA, or the first when by is nil.
func sharedCA(by, next []byte, members ...string) KeyPrepare {
	b := KeyPrepare{Subject: "ca", Public: crypto.PublicKey(crypto.Sum(next)), Data: next}
	if by != nil {
		b.By, b.Order = crypto.PublicKey(crypto.Sum(by)), []byte("ecdsa")
	}
	for _, id := range members {
		b.Copies = append(b.Copies, SealedCopy{NodeID: id, Sealed: []byte("sealed for " + id)})
	}
	return b
}

// compromised removes a node as the leader does once it prepared what comes next.
func (w *world) compromised(id string) Result {
	b := CoordinatorRemove{ID: id, Compromised: true}
	for _, of := range HeldShared(RoleCoordinator) {
		if next := w.s.nextOf(of, w.s.ClockMs()); !next.IsZero() {
			b.Next = append(b.Next, next)
		}
	}
	return w.do(admin, b)
}

// switchTo has every coordinator that can say that it holds a shared key, and switches
// to it.
func (w *world) switchTo(subject string, key KeyRef) {
	w.t.Helper()
	for _, n := range w.s.Coordinators() {
		if n.Role == RoleCoordinator {
			w.do(node(n.ID), KeyReady{Subject: subject, Key: key})
		}
	}
	w.must(w.do(node("n0"), KeySwitch{Subject: subject, Key: key}))
}

func node(id string) Actor { return Actor{NodeID: id} }

// withKeyRows makes rows in each field of keys.
func (w *world) withKeyRows() {
	w.s.meta.v.Level = LevelKeys
	w.must(w.do(admin, KeyScheduleSet{Subject: "agent/a", Schedule: Schedule{PeriodMs: keyDayMs, OverlapMs: keyHourMs, LeadMs: keyHourMs}}))
	w.must(w.do(operator, KeyRotate{Subject: "agent/b"}))
	w.must(w.do(node("n0"), sharedPoolKey("", "p1")))
	w.must(w.do(node("n0"), sharedPoolKey("p1", "p2", "n0", "n2")))
	w.must(w.do(node("n2"), KeyReady{Subject: "gossip", Key: PoolKeyName(poolKey("p2")).Fingerprint()}))
	w.must(w.do(node("n0"), w.order(CoordinatorSubject("n0"), "node n0", "node n0 second", w.wallMs+60_000)))
}

// withKeys has everything happen that LevelKeys brought.
func (w *world) withKeys() *world {
	w.pass(UpdatePauseMs)
	for _, n := range w.s.Coordinators() {
		w.must(w.do(node(n.ID), CoordinatorUpdate{ID: n.ID, API: "h:1", Raft: "h:2", Gossip: "h:3", Level: LevelKeys, Version: "keys"}))
	}
	w.want(w.do(operator, KeyRotate{Subject: "agent/a"}), CodeConflict) // below the level
	w.must(w.do(leader, LevelRaise{From: w.s.Meta().Level, To: LevelKeys, Version: "keys"}))
	w.goldenSchedules()
	w.goldenAgentKeys()
	w.goldenCoordinatorKeys()
	w.goldenCertificates()
	w.goldenSharedKeys()
	w.goldenSuccessors()
	w.mark()
	return w
}

func (w *world) goldenSchedules() {
	set := KeyScheduleSet{Subject: "coordinator", Schedule: Schedule{PeriodMs: 30 * keyDayMs, OverlapMs: keyHourMs, LeadMs: keyDayMs}}
	w.must(w.do(admin, set))
	w.want(w.do(admin, set), CodeConflict)
	set.IfVersion, set.Schedule.LeadMs = 1, 31*keyDayMs
	w.want(w.do(admin, set), CodeInvalid)
	w.want(w.do(operator, set), CodeForbidden)
	w.must(w.do(admin, KeyScheduleSet{Subject: "agent/q", Schedule: Schedule{OverlapMs: keyHourMs}}))
	w.want(w.do(admin, KeyScheduleSet{Subject: "agent/nobody", Schedule: set.Schedule}), CodeNotFound)
}

func (w *world) goldenAgentKeys() {
	q := AgentSubject("q")
	w.must(w.do(operator, KeyRotate{Subject: "agent/q"}))
	w.must(w.do(operator, KeyRotate{Subject: "agent/q"}))
	next := w.order(q, "q", "q2", w.wallMs+60_000)
	next.EncryptionProof = bytes.Repeat([]byte{7}, 64)
	w.must(w.do(Actor{}, next))
	w.must(w.do(Actor{}, next))
	w.want(w.do(Actor{}, w.order(q, "q", "q3", 0)), CodeConflict)
	second := claimOf("q", "k1", w.wallMs, "")
	second.Key = keyRef("q2")
	w.admit(claimOf("q", "k2", w.wallMs, ""), second)
	w.pass(60_000)
	second.Nonce, second.TimestampMs = "k3", w.wallMs
	w.admit(claimOf("q", "k4", w.wallMs, ""), second)
	w.must(w.do(admin, KeyRevoke{Subject: "agent/q", Key: keyRef("q"), Reason: "left on a train"}))
	w.admit(claimOf("q", "k5", w.wallMs, ""))
	w.must(w.do(operator, w.recovery("q", "q4")))
	w.want(w.do(operator, w.recovery("nobody", "q5")), CodeNotFound)
	w.want(w.do(operator, KeyRevoke{Subject: "agent/q", Key: keyRef("q4")}), CodeForbidden)
}

func (w *world) goldenCoordinatorKeys() {
	n0 := CoordinatorSubject("n0")
	w.must(w.do(node("n0"), w.order(n0, "node n0", "node n0 second", 0)))
	w.want(w.do(node("n8"), w.order(n0, "node n0 second", "node n0 third", 0)), CodeForbidden)
	w.must(w.do(operator, w.banOf("k-old", "k-e1", "n0", nil)))
	w.must(w.do(operator, w.banOf("k-new", "k-e2", "n0 second", nil)))
	w.must(w.do(admin, KeyRevoke{Subject: n0.String(), Key: keyRef("node n0")}))
	w.want(w.do(operator, w.banOf("k-gone", "k-e3", "n0", nil)), CodeInvalid)
	w.must(w.do(admin, KeyRevoke{Subject: n0.String(), Key: keyRef("node n0 second")}))
	w.pass(1_000)
	w.want(w.do(node("n0"), w.orphanOrder("n0", "thief", "node n0 third")), CodeInvalidSignature)
	w.must(w.do(node("n0"), w.orphanOrder("n0", "node n0 second", "node n0 third")))
	w.must(w.do(operator, w.banOf("k-third", "k-e4", "n0 third", nil)))
	w.mark()
}

func (w *world) goldenCertificates() {
	w.must(w.do(admin, TokenCreate{ID: "for t0", Role: RoleObserver, Uses: 1}))
	w.must(w.do(Actor{TokenID: "for t0"}, CoordinatorJoin{Coordinator: withTLS(nodeOf("t0", RoleObserver))}))
	w.must(w.do(node("t0"), w.tlsOrder("t0", "node t0", "t0", "t0 b", w.wallMs+60_000)))
	w.want(w.do(admin, KeyRotate{Subject: "certificate/t0"}), CodeConflict)
	w.must(w.do(admin, KeyRevoke{Subject: "certificate/t0", Key: tlsKey("t0").Fingerprint(), Reason: "copied"}))
	w.want(w.do(admin, KeyRevoke{Subject: "certificate/t0", Key: tlsKey("t0 b").Fingerprint()}), CodeConflict)
	w.pass(RekeyPauseMs)
	w.want(w.do(node("t0"), w.tlsOrder("t0", "t0 b", "t0 b", "t0 c", 0)), CodeInvalidSignature)
	w.must(w.do(node("t0"), w.tlsOrder("t0", "node t0", "t0 b", "t0 c", w.wallMs+60_000)))
	w.must(w.do(node("t0"), w.order(CoordinatorSubject("t0"), "node t0", "t0 second", 0)))
	w.must(w.do(admin, KeyRevoke{Subject: "coordinator/t0", Key: keyRef("node t0"), Reason: "copied"}))
	w.pass(1_000)
	w.must(w.do(node("t0"), w.tlsOrder("t0", "t0 second", "t0 b", "t0 d", w.wallMs+60_000)))
	w.must(w.do(admin, CoordinatorRemove{ID: "t0"}))
}

func (w *world) goldenSharedKeys() {
	w.want(w.do(node("n2"), sharedPoolKey("", "p1")), CodeForbidden) // an observer
	w.must(w.do(node("n0"), sharedPoolKey("", "p1")))
	w.must(w.do(node("n0"), sharedPoolKey("p1", "p2", "n0", "n2", "n8")))
	second := PoolKeyName(poolKey("p2")).Fingerprint()
	w.must(w.do(node("n2"), KeyReady{Subject: "gossip", Key: second}))
	w.must(w.do(node("n2"), KeyReady{Subject: "gossip", Key: second}))
	w.want(w.do(node("n0"), KeySwitch{Subject: "gossip", Key: second}), CodeConflict)
	w.switchTo("gossip", second)
	w.must(w.do(node("n0"), KeySwitch{Subject: "gossip", Key: second}))
	w.must(w.do(admin, KeyRevoke{Subject: "gossip", Key: PoolKeyName(poolKey("p1")).Fingerprint()}))
	w.want(w.do(admin, KeyRevoke{Subject: "gossip", Key: second}), CodeConflict)
	w.want(w.do(node("n0"), sharedCA(nil, []byte("another"))), CodeConflict)
	w.must(w.do(node("n0"), sharedCA(nil, []byte("ca"))))
	w.must(w.do(node("n0"), sharedCA([]byte("ca"), []byte("ca 2"), "n0", "n8")))
	w.switchTo("ca", crypto.PublicKey(crypto.Sum([]byte("ca 2"))).Fingerprint())
	w.want(w.do(admin, CoordinatorRemove{ID: "n2", Compromised: true}), CodeConflict)
	w.must(w.do(node("n0"), sharedPoolKey("p2", "p3", "n0", "n8")))
	w.must(w.compromised("n2"))
	at := w.s.ClockMs()
	back := at - 30_000
	w.must(w.doAt(back, admin, nil, ClockRecover{Voters: 1, Walls: walls(back, 0), Reason: "half a minute"}))
	w.wallMs = back
	w.pass(2*DefaultSkewMs + 2*NonceBucketMs)
}

// goldenKeyBodies has the commands of LevelKeys with fixed contents.
func goldenKeyBodies() map[string]any {
	ref := keyRef("r")
	return map[string]any{
		"key_schedule_set": KeyScheduleSet{Subject: "agent/agent-ünï", IfVersion: 3, Schedule: Schedule{PeriodMs: 90 * keyDayMs, OverlapMs: 2 * keyDayMs, LeadMs: 7 * keyDayMs}},
		"key_prepare": KeyPrepare{Subject: "agent/agent-ünï", Public: publicKey("b"), By: publicKey("a"), NotBeforeMs: worldStart + 1, SignedMs: worldStart,
			Order: bytes.Repeat([]byte{1}, 64), Proof: bytes.Repeat([]byte{2}, 64), EncryptionProof: bytes.Repeat([]byte{3}, 64)},
		"key_prepare_certificate": KeyPrepare{Subject: "certificate/n1", Public: tlsKey("b"), By: tlsKey("a"), NotBeforeMs: worldStart + 1, SignedMs: worldStart,
			Order: bytes.Repeat([]byte{1}, 64), Signer: publicKey("a")},
		"key_prepare_shared":    sharedCA([]byte("ca"), []byte("ca 2"), "n0", "n1"),
		"key_ready":             KeyReady{Subject: "gossip", Key: ref},
		"key_switch":            KeySwitch{Subject: "ca", Key: ref},
		"key_rotate":            KeyRotate{Subject: "coordinator/n1"},
		"key_revoke":            KeyRevoke{Subject: "manifest/release", Key: ref, Reason: "left on a train"},
		"key_revoke_successors": KeyRevoke{Subject: "agent/a", Key: ref, WithSuccessors: true},
		"key_recover":           KeyRecover{Subject: "agent/agent-ünï", Public: publicKey("c"), SignedMs: worldStart, Proof: bytes.Repeat([]byte{2}, 64), Reason: "the disk died"},
	}
}

// goldenSuccessors has a revocation take along what a key ordered and what it may have
// registered, and signers leave with keys that were replaced.
func (w *world) goldenSuccessors() {
	w.pass(RekeyPauseMs)
	w.must(w.do(admin, TokenCreate{ID: "for succ", Role: RoleAgent, Uses: -1}))
	w.must(w.do(Actor{TokenID: "for succ"}, AgentEnroll{AgentID: "succ", PublicKey: publicKey("succ"), EncryptionKey: bytes.Repeat([]byte{5}, 32)}))
	w.do(operator, AgentSetState{AgentID: "succ", State: AgentActive})
	w.pass(1_000)
	succ := AgentSubject("succ")
	w.must(w.do(Actor{}, w.order(succ, "succ", "succ 2", 0)))
	w.pass(RekeyPauseMs)
	w.must(w.do(Actor{}, w.order(succ, "succ 2", "succ 3", w.wallMs+keyHourMs)))
	w.must(w.do(admin, KeyRevoke{Subject: succ.String(), Key: keyRef("succ"), Reason: "stolen"}))
	w.want(w.do(operator, KeyRevoke{Subject: succ.String(), Key: keyRef("succ"), WithSuccessors: true}), CodeForbidden)
	w.must(w.do(admin, KeyRevoke{Subject: succ.String(), Key: keyRef("succ"), Reason: "all of them", WithSuccessors: true}))

	have := w.s.ManifestTrust()
	with := have
	with.Signers = append(slices.Clone(have.Signers), ManifestSigner{Name: "succ", Key: publicKey("signer succ")})
	w.must(w.trust(with))
	w.must(w.do(admin, w.order(Subject{SubjectManifest, "succ"}, "signer succ", "signer succ 2", 0)))
	w.must(w.trust(have))
	with.Version = w.s.ManifestTrust().Version
	w.want(w.trust(with), CodeConflict)
}
