package chaos

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
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
