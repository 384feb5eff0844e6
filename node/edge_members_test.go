package node

import (
	"testing"

	"github.com/edgecoder/edgecoder/edge"
)

// Who gossip sees dead is asked last, and the load is shared among the others.
func TestEdgeAsksTheLivingFirst(t *testing.T) {
	names := []string{"dead", "a", "b", "c"}
	first, last := map[string]int{}, map[string]int{}
	for range 300 {
		var found []foundSource
		for _, name := range names {
			found = append(found, foundSource{edge.ClientSource{ID: name}, name != "dead"})
		}
		order := askOrder(found)
		if len(order) != len(names) {
			t.Fatalf("%d of %d sources", len(order), len(names))
		}
		first[order[0].Name()]++
		last[order[len(order)-1].Name()]++
	}
	if last["dead"] != 300 || first["a"] < 50 || first["b"] < 50 || first["c"] < 50 {
		t.Errorf("asked first: %v, last: %v", first, last)
	}
}
