package store

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/fsm"
)

// watched is a Guard that measures and has no reserve.
type watched struct{ *Watch }

func (watched) NoSpace() bool { return false }

// TestHungHistory: once entries wait for a history that cannot be written, the
// watchdog sees it, and readers do not wait with them.
func TestHungHistory(t *testing.T) {
	hang := make(chan struct{})
	var hung atomic.Bool
	w := NewWatch(time.Now, nil)
	r := newRig(t, Options{Keep: 3, Guard: watched{w}, fault: func(what string) error {
		if hung.Load() && what == WriteHistory {
			<-hang
		}
		return nil
	}})
	r.flush()
	r.tokens(1)
	r.flush()
	hung.Store(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 9 {
			r.tokens(1000)
		}
	}()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		r.s.History.mu.Lock()
		crowded := r.s.History.crowded()
		r.s.History.mu.Unlock()
		if _, age := w.Stalled(); crowded && age > 20*time.Millisecond {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatal("the watchdog sees nothing")
		}
	}
	read := make(chan struct{})
	go func() {
		r.machine.Read(func(*fsm.State) {})
		r.machine.Index()
		r.machine.Freeze()
		close(read)
	}()
	select {
	case <-read:
	case <-time.After(10 * time.Second):
		t.Error("readers wait for the disk")
	}
	close(hang)
	<-done
	r.flush()
	if id, _ := w.Stalled(); id != 0 {
		t.Errorf("write %d never ended", id)
	}
	if _, totals := r.s.History.Totals(); totals[fsm.StreamAdmin] < 9001 {
		t.Errorf("history of %v records", totals)
	}
}

// TestFullIsNoHang: entries that wait for room on a full disk are no reason to
// end the process.
func TestFullIsNoHang(t *testing.T) {
	disk := &fullDisk{}
	disk.full.Store(true)
	var later atomic.Int64
	w := NewWatch(func() time.Time { return time.UnixMilli(later.Load()) }, nil)
	h := openTestHistory(t, t.TempDir(), &writer{guard: watched{w}, fault: disk.fault}, nil)
	defer h.Close()
	done := overfill(t, h, fsm.StreamAdmin, 1)
	later.Store(60_000)
	// A try that was under way as the time jumped ends; the wait for room would not.
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		if _, age := w.Stalled(); age == 0 {
			break
		} else if time.Since(began) > 10*time.Second {
			t.Fatalf("a write is seen to hang for %s", age)
		}
	}
	disk.full.Store(false)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestUpToIsOfItsCall: a walk that begins after the history was replaced does
// not yield the new one's records.
func TestUpToIsOfItsCall(t *testing.T) {
	r := newRig(t, rigOptions())
	r.tokens(3)
	_, totals := r.s.History.Totals()
	walk := r.s.History.UpTo(totals)
	var records []fsm.Record
	for seq := uint64(1); seq <= totals[fsm.StreamAdmin]+1; seq++ {
		records = append(records, fsm.Record{Stream: fsm.StreamAdmin, Seq: seq, Index: 1, Data: fmt.Appendf(nil, "other %d", seq)})
	}
	if err := r.s.History.Import(2, fsm.Totals{fsm.StreamAdmin: uint64(len(records))}, yields(records...), nil); err != nil {
		t.Fatal(err)
	}
	for rec, err := range walk {
		if err != errReplaced {
			t.Fatalf("%s, %v", rec.Data, err)
		}
	}
}
