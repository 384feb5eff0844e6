package fsm

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/crypto"
)

// A copy may be of a past that a recovery or an older restore went back behind. What
// then comes of keys is walked here at random; the model knows of each agent the last
// key that was taken in each past, and when in the order of the whole walk.

// pastKeys is what one past knows of keys.
type pastKeys struct {
	last    map[string]int  // agent to the number of the step that gave it its newest key
	revoked map[string]bool // agent/name of key
	changed map[string]bool // agents whose keys somebody revoked or recovered, or changed under a wrong clock, or which enrolled again
}

func (p pastKeys) copy() pastKeys {
	return pastKeys{maps.Clone(p.last), maps.Clone(p.revoked), maps.Clone(p.changed)}
}

type keptCopy struct {
	data []byte
	past pastKeys
}

// forkWalk is a cluster, copies of its pasts, and agents that hold the keys which
// they were given last.
type forkWalk struct {
	t      *rapid.T
	dice   *rand.Rand // rapid's own draws are mostly small
	w      *world
	now    pastKeys
	copies []keptCopy
	steps  int
	givers map[int]string // step to the name of the key that it gave
}

const forkAgents = "abc"

func (f *forkWalk) chance(n int) bool { return f.dice.IntN(n) == 0 }

func newForkWalk(t *rapid.T, dice *rand.Rand) *forkWalk {
	w := genesisWorld(t)
	w.s.meta.v.Level = LevelKeys
	f := &forkWalk{t: t, dice: dice, w: w, now: pastKeys{map[string]int{}, map[string]bool{}, map[string]bool{}}, givers: map[int]string{}}
	for _, id := range forkAgents {
		w.enroll(string(id))
		f.gave(string(id), string(id))
	}
	w.pass(RekeyPauseMs)
	f.keep()
	return f
}

func (f *forkWalk) gave(agent, key string) {
	f.steps++
	f.now.last[agent], f.givers[f.steps] = f.steps, key
}

func (f *forkWalk) keep() {
	f.w.mark()
	f.copies = append(f.copies, keptCopy{snapshotOf(f.t, f.w.s, f.w.history), f.now.copy()})
}

// active finds the name of the active key of an agent.
func (f *forkWalk) active(agent string) string {
	a, _ := f.w.s.Agent(agent)
	k, ok := a.Keys.Active(f.w.s.ClockMs())
	for _, name := range f.givers {
		if ok && publicKey(name) == k.Public {
			return name
		}
	}
	return ""
}

// step has something happen in the present.
func (f *forkWalk) step() {
	w, agent := f.w, string(forkAgents[f.dice.IntN(len(forkAgents))])
	f.steps++
	next := fmt.Sprint("k", f.steps)
	if f.chance(4) {
		next = fmt.Sprint("k", 1+f.dice.IntN(f.steps)) // perhaps of another past
	}
	switch f.dice.IntN(12) {
	default:
		if by := f.active(agent); by != "" && w.do(Actor{}, w.order(AgentSubject(agent), by, next, w.wallMs+[]int64{0, 0, keyHourMs}[f.dice.IntN(3)])).OK() {
			f.gave(agent, next)
		}
	case 0, 5, 6:
		for range 5 { // log indexes say nothing across pasts
			w.do(operator, AgentSetState{AgentID: agent, State: AgentSuspended})
			w.do(operator, AgentSetState{AgentID: agent, State: AgentActive})
		}
	case 1:
		if by := f.active(agent); by != "" && w.do(admin, KeyRevoke{Subject: "agent/" + agent, Key: keyRef(by)}).OK() {
			f.now.revoked[agent+"/"+by], f.now.changed[agent] = true, true
		}
	case 2:
		if w.do(operator, w.recovery(agent, next)).OK() {
			f.gave(agent, next)
			f.now.changed[agent] = true
		}
	case 3:
		id := "late"
		w.must(w.do(admin, TokenCreate{ID: fmt.Sprint("in", f.steps), Role: RoleAgent, Uses: -1}))
		if w.do(Actor{TokenID: fmt.Sprint("in", f.steps)}, AgentEnroll{AgentID: id, PublicKey: publicKey(next)}).OK() {
			f.gave(id, next)
			f.now.changed[id] = true
		}
	case 4:
		f.aheadAndBack(agent, next)
	}
	w.pass(1000)
	if f.chance(2) {
		w.jump(w.wallMs + []int64{keyHourMs, 3 * keyDayMs}[f.dice.IntN(2)])
	}
}

