package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/fsm"
)

// TestImportDoesNotWaitForRoom: raft's loop waits for it, so a full disk must be
// an answer; what waited before is written once there is room.
func TestImportDoesNotWaitForRoom(t *testing.T) {
	disk := &fullDisk{}
	h := openTestHistory(t, t.TempDir(), &writer{fault: disk.fault}, nil)
	defer h.Close()
	disk.full.Store(true)
	if err := h.Append(1, []fsm.Record{recordOf(fsm.StreamAdmin, 1, 1, 3)}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- h.Import(2, fsm.Totals{fsm.StreamAdmin: 1}, yields(recordOf(fsm.StreamAdmin, 1, 2, 3)), nil)
	}()
	select {
	case err := <-done:
		if !NoSpace(err) {
			t.Errorf("imported into a full disk: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it waits for the full disk")
	}
	disk.full.Store(false)
	if err := h.Flush(); err != nil {
		t.Fatal(err)
	}
	if epoch, totals := h.Totals(); epoch != 1 || totals[fsm.StreamAdmin] != 1 {
		t.Errorf("epoch %d with %v", epoch, totals)
	}
}

// TestImportPlacesWhenAsked: readers have the old history until take lets it be
// placed, and keep it if take refuses.
func TestImportPlacesWhenAsked(t *testing.T) {
	h := openTestHistory(t, t.TempDir(), &writer{}, nil)
	defer h.Close()
	if err := h.Append(1, []fsm.Record{recordOf(fsm.StreamAdmin, 1, 1, 3)}); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	for _, answer := range []error{refused, nil} {
		err := h.Import(2, fsm.Totals{fsm.StreamAdmin: 1}, yields(recordOf(fsm.StreamAdmin, 1, 2, 3)), func(place func() error) error {
			if epoch, _ := h.Totals(); epoch != 1 {
				t.Errorf("epoch %d before it is placed", epoch)
			}
			if answer != nil {
				return answer
			}
			return place()
		})
		if !errors.Is(err, answer) {
			t.Errorf("%v, want %v", err, answer)
		}
	}
	if epoch, _ := h.Totals(); epoch != 2 {
		t.Errorf("epoch %d", epoch)
	}
}

// TestBuildSyncsInPieces: one sync of a large history looks like a disk that hangs.
func TestBuildSyncsInPieces(t *testing.T) {
	g := newWatcher()
	h := openTestHistory(t, t.TempDir(), &writer{guard: g}, nil)
	defer h.Close()
	h.syncEvery = 1
	const n = 2*importRecords + 1
	var records []fsm.Record
	for i := range uint64(n) {
		records = append(records, recordOf(fsm.StreamAdmin, i+1, i+1, 3))
	}
	if err := h.Import(2, fsm.Totals{fsm.StreamAdmin: n}, yields(records...), nil); err != nil {
		t.Fatal(err)
	}
	if begun, _ := g.counts(SyncHistory); begun != 4 { // a batch each, and the end
		t.Errorf("%d syncs", begun)
	}
}

// TestSpareSnapshots: a snapshot that comes again and again does not push out
// the older ones, and the one before the newest of its like stays.
func TestSpareSnapshots(t *testing.T) {
	id := func(term, index, time uint64) snapshotID {
		return snapshotID{fmt.Sprintf("%d-%d-%d", term, index, time), term, index, time}
	}
	ids := []snapshotID{id(5, 102, 9), id(5, 102, 8), id(5, 102, 7), id(5, 102, 6), id(4, 102, 5), id(4, 50, 4), id(3, 20, 3)}
	got := spare(ids, 3)
	if want := []snapshotID{ids[2], ids[3], ids[6]}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("dropped %v, want %v", got, want)
	}
	if got := spare(ids[4:], 3); len(got) != 0 {
		t.Errorf("dropped %v of three", got)
	}
}

// TestSnapshotThatComesAgain: as above, on disk.
func TestSnapshotThatComesAgain(t *testing.T) {
	r := newRig(t, rigOptions())
	var own []string
	for range 2 {
		r.tokens(2)
		own = append(own, r.snapshot())
	}
	r.tokens(1)
	again := ""
	for range 5 {
		again = r.snapshot()
	}
	metas, err := r.s.Snapshots.List()
	if err != nil || len(metas) != 4 || metas[0].ID != again || metas[2].ID != own[1] || metas[3].ID != own[0] {
		t.Errorf("%d snapshots are left, %v", len(metas), err)
	}
	r.restart(rigOptions())
	if metas, _ := r.s.Snapshots.List(); len(metas) != 4 {
		t.Errorf("%d snapshots after a start", len(metas))
	}
}
