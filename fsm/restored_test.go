package fsm

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/crypto"
)

// busyBackup is a world with a backup of its past and everything changed since.
func busyBackup(t testing.TB) (w *world, backup *State, h *MemoryHistory) {
	w = genesisWorld(t)
	w.enroll("a", "b")
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("gone", RoleCoordinator)}))
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("old", RoleCoordinator)}))
	w.must(w.do(admin, CoordinatorRemove{ID: "old"}))
	w.must(w.do(operator, w.banOf("a", "e1", "gone", nil)))
	w.must(w.do(operator, w.banOf("x", "e2", "n0", nil)))
	w.setPolicy(func(p *Policy) { p.Overrides = map[string]RateLimit{"b": {Requests: 2, WindowMs: 600_000}} })
	w.mark()
	backup, h = backupOf(t, w)

	w.pass(10_000)
	w.must(w.do(operator, w.liftOf("x", "e3", "n0")))
	w.must(w.do(operator, w.banOf("b", "e4", "n0", nil)))
	w.must(w.do(operator, w.liftOf("b", "e5", "n0")))
	w.must(w.do(operator, w.banOf("y", "e6", "n0", nil)))
	w.enroll("late")
	w.must(w.do(admin, AgentSetState{AgentID: "a", State: AgentSuspended}))
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("new", RoleCoordinator)}))
	w.must(w.do(admin, CoordinatorRemove{ID: "gone"}))
	w.must(w.doAt(w.wallMs, admin, &Idempotency{Key: crypto.Hash{1}}, TokenCreate{ID: "made since", Role: RoleViewer, Uses: -1}))
	w.must(w.do(admin, TokenRevoke{ID: "mesh"}))
	w.admit(claimOf("b", "1", w.wallMs, "1"), claimOf("b", "2", w.wallMs, "2"))
	w.setPolicy(func(p *Policy) { p.MaxSkewMs, p.Overrides = 60_000, nil })
	w.s.meta.v.Level, w.s.meta.v.CACert = LevelClients, []byte("rotated")
	w.must(w.do(Actor{}, Tick{Term: 9, Mark: true, Round: &Round{Mark: 1, Voters: 1, Reports: []Report{{NodeID: "n0", Votes: true, Digest: crypto.Hash{1}}, {NodeID: "new", Votes: true, Digest: crypto.Hash{2}}}}}))
	return w, backup, h
}