// aheadAndBack has the clock run ahead while a key changes; a copy may be made before
// somebody sets it back.
func (f *forkWalk) aheadAndBack(agent, next string) {
	w, right := f.w, f.w.wallMs
	w.jump(right + 400*keyDayMs)
	if by := f.active(agent); by != "" && w.do(Actor{}, w.order(AgentSubject(agent), by, next, w.wallMs+keyHourMs)).OK() {
		f.gave(agent, next)
		f.now.changed[agent] = true
	}
	if f.chance(2) {
		f.keep()
	}
	w.must(w.setBack(right))
	f.over()
}

// over ends the pause after a recovery.
func (f *forkWalk) over() { f.w.jump(max(f.w.s.Recovering(), f.w.wallMs+2*RekeyPauseMs)) }

// settle sets the clock of a copy back that ran ahead of the world.
func (f *forkWalk) settle(wallMs int64) {
	if f.w.s.ClockMs() > wallMs+30*keyDayMs {
		f.w.must(f.w.setBack(wallMs))
	}
	f.over()
}

// goBack goes on from a copy, as after the loss of a quorum.
func (f *forkWalk) goBack() {
	f.keep() // what is lost is found again, perhaps
	kept, wall := f.copies[f.dice.IntN(len(f.copies))], f.w.wallMs
	s, rows := restored(f.t, kept.data)
	r := recoveryAt(wall, "recover")
	f.steps++
	r.ID = fmt.Sprintf("%016x", f.steps)
	records, err := s.Recover(r, "n0")
	if err != nil {
		f.t.Fatal(err)
	}
	f.w, f.now = onward(f.t, s, historyOf(f.t, rows), records), kept.past.copy()
	f.settle(wall)
}

// restore takes a copy of any past, and judges what comes of it.
func (f *forkWalk) restore() {
	kept := f.copies[f.dice.IntN(len(f.copies))]
	backup, rows := restored(f.t, kept.data)
	ours := backup.meta.v.IsPastOf(f.w.s.meta.v)
	clock := f.w.s.clockWith(backup)
	r := restoreWorld(f.t, f.w, backup, historyOf(f.t, rows), f.w.wallMs)
	if err := r.s.Validate(0); err != nil {
		f.t.Fatalf("the restore would be refused: %v", err)
	}
	f.judgeWindows(r.s, clock)
	was := f.now
	f.now = kept.past.copy()
	for agent, last := range f.now.last {
		if ours && was.last[agent] > last && f.givers[was.last[agent]] != "" {
			f.now.last[agent] = was.last[agent]
		}
	}
	if ours {
		maps.Copy(f.now.revoked, was.revoked)
		maps.Copy(f.now.changed, was.changed)
		f.judgeKeys(r.s, was, kept.past)
	}
	wall := f.w.wallMs
	f.w = r
	f.settle(wall)
}

// judgeWindows: nothing begins or ends later than what can be announced.
func (f *forkWalk) judgeWindows(s *State, clock int64) {
	for _, a := range s.agents.m {
		for _, k := range a.Keys {
			d := s.schedule(AgentSubject(a.ID))
			if last := clock + d.announceMs(); k.NotBeforeMs > last || k.NotAfterMs > last+d.OverlapMs {
				f.t.Fatalf("%s: a key begins at %d and ends at %d, the clock is at %d", a.ID, k.NotBeforeMs, k.NotAfterMs, clock)
			}
		}
	}
}

