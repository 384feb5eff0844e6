package audit

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

const goldenLines = "testdata/golden.jsonl"

var update = flag.Bool("update", false, "rewrite "+goldenLines+", which changes the format of logs that are kept for years")

// TestGoldenLines: logs outlive binaries. What was written verifies for ever, and
// the same events make the same bytes, or a chain would break at an upgrade.
func TestGoldenLines(t *testing.T) {
	dir := t.TempDir()
	head := write(t, dir, 3)
	path, text := only(t, dir)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(goldenLines, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(goldenLines)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, golden) {
		t.Errorf("the same events are written as\n%s, they were\n%s", text, golden)
	}
	stored := t.TempDir()
	put(t, filepath.Join(stored, filepath.Base(path)), golden)
	if r := verify(t, stored, head); len(r.Faults) > 0 {
		t.Errorf("the stored log: %v", r.Faults)
	}
}