func TestRestoredKeepsAndTakes(t *testing.T) {
	w, backup, h := busyBackup(t)
	w.s.meta.v.MostCoordinators, backup.meta.v.MostCoordinators = 7, 9
	was, before := w.s.Meta(), backup.Meta()
	r := restoreWorld(t, w, backup, h, w.wallMs+7)
	got := r.s.Meta()
	want := Meta{Index: was.Index, ClockMs: w.wallMs + 7, NonceFloorMs: w.wallMs + 7 + DefaultSkewMs, TickTerm: 9, ClusterID: was.ClusterID,
		Epoch: 2, Level: LevelClients, CACert: []byte("rotated"), ChainHead: before.ChainHead, ChainSize: before.ChainSize, AdminSize: before.AdminSize + 1,
		MostCoordinators: 7}
	if !sameEncoding(got, want) {
		t.Errorf("meta is %+v, want %+v", got, want)
	}
	for name, same := range map[string]bool{
		"the members":      sameEncoding(r.s.coordinators.values(), w.s.coordinators.values()),
		"the rate windows": r.s.windows.digest() == w.s.windows.digest(),
		"the removed":      sameEncoding(r.s.removed.values(), w.s.removed.values()),
		"the agents":       sameEncoding(r.s.agents.values(), backup.agents.values()),
		"the bans":         sameEncoding(r.s.bans.values(), backup.bans.values()),
		"the policy":       sameEncoding(r.s.Policy(), backup.Policy()),
		"no marks":         len(r.s.Marks()) == 0,
		"nobody differing": len(r.s.Divergences()) == 0 && len(w.s.Divergences()) == 1,
		"the outcomes":     r.s.idempotent.digest() == w.s.idempotent.digest() && w.s.idempotent.size() == 1,
	} {
		if !same {
			t.Errorf("the result does not have %s as it should", name)
		}
	}
	for _, tok := range w.s.Tokens() {
		have, ok := r.s.Token(tok.ID)
		if single := tok.Role.SingleUse(); ok == single || (ok && !reflect.DeepEqual(have, tok)) {
			t.Errorf("token %s of role %s is there: %t", tok.ID, tok.Role, ok)
		}
	}
	if !r.s.IsRemoved("gone") || !r.s.IsRemoved("old") {
		t.Error("a removed node is not known as removed")
	}
	keys := map[string]SigningKey{}
	for _, k := range r.s.SigningKeys() {
		keys[k.NodeID] = k
	}
	if keys["n0"].RetiredAt != 0 || keys["new"].RetiredAt != 0 || keys["gone"].RetiredAt == 0 || keys["old"].RetiredAt == 0 || len(keys) != 4 {
		t.Errorf("signing keys %+v", keys)
	}
	for _, n := range append(r.s.Coordinators(), nodeOf("gone", RoleCoordinator)) {
		ref := n.SigningKey.Fingerprint()
		if owner, _ := r.s.keyOwners.get(string(ref[:])); owner != ownerCoordinator+n.ID {
			t.Errorf("the key of %s belongs to %q", n.ID, owner)
		}
	}
	verifyChain(t, r.s, r.history, 2)
	if records := recordsOf(t, r.history, StreamAdmin); !strings.Contains(string(records[len(records)-1].Data), fmt.Sprintf("before: epoch=1 index=%d size=%d head=%s", was.Index, was.ChainSize, was.ChainHead)) {
		t.Errorf("the record is %q", records[len(records)-1].Data)
	}

	// P6: what was admitted just before counts under the limit that is back.
	r.jump(r.s.Recovering())
	r.wantVerdict(claimOf("b", "3", r.wallMs, ""), CodeRateLimited)
	r.wantVerdict(claimOf("a", "3", r.wallMs, ""), CodeBlacklisted)
	// The key of an agent that is no more may be enrolled again, a coordinator's may not.
	r.must(r.do(admin, TokenCreate{ID: "agent", Role: RoleAgent, Uses: -1}))
	r.must(r.do(enroller, AgentEnroll{AgentID: "late", PublicKey: publicKey("late")}))
	r.want(r.do(enroller, AgentEnroll{AgentID: "thief", PublicKey: publicKey("node new")}), CodeConflict)
	r.must(r.do(operator, r.banOf("z", "e9", "new", nil)))
	r.want(r.do(operator, r.banOf("z", "e10", "gone", nil)), CodeInvalid)
	verifyChain(t, r.s, r.history, 3)
}

// A backup may be of a past in which a present member was removed: no member
// is locked out by it.
func TestRestoredMembersAreNotRemoved(t *testing.T) {
	w := genesisWorld(t)
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("n1", RoleCoordinator)}))
	old, h := backupOf(t, w)
	w.must(w.do(admin, CoordinatorRemove{ID: "n1"}))
	backup, newer := backupOf(t, w)
	records, err := old.Recover(recoveryAt(w.wallMs, "recover"), "n1")
	if err != nil {
		t.Fatal(err)
	}
	r := restoreWorld(t, onward(t, old, h, records), backup, newer, w.wallMs)
	if n := r.s.Coordinators(); len(n) != 1 || n[0].ID != "n1" || r.s.IsRemoved("n1") || !r.s.IsRemoved("n0") {
		t.Errorf("members %v, removed %v", n, r.s.Removed())
	}
	if keys := r.s.SigningKeys(); len(keys) != 2 {
		t.Errorf("%d keys", len(keys))
	}
	r.must(r.do(operator, r.banOf("z", "e", "n1", nil)))
}

