package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// TestScenarios holds that every scenario is sound, reads back as it was
// written, and leaves time for each of its faults.
func TestScenarios(t *testing.T) {
	names := map[string]bool{}
	for _, s := range Scenarios() {
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
		if names[s.Name] || s.Description == "" {
			t.Errorf("%s: twice, or without a description", s.Name)
		}
		names[s.Name] = true
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var again Scenario
		if err := json.Unmarshal(text, &again); err != nil || !reflect.DeepEqual(s, again) {
			t.Errorf("%s changed on its way through JSON: %v", s.Name, err)
		}
		for _, st := range s.Schedule() {
			if st.At+st.For > s.Duration {
				t.Errorf("%s: %s at %s lasts beyond the traffic", s.Name, st.Fault.Name, time.Duration(st.At))
			}
		}
	}
	if _, err := Lookup("no such"); err == nil || !strings.Contains(err.Error(), "kill-leader") {
		t.Errorf("an unknown name gave %v", err)
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	bad := Scenario{Steps: []Step{{At: -1, Fault: Spec{Name: "meteor"}}}, Random: &Random{Faults: map[string]int{"kill": 0}}}
	err := bad.Validate()
	for _, want := range []string{"name", "0 nodes", "duration", "traffic needs a client", "weights", "outside the run", "meteor", "every", "weight 0"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
}

// TestDrawIsTheSeeds holds that a schedule depends on its seed alone, and that
// every drawn fault is a real one.
func TestDrawIsTheSeeds(t *testing.T) {
	s, err := Lookup("explore-all")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s.Schedule(), s.Schedule()) {
		t.Error("one seed gave two schedules")
	}
	other := s
	other.Seed++
	if reflect.DeepEqual(s.Schedule(), other.Schedule()) {
		t.Error("two seeds gave one schedule")
	}
	drawn := map[string]bool{}
	for seed := range uint64(60) {
		s.Seed = seed
		steps := s.Schedule()
		if len(steps) < 10 {
			t.Errorf("seed %d draws only %d faults in %s", seed, len(steps), time.Duration(s.Duration))
		}
		for _, st := range steps {
			drawn[st.Fault.Name] = true
			if _, err := NewFault(st.Fault); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
			if time.Duration(st.At) < calm || time.Duration(st.At+st.For) > time.Duration(s.Duration)-calm {
				t.Errorf("seed %d: %s from %s for %s disturbs the calm", seed, st.Fault.Name, time.Duration(st.At), time.Duration(st.For))
			}
		}
	}
	for name := range s.Random.Faults {
		if !drawn[name] {
			t.Errorf("%s is never drawn", name)
		}
	}
}

func TestNewFaultIsStrict(t *testing.T) {
	for _, s := range []Spec{{Name: "kill", Params: json.RawMessage(`{"targets":"leader"}`)}, {Name: "kill", Params: json.RawMessage(`[]`)}, {Name: ""}} {
		if _, err := NewFault(s); err == nil {
			t.Errorf("%s %s was accepted", s.Name, s.Params)
		}
	}
	f, err := NewFault(Spec{Name: "netem", Params: json.RawMessage(`{"loss":0.5}`)})
	if err != nil || f.(*Netem).Loss != 0.5 || f.(*Netem).Target != "all" {
		t.Errorf("parameters over defaults gave %+v, %v", f, err)
	}
}

// fakeWorld stands for processes, network, disks and clocks.
type fakeWorld struct {
	log    []string
	dir    string
	shapes map[string]Shape
	fail   error // of Start
}

func (w *fakeWorld) note(what ...string) error {
	w.log = append(w.log, strings.Join(what, " "))
	return nil
}

func (w *fakeWorld) Start(_ context.Context, n string) error {
	return errors.Join(w.note("start", n), w.fail)
}

func (w *fakeWorld) Stop(_ context.Context, n string, kill bool) error {
	if kill {
		return w.note("kill", n)
	}
	return w.note("stop", n)
}
func (w *fakeWorld) Signal(n string, sig os.Signal) error { return w.note(sig.String(), n) }
func (w *fakeWorld) DataDir(string) string                { return w.dir }
func (w *fakeWorld) Fill(n string) error                  { return w.note("fill", n) }
func (w *fakeWorld) Free(n string) error                  { return w.note("free", n) }
func (w *fakeWorld) Freeze(n string) error                { return w.note("freeze", n) }
func (w *fakeWorld) Thaw(n string) error                  { return w.note("thaw", n) }

func (w *fakeWorld) SetOffset(n string, d time.Duration) error {
	return w.note("clock", n, d.String())
}

func (w *fakeWorld) Shape(from, to string, how Shape) error {
	w.shapes[from+">"+to] = how
	return nil
}

func (w *fakeWorld) Clear() error {
	clear(w.shapes)
	return nil
}

func newArena(w *fakeWorld) *Arena {
	w.shapes = map[string]Shape{}
	return &Arena{Nodes: []string{"n1", "n2", "n3"}, Rand: rand.New(rand.NewPCG(1, 2)),
		Leader: func(context.Context) (string, error) { return "n2", nil },
		Remove: func(_ context.Context, n string) error { return w.note("remove", n) }, Proc: w, Net: w, Disk: w, Clock: w}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name, params, injected, healed string
	}{
		{"kill", `{}`, "kill n2", "start n2"},
		{"stop", `{"target":"n3"}`, "stop n3", "start n3"},
		{"pause", `{}`, "stopped (signal) n2", "continued n2"},
		{"wipe", `{"target":"n1"}`, "kill n1", "start n1"},
		{"replace", `{}`, "remove n1, kill n1", "start n1"},
		{"flip", `{"target":"n1","file":"f","bits":3}`, "kill n1", "start n1"},
		{"rolling", `{}`, "stop n1, start n1, stop n2, start n2, stop n3, start n3", ""},
		{"disk_full", `{}`, "fill n2", "free n2, start n2"},
		{"disk_stall", `{}`, "freeze n2", "thaw n2, start n2"},
		{"clock", `{"offset_ms":-5000}`, "clock n2 -5s", "clock n2 0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &fakeWorld{dir: t.TempDir()}
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
			if wiped := errors.Is(err, os.ErrNotExist); wiped != (c.name == "wipe" || c.name == "replace") {
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
		})
	}
}

