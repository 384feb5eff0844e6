package limit

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// greed takes slots for a holder until there is none for it.
func greed[K comparable](s *Slots[K], holder K) (got int) {
	for s.Take(holder) {
		got++
	}
	return got
}

// TestSlotsLeaveRoomForWhoHasNone: however many are greedy, one who has nothing
// gets in, and a single one has half.
func TestSlotsLeaveRoomForWhoHasNone(t *testing.T) {
	const most = 64
	s := NewSlots[int](most)
	if got := greed(s, 0); got != most/2 {
		t.Errorf("alone: %d of %d", got, most)
	}
	for range 100 { // greedy ones ask for another as soon as one has ended
		for holder := range 8 {
			if s.held[holder] > 0 {
				s.Leave(holder)
			}
			greed(s, holder)
		}
	}
	for holder := range 8 {
		if n := s.held[holder]; n < most/9 || n > most/9+1 {
			t.Errorf("holder %d of 8 has %d of %d", holder, n, most)
		}
	}
	if !s.Take(8) {
		t.Errorf("8 greedy holders shut the next one out: %v", s.held)
	}
	for holder, n := range s.held {
		for range n {
			s.Leave(holder)
		}
	}
	if s.Used() != 0 || len(s.held) != 0 {
		t.Errorf("given back: %d used, %v", s.Used(), s.held)
	}
	if one := NewSlots[int](1); !one.Take(0) || one.Take(0) || one.Take(1) {
		t.Error("a single slot")
	}
	if NewSlots[int](0).Take(0) {
		t.Error("a slot of none")
	}
}

// TestRoomSendsAwayTheOldestOfWhoHasMost also covers peers and strangers that
// share an address: what came last stays.
func TestRoomSendsAwayTheOldestOfWhoHasMost(t *testing.T) {
	r := NewRoom[string](4)
	var gone []string
	enter := func(holder, name string, size int) *Place[string] {
		return r.Enter(holder, size, func() { gone = append(gone, name) })
	}
	first := enter("honest", "h1", 1)
	for _, name := range []string{"f1", "f2", "f3", "f4", "f5"} {
		enter("flood", name, 1)
	}
	if !slices.Equal(gone, []string{"f1", "f2"}) || r.Used() != 4 || r.Evicted() != 2 {
		t.Fatalf("gone: %v, %d used", gone, r.Used())
	}
	if !first.Leave() || first.Leave() || r.Used() != 3 {
		t.Error("a place is left once")
	}
	gone = nil
	big := enter("heavy", "big", 4) // more than is left: it weighs most itself
	if !slices.Equal(gone, []string{"big"}) || big.Leave() {
		t.Errorf("gone: %v", gone)
	}
	gone = nil
	enter("a", "a1", 1)
	enter("flood", "f6", 1)
	enter("b", "b1", 1)
	if !slices.Equal(gone, []string{"f3", "f4"}) {
		t.Errorf("gone: %v", gone)
	}
}

func TestRoomWeighsWhatGrew(t *testing.T) {
	r := NewRoom[string](10)
	var gone []string
	enter := func(holder, name string) *Place[string] {
		return r.Enter(holder, 1, func() { gone = append(gone, name) })
	}
	honest, first, second := enter("honest", "h"), enter("flood", "f1"), enter("flood", "f2")
	honest.Grow(3)
	second.Grow(4)
	if len(gone) != 0 || r.Used() != 10 {
		t.Fatalf("gone: %v, %d used", gone, r.Used())
	}
	second.Grow(1)
	if !slices.Equal(gone, []string{"f1"}) || r.Used() != 10 {
		t.Errorf("gone: %v, %d used", gone, r.Used())
	}
	first.Grow(100) // it is gone: nothing of it is here
	second.Grow(100)
	if !slices.Equal(gone, []string{"f1", "f2"}) || r.Used() != 4 || !honest.Leave() || r.Used() != 0 {
		t.Errorf("gone: %v, %d used", gone, r.Used())
	}
}

func TestRoomOfEqualsSendsAwayTheOldest(t *testing.T) {
	r := NewRoom[int](3)
	var gone []int
	for i := range 5 {
		r.Enter(i, 1, func() { gone = append(gone, i) })
	}
	if !slices.Equal(gone, []int{0, 1}) || len(r.by) != 3 {
		t.Errorf("gone: %v, %d holders", gone, len(r.by))
	}
}

func TestRates(t *testing.T) {
	now := time.Unix(1, 0)
	r := NewRates[string](func() time.Time { return now }, 2, 3, 4)
	for i := range 3 {
		if wait := r.Take("a"); wait != 0 {
			t.Errorf("%d: wait %s", i, wait)
		}
	}
	if wait := r.Take("a"); wait != time.Second/2 || r.Missing("a") != wait {
		t.Errorf("wait %s", wait)
	}
	if r.Take("b") != 0 {
		t.Error("b pays for a")
	}
	for _, holder := range []string{"c", "d", "e", "f", "g"} {
		r.Take(holder)
	}
	if r.Size() > 4 {
		t.Errorf("%d holders are remembered", r.Size())
	}
	now = now.Add(time.Second)
	if r.Take("a") != 0 {
		t.Error("no budget after a second")
	}
}

func TestHolder(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1", "[2001:db8::1:2:3:4]:9": "2001:db8::", "[fe80::1%eth0]:1": "fe80::", "[::ffff:192.0.2.1]:1": "192.0.2.1",
	} {
		if got := HolderOf(in); got != netip.MustParseAddr(want) {
			t.Errorf("%s: %s", in, got)
		}
	}
	if HolderOf("pipe").IsValid() {
		t.Error("an address out of nothing")
	}
}
