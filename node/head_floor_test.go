package node

import "testing"

func TestHeadFloor(t *testing.T) {
	f := headFloor{}
	for i, c := range []struct {
		from        string
		epoch, size uint64
		want        bool
	}{
		{"a", 1, 5, true}, {"a", 1, 4, false}, {"a", 1, 5, true}, {"b", 1, 1, true}, {"a", 2, 0, true}, {"a", 1, 9, false}, {"a", 2, 1, true},
	} {
		if got := f.rises(c.from, chainHead{Epoch: c.epoch, Size: c.size}); got != c.want {
			t.Errorf("step %d: %t", i, got)
		}
	}
}
