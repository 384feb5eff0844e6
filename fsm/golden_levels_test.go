package fsm

import (
	"bytes"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// unreleasedGolden is the first level whose stored log -update writes anew: no
// binary that knows it was released. All others stay as they were written: levels
// 1 and 2 by commit a73cd48, level 3 as commit 4fa5b56 applied it, levels 4 and 5 by
// commit 6b8c156, level 6 by commit e8d34b7.
const unreleasedGolden = LevelLedger

// goldenLevels makes the scene of every level.
func goldenLevels() map[uint32]func(testing.TB) *world {
	return map[uint32]func(testing.TB) *world{
		1:             func(t testing.TB) *world { return goldenScene(t, 1) },
		LevelRecovery: func(t testing.TB) *world { return goldenScene(t, LevelRecovery) },
		LevelProfiles: func(t testing.TB) *world { return goldenScene(t, LevelProfiles).withProfiles() },
		LevelClients:  func(t testing.TB) *world { return goldenScene(t, LevelClients).withProfiles().withClients() },
		LevelUpgrades: func(t testing.TB) *world {
			return goldenScene(t, LevelClients).withProfiles().withClients().withUpgrades()
		},
		LevelThrough: func(t testing.TB) *world {
			return goldenScene(t, LevelClients).withProfiles().withClients().withUpgrades().withThrough()
		},
		LevelLedger: func(t testing.TB) *world { // withThrough takes members that the scenes beyond it need
			return goldenScene(t, LevelClients).withProfiles().withClients().withUpgrades().withLedger()
		},
		LevelCheckpoints: func(t testing.TB) *world {
			return goldenScene(t, LevelClients).withProfiles().withClients().withUpgrades().withLedger().withCosigners().withEdges()
		},
		LevelKeys: func(t testing.TB) *world {
			return goldenScene(t, LevelClients).withProfiles().withClients().withUpgrades().withLedger().withCosigners().withEdges().withKeys()
		},
	}
}

// withProfiles has everything happen that LevelProfiles brought: rules of
// signatures, keys with a proof, manifests.
func (w *world) withProfiles() *world {
	w.pass(DefaultRateWindowMs)
	for _, role := range []Role{RoleAgent, RoleCoordinator} { // the recovery took them
		w.must(w.do(admin, TokenCreate{ID: string(role), Role: role, Uses: -1}))
	}
	w.must(w.do(enroller, AgentEnroll{AgentID: "p", PublicKey: publicKey("p"), EncryptionKey: bytes.Repeat([]byte{9}, 32)}))
	w.setPolicy(func(p *Policy) {
		p.Profiles, p.AgentProfiles = ProfilesRFC9421, map[string]ProfileRule{"a": ProfilesAny}
	})
	w.admit(claimOf("p", "p1", w.wallMs, ""), messageOf(claimOf("p", "p2", w.wallMs, "m1"), w.wallMs+60_000), messageOf(claimOf("p", "p2", w.wallMs, "m1"), w.wallMs+60_000),
		messageOf(claimOf("p", "p3", w.wallMs-2, ""), w.wallMs-1), claimOf("a", "p4", w.wallMs, ""))
	w.must(w.trust(trustOf(1, "a", "b")))
	w.want(w.do(admin, ManifestTrustSet{IfVersion: 9, Trust: trustOf(1, "a")}), CodeConflict)
	first := w.statementOf("bin", "1.4.2", "x")
	w.must(w.do(operator, acceptOf(first, "a", "stranger")))
	w.must(w.do(operator, acceptOf(first, "b")))
	w.must(w.do(operator, acceptOf(w.statementOf("bin", "1.5.0", "y"), "b")))
	w.want(w.do(operator, acceptOf(w.statementOf("bin", "1.4.9", "z"), "b")), CodeConflict)
	w.want(w.do(operator, acceptOf(w.statementOf("lib", "1.0.0", "z"), "stranger")), CodeInvalid)
	w.mark()
	return w
}

// withClients has everything happen that LevelClients brought: agents that ask
// for themselves and change their keys, and what policy says of older clients.
func (w *world) withClients() *world {
	w.must(w.do(enroller, AgentEnroll{AgentID: "q", PublicKey: publicKey("q"), EncryptionKey: bytes.Repeat([]byte{9}, 32), EncryptionProof: bytes.Repeat([]byte{8}, 64)}))
	w.must(w.do(admin, ManifestRevoke{Name: "bin", Version: "1.4.2"}))
	w.must(w.do(admin, ManifestRevoke{Name: "bin", Version: "1.5.0", Forget: true}))
	w.must(w.do(Actor{}, AdmitBatch{Callers: []string{SelfCaller, string(RoleVerifier)}, Claims: []Claim{
		claimOf("a", "s1", w.wallMs, ""), claimOf("a", "s1", w.wallMs, ""), messageOf(claimOf("p", "s2", w.wallMs, ""), w.wallMs+60_000)}}))
	w.must(w.do(Actor{}, AgentRekey{AgentID: "a", By: keyRef("a"), PublicKey: publicKey("a2"), EncryptionKey: bytes.Repeat([]byte{1}, 32), TimestampMs: w.wallMs}))
	w.want(w.do(Actor{}, AgentRekey{AgentID: "nobody", By: keyRef("a"), PublicKey: publicKey("a3"), TimestampMs: w.wallMs}), CodeNotFound)
	second := claimOf("a", "s3", w.wallMs, "")
	second.Key = keyRef("a2")
	w.admit(claimOf("a", "s4", w.wallMs, ""), second)
	text := crypto.TokenText{ClusterID: w.s.Meta().ClusterID, Role: string(RoleMesh), ID: "0011223344556677", Secret: strings.Repeat("ab", 32)}
	for _, id := range []string{text.ID, "phone"} {
		w.must(w.do(admin, TokenCreate{ID: id, Hash: text.Hash(), Role: RoleMesh, Uses: -1}))
	}
	w.setPolicy(func(p *Policy) { p.UnsignedAgents, p.LegacyMesh = map[string]string{"phone": "phone"}, text.String() })
	w.tellHeads(AuditReport{NodeID: "n0", Head: placeOf(7, "seven")}, AuditReport{NodeID: "n2", Head: placeOf(9, "nine")})
	w.mark()
	return w
}

// withThrough has everything happen that LevelThrough brought: commands name the
// node that forwarded them, and a compromised node's tokens go with it.
func (w *world) withThrough() *world {
	w.pass(UpdatePauseMs + 1000)
	for _, n := range w.s.Coordinators() {
		described := n.Described()
		described.Level = LevelThrough
		w.must(w.do(Actor{NodeID: n.ID}, described))
	}
	w.must(w.do(leader, LevelRaise{From: LevelUpgrades, To: LevelThrough, Version: "v6"}))
	via := func(node string) Actor { return Actor{TokenID: "admin", Via: node} }
	w.must(w.do(via("n5"), TokenCreate{ID: "through-n5", Role: RoleAdmin, Uses: -1}))
	w.must(w.do(Actor{TokenID: "through-n5", Via: "n6"}, TokenCreate{ID: "through-both", Role: RoleViewer, Uses: -1}))
	w.must(w.do(via("n6"), TokenCreate{ID: "through-n6", Role: RoleViewer, Uses: -1}))
	w.must(w.do(via("n0"), CoordinatorRemove{ID: "n5", Compromised: true}))
	w.want(w.do(via("n5"), TokenCreate{ID: "late", Role: RoleAdmin, Uses: -1}), CodeForbidden)
	w.must(w.do(via("n0"), CoordinatorRemove{ID: "n6"}))
	w.must(w.do(via("n0"), CoordinatorRemove{ID: "n6", Compromised: true}))
	w.mark()
	return w
}

// withUpgrades has everything happen that LevelUpgrades brought: the level rises
// once every member knows it, whoever knows less is refused from then on, and who
// is silent for long is cleaned up.
func (w *world) withUpgrades() *world {
	describe := func(id string, level uint32) Result {
		return w.do(Actor{NodeID: id}, CoordinatorUpdate{ID: id, API: "h:1", Raft: "h:2", Gossip: "h:3", Level: level, Version: "v5"})
	}
	raise := LevelRaise{From: LevelClients, To: LevelUpgrades, Version: "v5"}
	w.must(describe("n0", LevelUpgrades))
	w.want(w.do(leader, raise), CodeConflict) // n2 knows less
	w.must(describe("n2", LevelUpgrades))
	w.want(w.do(Actor{NodeID: "n2"}, raise), CodeForbidden) // an observer
	w.must(w.do(leader, raise))
	w.want(w.do(leader, raise), CodeConflict)
	w.want(describe("n2", LevelClients), CodeConflict)
	moved := CoordinatorUpdate{ID: "n2", API: "h:4", Raft: "[2001:db8::1]:2", Gossip: "h:3", Level: LevelUpgrades, Version: "v5"}
	w.must(w.do(Actor{NodeID: "n2"}, moved))
	w.must(w.do(Actor{NodeID: "n2"}, moved))
	w.want(describe("n2", LevelUpgrades), CodeOverloaded)
	late := nodeOf("n5", RoleCoordinator)
	late.Level = LevelClients
	w.want(w.do(joiner, CoordinatorJoin{Coordinator: late}), CodeConflict)
	late.Level = LevelUpgrades
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: late}))
	w.join("n6")
	w.join("n7")
	w.pass(MinSilenceMs + 1000)
	w.want(w.do(leader, CoordinatorCleanUp{ID: "n7", SilentMs: MinSilenceMs}), CodeConflict) // nobody takes its place
	w.join("n8")
	w.must(w.do(leader, CoordinatorCleanUp{ID: "n7", SilentMs: MinSilenceMs}))
	w.mark()
	return w
}
