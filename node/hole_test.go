package node

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestHoleHasTheSnapshotsTerm: a follower tells raft the term of the restore that
// stands in its log's hole; a leader never does, nor one that just was.
func TestHoleHasTheSnapshotsTerm(t *testing.T) {
	inner := raft.NewInmemStore()
	for _, at := range []uint64{16, 17, 19} {
		if err := inner.StoreLog(&raft.Log{Index: at, Term: 2}); err != nil {
			t.Fatal(err)
		}
	}
	halted := errors.New("halted")
	index := uint64(18)
	now := time.UnixMilli(0)
	log := &holeLog{LogStore: inner, now: func() time.Time { return now }, newest: func() (uint64, uint64) { return index, 2 }, halt: func(error) error { return halted }}
	want := func(what string, at uint64, want error) {
		t.Helper()
		var l raft.Log
		err := log.GetLog(at, &l)
		if !errors.Is(err, want) || err == nil && (l.Index != at || l.Term != 2) {
			t.Errorf("%s: entry %d: %+v, %v", what, at, l, err)
		}
	}
	want("before raft runs", 18, raft.ErrLogNotFound)
	state := raft.Follower
	of := func() raft.RaftState { return state }
	log.state.Store(&of)
	want("a follower's hole", 18, nil)
	want("an entry", 17, nil)
	want("before the log", 15, raft.ErrLogNotFound)
	want("behind the log", 20, raft.ErrLogNotFound)
	index = 20
	want("the snapshot is the end", 20, raft.ErrLogNotFound)
	index = 15
	want("a compacted log", 15, raft.ErrLogNotFound)
	index = 18
	state = raft.Leader
	want("a leader's hole", 18, raft.ErrLogNotFound)
	state = raft.Follower
	log.led.Store(true)
	want("one that led", 18, raft.ErrLogNotFound)
	for range 5 {
		now = now.Add(time.Second)
		want("one that led, asked again", 18, raft.ErrLogNotFound)
	}
	now = now.Add(time.Second)
	want("one that led, asked in vain", 18, halted)
	now = now.Add(time.Minute)
	want("one that led, asked much later", 18, raft.ErrLogNotFound)
	index = 20 // raft takes the restore for the end, the log ends before it
	want("one that led, at the end", 20, raft.ErrLogNotFound)
	for range 5 {
		now = now.Add(time.Second)
		want("one that led, at the end, asked again", 20, raft.ErrLogNotFound)
	}
	now = now.Add(time.Second)
	want("one that led, at the end, asked in vain", 20, halted)
}