func TestRestoredIsSound(t *testing.T) {
	w, backup, h := busyBackup(t)
	twin, _ := restored(t, snapshotOf(t, backup, h))
	for name, present := range map[string]*world{"its own cluster": w, "another cluster": otherWorld(t), "another cluster, rebased": otherWorld(t), "itself": onward(t, twin, copyOf(t, h), nil)} {
		t.Run(name, func(t *testing.T) {
			present.must(present.do(Actor{}, Tick{Term: 10}))
			backup, h := restored(t, snapshotOf(t, backup, h))
			kept := historyOf(t, h)
			if strings.Contains(name, "rebased") {
				at := present.s.Index()
				backup.Rebase(at)
				for i := range h {
					h[i] = RebaseRecord(h[i], at)
				}
				kept = historyOf(t, h)
			}
			frozen, digests := present.s.Digest(), backup.Digest()
			recovery := recoveryAt(w.wallMs, "restore")
			s, records, err := Restored(backup, present.s, recovery)
			if err != nil {
				t.Fatal(err)
			}
			if s.Digest() != s.FullDigest() {
				t.Error("the digest kept is not that of the contents")
			}
			r := onward(t, s, kept, records)
			if !kept.covers(s.Totals()) || s.Index() < present.s.Index() || s.Index() < backup.Index() {
				t.Errorf("index %d, history %v", s.Index(), s.Totals())
			}
			data := snapshotOf(t, s, kept)
			if back, _ := restored(t, data); back.FullDigest() != s.Digest() {
				t.Error("a snapshot of the result reads as another state")
			}
			again, records2, err := Restored(backup, present.s, recovery)
			if err != nil || !sameEncoding(records, records2) || !bytes.Equal(snapshotOf(t, again, kept), data) {
				t.Errorf("restored once more it is another: %v", err)
			}
			back, _ := restored(t, data)
			workOn(t, r)
			replay(t, back, r.log) // a replica that got the snapshot goes on as the one that made it
			verifyChain(t, r.s, r.history, 4)
			data = snapshotOf(t, r.s, r.history)
			if _, err := ScanSnapshot(bytes.NewReader(data)); err != nil {
				t.Error(err)
			}
			if present.s.FullDigest() != frozen || present.s.Digest() != frozen || backup.FullDigest() != digests || backup.Digest() != digests {
				t.Error("what was done to the result changed what it was made of")
			}
		})
	}
}

func copyOf(t rapid.TB, h *MemoryHistory) *MemoryHistory {
	t.Helper()
	return historyOf(t, slices.Concat(recordsOf(t, h, StreamBlacklist), recordsOf(t, h, StreamAdmin)))
}

func (h *MemoryHistory) covers(totals Totals) bool {
	_, have := h.Totals()
	return have.Cover(totals) && totals.Cover(have)
}

// workOn touches every field.
func workOn(t testing.TB, r *world) {
	t.Helper()
	node := r.s.Coordinators()[0]
	r.jump(r.s.Recovering())
	r.must(r.do(admin, TokenCreate{ID: "ops", Role: RoleOperator, Uses: -1}))
	r.must(r.do(admin, TokenCreate{ID: "in", Role: RoleAgent, Uses: 1}))
	r.must(r.do(admin, TokenCreate{ID: "join", Role: RoleCoordinator, Uses: -1}))
	ops := Actor{TokenID: "ops"}
	r.must(r.do(ops, r.banOf("q", "q1", node.ID, nil)))
	r.must(r.do(ops, r.liftOf("q", "q2", node.ID)))
	r.must(r.doAt(r.wallMs, Actor{TokenID: "in"}, &Idempotency{Key: crypto.Hash{7}}, AgentEnroll{AgentID: "q", PublicKey: publicKey("q")}))
	r.must(r.do(ops, AgentSetState{AgentID: "b", State: AgentSuspended}))
	r.must(r.do(Actor{TokenID: "join"}, CoordinatorJoin{Coordinator: nodeOf("q", RoleCoordinator)}))
	r.must(r.do(Actor{NodeID: node.ID}, CoordinatorUpdate{ID: node.ID, API: "q:1", Raft: "q:2", Gossip: "q:3"}))
	r.must(r.do(admin, CoordinatorRemove{ID: "q"}))
	r.setPolicy(func(p *Policy) { p.Overrides = map[string]RateLimit{"q": {Requests: 1, WindowMs: 1000}} })
	r.wantVerdict(claimOf("q", "1", r.wallMs, "q"), CodeOK)
	r.mark()
	r.pass(1)
	r.mark()
	r.must(r.setBack(r.wallMs - 1))
}

