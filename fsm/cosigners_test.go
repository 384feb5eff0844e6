package fsm

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

// elsewhere is how many kinds below the newest this branch does not have: 21 to 26 are the ledger's, 28 to 30 nobody's.
const elsewhere = 9

// goldenCosigners are the golden commands of the cosigner set.
func goldenCosigners() map[string]any {
	return map[string]any{"cosigner_set_put": CosignerSetPut{Set: CosignerSet{Version: 7, Epoch: 2, Previous: crypto.Sum([]byte("six")),
		Cosigners:  []crypto.PublicKey{publicKey("node n0"), publicKey("node n2")},
		Signatures: []CosignerSignature{{Name: "coord-0123456789ab", KeyID: 0x01020304, Signature: bytes.Repeat([]byte{5}, 64)}}}}}
}

// setOf makes the set of a version, signed by nodes.
func (w *world) setOf(version, epoch uint64, previous crypto.Hash, nodes, signers []string) CosignerSet {
	w.t.Helper()
	var keys []crypto.PublicKey
	for _, id := range nodes {
		keys = append(keys, crypto.PublicOf(privateKey("node "+id)))
	}
	set, err := checkpoint.NewSet(w.s.Meta().ClusterID, version, epoch, previous, keys)
	if err != nil {
		w.t.Fatal(err)
	}
	signed := checkpoint.SignedSet{Set: set}
	for _, id := range signers {
		signed.Signatures = append(signed.Signatures, set.Sign(privateKey("node "+id)))
	}
	return NewCosignerSet(signed)
}

// nextSet makes the set that follows, signed by its own cosigners.
func (w *world) nextSet(nodes ...string) CosignerSet {
	now, some := w.s.CosignerSet()
	previous := crypto.Hash{}
	if some {
		previous = now.Signed(w.s.Meta().ClusterID).Hash()
	}
	return w.setOf(now.Version+1, w.s.Meta().Epoch, previous, nodes, nodes)
}

// withCosigners has everything happen that LevelCheckpoints brought.
func (w *world) withCosigners() *world {
	w.want(w.do(leader, CosignerSetPut{Set: w.nextSet("n0")}), CodeConflict) // the level is still below
	for _, n := range w.s.Coordinators() {
		w.must(w.do(Actor{NodeID: n.ID}, CoordinatorUpdate{ID: n.ID, API: n.API, Raft: n.Raft, Gossip: n.Gossip, Level: LevelCheckpoints, Version: "v7"}))
	}
	w.must(w.do(leader, LevelRaise{From: LevelUpgrades, To: LevelCheckpoints, Version: "v7"}))
	first := w.nextSet("n0", "n5")
	w.must(w.do(leader, CosignerSetPut{Set: first}))
	w.must(w.do(leader, CosignerSetPut{Set: first})) // told twice
	w.want(w.do(Actor{NodeID: "n2"}, CosignerSetPut{Set: w.nextSet("n0")}), CodeForbidden)
	w.want(w.do(leader, CosignerSetPut{Set: w.setOf(2, w.s.Meta().Epoch, crypto.Hash{}, []string{"n0"}, []string{"n0"})}), CodeConflict)
	w.want(w.do(leader, CosignerSetPut{Set: w.nextSet("n0", "n7")}), CodeInvalid)
	w.must(w.do(leader, CosignerSetPut{Set: w.nextSet("n0", "n5", "n6")}))
	w.mark()
	return w
}

