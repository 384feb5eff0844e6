package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name, params, injected, healed string
	}{
		{"kill", `{}`, "SIGKILL n2, kill n2", "start n2"},
		{"transfer", `{}`, "transfer", ""},
		{"stop", `{"target":"n3"}`, "stop n3", "start n3"},
		{"pause", `{}`, "stopped (signal) n2", "continued n2"},
		{"wipe", `{"target":"n1"}`, "SIGKILL n1, kill n1", "start n1, votes n1"},
		{"replace", `{"target":"n1"}`, "remove n1", "kill n1, start n1, votes n1"},
		{"grow", `{}`, "start n4, votes n4, start n5, votes n5", ""},
		{"grow", `{"to":4}`, "start n4, votes n4", ""},
		{"shrink", `{"to":1}`, "remove n3, kill n3, remove n2, kill n2", ""},
		{"turnover", `{}`, "remove n1, kill n1, start n1, votes n1, remove n2, kill n2, start n2, votes n2, remove n3, kill n3, start n3, votes n3", ""},
		{"flip", `{"target":"n1","file":"f","bits":3}`, "kill n1", "start n1, votes n1"},
		{"rolling", `{}`, "stop n1, start n1, stop n2, start n2, stop n3, start n3", ""},
		{"disk_full", `{}`, "fill n2", "free n2, settle n2, start n2"},
		{"disk_stall", `{}`, "freeze n2", "thaw n2, settle n2, start n2"},
		{"clock", `{"offset_ms":-5000}`, "clock n2 -5s", "clock n2 0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &fakeWorld{dir: t.TempDir(), skew: -5 * time.Second}
			content := make([]byte, 100)
			if err := os.WriteFile(filepath.Join(w.dir, "f"), content, 0o600); err != nil {
				t.Fatal(err)
			}
			a := newArena(w)
			f, err := NewFault(Spec{Name: c.name, Params: json.RawMessage(c.params)})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Inject(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(w.log, ", "); got != c.injected {
				t.Errorf("injecting did %q, want %q", got, c.injected)
			}
			after, err := os.ReadFile(filepath.Join(w.dir, "f"))
			if wiped := errors.Is(err, os.ErrNotExist); wiped != slices.Contains([]string{"wipe", "shrink", "turnover"}, c.name) {
				t.Errorf("the data are gone: %t", wiped)
			}
			if flipped := err == nil && !slices.Equal(after, content); flipped != (c.name == "flip") {
				t.Errorf("bits were flipped: %t", flipped)
			}
			w.log = nil
			if err := f.Heal(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(w.log, ", "); got != c.healed {
				t.Errorf("healing did %q, want %q", got, c.healed)
			}
			if _, _, missed := a.proof.told(); len(missed) != 0 || len(a.grip.all.atRisk) != 0 {
				t.Errorf("did not bite: %v, still at risk: %v", missed, a.grip.all.atRisk)
			}
		})
	}
}

// TestFlipEndsInARejoin holds that a server which refuses its damaged file is
// wiped and started anew, and not healed before it votes.
func TestFlipEndsInARejoin(t *testing.T) {
	w := &fakeWorld{dir: t.TempDir(), fail: errors.New("raft.db is damaged"), member: true}
	if err := os.WriteFile(filepath.Join(w.dir, "raft.db"), []byte("log"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &Flip{Target: "n1", File: "raft.db", Bits: 1}
	a := newArena(w)
	if _, err := f.Inject(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), rejoinPause/10) // it asks again until its time is over
	defer cancel()
	if err := f.Heal(ctx, a); err == nil {
		t.Error("a server that never starts was called healed")
	}
	if got, want := strings.Join(w.log, ", "), "kill n1, start n1, kill n1"; got != want {
		t.Errorf("did %q, want %q", got, want)
	}
	if left, _ := os.ReadDir(w.dir); len(left) != 0 {
		t.Error("the damaged file is still there")
	}
	if !a.grip.all.atRisk["n1"] {
		t.Error("a node without data is called safe")
	}
	w.fail, w.deaf = nil, 1
	if err := f.Heal(t.Context(), a); err != nil || w.log[len(w.log)-1] != "votes n1" || len(a.grip.all.atRisk) != 0 {
		t.Errorf("it was let in: did %v, at risk %v, %v", w.log, a.grip.all.atRisk, err)
	}
}

// TestRejoinSparesAMembersData holds that a node which belongs to the cluster
// is never emptied because its start took too long.
func TestRejoinSparesAMembersData(t *testing.T) {
	for _, member := range []bool{true, false} {
		w := &fakeWorld{dir: t.TempDir(), fail: errors.New("too slow"), member: member}
		if err := os.WriteFile(filepath.Join(w.dir, "node.keys"), []byte("keys"), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), rejoinPause/10)
		if err := newArena(w).rejoin(ctx, "n1", false); err == nil {
			t.Error("a server that never starts was called healed")
		}
		cancel()
		if left, _ := os.ReadDir(w.dir); (len(left) == 1) != member {
			t.Errorf("member %t: left %v", member, left)
		}
	}
}

