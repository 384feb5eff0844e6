package ledger

import (
	"bytes"
	"errors"
	"iter"
	"testing"
)

func eachOf(records [][]byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, data := range records {
			if !yield(data, nil) {
				return
			}
		}
	}
}

func sampleExport(t testing.TB) []byte {
	t.Helper()
	records, head := sampleRecords(nil)
	var out bytes.Buffer
	if err := WriteExport(&out, testCluster, nil, eachOf(records), head); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestExport(t *testing.T) {
	file := sampleExport(t)
	seen := uint64(0)
	v, err := VerifyExport(bytes.NewReader(file), func(seq uint64) { seen = seq })
	if err != nil || v.Seq() != 21 || seen != 21 {
		t.Fatalf("%d records, %v", seen, err)
	}
	e, err := ReadExport(bytes.NewReader(file))
	if err != nil || e.ClusterID() != testCluster {
		t.Fatal(err)
	}
	for _, err := range e.Records() {
		if err != nil {
			t.Fatal(err)
		}
	}
	if e.Head() != v.Head() {
		t.Error("another head")
	}
	broken := errors.New("broken")
	fails := func(yield func([]byte, error) bool) { yield(nil, broken) }
	if err := WriteExport(&bytes.Buffer{}, testCluster, nil, fails, v.Head()); !errors.Is(err, broken) {
		t.Errorf("records that cannot be read: %v", err)
	}
	if err := WriteExport(&bytes.Buffer{}, "", nil, eachOf(nil), v.Head()); err == nil {
		t.Error("an export of no cluster")
	}
}

// A file that was cut or changed anywhere is refused, and one that goes on too.
func TestExportEveryByteCounts(t *testing.T) {
	records, _ := sampleRecords(nil)
	records = records[:10] // without signatures, which take long to check
	last, err := ParseRecord(records[9])
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := WriteExport(&out, testCluster, nil, eachOf(records), last.Hash); err != nil {
		t.Fatal(err)
	}
	file := out.Bytes()
	for i := range file {
		if _, err := VerifyExport(bytes.NewReader(file[:i]), nil); !errors.Is(err, ErrExport) {
			t.Fatalf("cut at %d: %v", i, err)
		}
		damaged := bytes.Clone(file)
		damaged[i] ^= 1 << (i % 8)
		_, err := VerifyExport(bytes.NewReader(damaged), nil)
		var bad *RecordError
		if !errors.Is(err, ErrExport) && !errors.As(err, &bad) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	if _, err := VerifyExport(bytes.NewReader(append(file, 0)), nil); !errors.Is(err, ErrExport) {
		t.Errorf("a byte behind it: %v", err)
	}
}