func TestCosignerSetsFollowEachOther(t *testing.T) {
	w := genesisWorld(t)
	w.s.meta.v.Level = LevelCheckpoints
	w.joinAt("n1", LevelCheckpoints)
	first := w.nextSet("n0")
	w.must(w.do(leader, CosignerSetPut{Set: first}))
	epoch, hash := w.s.Meta().Epoch, first.Signed(w.s.Meta().ClusterID).Hash()
	both := []string{"n0", "n1"}
	noKey, unsigned, short := w.nextSet(both...), w.nextSet(both...), w.nextSet(both...)
	noKey.Cosigners = append(slices.Clone(noKey.Cosigners), publicKey("nobody's"))
	slices.SortFunc(noKey.Cosigners, func(a, b crypto.PublicKey) int {
		return bytes.Compare([]byte(a.CoordinatorID()), []byte(b.CoordinatorID()))
	})
	unsigned.Signatures = nil
	short.Signatures[0].Signature = []byte{1}
	disordered := w.nextSet(both...)
	slices.Reverse(disordered.Cosigners)
	for name, c := range map[string]struct {
		set  CosignerSet
		code Code
	}{
		"a version left out":     {w.setOf(3, epoch, hash, both, both), CodeConflict},
		"the version in force":   {w.setOf(1, epoch, crypto.Hash{}, both, both), CodeConflict},
		"another before":         {w.setOf(2, epoch, crypto.Sum(nil), both, both), CodeConflict},
		"another epoch":          {w.setOf(2, epoch+1, hash, both, both), CodeConflict},
		"a root for no reason":   {w.setOf(2, epoch, crypto.Hash{}, both, both), CodeConflict},
		"a key of nobody's":      {noKey, CodeInvalid},
		"nobody signed":          {unsigned, CodeInvalid},
		"a signature of a byte":  {short, CodeInvalid},
		"cosigners out of order": {disordered, CodeInvalid},
	} {
		before := w.s.Digest()
		w.want(w.do(leader, CosignerSetPut{Set: c.set}), c.code)
		if got, _ := w.s.CosignerSet(); got.Version != 1 {
			t.Fatalf("%s: version %d is in force; the digest was %s", name, got.Version, before)
		}
	}
	second := w.nextSet(both...)
	w.must(w.do(leader, CosignerSetPut{Set: second}))
	if got := w.s.CosignerSets(0, 10); len(got) != 2 || got[1].Version != 2 || got[1].AtMs == 0 {
		t.Errorf("kept: %+v", got)
	}
	if got := w.s.CosignerSets(2, 1); len(got) != 1 || got[0].Version != 2 {
		t.Errorf("from 2: %+v", got)
	}
	trusted, err := first.Signed(w.s.Meta().ClusterID).Follow([]checkpoint.SignedSet{second.Signed(w.s.Meta().ClusterID)})
	if err != nil || trusted.Version != 2 {
		t.Errorf("who trusts the first follows to %d: %v", trusted.Version, err)
	}
	if err := w.s.Validate(0); err != nil {
		t.Error(err)
	}
	w.s.cosignerSets.m = maps.Clone(w.s.cosignerSets.m)
	bad := second
	bad.Previous = crypto.Sum(nil)
	w.s.cosignerSets.m[setKey(2)] = bad
	if w.s.Validate(0) == nil {
		t.Error("a set that follows another was found sound")
	}
}

// TestCosignerSetAfterARecovery: a recovery that lost the others lets a set begin a line of its own.
func TestCosignerSetAfterARecovery(t *testing.T) {
	w := genesisWorld(t)
	w.s.meta.v.Level = LevelCheckpoints
	w.joinAt("n1", LevelCheckpoints)
	w.must(w.do(leader, CosignerSetPut{Set: w.nextSet("n0", "n1")}))
	root := func() CosignerSet {
		return w.setOf(2, w.s.Meta().Epoch, crypto.Hash{}, []string{"n0"}, []string{"n0"})
	}
	w.want(w.do(leader, CosignerSetPut{Set: root()}), CodeConflict)
	w.s.meta.v.Epoch++
	w.must(w.do(leader, CosignerSetPut{Set: root()}))
	if err := w.s.Validate(0); err != nil {
		t.Error(err)
	}
}

func (w *world) joinAt(id string, level uint32) {
	w.t.Helper()
	n := nodeOf(id, RoleCoordinator)
	n.Level = level
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: n}))
}
