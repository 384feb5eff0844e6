package fsm

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

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

// nextSet makes the set that follows, signed by all who vouch for it.
func (w *world) nextSet(nodes ...string) CosignerSet {
	now, some := w.s.CosignerSet()
	previous, signers := crypto.Hash{}, nodes
	if some {
		previous, signers = now.Signed(w.s.Meta().ClusterID).Hash(), nil
		for _, n := range w.s.Coordinators() {
			if slices.Contains(now.Cosigners, n.SigningKey) {
				signers = append(signers, n.ID)
			}
		}
	}
	return w.setOf(now.Version+1, w.s.Meta().Epoch, previous, nodes, signers)
}

// withCosigners has everything happen that LevelCheckpoints brought.
func (w *world) withCosigners() *world {
	w.want(w.do(leader, CosignerSetPut{Set: w.nextSet("n0")}), CodeConflict) // the level is still below
	w.raiseTo(LevelCheckpoints)
	all := []string{"n0", "n5", "n6", "n8"}
	w.want(w.do(leader, CosignerSetPut{Set: w.nextSet(all[:3]...)}), CodeConflict) // a root names all on record
	first := w.nextSet(all...)
	w.must(w.do(leader, CosignerSetPut{Set: first}))
	w.must(w.do(leader, CosignerSetPut{Set: first})) // told twice
	w.want(w.do(Actor{NodeID: "n2"}, CosignerSetPut{Set: w.nextSet("n0")}), CodeForbidden)
	w.want(w.do(leader, CosignerSetPut{Set: w.setOf(2, w.s.Meta().Epoch, crypto.Hash{}, all, all)}), CodeConflict)
	w.want(w.do(leader, CosignerSetPut{Set: w.nextSet("n0", "n5", "n6", "n7")}), CodeInvalid)
	w.want(w.do(leader, CosignerSetPut{Set: w.nextSet("n0", "n5")}), CodeConflict)
	w.must(w.do(leader, CosignerSetPut{Set: w.nextSet(all[:3]...)}))
	w.want(w.do(leader, CosignerSetPut{Set: w.nextSet("n0", "n5")}), CodeConflict)
	w.must(w.do(leader, CosignerSetPut{Set: w.nextSet(all...)}))
	w.mark()
	return w
}

