package store

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/edgecoder/edgecoder/fsm"
)

// TestOpenLifecycle: a new directory, one that has state, and one that another
// has open.
func TestOpenLifecycle(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	s, err := Open(dir, rigOptions())
	if err != nil {
		t.Fatal(err)
	}
	if has, err := s.HasState(); has || err != nil {
		t.Error("a new directory has state:", has, err)
	}
	if _, err := Open(dir, rigOptions()); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Error("opened twice:", err)
	}
	if _, err := Survey(dir); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Error("surveyed while it runs:", err)
	}
	if err := s.Stable.SetUint64([]byte("CurrentTerm"), 1); err != nil {
		t.Fatal(err)
	}
	if has, err := s.HasState(); !has || err != nil {
		t.Error("a term is state:", has, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil {
		t.Error("no snapshots to keep")
	}
	for _, left := range []string{fileHistory + suffixNew, fileRaft + suffixNew} {
		writeAll(t, under(dir, left), []byte("half"))
	}
	if err := os.MkdirAll(under(dir, dirSnapshots, "1-2-3"+suffixTmp), 0o700); err != nil {
		t.Fatal(err)
	}
	mustRead(t, dir)
	for _, f := range filesOf(t, dir) {
		if strings.HasSuffix(f, suffixNew) {
			t.Errorf("%s is still there", f)
		}
	}
	if entries, _ := os.ReadDir(under(dir, dirSnapshots)); len(entries) > 0 {
		t.Errorf("left: %v", entries)
	}
}

// TestRestart: state, log and history are the same after each restart, and
// snapshots are kept as asked.
func TestRestart(t *testing.T) {
	r := newRig(t, rigOptions())
	for range 5 {
		r.tokens(4)
		r.snapshot()
		r.tokens(2)
		r.restart(rigOptions())
	}
	metas, err := r.s.Snapshots.List()
	if err != nil || len(metas) != 3 || metas[0].Index <= metas[1].Index {
		t.Errorf("%d snapshots, %v", len(metas), err)
	}
	before, err := contentsOf(r.s)
	if err != nil {
		t.Fatal(err)
	}
	r.close()
	after := mustRead(t, r.dir)
	wantSame(t, "after a restart", after, before)
}

// TestSnapshotOfOlderVersion: one without meta.sum is taken and sealed, and older
// versions dropped snapshots by half.
func TestSnapshotOfOlderVersion(t *testing.T) {
	dir := sampleDir(t, 3, 2)
	ids, err := os.ReadDir(under(dir, dirSnapshots))
	if err != nil || len(ids) != 1 {
		t.Fatal(ids, err)
	}
	sum := under(dir, dirSnapshots, ids[0].Name(), fileSum)
	if err := os.Remove(sum); err != nil {
		t.Fatal(err)
	}
	mustRead(t, dir)
	if _, err := os.Stat(sum); err != nil {
		t.Error(err)
	}
	if err := os.MkdirAll(under(dir, dirSnapshots, "0-1-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	o := rigOptions()
	o.Keep = 1
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal("a half dropped one behind those to keep:", err)
	}
	_ = s.Close()
}

// TestLogBehindHistory: a log that lost its end is found by what history knows.
func TestLogBehindHistory(t *testing.T) {
	r := newRig(t, rigOptions())
	r.tokens(5)
	r.flush()
	if err := r.s.Logs.DeleteRange(4, r.index); err != nil {
		t.Fatal(err)
	}
	r.close()
	var d *Damage
	if _, err := Open(r.dir, rigOptions()); !errors.As(err, &d) || d.File != fileRaft {
		t.Error(err)
	}
}

// damageRow breaks one byte of a record behind bbolt's back.
func damageRow(t *testing.T, path string, s fsm.Stream, seq uint64) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, historyOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketOf(s))
		v := append([]byte(nil), b.Get(seqKey(seq))...)
		v[len(v)-1] ^= 1
		return b.Put(seqKey(seq), v)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLargeHistory: the newest records are read at start, the others later; a
// fault is told either way.
func TestLargeHistory(t *testing.T) {
	n := checkTail + 3000
	r := newRig(t, rigOptions())
	h := r.s.History
	fill(t, h, n, 40)
	_, totals := h.Totals()
	last := totals[fsm.StreamAdmin]
	// The witness of the log is another test's: here the log may end early.
	newest := fsm.SnapshotInfo{}
	r.close()
	path := under(r.dir, fileHistory)
	for _, c := range []struct {
		seq   uint64
		start bool
	}{{last, true}, {last - checkTail + 1, true}, {2, false}, {last - checkTail - 5, false}} {
		damageRow(t, path, fsm.StreamAdmin, c.seq)
		db, head, rest, err := openHistory(r.dir, 1)
		var d *Damage
		if c.start {
			if !errors.As(err, &d) || d.File != fileHistory {
				t.Errorf("record %d: %v", c.seq, err)
			}
		} else {
			if err != nil || !rest || agree(db, head, newest, last) != nil {
				t.Fatalf("record %d: %v", c.seq, err)
			}
			told := make(chan error, 1)
			h := newHistory(path, db, head, mustTrees(t, db), &writer{}, discard(), func(err error) { told <- err })
			h.loops.Go(func() { h.readRest(head, mustTrees(t, db)) })
			if err := <-told; !errors.As(err, &d) || d.File != fileHistory {
				t.Errorf("record %d: told %v", c.seq, err)
			}
			_ = h.Close()
		}
		damageRow(t, path, fsm.StreamAdmin, c.seq) // and back
	}
	db, head, _, err := openHistory(r.dir, 1)
	if err != nil {
		t.Fatal(err)
	}
	h = newHistory(path, db, head, mustTrees(t, db), &writer{}, discard(), func(err error) { t.Error(err) })
	h.loops.Go(func() { h.readRest(head, mustTrees(t, db)) })
	if err := h.Close(); err != nil { // does not wait for it
		t.Error(err)
	}
}

// TestLargeHistoryPages: branch pages and free pages are checked at once even
// then.
func TestLargeHistoryPages(t *testing.T) {
	dir := t.TempDir()
	h := openTestHistory(t, dir, &writer{}, nil)
	fill(t, h, 5000, 200)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	path := under(dir, fileHistory)
	data := slurp(t, path)
	pages, used, freelist := 0, usedPages(t, path), currentMeta(t, path).freelist
	for page := 2 * os.Getpagesize(); page < len(data); page += os.Getpagesize() {
		flags := native.Uint16(data[page+8:])
		if !(flags == flagBranch && used(page) || flags == flagFreelist && native.Uint64(data[page:]) == freelist) {
			continue
		}
		pages++
		for _, at := range []int{0, 8, 10, 12, 16, 24, 40} {
			broken := append([]byte(nil), data...)
			broken[page+at] ^= 1
			writeAll(t, path, broken)
			if _, _, _, err := openHistory(dir, 1); err == nil {
				t.Errorf("page %d of type %d, byte %d: not found", page/os.Getpagesize(), flags, at)
			}
			writeAll(t, path, data)
		}
	}
	if pages < 2 {
		t.Errorf("%d pages were broken", pages)
	}
}

func currentMeta(t testing.TB, path string) boltMeta {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, _ := f.Stat()
	meta, err := readMetas(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return meta
}

// TestSurvey: what a sound copy holds, and all that is wrong with a damaged one.
func TestSurvey(t *testing.T) {
	dir := sampleDir(t, 6, 4)
	before := filesAndBytes(t, dir)
	c, err := Survey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Damage) > 0 || c.FirstIndex != 1 || c.LastIndex != 11 || c.LastTerm != 1 || c.CurrentTerm != 7 || c.VotedTerm != 7 ||
		c.VotedFor != "0123456789abcdef" || len(c.Snapshots) != 1 || c.Snapshots[0].Index != 7 || c.Snapshots[0].State.Index != 7 ||
		c.HistoryEpoch != 1 || c.History[fsm.StreamAdmin] == 0 || len(c.Snapshots[0].Configuration.Servers) != 1 {
		t.Errorf("%+v", c)
	}
	if after := filesAndBytes(t, dir); !reflect.DeepEqual(before, after) {
		t.Error("a survey changed something")
	}
	if _, err := json.Marshal(c); err != nil {
		t.Error(err)
	}
	for _, f := range filesOf(t, dir) { // all of them at once
		data := slurp(t, under(dir, f))
		at := len(data) / 2
		if strings.HasSuffix(f, ".db") {
			at = os.Getpagesize() + pageHeader + 50
		}
		data[at] ^= 0x10
		writeAll(t, under(dir, f), data)
	}
	c, err = Survey(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, d := range c.Damage {
		found[filepath.Base(d.File)] = true
	}
	if !found[fileRaft] || !found[fileHistory] || !found[fileMeta] && !found[fileSum] {
		t.Errorf("found: %+v", c.Damage)
	}
	if _, err := Survey(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Error("an empty directory:", err)
	}
}

func filesAndBytes(t *testing.T, dir string) map[string]string {
	out := map[string]string{}
	for _, f := range filesOf(t, dir) {
		out[f] = string(slurp(t, under(dir, f)))
	}
	return out
}
