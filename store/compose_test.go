package store

import (
	"bytes"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/fsm"
)

// TestComposedSnapshotTravels: what leaves has exactly the announced size, scans
// as whole, and makes another replica the same.
func TestComposedSnapshotTravels(t *testing.T) {
	from := newRig(t, rigOptions())
	from.tokens(40)
	id := from.snapshot()
	from.tokens(15) // behind the snapshot: must not travel
	meta, in, err := from.s.Snapshots.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(in)
	if err != nil || int64(len(data)) != meta.Size {
		t.Fatalf("%d bytes, %v, announced %d", len(data), err, meta.Size)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	info, err := fsm.ScanSnapshot(bytes.NewReader(data))
	if err != nil || info.HistoryBytes == 0 || info.Index != 41 {
		t.Fatalf("%+v, %v", info, err)
	}

	to := &rig{t: t, dir: t.TempDir(), term: 1, index: meta.Index}
	to.open(rigOptions())
	got, err := install(to.s, meta.Index, meta.Term, meta.Size, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	to.restore()
	to.restart(rigOptions())
	_, totals := to.s.History.Totals()
	if !totals.Cover(info.Totals) || !info.Totals.Cover(totals) {
		t.Errorf("history %v, the snapshot's %v", totals, info.Totals)
	}
	again, in, err := to.s.Snapshots.Open(got) // it has its history: as it is
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if back, err := io.ReadAll(in); err != nil || !bytes.Equal(back, data) || again.Size != meta.Size {
		t.Errorf("what was installed is not what arrived: %v", err)
	}
}

// TestComposedClosedEarly: wherever the reader stops, Close ends what makes the
// history part; it waits for it, so what would leak would hang here.
func TestComposedClosedEarly(t *testing.T) {
	r := newRig(t, rigOptions())
	r.tokens(2000)
	id := r.snapshot()
	meta, in, err := r.s.Snapshots.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	info, _ := r.s.Snapshots.(*snapshotStore).info(id)
	for _, n := range []int64{0, 1, info.LiveBytes, info.LiveBytes + 1, info.LiveBytes + 70_000, meta.Size - 1, meta.Size} {
		_, in, err := r.s.Snapshots.Open(id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, in, n); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestComposeNeedsHistory: a snapshot whose history is not there is refused with
// a reason, not sent short.
func TestComposeNeedsHistory(t *testing.T) {
	r := newRig(t, rigOptions())
	r.tokens(5)
	id := r.snapshot()
	if err := r.s.History.Import(9, fsm.Totals{fsm.StreamAdmin: 1}, yields(recordOf(fsm.StreamAdmin, 1, 1, 1)), nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.s.Snapshots.Open(id); err == nil || !strings.Contains(err.Error(), "it needs") {
		t.Error(err)
	}
	r.close()
	var d *Damage
	if _, err := Open(r.dir, rigOptions()); !errors.As(err, &d) || d.File != fileHistory {
		t.Error("at start:", err)
	}
}

// TestComposeReplacedMeanwhile: a walk through a history that is replaced ends
// with an error.
func TestComposeReplacedMeanwhile(t *testing.T) {
	r := newRig(t, rigOptions())
	r.tokens(1500)
	id := r.snapshot()
	_, in, err := r.s.Snapshots.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := r.s.History.Import(9, fsm.Totals{fsm.StreamAdmin: 1}, yields(recordOf(fsm.StreamAdmin, 1, 1, 1)), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, in); err == nil {
		t.Error("a snapshot with another epoch's history came out whole")
	}
}

// fill writes n records of about size bytes.
func fill(t testing.TB, h *History, n, size int) {
	t.Helper()
	var batch []fsm.Record
	_, totals := h.Totals()
	from := totals[fsm.StreamAdmin]
	for i := 1; i <= n; i++ {
		batch = append(batch, recordOf(fsm.StreamAdmin, from+uint64(i), from+uint64(i), size))
		if len(batch) == 2000 || i == n {
			if err := h.Append(1, batch); err != nil {
				t.Fatal(err)
			}
			batch = nil
		}
	}
	if err := h.Flush(); err != nil {
		t.Fatal(err)
	}
}

// TestComposeInBoundedMemory streams many records and watches the heap.
func TestComposeInBoundedMemory(t *testing.T) {
	n := 100_000
	if testing.Short() {
		n = 20_000
	}
	h := openTestHistory(t, t.TempDir(), &writer{}, nil)
	defer h.Close()
	fill(t, h, n, 200)
	totals := fsm.Totals{fsm.StreamAdmin: uint64(n)}
	size, err := h.sizeFor(fsm.SnapshotInfo{Totals: totals, Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	empty, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	c := &composed{live: empty, records: h.UpTo(totals), totals: totals, left: size}
	var high uint64
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	base := m.HeapAlloc
	buf, got := make([]byte, 1<<16), int64(0)
	for i := 0; ; i++ {
		k, err := c.Read(buf)
		got += int64(k)
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if i%200 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&m)
			high = max(high, m.HeapAlloc)
		}
	}
	if got != size {
		t.Errorf("%d bytes, announced %d", got, size)
	}
	if grew := int64(high) - int64(base); grew > 16<<20 {
		t.Errorf("the heap grew by %d bytes for %d", grew, size)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