// The usual disaster: all is lost but a backup, and a new cluster, whose log
// has just begun, takes it.
func TestRestoreIntoAnotherCluster(t *testing.T) {
	w, backup, h := busyBackup(t)
	other := otherWorld(t)
	was := other.s.Meta()
	r := restoreWorld(t, other, backup, copyOf(t, h), w.wallMs+1)
	m := r.s.Meta()
	if m.ClusterID != was.ClusterID || string(m.CACert) != "another ca" || m.Level != was.Level || m.TickTerm != was.TickTerm || m.Epoch != 2 {
		t.Errorf("meta %+v", m)
	}
	if m.ClockMs != w.wallMs+1 || m.Index != backup.Index() || m.Index <= was.Index {
		t.Errorf("clock %d, index %d", m.ClockMs, m.Index)
	}
	if n := r.s.Coordinators(); len(n) != 1 || n[0].ID != "m0" {
		t.Errorf("members %+v", n)
	}
	for _, k := range r.s.SigningKeys() {
		if (k.RetiredAt == 0) != (k.NodeID == "m0") || (k.RetiredAt != 0 && k.RetiredAt < k.Since) {
			t.Errorf("key %+v", k)
		}
	}
	if _, ok := r.s.Token("operator"); ok {
		t.Error("a token of the other cluster is in force here")
	}
	r.waitOut("b")
	verifyChain(t, r.s, r.history, 2)
	// A clock of the other cluster that ran ahead does not run here.
	ahead := backup.Meta().ClockMs + 86_400_000
	poisoned := onward(t, backup, historyOf(t, nil), nil)
	poisoned.jump(ahead)
	poisoned.admit(claimOf("b", "ahead", ahead, "ahead"))
	poisoned.jump(ahead + 600_000)
	r = restoreWorld(t, otherWorld(t), poisoned.s, h, worldStart)
	if r.s.ClockMs() != worldStart {
		t.Errorf("the clock is %+d ms", r.s.ClockMs()-worldStart)
	}
	for _, at := range []int64{0, 1_000, 200_000} {
		r.jump(ahead + at)
		r.replayAll([]Claim{claimOf("b", "ahead", ahead, "ahead")})
	}
}

func TestRestoredTwiceRaisesTheEpochTwice(t *testing.T) {
	w, backup, h := busyBackup(t)
	r := restoreWorld(t, w, backup, copyOf(t, h), w.wallMs)
	second := restoreWorld(t, r, backup, copyOf(t, h), w.wallMs)
	if r.s.Meta().Epoch != 2 || second.s.Meta().Epoch != 3 {
		t.Errorf("epochs %d and %d", r.s.Meta().Epoch, second.s.Meta().Epoch)
	}
	newer, hn := backupOf(t, second)
	if third := restoreWorld(t, r, newer, hn, w.wallMs); third.s.Meta().Epoch != 4 { // the backup saw more recoveries than we did
		t.Errorf("epoch %d", third.s.Meta().Epoch)
	}
}

func TestRestoredRefuses(t *testing.T) {
	w := genesisWorld(t)
	for name, c := range map[string][2]*State{"no backup": {NewState(), w.s}, "no cluster": {w.s, NewState()}} {
		if s, _, err := Restored(c[0], c[1], recoveryAt(1, "restore")); err == nil || s != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	full, _ := backupOf(t, w)
	for i := range MaxRemoved {
		full.removed.m[fmt.Sprint(i)] = Removal{} // past the digest: a state of that size takes long
	}
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("n1", RoleCoordinator)}))
	w.must(w.do(admin, CoordinatorRemove{ID: "n1"}))
	if _, _, err := Restored(full, w.s, recoveryAt(1, "restore")); err == nil {
		t.Error("more removed nodes than there is room for")
	}
}