// judgeKeys: what either past revoked verifies nothing, and an agent whom nobody else
// changed has the key that it was given last, in whichever past.
func (f *forkWalk) judgeKeys(s *State, was, then pastKeys) {
	for _, a := range s.agents.m {
		for key := range f.now.revoked {
			if name, of := strings.CutPrefix(key, a.ID+"/"); of && a.Keys.Verifies(publicKey(name), s.ClockMs()) {
				f.t.Fatalf("%s: the revoked key %s verifies", a.ID, name)
			}
		}
		want := f.givers[max(was.last[a.ID], then.last[a.ID])]
		certain := !was.changed[a.ID] && !then.changed[a.ID] && !slices.ContainsFunc(s.agents.values(), func(o Agent) bool {
			return o.ID != a.ID && (f.givers[was.last[o.ID]] == want || f.givers[then.last[o.ID]] == want)
		})
		if !certain {
			f.now.changed[a.ID] = true
		}
		if newest := a.Keys[len(a.Keys)-1]; certain && newest.Public != publicKey(want) {
			f.t.Fatalf("%s holds %s, its ring is %+v", a.ID, want, a.Keys)
		}
	}
}

// TestP5KeysOfForkedPasts: any copy of the cluster can be restored whatever was
// recovered and restored before it.
func TestP5KeysOfForkedPasts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newForkWalk(t, rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 9)))
		for range 15 {
			switch f.dice.IntN(9) {
			case 0:
				f.keep()
			case 1:
				f.goBack()
			case 2, 3:
				f.restore()
			default:
				f.step()
			}
			if err := f.w.s.Validate(0); err != nil {
				t.Fatalf("a backup of it is refused: %v", err)
			}
		}
		f.restore()
	})
}

// forked is a cluster that a recovery took back to a copy of before something, and a
// copy of after it.
func forked(t *testing.T, something func(w *world)) (w *world, newer []byte) {
	w = keysWorld(t, "a", "b")
	older := snapshotOf(t, w.s, w.history)
	wall := w.wallMs
	something(w)
	w.mark()
	newer = snapshotOf(t, w.s, w.history)
	s, rows := restored(t, older)
	records, err := s.Recover(recoveryAt(wall, "recover"), "n0")
	if err != nil {
		t.Fatal(err)
	}
	w = onward(t, s, historyOf(t, rows), records)
	w.jump(w.s.Recovering())
	return w, newer
}

// TestRestoreOfWhatARecoveryLost: the agent keeps what it was given last, on either
// side, and one side's clock is none of the other's.
func TestRestoreOfWhatARecoveryLost(t *testing.T) {
	rotate := func(w *world) { w.must(w.do(Actor{}, w.order(AgentSubject("a"), "a", "a2", 0))) }
	touch := func(w *world) {
		for range 20 { // log indexes say nothing across pasts
			w.must(w.do(operator, AgentSetState{AgentID: "a", State: AgentSuspended}))
			w.must(w.do(operator, AgentSetState{AgentID: "a", State: AgentActive}))
		}
	}
	for name, tc := range map[string]struct{ lost, since func(w *world) }{
		"rotated in what was lost": {rotate, touch},
		"rotated since":            {touch, rotate},
		"under a wrong clock":      {func(w *world) { w.jump(w.wallMs + 400*keyDayMs); rotate(w) }, touch},
	} {
		w, newer := forked(t, tc.lost)
		tc.since(w)
		next := w.restoredFrom(newer)
		a, _ := next.Agent("a")
		if now := next.ClockMs(); !a.Keys.Verifies(publicKey("a2"), now) || a.Keys.Verifies(publicKey("a"), now+10*keyDayMs) {
			t.Errorf("%s: %+v, the clock is at %d", name, a.Keys, now)
		}
	}
}

// TestRestoreOfAKeyThatAnotherTook: what one agent is bound to in the backup another may
// have been bound to since. The backup's comes back.
func TestRestoreOfAKeyThatAnotherTook(t *testing.T) {
	w, newer := forked(t, func(w *world) { w.must(w.do(Actor{}, w.order(AgentSubject("a"), "a", "both", 0))) })
	w.must(w.do(Actor{}, w.order(AgentSubject("b"), "b", "both", 0)))
	next := w.restoredFrom(newer)
	for id, want := range map[string]crypto.PublicKey{"a": publicKey("both"), "b": publicKey("b")} {
		if got := activeIn(next, AgentSubject(id), 0); got != want {
			t.Errorf("%s has %s", id, got.KeyID())
		}
	}
}