// TestFlipEndsInARejoin holds that a server which refuses its damaged file is
// wiped and started anew.
func TestFlipEndsInARejoin(t *testing.T) {
	w := &fakeWorld{dir: t.TempDir(), fail: errors.New("raft.db is damaged")}
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
	if got, want := strings.Join(w.log, ", "), "kill n1, start n1, kill n1, start n1"; got != want {
		t.Errorf("did %q, want %q", got, want)
	}
	if left, _ := os.ReadDir(w.dir); len(left) != 0 {
		t.Error("the damaged file is still there")
	}
}

// TestRefusedRemovalHitsNobody holds that a node which the cluster would not let
// go keeps its data.
func TestRefusedRemovalHitsNobody(t *testing.T) {
	w := &fakeWorld{dir: t.TempDir()}
	a := newArena(w)
	a.Remove = func(context.Context, string) error { return &client.Error{Code: client.CodeConflict} }
	f := &Replace{Target: "leader"}
	if hit, err := f.Inject(t.Context(), a); err == nil || len(hit) != 0 {
		t.Errorf("hit %v, %v", hit, err)
	}
	if err := f.Heal(t.Context(), a); err != nil || len(w.log) != 0 {
		t.Errorf("did %v, %v", w.log, err)
	}
	a.Remove = func(context.Context, string) error { return &client.Error{Code: client.CodeUnknownOutcome} }
	if hit, err := f.Inject(t.Context(), a); err != nil || len(hit) != 1 {
		t.Errorf("an unknown outcome hit %v, %v", hit, err)
	}
}

func TestPartitions(t *testing.T) {
	for shape, want := range map[string]string{
		"isolate": "n1>n2 n2>n1 n2>n3 n3>n2", "oneway": "n2>n1 n2>n3", "deaf": "n1>n2 n3>n2",
		"halves": "n1>n2 n1>n3 n2>n1 n3>n1", "bridge": "n1>n3 n3>n1",
	} {
		w := &fakeWorld{}
		a := newArena(w)
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
		if got := strings.Join(cut, " "); got != want {
			t.Errorf("%s cuts %s, want %s", shape, got, want)
		}
		if err := f.Heal(t.Context(), a); err != nil || len(w.shapes) != 0 {
			t.Errorf("%s is not healed: %v", shape, err)
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
	for _, name := range []string{"partition", "netem", "gossip_loss", "disk_full", "disk_stall", "clock"} {
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
	a := newArena(&fakeWorld{})
	for target, n := range map[string]int{"leader": 1, "follower": 1, "followers": 2, "one": 1, "minority": 1, "majority": 2, "all": 3, "n3": 1} {
		got, err := a.pick(t.Context(), target)
		if err != nil || len(got) != n {
			t.Errorf("%s gave %v, %v", target, got, err)
		}
		if target == "follower" && got[0] == "n2" {
			t.Error("the leader was picked as a follower")
		}
	}
	a.Leader = func(context.Context) (string, error) { return "", errors.New("nobody") }
	if got, err := a.pick(t.Context(), "leader"); err != nil || len(got) != 1 {
		t.Errorf("without a leader %v, %v", got, err)
	}
	if _, err := a.pick(t.Context(), "everybody"); err == nil {
		t.Error("an odd target was accepted")
	}
}
