package audit

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestVerifyFindsEveryFlippedByte(t *testing.T) {
	dir := t.TempDir()
	head := write(t, dir, 3)
	path, good := only(t, dir)
	wantClean(t, dir)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		put(t, path, bad)
		r := verify(t, dir)
		if len(r.Faults) == 0 {
			t.Fatalf("byte %d (%q) flipped: it verifies", i, good[i])
		}
		if line := 1 + bytes.Count(good[:i], []byte("\n")); r.Faults[0].Line != line {
			t.Fatalf("byte %d of line %d flipped: the first fault is %v", i, line, r.Faults[0])
		}
	}
	put(t, path, good)
	if r := verify(t, dir, head); len(r.Faults) != 0 || r.Lines != 3 || r.Last != 3 || r.Head != head.Hash {
		t.Fatalf("%+v, head %v", r, head)
	}
}

func TestVerifyFindsEveryTruncation(t *testing.T) {
	dir := t.TempDir()
	head := write(t, dir, 2)
	path, good := only(t, dir)
	for n := range good {
		put(t, path, good[:n])
		whole := n == 0 || good[n-1] == '\n'
		if r := verify(t, dir); !whole && (len(r.Faults) == 0 || r.Faults[0].Kind != FaultTorn) {
			t.Fatalf("cut within a line at %d: %v", n, r.Faults)
		}
		if r := verify(t, dir, head); len(r.Faults) == 0 {
			t.Fatalf("cut at %d, with the head known: it verifies", n)
		}
	}
}

func TestVerifyFindsDroppedRepeatedAndSwappedLines(t *testing.T) {
	dir := t.TempDir()
	head := write(t, dir, 5)
	path, good := only(t, dir)
	rows := splitLines(good)
	for i := range rows {
		drop := slices.Concat(rows[:i], rows[i+1:])
		put(t, path, bytes.Join(drop, nil))
		r := verify(t, dir)
		if last := i == len(rows)-1; last {
			r = verify(t, dir, head)
		}
		if len(r.Faults) == 0 {
			t.Errorf("line %d dropped: it verifies", i+1)
		}
		put(t, path, bytes.Join(slices.Insert(slices.Clone(rows), i, rows[i]), nil))
		if r := verify(t, dir); len(r.Faults) == 0 || r.Faults[0].Line != i+2 {
			t.Errorf("line %d twice: %v", i+1, r.Faults)
		}
		if i+1 < len(rows) {
			swapped := slices.Clone(rows)
			swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
			put(t, path, bytes.Join(swapped, nil))
			if r := verify(t, dir); len(r.Faults) == 0 || r.Faults[0].Line > i+2 {
				t.Errorf("lines %d and %d swapped: %v", i+1, i+2, r.Faults)
			}
		}
	}
}

// small makes files of a few lines, so that rotation happens.
func small(o *Options) { o.FileBytes, o.TotalBytes = 1500, 8000 }

func TestRotationKeepsToItsBoundAndVerifies(t *testing.T) {
	dir := t.TempDir()
	head := write(t, dir, 200, small)
	files, err := listFiles(dir)
	if err != nil || len(files) < 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	total := int64(0)
	for _, f := range files {
		total += f.size
		if info, err := os.Stat(filepath.Join(dir, f.name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f.name, info.Mode(), err)
		}
	}
	if total > 8000+1500 {
		t.Errorf("%d bytes in all", total)
	}
	r := wantClean(t, dir)
	if r.First == 1 || r.Last != head.Seq {
		t.Errorf("lines %d to %d, head %v: nothing was dropped", r.First, r.Last, head)
	}
	if err := os.Remove(filepath.Join(dir, files[0].name)); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, dir); len(r.Faults) == 0 || r.Faults[0].Kind != FaultBegin {
		t.Errorf("the oldest file is missing: %v", r.Faults)
	}
	for _, victim := range files[1 : len(files)-1] {
		other := t.TempDir()
		for _, f := range files[1:] {
			if f.name != victim.name {
				text, err := os.ReadFile(filepath.Join(dir, f.name))
				if err != nil {
					t.Fatal(err)
				}
				put(t, filepath.Join(other, f.name), text)
			}
		}
		if r := verify(t, other); len(r.Faults) == 0 {
			t.Errorf("%s is missing: it verifies", victim.name)
		}
	}
}

func TestAHeadThatTheLogDoesNotHold(t *testing.T) {
	dir := t.TempDir()
	head := write(t, dir, 3)
	for _, bad := range []Head{{Seq: 4, Hash: head.Hash}, {Seq: 3, Hash: noHash.String()}, {Seq: 2, Hash: head.Hash}} {
		if r := verify(t, dir, bad); len(r.Faults) != 1 || r.Faults[0].Kind != FaultHead {
			t.Errorf("head %v: %v", bad, r.Faults)
		}
	}
	again, err := ParseHead(head.String())
	if err != nil || again.Seq != head.Seq || again.Hash != head.Hash {
		t.Errorf("%v read as %v, %v", head, again, err)
	}
	for _, bad := range []string{"", "1", "1:", "x:" + head.Hash, "-1:" + head.Hash, "1:" + head.Hash + "0"} {
		if h, err := ParseHead(bad); err == nil {
			t.Errorf("%q read as %v", bad, h)
		}
	}
}

func TestNothingIsNoLog(t *testing.T) {
	if r := verify(t, t.TempDir()); len(r.Faults) != 1 || r.Faults[0].Kind != FaultEmpty {
		t.Errorf("%v", r.Faults)
	}
	if _, err := Verify(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a directory that is not there verifies")
	}
}

func FuzzParseLine(f *testing.F) {
	dir := f.TempDir()
	write(f, dir, 2)
	_, text := only(f, dir)
	for _, row := range splitLines(text) {
		f.Add(row)
	}
	f.Add([]byte(`{"seq":1,"prev":"`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := ParseLine(text)
		if err != nil {
			return
		}
		k, err := readLink(bytes.TrimSuffix(text, []byte("\n")))
		if err != nil {
			t.Fatalf("%q parses, but has no link: %v", text, err)
		}
		again, sum, err := seal(&l, k.prev)
		if err != nil || sum != k.hash || !bytes.Equal(bytes.TrimSuffix(again, []byte("\n")), bytes.TrimSuffix(text, []byte("\n"))) {
			t.Fatalf("%q is spelt %q: %v", text, again, err)
		}
	})
}