// TestReplaceStopsBeforeItWipes holds that the removed server runs until the
// healing, and that its data stay while it cannot be stopped.
func TestReplaceStopsBeforeItWipes(t *testing.T) {
	w := &fakeWorld{dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(w.dir, "raft.db"), []byte("log"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, f := newArena(w), &Replace{Target: "n1"}
	if _, err := f.Inject(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	w.stops = 1
	ctx, cancel := context.WithTimeout(t.Context(), rejoinPause/10)
	defer cancel()
	if err := f.Heal(ctx, a); err == nil {
		t.Error("a server that does not stop was called replaced")
	}
	if left, _ := os.ReadDir(w.dir); len(left) != 1 {
		t.Error("the data of a running server are gone")
	}
	if err := f.Heal(t.Context(), a); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(w.dir); len(left) != 0 {
		t.Error("the old data are still there")
	}
}

// TestHolds holds that no fault gets a node that another has in hand, and that
// never two of three copies are at risk.
func TestHolds(t *testing.T) {
	w := &fakeWorld{dir: t.TempDir()}
	a := newArena(w)
	b := another(a, a.grip.all)
	inject := func(a *Arena, name, params string) ([]string, error) {
		f, err := NewFault(Spec{Name: name, Params: json.RawMessage(params)})
		if err != nil {
			t.Fatal(err)
		}
		return f.Inject(t.Context(), a)
	}
	if hit, err := inject(a, "wipe", `{"target":"n2"}`); err != nil || len(hit) != 1 {
		t.Fatalf("hit %v, %v", hit, err)
	}
	if hit, err := inject(b, "kill", `{}`); !errors.Is(err, ErrBusy) {
		t.Errorf("a leader that is being wiped was hit: %v, %v", hit, err)
	}
	if hit, err := inject(b, "kill", `{"target":"all"}`); err != nil || !slices.Equal(hit, []string{"n1", "n3"}) {
		t.Errorf("all but the wiped one: %v, %v", hit, err)
	}
	if hit, err := inject(another(a, a.grip.all), "clock", `{}`); err != nil || len(hit) != 1 {
		t.Errorf("a clock is no server: %v, %v", hit, err)
	}
	b.grip.release()
	for _, name := range []string{"wipe", "replace", "flip"} {
		c := another(a, a.grip.all)
		if hit, err := inject(c, name, `{"target":"n1"}`); !errors.Is(err, ErrBusy) {
			t.Errorf("%s of a second node: %v, %v", name, hit, err)
		}
		c.grip.release()
	}
	a.grip.release()
	if hit, err := inject(b, "wipe", `{"target":"n1"}`); !errors.Is(err, ErrBusy) {
		t.Errorf("a second node was wiped before the first one voted: %v, %v", hit, err)
	}
	a.rescued("n2")
	if hit, err := inject(another(a, a.grip.all), "wipe", `{"target":"n3"}`); err != nil || len(hit) != 1 {
		t.Errorf("after the rescue: %v, %v", hit, err)
	}
	if _, err := inject(another(a, a.grip.all), "partition", `{}`); err != nil {
		t.Error(err)
	}
	if _, err := inject(another(a, a.grip.all), "netem", `{"loss":0.1}`); !errors.Is(err, ErrBusy) {
		t.Errorf("two faults of the network at once: %v", err)
	}
}

// TestNoBite holds that a fault which touched nothing says so.
func TestNoBite(t *testing.T) {
	w := &fakeWorld{unharmed: true}
	for _, f := range []Fault{&Partition{Shape: "isolate", Target: "leader"}, &ClockJump{Target: "leader", OffsetMs: 60_000}} {
		a := newArena(w)
		ctx, cancel := context.WithTimeout(t.Context(), clockShows/5)
		if _, err := f.Inject(ctx, a); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := f.Heal(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if _, _, missed := a.proof.told(); len(missed) != 1 || !strings.Contains(missed[0].Error(), "did not bite") {
			t.Errorf("%T: %v", f, missed)
		}
	}
}

// TestUnfinishedLeave: a step that the end of the traffic finds in the middle is
// healed to its end, whatever became of its question; and nobody is removed twice
// by his name, which may be a new node's by then.
func TestUnfinishedLeave(t *testing.T) {
	over, end := context.WithCancel(t.Context())
	end()
	for _, c := range []struct {
		fault  Fault
		healed string
	}{
		{&Shrink{To: 2}, "remove n3, kill n3"},
		{&Turnover{}, "remove n1, kill n1, start n1, votes n1"},
	} {
		w := &fakeWorld{dir: t.TempDir(), removal: &client.Error{Code: client.CodeUnknownOutcome}}
		a := newArena(w)
		f := c.fault
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		hit, err := f.Inject(ctx, a)
		cancel()
		if err != nil || len(hit) != 1 {
			t.Fatalf("%T hit %v: %v", f, hit, err)
		}
		w.removal, w.log = nil, nil
		if err := f.Heal(over, a); err != nil {
			t.Fatal(err)
		}
		if err := f.Heal(t.Context(), a); err != nil { // once more changes nothing
			t.Fatal(err)
		}
		if got := strings.Join(w.log, ", "); got != c.healed {
			t.Errorf("%T healed with %q, want %q", f, got, c.healed)
		}
	}
}

// TestMembershipSteps: one at a time, none that has nothing to do, and none that
// the cluster refuses.
func TestMembershipSteps(t *testing.T) {
	w := &fakeWorld{dir: t.TempDir()}
	a := newArena(w)
	if _, err := (&Grow{To: 3}).Inject(t.Context(), a); !errors.Is(err, ErrBusy) {
		t.Errorf("three are three already: %v", err)
	}
	other := another(a, a.grip.all)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := (&Shrink{To: 1}).Inject(ctx, other); !errors.Is(err, ErrBusy) || len(w.log) != 0 {
		t.Errorf("while another has the list in hand: %v, %v", err, w.log)
	}
	a.grip.release()
	w.removal = &client.Error{Code: client.CodeConflict}
	if hit, err := (&Turnover{}).Inject(t.Context(), another(a, a.grip.all)); len(hit) != 0 || err == nil || len(a.grip.all.atRisk) != 0 {
		t.Errorf("a refused turnover hit %v, at risk %v: %v", hit, a.grip.all.atRisk, err)
	}
	if got := w.Members(); len(got) != 3 {
		t.Errorf("members %v, want three", got)
	}
}

// TestClockDrift holds that a clock runs further and further away until it is healed.
func TestClockDrift(t *testing.T) {
	w := &fakeWorld{}
	a := newArena(w)
	f := &ClockDrift{Target: "leader", Percent: -50}
	if hit, err := f.Inject(t.Context(), a); err != nil || len(hit) != 1 || hit[0] != "n2" {
		t.Fatal(hit, err)
	}
	moves := func() []string {
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.Clone(w.log)
	}
	for end := time.Now().Add(time.Minute); len(moves()) < 3 && time.Now().Before(end); {
		waitUntil(t.Context(), time.Now().Add(driftEvery/10))
	}
	w.skew = f.gained(time.Since(f.start)) // as its server says
	if err := f.Heal(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	log := moves()
	if _, notes, missed := a.proof.told(); len(missed) > 0 {
		t.Errorf("%v %v", notes, missed)
	}
	last := time.Duration(0)
	for _, line := range log[:len(log)-1] {
		off, err := time.ParseDuration(strings.TrimPrefix(line, "clock n2 "))
		if err != nil || off >= last {
			t.Errorf("%q after %s: %v", line, last, err)
		}
		last = off
	}
	if len(log) < 4 || log[len(log)-1] != "clock n2 0s" {
		t.Errorf("the clock went %v", log)
	}
}

// TestRefusedRemovalHitsNobody holds that a node which the cluster would not let
// go keeps its data.
func TestRefusedRemovalHitsNobody(t *testing.T) {
	w := &fakeWorld{dir: t.TempDir(), removal: &client.Error{Code: client.CodeConflict}}
	a := newArena(w)
	f := &Replace{Target: "leader"}
	if hit, err := f.Inject(t.Context(), a); err == nil || len(hit) != 0 || len(a.grip.all.atRisk) != 0 {
		t.Errorf("hit %v, %v, at risk %v", hit, err, a.grip.all.atRisk)
	}
	if err := f.Heal(t.Context(), a); err != nil || len(w.log) != 1 {
		t.Errorf("did %v, %v", w.log, err)
	}
	w.removal = &client.Error{Code: client.CodeUnknownOutcome}
	a.grip.release()
	if hit, err := f.Inject(t.Context(), a); err != nil || len(hit) != 1 {
		t.Errorf("an unknown outcome hit %v, %v", hit, err)
	}
}

func TestPartitions(t *testing.T) {
	for shape, want := range map[string][]string{
		"isolate": {"n1>n2 n2>n1 n2>n3 n3>n2"}, "oneway": {"n2>n1 n2>n3"}, "deaf": {"n1>n2 n3>n2"},
		"halves": {"n1>n2 n2>n1 n2>n3 n3>n2"}, "bridge": {"n1>n2 n2>n1", "n2>n3 n3>n2"}, // the leader at an end, the middle by chance
	} {
		drawn := map[string]bool{}
		for seed := range uint64(20) {
			w := &fakeWorld{}
			a := newArena(w)
			a.Rand = rand.New(rand.NewPCG(seed, seed))
			f := &Partition{Shape: shape, Target: "leader"}
			if _, err := f.Inject(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			var cut []string
			for pair, how := range w.shapes {
				if how.Drop == 1 {
					cut = append(cut, pair)
				}
			}
			slices.Sort(cut)
			drawn[strings.Join(cut, " ")] = true
			if err := f.Heal(t.Context(), a); err != nil || len(w.shapes) != 0 {
				t.Errorf("%s is not healed: %v", shape, err)
			}
		}
		if got := slices.Sorted(maps.Keys(drawn)); !slices.Equal(got, want) {
			t.Errorf("%s cuts %q, want %q", shape, got, want)
		}
	}
	if _, err := (&Partition{Shape: "odd", Target: "one"}).Inject(t.Context(), newArena(&fakeWorld{})); err == nil {
		t.Error("an odd shape was accepted")
	}
}

// TestMissingFacilities holds that what a machine cannot do is skipped with
// its reason.
func TestMissingFacilities(t *testing.T) {
	a := newArena(&fakeWorld{})
	a.Net, a.Disk, a.Clock = nil, nil, nil
	a.Missing = map[Need]string{NeedNetwork: "needs root"}
	for _, name := range []string{"partition", "netem", "gossip_loss", "disk_full", "disk_stall", "clock", "clock_drift"} {
		f, err := NewFault(Spec{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Inject(t.Context(), a); !errors.Is(err, ErrSkipped) {
			t.Errorf("%s gave %v", name, err)
		}
	}
	if err := a.missing(NeedNetwork); !strings.Contains(err.Error(), "needs root") {
		t.Errorf("the reason is lost: %v", err)
	}
}

func TestPick(t *testing.T) {
	w := &fakeWorld{}
	a := newArena(w)
	for target, n := range map[string]int{"leader": 1, "follower": 1, "followers": 2, "one": 1, "minority": 1, "majority": 2, "all": 3, "n3": 1} {
		got, err := a.pick(t.Context(), theServer, target)
		if err != nil || len(got) != n {
			t.Errorf("%s gave %v, %v", target, got, err)
		}
		if target == "follower" && got[0] == "n2" {
			t.Error("the leader was picked as a follower")
		}
		a.grip.release()
	}
	w.leader = ""
	if got, err := a.pick(t.Context(), theServer, "leader"); err != nil || len(got) != 1 {
		t.Errorf("without a leader %v, %v", got, err)
	}
	if _, err := a.pick(t.Context(), theServer, "everybody"); err == nil {
		t.Error("an odd target was accepted")
	}
}
