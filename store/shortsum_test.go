package store

import (
	"hash/crc32"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// TestSumsAreTheStandardOnes: files of before hold them.
func TestSumsAreTheStandardOnes(t *testing.T) {
	data := make([]byte, 1200)
	for i := range data {
		data[i] = byte(i * 7)
	}
	for n := range 40 {
		if got, want := shortSum(data[:n]), crc32.Checksum(data[:n], castagnoli); got != want {
			t.Errorf("%d bytes: %08x, want %08x", n, got, want)
		}
	}
	for _, n := range []int{0, 1, 510, 511, 512, 1200} {
		if leafHash(data[:n]) != tlog.RecordHash(data[:n]) {
			t.Errorf("the leaf of %d bytes is another", n)
		}
	}
}
