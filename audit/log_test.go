package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestATornLineIsReplacedByALineThatSaysSo(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, 3)
	path, good := only(t, dir)
	rows := splitLines(good)
	whole := len(rows[0]) + len(rows[1])
	for _, cut := range []int{whole + 1, whole + 200, len(good) - 1} {
		put(t, path, good[:cut])
		l := mustOpen(t, Options{Dir: dir, Now: newClock().now, Node: "node-1"})
		commit(t, l, numbered(9))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		wantClean(t, dir)
		got := lines(t, dir)
		if len(got) != 4 || got[2].Type != TypeTorn || got[2].Details["bytes"] != fmt.Sprint(cut-whole) || got[3].Index != 9 {
			t.Errorf("cut at %d: %+v", cut, got[2:])
		}
	}
	put(t, path, append(bytes.Clone(good), bytes.Repeat([]byte("x"), 3*maxLine)...))
	l := mustOpen(t, Options{Dir: dir, Now: newClock().now, Node: "node-1"})
	commit(t, l, numbered(9))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	wantClean(t, dir)
}

func TestDamageIsToldOnceAndTheLogGoesOn(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, 5)
	path, good := only(t, dir)
	bad := bytes.Clone(good)
	bad[len(splitLines(good)[0])+100] ^= 1
	put(t, path, bad)
	for range 2 {
		l := mustOpen(t, Options{Dir: dir, Now: newClock().now, Node: "node-1"})
		commit(t, l, numbered(9))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	r := verify(t, dir)
	if len(r.Faults) != 1 || r.Faults[0].Line != 2 || r.Faults[0].Kind != FaultMalformed || r.Files != 2 {
		t.Fatalf("%+v", r)
	}
	text, err := os.ReadFile(filepath.Join(dir, r.file))
	if err != nil {
		t.Fatal(err)
	}
	rows := splitLines(text)
	first, err := ParseLine(rows[0])
	if err != nil || len(rows) != 3 {
		t.Fatalf("%d lines behind the break, %v", len(rows), err)
	}
	if first.Type != TypeBreak || first.Level != LevelCritical || first.Details["line"] != "2" || first.Details["kind"] != FaultMalformed || first.Seq != 6 {
		t.Errorf("%+v", first)
	}
}

func TestALogHasOneNode(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, 1)
	if l, err := Open(Options{Dir: dir, Node: "node-2"}); err == nil || !strings.Contains(err.Error(), "node-1") {
		t.Errorf("%v, %v", l, err)
	}
}

// TestRepeatsCountExactly: whatever comes in whatever order, the counts of the
// lines add up to the events, by type and code, and times enclose them.
func TestRepeatsCountExactly(t *testing.T) {
	base := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		dir := filepath.Join(base, fmt.Sprint(n))
		c := newClock()
		l := mustOpen(t, Options{Dir: dir, Now: c.now})
		sent := map[string]uint64{}
		actors := rapid.SampledFrom([]int{1, 3, 2 * bounds[ofClaim].rows}).Draw(rt, "actors")
		for range rapid.IntRange(1, 2000).Draw(rt, "events") {
			typ := rapid.SampledFrom([]string{"failed_auth", "replay_attempt"}).Draw(rt, "type")
			id := rapid.IntRange(0, actors-1).Draw(rt, "actor")
			l.Append(Event{Type: typ, Level: LevelWarn, Code: "unauthorized", Actor: Actor{Kind: "agent", ID: fmt.Sprint(id)}})
			sent[typ]++
			if rapid.IntRange(0, 99).Draw(rt, "wait") == 0 {
				c.move(repeatWindow / 3)
			}
		}
		if err := l.Close(); err != nil {
			rt.Fatal(err)
		}
		got := map[string]uint64{}
		for _, line := range lines(t, dir) {
			got[line.Type] += line.Events()
			if line.Count > 0 && (line.FirstMs < testMs || line.LastMs < line.FirstMs || line.TimeMs < line.LastMs) {
				rt.Fatalf("times of %+v", line)
			}
		}
		for typ, want := range sent {
			if got[typ] != want {
				rt.Fatalf("%s: %d of %d events", typ, got[typ], want)
			}
		}
		wantClean(t, dir)
	})
}

