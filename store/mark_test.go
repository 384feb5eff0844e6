package store

import (
	"errors"
	"os"
	"testing"

	"github.com/hashicorp/raft"
)

// TestOldLogIsDamage: a raft.db from before the newest acknowledged entry is
// found, though nothing in it is wrong; so is one with other entries.
func TestOldLogIsDamage(t *testing.T) {
	r := newRig(t, rigOptions())
	r.tokens(3)
	r.close()
	old := slurp(t, under(r.dir, fileRaft))
	r.open(rigOptions())
	if err := r.s.Logs.StoreLog(&raft.Log{Index: r.index + 1, Term: 1, Type: raft.LogNoop}); err != nil {
		t.Fatal(err)
	}
	r.close()
	good := slurp(t, under(r.dir, fileRaft))
	writeAll(t, under(r.dir, fileRaft), old)
	var d *Damage
	if _, err := Open(r.dir, rigOptions()); !errors.As(err, &d) || d.File != fileRaft {
		t.Error("an old log:", err)
	}
	bolt, log, _ := openLog(t, r.dir)
	if err := log.StoreLog(&raft.Log{Index: r.index + 1, Term: 1, Data: []byte("other")}); err != nil {
		t.Fatal(err)
	}
	_ = bolt.Close()
	if _, err := Open(r.dir, rigOptions()); !errors.As(err, &d) || d.File != fileRaft {
		t.Error("another entry:", err)
	}
	writeAll(t, under(r.dir, fileRaft), good)
	mustRead(t, r.dir)
	if err := os.Remove(under(r.dir, fileMark)); err != nil {
		t.Fatal(err)
	}
	mustRead(t, r.dir) // as an older version leaves it
}

// TestMarkFollowsTheLog: whatever raft deletes, the mark is never ahead, even if
// it is as old as a power loss may leave it.
func TestMarkFollowsTheLog(t *testing.T) {
	s, dir := (*Store)(nil), t.TempDir()
	open := func() {
		t.Helper()
		var err error
		if s, err = Open(dir, rigOptions()); err != nil {
			t.Fatal(err)
		}
	}
	store := func(from, to uint64, term uint64) {
		t.Helper()
		for i := from; i <= to; i++ {
			if err := s.Logs.StoreLog(&raft.Log{Index: i, Term: term, Type: raft.LogNoop}); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(from, to uint64) {
		t.Helper()
		if err := s.Logs.DeleteRange(from, to); err != nil {
			t.Fatal(err)
		}
	}
	again := func(mark []byte) {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if mark != nil {
			writeAll(t, under(dir, fileMark), mark)
		}
		open()
	}
	open()
	store(1, 10, 1)
	old := slurp(t, under(dir, fileMark))
	store(11, 20, 1)
	again(old) // behind
	remove(15, 20)
	again(nil)
	store(15, 18, 2)
	again(nil)
	remove(15, 18) // and the new entries never came
	again(nil)
	store(15, 30, 3)
	remove(1, 0) // nothing
	remove(20, 30)
	cut := slurp(t, under(dir, fileMark))
	store(20, 25, 4)
	again(cut)
	remove(1, 25)
	again(nil)
	if last, err := s.Logs.LastIndex(); last != 0 || err != nil {
		t.Error(last, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
