package store

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
)

// TestCutInChunks: whatever is deleted goes in small transactions, from an end
// of the log, so that a crash between two of them leaves no gap that was not there.
func TestCutInChunks(t *testing.T) {
	const n = 3*cutEntries + 100
	const far = n + 1<<40 // raft installed a snapshot: a gap
	for name, c := range map[string]struct {
		first, last uint64
		chunks      int
		runs        []run
	}{
		"the beginning":   {1, 2*cutEntries + 1, 3, []run{{2*cutEntries + 2, n}, {far, far + 9}}},
		"across the gap":  {1, far, 5, []run{{far + 1, far + 9}}},
		"before the log":  {0, 5, 1, []run{{6, n}, {far, far + 9}}},
		"the end":         {n - 9, far + 9, 2, []run{{1, n - 10}}},
		"most of the end": {2, far + 100, 5, []run{{1, 1}}},
		"the middle":      {2, n - 1, 4, []run{{1, 1}, {n, n}, {far, far + 9}}},
		"all":             {1, far + 9, 5, nil},
		"nothing":         {far + 10, far + 20, 0, []run{{1, n}, {far, far + 9}}},
		"one":             {1, 1, 1, []run{{2, n}, {far, far + 9}}},
	} {
		t.Run(name, func(t *testing.T) {
			bolt, log, _ := openLog(t, t.TempDir())
			defer bolt.Close()
			var logs []*raft.Log
			for i := uint64(1); i <= n; i++ {
				logs = append(logs, &raft.Log{Index: i, Term: 1})
			}
			for i := uint64(far); i < far+10; i++ {
				logs = append(logs, &raft.Log{Index: i, Term: 1})
			}
			if err := log.StoreLogs(logs); err != nil {
				t.Fatal(err)
			}
			g := newWatcher()
			log.w.guard = g
			if err := log.DeleteRange(c.first, c.last); err != nil {
				t.Fatal(err)
			}
			if begun, _ := g.counts(WriteCut); begun != c.chunks {
				t.Errorf("%d chunks, want %d", begun, c.chunks)
			}
			var found raftFile
			var l raft.Log
			for _, want := range logs {
				if log.GetLog(want.Index, &l) == nil {
					found.entry(want.Index)
				}
			}
			if fmt.Sprint(found.runs) != fmt.Sprint(c.runs) {
				t.Errorf("left: %v, want %v", found.runs, c.runs)
			}
		})
	}
}

// TestCutInterrupted: what stops between two chunks leaves a log without a gap,
// and a mark that says nothing of entries that may be gone.
func TestCutInterrupted(t *testing.T) {
	const n = 3 * cutEntries
	for name, c := range map[string]struct {
		first, last uint64
		left        run
		marked      bool
	}{
		"the beginning": {1, n - 1, run{2*cutEntries + 1, n}, true},
		"the end":       {2, n, run{1, cutEntries}, false},
	} {
		dir := t.TempDir()
		_, log, _ := openLog(t, dir)
		var err error
		if log.mark, err = openMark(dir, log, raftFile{}); err != nil {
			t.Fatal(err)
		}
		defer log.mark.close()
		var logs []*raft.Log
		for i := uint64(1); i <= n; i++ {
			logs = append(logs, &raft.Log{Index: i, Term: 1})
		}
		if err := log.StoreLogs(logs); err != nil {
			t.Fatal(err)
		}
		stop, cuts := errors.New("stop"), 0
		log.w.step = func(string) {
			if cuts++; cuts == 2 { // the second is on its way already
				log.w.fault = func(string) error { return stop }
			}
		}
		if err := log.DeleteRange(c.first, c.last); !errors.Is(err, stop) {
			t.Fatal(name, err)
		}
		first, err := log.FirstIndex()
		last, err2 := log.LastIndex()
		if got := (run{first, last}); got != c.left || errors.Join(err, err2) != nil {
			t.Errorf("%s: left %v, want %v; %v", name, got, c.left, errors.Join(err, err2))
		}
		if at := log.mark.index.Load(); (at == n) != c.marked || (at == 0) == c.marked {
			t.Errorf("%s: the mark says %d", name, at)
		}
	}
}
