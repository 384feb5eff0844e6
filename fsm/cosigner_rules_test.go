package fsm

import (
	"slices"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// cosignWorld is a state at LevelCheckpoints with these coordinators beside n0.
func cosignWorld(t *testing.T, others ...string) *world {
	w := genesisWorld(t)
	w.s.meta.v.Level = LevelCheckpoints
	for _, id := range others {
		w.joinAt(id, LevelCheckpoints)
	}
	return w
}

// anyone who may lead.
func (w *world) anyone() Actor { return Actor{NodeID: w.s.Coordinators()[0].ID} }

// put proposes the set of nodes that follows the one in force by signers.
func (w *world) put(signers []string, nodes ...string) Result {
	w.t.Helper()
	now, _ := w.s.CosignerSet()
	return w.do(w.anyone(), CosignerSetPut{Set: w.setOf(now.Version+1, w.s.Meta().Epoch, now.Signed(w.s.Meta().ClusterID).Hash(), nodes, signers)})
}

// putRoot proposes a root that all of it sign.
func (w *world) putRoot(nodes ...string) Result {
	w.t.Helper()
	now, _ := w.s.CosignerSet()
	return w.do(w.anyone(), CosignerSetPut{Set: w.setOf(now.Version+1, w.s.Meta().Epoch, crypto.Hash{}, nodes, nodes)})
}

// follow does what an honest leader does, with those who answer, until the set follows the coordinators on record.
func (w *world) follow(votes, answer []string) {
	w.t.Helper()
	if res := w.step(votes, answer, ""); res.Code != CodeOK {
		w.t.Fatalf("the set does not follow %v: %+v", votes, res)
	}
	now, _ := w.s.CosignerSet()
	for _, n := range w.s.Coordinators() {
		if n.Role == RoleCoordinator && slices.Contains(votes, n.ID) != slices.Contains(now.Cosigners, n.SigningKey) {
			w.t.Fatalf("%s: version %d has %d cosigners", n.ID, now.Version, len(now.Cosigners))
		}
	}
	if err := w.s.Validate(0); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) step(votes, answer []string, leaving string) Result {
	w.t.Helper()
	now, some := w.s.CosignerSet()
	next, err := w.s.NextCosigners(votes, leaving)
	if err != nil {
		w.t.Fatal(err)
	}
	if some && slices.Equal(next.Cosigners, now.Cosigners) {
		return Result{Code: CodeOK}
	}
	by := now.Cosigners
	if next.Root() {
		by = next.Cosigners
	}
	set := CosignerSet{Version: next.Version, Epoch: next.Epoch, Previous: next.Previous, Cosigners: next.Cosigners}
	for _, id := range answer {
		if key := privateKey("node " + id); slices.Contains(by, crypto.PublicOf(key)) {
			line := next.Sign(key)
			set.Signatures = append(set.Signatures, CosignerSignature{Name: line.Name, KeyID: line.KeyID, Signature: line.Bytes})
		}
	}
	return w.do(w.anyone(), CosignerSetPut{Set: set})
}

var three, five = []string{"n0", "n1", "n2"}, []string{"n0", "n1", "n2", "n3", "n4"}

// TestCosignersOfAnOldCluster: the first set of three or five names them all, whoever leads.
func TestCosignersOfAnOldCluster(t *testing.T) {
	for _, all := range [][]string{three, five} {
		w := cosignWorld(t, all[1:]...)
		w.want(w.putRoot("n0"), CodeConflict)
		w.want(w.putRoot(all[1:]...), CodeConflict)
		w.follow(all, all[:len(all)/2+1]) // a majority answers
	}
}

// TestCosignersDoNotShrink: set by set, a leader that lies gets rid of one, and of no second.
func TestCosignersDoNotShrink(t *testing.T) {
	w := cosignWorld(t, five[1:]...)
	w.must(w.putRoot(five...))
	w.want(w.put(five, five[:3]...), CodeConflict)
	w.must(w.put(five, five[:4]...))
	w.want(w.put(five[:4], five[:3]...), CodeConflict)
	w.want(w.put(five[:4], "n4", "n0", "n1"), CodeConflict)
	w.must(w.put(five[:4], five...))

	w = cosignWorld(t) // a joiner may be left out until it votes, but not the set be handed to another
	w.must(w.putRoot("n0"))
	w.joinAt("n1", LevelCheckpoints)
	w.joinAt("n2", LevelCheckpoints)
	w.want(w.put([]string{"n0"}, "n1"), CodeConflict)
	w.must(w.put([]string{"n0"}, "n0", "n1"))
}

// TestCosignersOfAGrowingCluster: joiners come in once they vote, and each of them may leave again.
func TestCosignersOfAGrowingCluster(t *testing.T) {
	w := cosignWorld(t)
	w.follow([]string{"n0"}, []string{"n0"})
	for i, id := range five[1:] {
		w.joinAt(id, LevelCheckpoints)
		w.follow(five[:i+1], five[:i+1]) // it does not vote yet
		w.follow(five[:i+2], five[:i+1])
	}
	for i := len(five) - 1; i > 0; i-- {
		w.must(w.step(five[:i+1], five[:i+1], five[i]))
		w.must(w.do(admin, CoordinatorRemove{ID: five[i]}))
		w.follow(five[:i], five[:i])
	}
	if now, _ := w.s.CosignerSet(); now.Version != 9 || len(w.s.CosignerSets(1, 100)) != 9 {
		t.Errorf("version %d, kept %d: who trusted the first set follows to the last", now.Version, len(w.s.CosignerSets(1, 100)))
	}
}

// TestCosignersWithoutAMajority: whatever takes the majority of the set from the records, a root of all that are left
// begins anew, and nothing that the others sign counts.
func TestCosignersWithoutAMajority(t *testing.T) {
	recovered := func(w *world, survivor string) {
		records, err := w.s.Recover(Recovery{ID: "0011223344556677", AtMs: w.wallMs, Action: "recover"}, survivor)
		if err == nil {
			err = w.history.Append(w.s.Meta().Epoch, records)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	gone := func(w *world, ids ...string) {
		for _, id := range ids {
			w.must(w.do(admin, CoordinatorRemove{ID: id, Compromised: true}))
		}
	}
	for name, c := range map[string]struct {
		set  []string // in force
		take func(*world)
		left []string
		dead []string // who would sign on
	}{
		"the holder is compromised":      {[]string{"n0"}, func(w *world) { gone(w, "n0") }, []string{"n1", "n2"}, []string{"n0"}},
		"one of two is compromised":      {[]string{"n0", "n1"}, func(w *world) { gone(w, "n1") }, []string{"n0", "n2"}, []string{"n0", "n1"}},
		"two of three are compromised":   {three, func(w *world) { gone(w, "n1", "n2") }, []string{"n0"}, three},
		"a recovery":                     {three, func(w *world) { recovered(w, "n1") }, []string{"n1"}, three},
		"a recovery by one that lags":    {[]string{"n0", "n1"}, func(w *world) { recovered(w, "n2") }, []string{"n2"}, []string{"n0", "n1"}},
		"the holder's place taken by n3": {[]string{"n0"}, func(w *world) { w.joinAt("n3", LevelCheckpoints); gone(w, "n0") }, []string{"n1", "n2", "n3"}, []string{"n0"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := cosignWorld(t)
			w.must(w.putRoot("n0"))
			for i, id := range three[1:] {
				w.joinAt(id, LevelCheckpoints)
				if len(c.set) > i+1 {
					w.must(w.put(three[:i+1], three[:i+2]...))
				}
			}
			c.take(w)
			if res := w.put(c.dead, c.left...); res.Code == CodeOK {
				t.Errorf("who is gone vouched: %+v", res)
			}
			if len(c.left) > 1 {
				w.want(w.putRoot(c.left[:1]...), CodeConflict)
			}
			w.follow(c.left, c.left)
			if now, _ := w.s.CosignerSet(); !now.Previous.IsZero() {
				t.Errorf("version %d is no root", now.Version)
			}
		})
	}
}

// TestCosignersOutliveEpochs: a restore and a clock recovery leave the members, so the set goes on from where it was.
func TestCosignersOutliveEpochs(t *testing.T) {
	w := cosignWorld(t, "n1", "n2")
	w.must(w.putRoot(three...))
	backup, rows := restored(t, snapshotOf(t, w.s, w.history))
	kept := historyOf(t, rows)
	w.joinAt("n3", LevelCheckpoints)
	s, records, err := Restored(backup, w.s, Recovery{AtMs: w.wallMs, Action: "restore"})
	if err == nil {
		err = kept.Append(s.Meta().Epoch, records)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.s, w.history = s, kept
	w.want(w.putRoot("n0", "n1", "n2", "n3"), CodeConflict)
	w.must(w.do(admin, TokenCreate{ID: "again", Role: RoleCoordinator, Uses: -1}))
	w.follow(five[:4], three[1:])
	w.s.meta.v.Epoch++ // as a clock recovery does
	w.want(w.putRoot(five[:4]...), CodeConflict)
	w.must(w.step(five[:4], five[:3], "n3"))
	w.must(w.do(admin, CoordinatorRemove{ID: "n3"}))
	w.follow(three, three)
	if now, _ := w.s.CosignerSet(); now.Version != 3 || w.s.cosignerSets.size() != 3 {
		t.Errorf("version %d of %d", now.Version, w.s.cosignerSets.size())
	}
}
