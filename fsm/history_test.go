package fsm

import (
	"bytes"
	"slices"
	"testing"
)

func recordsForTest() []Record {
	return []Record{
		{Stream: StreamAdmin, Seq: 1, Index: 1, Data: []byte("one")},
		{Stream: StreamBlacklist, Seq: 1, Index: 2, Data: []byte("ban")},
		{Stream: StreamAdmin, Seq: 2, Index: 2, Data: []byte("two")},
		{Stream: StreamAdmin, Seq: 3, Index: 5, Data: []byte("three")},
	}
}

func TestHistoryAppendIsIdempotent(t *testing.T) {
	h := historyOf(t, recordsForTest())
	if err := h.Append(recordsForTest()); err != nil {
		t.Fatalf("the same again: %v", err)
	}
	if err := h.Append(recordsForTest()[2:3]); err != nil {
		t.Fatalf("one from the middle: %v", err)
	}
	if n := len(recordsOf(t, h, StreamAdmin)); n != 3 {
		t.Errorf("%d records, want 3", n)
	}
}

func TestHistoryRefusesGapsAndDifferences(t *testing.T) {
	for name, r := range map[string]Record{
		"gap":            {Stream: StreamAdmin, Seq: 5, Index: 9, Data: []byte("five")},
		"no number":      {Stream: StreamAdmin, Seq: 0, Index: 9, Data: []byte("none")},
		"new stream gap": {Stream: StreamBlacklist, Seq: 3, Index: 9, Data: []byte("x")},
		"other data":     {Stream: StreamAdmin, Seq: 2, Index: 2, Data: []byte("TWO")},
		"other index":    {Stream: StreamAdmin, Seq: 2, Index: 3, Data: []byte("two")},
		"shorter data":   {Stream: StreamAdmin, Seq: 2, Index: 2, Data: nil},
	} {
		h := historyOf(t, recordsForTest())
		if err := h.Append([]Record{r}); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if got := recordsOf(t, h, StreamAdmin); len(got) != 3 || string(got[1].Data) != "two" {
			t.Errorf("%s: the history changed", name)
		}
	}
}

func TestHistoryReadAndUpTo(t *testing.T) {
	h := historyOf(t, recordsForTest())
	for _, c := range []struct {
		from  uint64
		limit int
		want  []uint64
	}{{0, 2, []uint64{1, 2}}, {1, 10, []uint64{1, 2, 3}}, {3, 1, []uint64{3}}, {4, 1, nil}, {1, 0, nil}, {1, -1, nil}, {1 << 63, 1, nil}} {
		records, err := h.Read(StreamAdmin, c.from, c.limit)
		var got []uint64
		for _, r := range records {
			got = append(got, r.Seq)
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("from %d, %d records: %v, %v, want %v", c.from, c.limit, got, err, c.want)
		}
	}
	for index, want := range map[uint64]int{0: 0, 1: 1, 2: 3, 4: 3, 5: 4, 1 << 40: 4} {
		n := 0
		for _, err := range h.UpTo(index) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != want {
			t.Errorf("up to %d: %d records, want %d", index, n, want)
		}
	}
	for range h.UpTo(5) {
		break // stopping early is allowed
	}
	// A reader that appends to what it got does not write into the history.
	first, _ := h.Read(StreamAdmin, 1, 1)
	_ = append(first, Record{Data: []byte("forged")})
	if got := recordsOf(t, h, StreamAdmin)[1].Data; !bytes.Equal(got, []byte("two")) {
		t.Errorf("record 2 is %q", got)
	}
	if err := h.Replace(nil); err != nil || len(recordsOf(t, h, StreamAdmin)) != 0 {
		t.Errorf("after the reset something is left: %v", err)
	}
}
