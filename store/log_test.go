package store

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

func openLog(t testing.TB, dir string) (*raftboltdb.BoltStore, *logStore, *stableStore) {
	t.Helper()
	bolt, err := raftboltdb.New(raftboltdb.Options{Path: under(dir, fileRaft), MsgpackUseNewTimeFormat: true, BoltOptions: raftOptions()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bolt.Close() })
	w := &writer{}
	return bolt, newLogStore(bolt, w), &stableStore{bolt: bolt, w: w}
}

// TestLogSeals: an entry comes back as it was given, and the caller's is left
// alone.
func TestLogSeals(t *testing.T) {
	_, log, _ := openLog(t, t.TempDir())
	zone := time.FixedZone("far", 5*3600)
	given := []*raft.Log{
		{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: []byte("conf")},
		{Index: 2, Term: 1, Type: raft.LogNoop},
		{Index: 3, Term: 2, Data: []byte("x"), AppendedAt: time.Now()},
		{Index: 4, Term: 2, Data: bytes.Repeat([]byte("y"), 1<<20), AppendedAt: time.Unix(1, 999).In(zone)},
		{Index: 5, Term: 3, Data: []byte("z"), Extensions: []byte("of another layer")},
		{Index: 6, Term: 3, Data: []byte("z"), Extensions: appendSeal([]byte("sent by a node that did not take it off"), 1)},
		{Index: 7, Term: math.MaxUint64, Data: []byte{}, AppendedAt: time.Unix(-5, 0)},
	}
	before := make([]raft.Log, len(given))
	for i, l := range given {
		before[i] = *l
	}
	if err := log.StoreLogs(given); err != nil {
		t.Fatal(err)
	}
	for i, l := range given {
		if !reflect.DeepEqual(*l, before[i]) {
			t.Errorf("entry %d was changed under its owner", l.Index)
		}
		var got raft.Log
		if err := log.GetLog(l.Index, &got); err != nil {
			t.Fatal(err)
		}
		if got.Index != l.Index || got.Term != l.Term || got.Type != l.Type || !bytes.Equal(got.Data, l.Data) ||
			!bytes.Equal(got.Extensions, l.Extensions) || !got.AppendedAt.Equal(l.AppendedAt) {
			t.Errorf("entry %d: %+v", l.Index, got)
		}
	}
	var l raft.Log
	if err := log.GetLog(8, &l); err != raft.ErrLogNotFound {
		t.Errorf("an entry that is not there: %v", err)
	}
	if first, err := log.FirstIndex(); first != 1 || err != nil {
		t.Error(first, err)
	}
	if err := log.DeleteRange(1, 3); err != nil {
		t.Error(err)
	}
	if first, err := log.FirstIndex(); first != 4 || err != nil {
		t.Error(first, err)
	}
}

// TestLogOfOlderVersions: entries and values without checksums stay readable, at
// start and later, but not behind entries that have one.
func TestLogOfOlderVersions(t *testing.T) {
	dir := t.TempDir()
	bolt, log, stable := openLog(t, dir)
	old := []*raft.Log{{Index: 1, Term: 1, Data: []byte("a")}, {Index: 2, Term: 1, Data: []byte("b")}}
	err := errors.Join(bolt.StoreLogs(old), bolt.SetUint64([]byte("CurrentTerm"), 9), bolt.Set([]byte(keyVote), []byte("0123abcd-node")))
	if err != nil {
		t.Fatal(err)
	}
	read := func() error {
		var l raft.Log
		for i := uint64(1); i <= 2; i++ {
			if err := log.GetLog(i, &l); err != nil {
				return err
			}
		}
		return nil
	}
	if err := read(); err != nil {
		t.Fatal(err)
	}
	if term, err := stable.GetUint64([]byte("CurrentTerm")); term != 9 || err != nil {
		t.Errorf("term %d, %v", term, err)
	}
	if vote, err := stable.Get([]byte(keyVote)); string(vote) != "0123abcd-node" || err != nil {
		t.Errorf("vote %q, %v", vote, err)
	}
	if err := log.StoreLog(&raft.Log{Index: 3, Term: 1}); err != nil {
		t.Fatal(err)
	}
	if err := read(); err != nil {
		t.Error("old entries below new ones:", err)
	}
	found := raftFile{runs: []run{{1, 3}}, stable: []string{"CurrentTerm", keyVote}}
	if err := verifyLog(log, stable, found); err != nil || log.sealedFrom.Load() != 3 {
		t.Errorf("%v, sealed from %d", err, log.sealedFrom.Load())
	}
	if err := bolt.StoreLog(&raft.Log{Index: 4, Term: 1}); err != nil {
		t.Fatal(err)
	}
	var d *Damage
	var l raft.Log
	if err := log.GetLog(4, &l); !errors.As(err, &d) || d.File != fileRaft {
		t.Error("an entry that lost its checksum:", err)
	}
	if err := verifyLog(log, stable, raftFile{runs: []run{{1, 4}}}); !errors.As(err, &d) {
		t.Error("the same at start:", err)
	}
}

func TestStableFindsEveryFlip(t *testing.T) {
	bolt, _, stable := openLog(t, t.TempDir())
	for _, c := range []struct{ key, value string }{{"CurrentTerm", "\x00\x00\x00\x00\x00\x00\x00\x07"}, {keyVote, "n2"}, {keyVote, "0123456789abcdef"}, {keyVote, ""}} {
		if err := stable.Set([]byte(c.key), []byte(c.value)); err != nil {
			t.Fatal(err)
		}
		if got, err := stable.Get([]byte(c.key)); err != nil || string(got) != c.value {
			t.Errorf("%s: %q, %v", c.key, got, err)
		}
		sealed, _ := bolt.Get([]byte(c.key))
		for i := range len(sealed) * 8 {
			broken := bytes.Clone(sealed)
			broken[i/8] ^= 1 << (i % 8)
			if err := bolt.Set([]byte(c.key), broken); err != nil {
				t.Fatal(err)
			}
			var d *Damage
			if got, err := stable.Get([]byte(c.key)); !errors.As(err, &d) {
				t.Errorf("%s=%q bit %d: %q, %v", c.key, c.value, i, got, err)
			}
		}
	}
	if _, err := stable.Get([]byte("nothing")); err == nil || err.Error() != "not found" {
		t.Error("raft compares the text of this error:", err)
	}
}

// TestLogGaps: raft leaves a gap where it installed a snapshot; any other is a
// loss.
func TestLogGaps(t *testing.T) {
	for _, c := range []struct {
		runs     []run
		snapshot uint64
		ok       bool
	}{
		{nil, 0, true}, {nil, 9, true},
		{[]run{{1, 5}}, 0, true}, {[]run{{2, 5}}, 0, false}, {[]run{{2, 5}}, 1, true}, {[]run{{3, 5}}, 1, false},
		{[]run{{1, 5}}, 100, true},
		{[]run{{1, 5}, {101, 110}}, 100, true}, {[]run{{1, 5}, {101, 110}}, 99, false},
		{[]run{{1, 5}, {90, 110}}, 100, true}, {[]run{{1, 5}, {90, 110}, {112, 113}}, 100, false},
	} {
		err := verifyRuns(raftFile{runs: c.runs}, c.snapshot)
		if (err == nil) != c.ok {
			t.Errorf("%v with a snapshot of %d: %v", c.runs, c.snapshot, err)
		}
	}
}