func TestAFullQueueIsCounted(t *testing.T) {
	l := &Log{o: Options{Now: newClock().now}, bell: make(chan struct{}, 1), repeats: newRepeats()} // no writer
	for i := range maxQueue + 7 {
		l.Append(Event{Type: fmt.Sprint("t", i)})
	}
	if err := l.Err(); err == nil {
		t.Error("a full queue takes changes")
	}
	items := l.take(false)
	last := items[len(items)-1]
	var told uint64
	for _, i := range items {
		told += max(1, i.count)
	}
	if told != maxQueue+7 || last.event.Type != TypeLost {
		t.Errorf("%d events told, the last is %+v", told, last)
	}
}

// failingDisk fails from an operation on, until it is mended.
type failingDisk struct {
	osDisk
	mu    sync.Mutex
	left  int // operations that still work; -1: all do
	torn  bool
	fault error
	ops   int
}

func (d *failingDisk) step() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ops++
	if d.left == 0 {
		return d.fault
	}
	if d.left > 0 {
		d.left--
	}
	return nil
}

func (d *failingDisk) mend() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = -1
}

func (d *failingDisk) create(path string) (file, error) {
	if err := d.step(); err != nil {
		return nil, err
	}
	f, err := d.osDisk.create(path)
	return &failingFile{f, d}, err
}

func (d *failingDisk) open(path string) (file, error) {
	f, err := d.osDisk.open(path)
	return &failingFile{f, d}, err
}

func (d *failingDisk) remove(path string) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.osDisk.remove(path)
}

type failingFile struct {
	file
	d *failingDisk
}

func (f *failingFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.d.step(); err != nil {
		if !f.d.torn {
			return 0, err
		}
		n, _ := f.file.WriteAt(p[:len(p)/2], off) // half of it arrived
		return n, err
	}
	return f.file.WriteAt(p, off)
}

func (f *failingFile) Sync() error {
	if err := f.d.step(); err != nil {
		return err
	}
	return f.file.Sync()
}

func TestAFullDiskFailsClosedAndForgetsNothing(t *testing.T) {
	dir := t.TempDir()
	d := &failingDisk{left: -1, torn: true, fault: syscall.ENOSPC}
	l := mustOpen(t, Options{Dir: dir, Now: newClock().now, disk: d, FileBytes: 1500})
	commit(t, l, numbered(1))
	d.mu.Lock()
	d.left = 0
	d.mu.Unlock()
	for i := 2; i <= 8; i++ {
		if err := l.Commit(context.Background(), numbered(i)); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("event %d on a full disk: %v", i, err)
		}
	}
	if !errors.Is(l.Err(), syscall.ENOSPC) {
		t.Fatalf("Err: %v", l.Err())
	}
	l.Append(Event{Type: "failed_auth", Level: LevelWarn})
	d.mend()
	deadline := time.Now().Add(20 * time.Second)
	for l.Err() != nil && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	commit(t, l, numbered(9))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	wantClean(t, dir)
	if got := lines(t, dir); len(got) != 10 {
		t.Errorf("%d lines, want all 10: %+v", len(got), got)
	}
}

// TestCrashAtEveryStep stops the disk at each of its operations for good, as a
// crash does, and opens what is there: what was acknowledged is there, and the
// log verifies once it was opened.
func TestCrashAtEveryStep(t *testing.T) {
	const events = 24
	count := &failingDisk{left: -1, fault: errors.New("crashed")}
	write(t, t.TempDir(), events, small, func(o *Options) { o.disk = count })
	base := t.TempDir()
	for _, torn := range []bool{false, true} {
		for step := range count.ops + 1 {
			dir := filepath.Join(base, fmt.Sprint(torn, step))
			d := &failingDisk{left: step, torn: torn, fault: errors.New("crashed")}
			o := Options{Dir: dir, Node: "node-1", Now: newClock().now, disk: d}
			small(&o)
			l, err := Open(o)
			if err != nil {
				t.Fatal(err)
			}
			acked := Head{}
			for i := range events {
				if l.Commit(context.Background(), numbered(i)) != nil {
					break
				}
				acked = l.Head()
			}
			_ = l.Close() // the disk is gone: nothing more reaches it
			o.disk = nil
			again, err := Open(o)
			if err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
			commit(t, again, numbered(99))
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
			r := wantClean(t, dir)
			if r.Last < acked.Seq+1 {
				t.Fatalf("step %d, torn %v: %v was acknowledged, the log ends with %d", step, torn, acked, r.Last)
			}
			if acked.Seq >= r.First {
				if r := verify(t, dir, acked); len(r.Faults) > 0 {
					t.Fatalf("step %d, torn %v: %v", step, torn, r.Faults)
				}
			}
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir, FileBytes: 4000})
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 20 {
				l.Append(Event{Type: "failed_auth", Level: LevelWarn, Code: "unauthorized", Actor: Actor{Kind: "address", ID: fmt.Sprint(w)}})
				if err := l.Commit(context.Background(), numbered(i)); err != nil {
					t.Error(err)
				}
				if _, err := l.Read(context.Background(), Query{Newest: true, Limit: 5, Bytes: 1 << 20}); err != nil {
					t.Error(err)
				}
				_ = l.Err()
			}
		})
	}
	all.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Commit(context.Background(), numbered(1)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	wantClean(t, dir)
	var failed, made uint64
	for _, line := range lines(t, dir) {
		switch line.Type {
		case "failed_auth":
			failed += line.Events()
		case "token_create":
			made += line.Events()
		}
	}
	if failed != 160 || made != 160 {
		t.Errorf("%d refusals and %d changes, want 160 each", failed, made)
	}
}

