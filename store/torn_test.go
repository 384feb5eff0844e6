package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/fsm"
)

const sector = 512

// tearing makes crash states of a commit: the file before and after it, and
// sectors of the one in the other.
type tearing struct {
	before, after []byte
	data, meta    []int // offsets of sectors that changed
}

func tear(before, after []byte) tearing {
	before = append(bytes.Clone(before), make([]byte, max(0, len(after)-len(before)))...) // bbolt grows a file first
	c := tearing{before: before, after: after}
	for at := 0; at < len(after); at += sector {
		end := min(at+sector, len(after))
		switch {
		case bytes.Equal(before[at:end], after[at:end]):
		case at < 2*os.Getpagesize():
			c.meta = append(c.meta, at)
		default:
			c.data = append(c.data, at)
		}
	}
	return c
}

// state is the file with some of the changed data sectors, or with all of them
// and the meta page.
func (c tearing) state(pick func() bool, whole bool) []byte {
	out := bytes.Clone(c.before)
	for _, at := range c.data {
		if whole || pick() {
			copy(out[at:min(at+sector, len(out))], c.after[at:])
		}
	}
	for _, at := range c.meta {
		if whole {
			copy(out[at:at+sector], c.after[at:])
		}
	}
	return out
}

// states lists crash states, and whether each holds what came after.
func (c tearing) states(random *rand.Rand) (files [][]byte, after []bool) {
	for _, share := range []float64{0, 0.1, 0.5, 0.5, 0.5, 0.9, 1} {
		files, after = append(files, c.state(func() bool { return random.Float64() < share }, false)), append(after, false)
	}
	return append(files, c.state(nil, true)), append(after, true)
}

func tornCommits() int {
	if testing.Short() {
		return 4
	}
	return 25
}

// TestTornHistory: whatever part of a commit reached the disk before its meta
// page, the file opens with what it held before; with all of it, with what it
// holds after. Nothing that was flushed is ever missing.
func TestTornHistory(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	dir, crashed := t.TempDir(), t.TempDir()
	h := openTestHistory(t, dir, &writer{}, nil)
	defer h.Close()
	var all []fsm.Record
	ends := fsm.Totals{}
	for range tornCommits() {
		before, n := slurp(t, under(dir, fileHistory)), len(all)
		for range 1 + random.IntN(30) {
			s := fsm.Streams()[random.IntN(2)]
			ends[s]++
			all = append(all, recordOf(s, ends[s], uint64(len(all)+1), random.IntN(1200)))
		}
		if err := errors.Join(h.Append(1, all[n:]), h.Flush()); err != nil {
			t.Fatal(err)
		}
		files, after := tear(before, slurp(t, under(dir, fileHistory))).states(random)
		for i, file := range files {
			writeAll(t, under(crashed, fileHistory), file)
			again := openTestHistory(t, crashed, &writer{}, nil)
			want := all[:n]
			if after[i] {
				want = all
			}
			_, totals := again.Totals()
			got := fsm.Totals{}
			for r, err := range again.UpTo(totals) {
				if err != nil {
					t.Fatal(err)
				}
				if !slices.ContainsFunc(want, func(w fsm.Record) bool { return sameRecord(w, r) }) {
					t.Fatalf("state %d: record %d of stream %d is not what was written", i, r.Seq, r.Stream)
				}
				got[r.Stream]++
			}
			if total := got[fsm.StreamAdmin] + got[fsm.StreamBlacklist]; total != uint64(len(want)) {
				t.Fatalf("state %d: %d records, want %d", i, total, len(want))
			}
			_ = again.Close()
		}
	}
}

// TestTornLog is the same for raft's log, with deletions at both ends.
func TestTornLog(t *testing.T) {
	random := rand.New(rand.NewPCG(8, 8))
	dir, crashed := t.TempDir(), t.TempDir()
	_, log, _ := openLog(t, dir)
	first, next := uint64(1), uint64(1)
	for range tornCommits() {
		before := slurp(t, under(dir, fileRaft))
		was := run{first, next - 1}
		switch {
		case random.IntN(4) == 0 && next-first > 20:
			first += 10
			if err := log.DeleteRange(was.first, first-1); err != nil {
				t.Fatal(err)
			}
		case random.IntN(4) == 0 && next-first > 20:
			next -= 5
			if err := log.DeleteRange(next, was.last); err != nil {
				t.Fatal(err)
			}
		default:
			var batch []*raft.Log
			for range 1 + random.IntN(30) {
				batch = append(batch, &raft.Log{Index: next, Term: 1, Data: make([]byte, random.IntN(700))})
				next++
			}
			if err := log.StoreLogs(batch); err != nil {
				t.Fatal(err)
			}
		}
		files, after := tear(before, slurp(t, under(dir, fileRaft))).states(random)
		for i, file := range files {
			writeAll(t, under(crashed, fileRaft), file)
			want := was
			if after[i] {
				want = run{first, next - 1}
			}
			bolt, found, err := openRaft(crashed)
			if err != nil {
				t.Fatalf("state %d: %v", i, err)
			}
			if len(found.runs) > 1 || found.last() != want.last || len(found.runs) == 1 && found.runs[0] != want {
				t.Fatalf("state %d: %v, want %v", i, found.runs, want)
			}
			if err := verifyLog(newLogStore(bolt, &writer{}), &stableStore{bolt: bolt}, found); err != nil {
				t.Fatalf("state %d: %v", i, err)
			}
			_ = bolt.Close()
		}
	}
}

// TestTornMetaIsDamage: a meta page that is torn is no crash that can happen,
// and going on with the older one could use pages that were written over.
func TestTornMetaIsDamage(t *testing.T) {
	dir := sampleDir(t, 3, 3)
	for _, file := range []string{fileRaft, fileHistory} {
		data := slurp(t, under(dir, file))
		for page := range 2 {
			broken := bytes.Clone(data)
			copy(broken[page*os.Getpagesize()+pageHeader+40:], make([]byte, 8))
			writeAll(t, under(dir, file), broken)
			var d *Damage
			if _, err := readAll(dir); !errors.As(err, &d) || d.File != file {
				t.Errorf("%s without meta page %d: %v", file, page, err)
			}
		}
		writeAll(t, under(dir, file), data)
	}
}
