package fsm

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/edgecoder/edgecoder/crypto/golden"
)

// referenceVectors reads one section of the golden vectors of the reference.
func referenceVectors(t *testing.T, section string, into any) {
	t.Helper()
	var sections map[string]json.RawMessage
	golden.Load(t, &sections)
	if err := json.Unmarshal(sections[section], into); err != nil {
		t.Fatalf("section %s: %v", section, err)
	}
}

// ascending returns the distinct times of a sequence in order.
func ascending[T any](sequence []T, timeOf func(i int) int64) []int64 {
	var times []int64
	for i := range sequence {
		times = append(times, timeOf(i))
	}
	slices.Sort(times)
	return slices.Compact(times)
}
