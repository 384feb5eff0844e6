package fsm

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
)

// referenceVectors reads one section of the golden vectors of the reference.
func referenceVectors(t *testing.T, section string, into any) {
	t.Helper()
	data, err := os.ReadFile("../crypto/testdata/edgecoder.json")
	if err != nil {
		t.Fatal(err)
	}
	var sections map[string]json.RawMessage
	if err := json.Unmarshal(data, &sections); err != nil {
		t.Fatal(err)
	}
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
