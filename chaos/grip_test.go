package chaos

import (
	"errors"
	"testing"
)

// TestRiskCountsWhoCarriesNoMajority: data may be lost of a minority of the members,
// among which are those that do not vote yet and those that are weak all along; and
// no more may be wrong together than a minority of those that vote.
func TestRiskCountsWhoCarriesNoMajority(t *testing.T) {
	nodes := []string{"n1", "n2", "n3", "n4", "n5"}
	arena := func(weak ...string) *Arena {
		return &Arena{Admin: &field{nodes: nodes}, grip: &grip{all: newHolds(weak...)}}
	}
	for name, a := range map[string]*Arena{"a wild clock": arena("n5"), "a new member": arena()} {
		if name == "a new member" {
			a.novice("n5")
		}
		if err := a.endanger([]string{"n1"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := a.endanger([]string{"n2"}); !errors.Is(err, ErrBusy) {
			t.Errorf("%s and one more at risk: %v", name, err)
		}
		a.rescued("n1")
		if err := a.endanger([]string{"n2"}); err != nil {
			t.Errorf("%s, after a rescue: %v", name, err)
		}
	}
	for size, want := range map[int]int{1: 1, 3: 1, 4: 1, 5: 2} {
		if got := arena().minority(nodes[:size]); got != want {
			t.Errorf("a minority of %d is %d, want %d", size, got, want)
		}
	}
	a := arena()
	a.novice("n1")
	if got := a.minority(nodes); got != 1 {
		t.Errorf("a minority of four voters and a new member is %d, want 1", got)
	}
}