func TestCosignerSetsFollowEachOther(t *testing.T) {
	w := genesisWorld(t)
	w.s.meta.v.Level = LevelCheckpoints
	first := w.nextSet("n0")
	w.must(w.do(leader, CosignerSetPut{Set: first}))
	w.joinAt("n1", LevelCheckpoints)
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

// TestCosignerSetAfterARecovery: one that lost the majority lets a set begin a line of its own, and what came before
// goes: nobody can follow from there.
func TestCosignerSetAfterARecovery(t *testing.T) {
	w := levelWorld(t, LevelCheckpoints)
	w.must(w.do(leader, CosignerSetPut{Set: w.nextSet("n0", "n1")}))
	w.must(w.do(leader, CosignerSetPut{Set: w.nextSet("n0")}))
	w.must(w.do(leader, CosignerSetPut{Set: w.nextSet("n0", "n1")}))
	root := func() CosignerSet {
		return w.setOf(4, w.s.Meta().Epoch, crypto.Hash{}, []string{"n0"}, []string{"n0"})
	}
	w.want(w.do(leader, CosignerSetPut{Set: root()}), CodeConflict)
	w.s.meta.v.Epoch++
	w.want(w.do(leader, CosignerSetPut{Set: root()}), CodeConflict) // a clock recovery, say: all of them are there
	records, err := w.s.Recover(Recovery{ID: "0011223344556677", AtMs: w.wallMs, Action: "recover"}, "n0")
	if err := errors.Join(err, w.history.Append(w.s.Meta().Epoch, records)); err != nil {
		t.Fatal(err)
	}
	w.must(w.do(leader, CosignerSetPut{Set: root()}))
	w.want(w.do(leader, CosignerSetPut{Set: w.nextSet("n0")}), CodeConflict)
	if sets := w.s.CosignerSets(1, 10); len(sets) != 1 || sets[0].Version != 4 {
		t.Errorf("kept: %+v", sets)
	}
	s, _ := restored(t, snapshotOf(t, w.s, w.history))
	if now, ok := s.CosignerSet(); !ok || now.Version != 4 || s.Validate(0) != nil || s.Digest() != w.s.Digest() {
		t.Errorf("of the snapshot: version %d, %v", now.Version, s.Validate(0))
	}
}

// TestCosignerSetsDoNotRunOut: there is always room for the next version, and none is made for nothing.
func TestCosignerSetsDoNotRunOut(t *testing.T) {
	w := levelWorld(t, LevelCheckpoints)
	w.must(w.do(leader, CosignerSetPut{Set: w.nextSet("n0", "n1")}))
	w.want(w.do(leader, CosignerSetPut{Set: w.nextSet("n0", "n1")}), CodeConflict)
	ring := []CosignerSet{w.nextSet("n0"), w.nextSet("n0", "n1")}
	for v := uint64(2); v <= MaxCosignerSets; v++ { // as if they had been put: signing so many takes seconds
		set, now := ring[v%2], w.s.cosignerSets.m[setKey(v-1)]
		set.Version, set.Previous = v, now.Signed(w.s.Meta().ClusterID).Hash()
		w.s.putSet(set)
	}
	if err := w.s.Validate(0); err != nil {
		t.Fatal(err)
	}
	w.must(w.do(leader, CosignerSetPut{Set: w.nextSet("n0", "n1")}))
	if sets := w.s.CosignerSets(1, 1); len(w.s.cosignerSets.m) != MaxCosignerSets || sets[0].Version != 2 || w.s.Validate(0) != nil {
		t.Errorf("%d are kept, from version %d on: %v", w.s.cosignerSets.size(), sets[0].Version, w.s.Validate(0))
	}
	delete(w.s.cosignerSets.m, setKey(2000))
	if w.s.Validate(0) == nil {
		t.Error("sets with a gap were found sound")
	}
}

// TestCosignerSetIsVouchedFor: what no verifier takes never comes into force, since nothing could follow it.
func TestCosignerSetIsVouchedFor(t *testing.T) {
	w := levelWorld(t, LevelCheckpoints)
	observer := nodeOf("watch", RoleObserver)
	observer.Level = LevelSupported
	w.must(w.do(Actor{TokenID: string(RoleObserver)}, CoordinatorJoin{Coordinator: observer}))
	w.want(w.do(leader, CosignerSetPut{Set: w.nextSet("n0", "watch")}), CodeInvalid)
	w.want(w.do(leader, CosignerSetPut{Set: w.setOf(1, 1, crypto.Hash{}, []string{"n0", "n1"}, []string{"n0"})}), CodeInvalid) // half of a root
	first := w.nextSet("n0", "n1")
	w.must(w.do(leader, CosignerSetPut{Set: first}))
	hash := first.Signed(w.s.Meta().ClusterID).Hash()
	for name, spoil := range map[string]func(*CosignerSet){
		"half":      func(v *CosignerSet) { v.Signatures = v.Signatures[:1] },
		"one twice": func(v *CosignerSet) { v.Signatures[1] = v.Signatures[0] },
		"a stranger": func(v *CosignerSet) {
			v.Signatures = append(v.Signatures, CosignerSignature{Name: "a b+c", Signature: make([]byte, 64)})
		},
		"junk":      func(v *CosignerSet) { v.Signatures[0].Signature = make([]byte, 64) },
		"other key": func(v *CosignerSet) { v.Signatures[0].KeyID++ },
	} {
		set := w.setOf(2, 1, hash, []string{"n1"}, []string{"n0", "n1"})
		spoil(&set)
		if res := w.do(leader, CosignerSetPut{Set: set}); res.Code != CodeInvalid || res.Field != "signatures" {
			t.Errorf("%s: %+v", name, res)
		}
	}
	w.must(w.do(leader, CosignerSetPut{Set: w.setOf(2, 1, hash, []string{"n1"}, []string{"n0", "n1"})}))
}

func (w *world) joinAt(id string, level uint32) {
	w.t.Helper()
	n := nodeOf(id, RoleCoordinator)
	n.Level = level
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: n}))
}
