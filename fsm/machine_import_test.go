package fsm

import (
	"bytes"
	"io"
	"iter"
	"testing"
)

// slowHistory looks at the machine from another goroutine while it imports.
type slowHistory struct {
	*MemoryHistory
	look func()
}

func (h *slowHistory) Import(epoch uint64, totals Totals, records iter.Seq2[Record, error], take func(func() error) error) error {
	read := make(chan struct{})
	go func() {
		h.look()
		close(read)
	}()
	<-read // for ever, if an import held readers off
	return h.MemoryHistory.Import(epoch, totals, records, take)
}

// TestReadersDoNotWaitForAnImport: it takes as long as the disk does. They see
// the old state with the old history, then both new.
func TestReadersDoNotWaitForAnImport(t *testing.T) {
	w := busyWorld(t, 10)
	h := &slowHistory{MemoryHistory: NewMemoryHistory()}
	m := NewMachine(h, nil)
	looks := 0
	h.look = func() {
		looks++
		m.Freeze()
		m.FieldDigests()
		if index, _ := m.Index(); index != 0 {
			t.Errorf("the state of index %d before its history", index)
		}
	}
	if err := m.Restore(io.NopCloser(bytes.NewReader(snapshotOf(t, w.s, w.history)))); err != nil {
		t.Fatal(err)
	}
	if index, _ := m.Index(); index != w.index || looks != 1 {
		t.Errorf("index %d, want %d; %d looks", index, w.index, looks)
	}
	if err := m.checkHead(w.s); err != nil {
		t.Error(err)
	}
}
