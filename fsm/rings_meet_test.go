package fsm

import (
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/ledger"
)

// TestCosignerSetsFollowRotations: the set names the key that a coordinator signs with now, one of each; the one before vouches for it, and
// no revoked key for anything.
func TestCosignerSetsFollowRotations(t *testing.T) {
	w := keysWorld(t)
	epoch, both := w.s.Meta().Epoch, []string{"n0", "n1"}
	root := crypto.Hash{}
	put := func(version uint64, previous crypto.Hash, nodes, signers []string) Result {
		return w.do(leader, CosignerSetPut{Set: w.setOf(version, epoch, previous, nodes, signers)})
	}
	now := func() crypto.Hash {
		set, _ := w.s.CosignerSet()
		return set.Signed(w.s.Meta().ClusterID).Hash()
	}
	w.must(put(1, root, both, both))
	w.must(w.do(node("n1"), w.order(CoordinatorSubject("n1"), "node n1", "node n1 b", 0)))
	rotated := []string{"n0", "n1 b"}
	w.want(put(2, now(), []string{"n0", "n1", "n1 b"}, both), CodeInvalid)
	w.want(put(2, now(), rotated, []string{"n0"}), CodeInvalid)
	w.want(put(2, now(), rotated, rotated), CodeInvalid)
	w.want(put(2, root, rotated, rotated), CodeConflict)
	w.pass(3 * keyDayMs)
	if n1, _ := w.s.Coordinator("n1"); n1.Ring().Verifies(publicKey("node n1"), w.s.ClockMs()) {
		t.Fatal("the overlap is not over")
	}
	w.want(put(2, now(), []string{"n1"}, both), CodeInvalid)
	w.must(put(2, now(), rotated, both)) // it vouches for its successor all the same

	w.must(w.do(admin, KeyRevoke{Subject: "coordinator/n1", Key: keyRef("node n1 b"), Reason: "stolen"}))
	w.want(put(3, now(), []string{"n0"}, rotated), CodeConflict)
	w.must(put(3, root, []string{"n0"}, []string{"n0"})) // half of them vouch for nobody: it begins anew
	w.want(put(4, root, both, both), CodeConflict)
	if err := w.s.Validate(0); err != nil {
		t.Error(err)
	}
}

// TestP7LedgerFollowsAgentsKeys: reports and requests count by the keys that verify at that entry, and the records alone say whose they were.
func TestP7LedgerFollowsAgentsKeys(t *testing.T) {
	w := keysWorld(t, "a")
	w.openLedger("a")
	w.setPolicy(func(p *Policy) { p.AgentProfiles = map[string]ProfileRule{"a": ProfilesAny} })
	report := func(key string, want Code) {
		t.Helper()
		work := w.workOf("a", 1_000)
		w.wantEntry(w.report(work.Report.Sign(privateKey(key), w.s.Meta().ClusterID))[0], want)
	}
	move := func(key string, want Code) {
		t.Helper()
		b := by("a", w.transferOf("a", "shop", 1))
		b.Callers[0].Key = keyRef(key)
		w.wantEntry(w.entry(b), want)
	}
	report("a", CodeOK)
	report("a2", CodeInvalidSignature)
	w.must(w.do(Actor{}, w.order(AgentSubject("a"), "a", "a2", 0)))
	for _, key := range []string{"a", "a2", "a"} { // in the overlap both count
		report(key, CodeOK)
		move(key, CodeOK)
	}
	w.must(w.do(admin, KeyRevoke{Subject: "agent/a", Key: keyRef("a"), Reason: "stolen"}))
	report("a", CodeKeyExpired)
	move("a", CodeKeyExpired)
	report("a2", CodeOK)
	move("a2", CodeOK)
	keys := 0
	for _, r := range recordsOf(t, w.history, StreamLedger) {
		if rec, err := ledger.ParseRecord(r.Data); err == nil && rec.Kind == ledger.KindKey {
			keys++
		}
	}
	if keys != 4 { // a, a2, a, a2
		t.Errorf("%d records of keys", keys)
	}
	w.soundLedger()
}

// TestRestoreKeepsEdgesAndRings: edges and the keys of coordinators are the present's, whatever a backup says.
func TestRestoreKeepsEdgesAndRings(t *testing.T) {
	w := keysWorld(t)
	w.must(w.do(admin, TokenCreate{ID: "two", Role: RoleEdge, Uses: 2}))
	w.must(w.do(two, edgeOf("old")))
	backup := snapshotOf(t, w.s, w.history)
	w.must(w.do(admin, TokenRevoke{ID: "cred-old"}))
	w.must(w.do(two, edgeOf("e1")))
	w.must(w.do(node("n1"), w.order(CoordinatorSubject("n1"), "node n1", "node n1 b", 0)))
	w.must(w.do(leader, CosignerSetPut{Set: w.setOf(1, w.s.Meta().Epoch, crypto.Hash{}, []string{"n0", "n1 b"}, []string{"n0", "n1 b"})}))
	s := w.restoredFrom(backup)
	if _, back := s.Edge("old"); back {
		t.Error("an edge that was ended is back")
	}
	if _, member := s.Edge("e1"); !member {
		t.Error("an edge was lost")
	}
	set, _ := s.CosignerSet()
	if err := s.cosignersFault(set.Cosigners); err != nil || s.lostMajority(set) {
		t.Errorf("the cosigners: %v", err)
	}
}
