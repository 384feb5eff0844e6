package fsm

import (
	"bytes"
	"errors"
	"iter"
	"slices"
	"testing"

	"pgregory.net/rapid"
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
	if err := h.Append(1, recordsForTest()); err != nil {
		t.Fatalf("the same again: %v", err)
	}
	if err := h.Append(1, recordsForTest()[2:3]); err != nil {
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
		if err := h.Append(1, []Record{r}); err == nil {
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
	for want, totals := range []Totals{{}, {StreamBlacklist: 1}, {StreamAdmin: 2}, {StreamBlacklist: 1, StreamAdmin: 2}, {StreamBlacklist: 1, StreamAdmin: 3}} {
		n := 0
		for _, err := range h.UpTo(totals) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != want {
			t.Errorf("up to %v: %d records, want %d", totals, n, want)
		}
	}
	for range h.UpTo(Totals{StreamAdmin: 3}) {
		break // stopping early is allowed
	}
	var last error
	for _, err := range h.UpTo(Totals{StreamBlacklist: 2}) {
		last = err
	}
	if last == nil {
		t.Error("more than there is was yielded")
	}
	// A reader that appends to what it got does not write into the history.
	first, _ := h.Read(StreamAdmin, 1, 1)
	_ = append(first, Record{Data: []byte("forged")})
	if got := recordsOf(t, h, StreamAdmin)[1].Data; !bytes.Equal(got, []byte("two")) {
		t.Errorf("record 2 is %q", got)
	}
}

func TestHistoryImport(t *testing.T) {
	all := recordsForTest()
	totals := Totals{StreamBlacklist: 1, StreamAdmin: 3}
	yields := func(records ...Record) iter.Seq2[Record, error] {
		return func(yield func(Record, error) bool) {
			for _, r := range records {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
	forged := slices.Clone(all)
	forged[2].Data = []byte("forged")
	for name, c := range map[string]struct {
		have  []Record
		epoch uint64
		with  []Record
		ok    bool
	}{
		"into nothing":                 {nil, 1, all, true},
		"the same again":               {all, 1, all, true},
		"what is missing":              {all[:2], 1, all, true},
		"a difference":                 {forged[:3], 1, all, false},
		"too few":                      {nil, 1, all[:2], false},
		"another epoch replaces":       {forged, 2, all, true},
		"another epoch must be whole":  {all, 2, all[1:], false},
		"another epoch, older than us": {all, 0, all, true},
	} {
		h := historyOf(t, c.have)
		before := recordsOf(t, h, StreamAdmin)
		err := h.Import(c.epoch, totals, yields(c.with...), nil)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		want := recordsOf(t, historyOf(t, all), StreamAdmin)
		if !c.ok {
			want = before
		}
		if got := recordsOf(t, h, StreamAdmin); !sameEncoding(got, want) {
			t.Errorf("%s: the history is %v", name, got)
		}
	}
	h := historyOf(t, all)
	if err := h.Import(1, totals, func(yield func(Record, error) bool) { yield(Record{}, errSink) }, nil); !errors.Is(err, errSink) {
		t.Errorf("an import that broke off: %v", err)
	}
	if err := h.Append(2, nil); err != nil {
		t.Error(err)
	}
	if err := h.Append(1, all); err != nil {
		t.Errorf("a replay of the epoch before: %v", err)
	}
	if err := h.Append(1, []Record{{Stream: StreamAdmin, Seq: 4, Index: 9, Data: []byte("x")}}); err == nil {
		t.Error("a new record of an older epoch was accepted")
	}
}

// TestFrameSize: what is counted is what the general encoder writes.
func TestFrameSize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(0, 1<<rapid.IntRange(0, 63).Draw(t, "bits"))
		r := Record{Stream: Stream(rapid.Byte().Draw(t, "stream")), Seq: n.Draw(t, "seq"), Index: n.Draw(t, "index"),
			Data: make([]byte, rapid.SampledFrom([]int{0, 1, 23, 24, 255, 256, 300, 70_000}).Draw(t, "size"))}
		data, err := Encode(r)
		if err != nil || FrameSize(r) != frameSize(len(data)) {
			t.Fatalf("%d bytes counted of %d, %v", FrameSize(r), frameSize(len(data)), err)
		}
	})
}