// Nonces and claim ids of two pasts meet: each nonce stays used, and what comes
// of it can be read back from a snapshot.
func TestRestoredOfTwoPasts(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	w.setPolicy(func(p *Policy) { p.MaxSkewMs = MaxSkewMs })
	fork, h := backupOf(t, w)
	other := onward(t, fork, h, nil)
	far := w.wallMs + MaxSkewMs
	w.admit(claimOf("a", "here", far, "c"), claimOf("a", "both", far, "d"))
	w.setPolicy(narrow)
	other.admit(claimOf("a", "there", far, "c"), claimOf("a", "both", far-1, "e"))
	other.setPolicy(narrow)
	r := restoreWorld(t, w, other.s, other.history, w.wallMs)
	if r.s.FullDigest() != r.s.Digest() || r.s.nonces.size() != 3 {
		t.Errorf("%d nonces", r.s.nonces.size())
	}
	r.s, _ = restored(t, snapshotOf(t, r.s, r.history))
	r.jump(far)
	r.replayAll(slices.Concat(admittedOf(w.log), admittedOf(other.log)))
}

func TestCompare(t *testing.T) {
	w, backup, _ := busyBackup(t)
	ends := w.wallMs + 1_000
	w.must(w.do(operator, w.banOf("short", "e7", "n0", &ends)))
	ids := func(u Undone) (lost, back, gone, other []string) {
		for _, b := range u.BansLost {
			lost = append(lost, b.AgentID)
		}
		for _, b := range u.BansBack {
			back = append(back, b.AgentID)
		}
		for _, a := range u.AgentsLost {
			gone = append(gone, a.ID)
		}
		for _, a := range u.AgentsOther {
			other = append(other, a.ID)
		}
		return
	}
	check := func(when string, u Undone, lost, back, gone, other []string, events uint64, forked bool) {
		t.Helper()
		l, b, g, o := ids(u)
		if !slices.Equal(l, lost) || !slices.Equal(b, back) || !slices.Equal(g, gone) || !slices.Equal(o, other) || u.Events != events || u.Forked != forked {
			t.Errorf("%s: bans lost %v, back %v, agents lost %v, other %v, %d events, forked %t", when, l, b, g, o, u.Events, u.Forked)
		}
	}
	check("of its own past", Compare(backup, w.s), []string{"short", "y"}, []string{"x"}, []string{"late"}, []string{"a"}, 5, false)
	w.pass(1_001)
	check("once a ban is over", Compare(backup, w.s), []string{"y"}, []string{"x"}, []string{"late"}, []string{"a"}, 5, false)
	check("of itself", Compare(w.s, w.s), nil, nil, nil, nil, 0, false)
	check("of its future", Compare(w.s, backup), []string{"x"}, []string{"short", "y"}, nil, []string{"a"}, 0, true)

	// A ban of the backup that a shorter one took the place of comes back, though
	// the row of the shorter one is still there.
	past, _ := backupOf(t, w)
	ends = w.wallMs + 500
	w.must(w.do(operator, w.banOf("y", "e8", "n0", &ends)))
	check("banned anew", Compare(past, w.s), []string{"y"}, nil, nil, nil, 1, false)
	w.pass(501)
	check("and that is over", Compare(past, w.s), nil, []string{"y"}, nil, nil, 1, false)

	// As many events, but other ones.
	fork, _ := backupOf(t, w)
	w.must(w.do(operator, w.banOf("q", "e9", "n0", nil)))
	f := onward(t, fork, historyOf(t, nil), nil)
	f.history = NewMemoryHistory()
	cmd, err := New(operator, f.banOf("r", "e10", "n0", nil))
	if err != nil {
		t.Fatal(err)
	}
	cmd.AtMs = f.wallMs
	if res, _, err := f.s.Apply(f.index+1, cmd); err != nil || !res.OK() {
		t.Fatal(res, err)
	}
	check("of a fork", Compare(f.s, w.s), []string{"q"}, []string{"r"}, nil, nil, 0, true)
}
