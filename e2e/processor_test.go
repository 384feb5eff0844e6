package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// processorSeconds returns the processor time that a process took so far. Only
// Linux tells it.
func processorSeconds(t testing.TB, pid int) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name may hold anything
	var user, system int64
	if _, err := fmt.Sscanf(strings.Join(strings.Fields(rest)[11:13], " "), "%d %d", &user, &system); err != nil {
		t.Fatal(err)
	}
	return float64(user+system) / 100 // USER_HZ, which is 100 wherever Go runs on Linux
}