func TestReadPagesAndFilters(t *testing.T) {
	dir := t.TempDir()
	c := newClock()
	l := mustOpen(t, Options{Dir: dir, Now: c.now, FileBytes: 1500})
	for i := range 20 {
		e := numbered(i)
		if i%4 == 0 {
			e.Type, e.Level, e.Actor.ID = "ban", LevelHigh, "somebody"
		}
		commit(t, l, e)
		c.move(time.Second)
	}
	ctx := context.Background()
	read := func(q Query) ([]uint64, uint64) {
		t.Helper()
		if q.Bytes == 0 {
			q.Bytes = 1 << 20
		}
		page, err := l.Read(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		var seqs []uint64
		for _, text := range page.Lines {
			line, err := ParseLine(text)
			if err != nil {
				t.Fatal(err)
			}
			seqs = append(seqs, line.Seq)
		}
		return seqs, page.Through
	}
	for _, tc := range []struct {
		q       Query
		want    string
		through uint64
	}{
		{Query{Limit: 3}, "[1 2 3]", 3},
		{Query{Limit: 3, After: 18}, "[19 20]", 20},
		{Query{Limit: 3, After: 20}, "[]", 20},
		{Query{Limit: 3, Newest: true}, "[18 19 20]", 20},
		{Query{Limit: 100, Type: "ban"}, "[1 5 9 13 17]", 20},
		{Query{Limit: 2, Type: "ban"}, "[1 5]", 8},
		{Query{Limit: 2, Type: "ban", After: 8}, "[9 13]", 16},
		{Query{Limit: 2, Level: LevelHigh, Newest: true}, "[13 17]", 20},
		{Query{Limit: 2, Level: LevelCritical}, "[]", 20},
		{Query{Limit: 9, Actor: "somebody", SinceMs: testMs + 10_000}, "[13 17]", 20},
		{Query{Limit: 9, Bytes: 1}, "[1]", 1},
		{Query{Limit: 9, Bytes: 1, Newest: true}, "[20]", 20},
	} {
		if seqs, through := read(tc.q); fmt.Sprint(seqs) != tc.want || through != tc.through {
			t.Errorf("%+v: %v through %d, want %s through %d", tc.q, seqs, through, tc.want, tc.through)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := l.Read(ctx, Query{Limit: 1, Bytes: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("a reader that went away: %v", err)
	}
}

func TestHostileTextsStayOneBoundedLine(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	long := strings.Repeat("\x00\n\xff", 100_000)
	details := map[string]string{}
	for i := range 100 {
		details[fmt.Sprint(i, long)] = long
	}
	commit(t, l, Event{Type: long, Level: long, Actor: Actor{Kind: long, ID: long}, Action: long, RequestID: long, Code: long, Details: details})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r := wantClean(t, dir); r.Lines != 1 {
		t.Errorf("%+v", r)
	}
}

func BenchmarkAppendRepeat(b *testing.B) {
	l := mustOpen(b, Options{Dir: b.TempDir()})
	e := Event{Type: "replay_attempt", Level: LevelHigh, Code: "replay", Actor: Actor{Kind: "agent", ID: "a"}}
	b.ReportAllocs()
	for b.Loop() {
		l.Append(e)
	}
}
