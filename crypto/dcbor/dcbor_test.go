package dcbor

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// What is written by hand is what a general encoder makes in deterministic mode.
func TestSameAsTheGeneralEncoder(t *testing.T) {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	want := func(got []byte, v any) {
		t.Helper()
		if general, err := mode.Marshal(v); err != nil || !bytes.Equal(got, general) {
			t.Errorf("%v is written %x, by the general encoder %x, %v", v, got, general, err)
		}
	}
	for _, n := range []uint64{0, 1, 23, 24, 255, 256, 65_535, 65_536, math.MaxUint32, math.MaxUint32 + 1, math.MaxUint64} {
		want(AppendUnsigned(nil, n), n)
	}
	for _, n := range []int64{0, 23, 24, -1, -24, -25, -256, -257, math.MaxInt64, math.MinInt64} {
		want(AppendSigned(nil, n), n)
		r := NewReader(AppendSigned(nil, n))
		if got := r.Signed(); got != n || !r.Done() {
			t.Errorf("%d reads as %d", n, got)
		}
	}
	for _, s := range []string{"", "a", "ünï", strings.Repeat("x", 300)} {
		want(AppendText(nil, s), s)
		want(AppendBytes(nil, []byte(s)), []byte(s))
		r := NewReader(AppendText(nil, s))
		if got := r.Text(); got != s || !r.Done() {
			t.Errorf("%q reads as %q", s, got)
		}
	}
	want(AppendArray(nil, 0, true), []int(nil))
	want(AppendUnsigned(AppendUnsigned(AppendArray(nil, 2, false), 7), 300), []int{7, 300})
}

// Every second spelling and everything that is cut is refused, and the fault sticks.
func TestStrictReader(t *testing.T) {
	read := map[string]func(*Reader){
		"unsigned": func(r *Reader) { r.Unsigned() },
		"to 5":     func(r *Reader) { r.UnsignedTo(5) },
		"signed":   func(r *Reader) { r.Signed() },
		"text":     func(r *Reader) { r.Text() },
		"3 bytes":  func(r *Reader) { r.Fill(make([]byte, 3)) },
		"list":     func(r *Reader) { r.List(2) },
		"count":    func(r *Reader) { r.Count(1) },
		"array":    func(r *Reader) { r.ArrayOf(1) },
	}
	for _, tt := range []struct{ what, text string }{
		{"unsigned", ""}, {"unsigned", "1800"}, {"unsigned", "1817"}, {"unsigned", "190017"}, {"unsigned", "1900ff"}, {"unsigned", "1a0000ffff"},
		{"unsigned", "1b00000000ffffffff"}, {"unsigned", "18"}, {"unsigned", "1c"}, {"unsigned", "1f"}, {"unsigned", "20"}, {"unsigned", "60"},
		{"to 5", "06"}, {"signed", "1b8000000000000000"}, {"signed", "3b8000000000000000"}, {"signed", "40"},
		{"text", "61"}, {"text", "61ff"}, {"text", "4161"}, {"text", "7bffffffffffffffff"}, {"text", "7f"},
		{"3 bytes", "420102"}, {"3 bytes", "4401020304"}, {"3 bytes", "430102"}, {"3 bytes", "63616263"},
		{"list", "81"}, {"list", "9f"}, {"count", "f6"}, {"count", "8200"}, {"count", "9a0fffffff"}, {"array", "f5"}, {"array", "83"},
	} {
		data, err := hex.DecodeString(tt.text)
		if err != nil {
			t.Fatal(err)
		}
		r := NewReader(data)
		read[tt.what](&r)
		if !r.Bad() {
			t.Errorf("%s is read from %s", tt.what, tt.text)
		}
		if n := r.UnsignedTo(9); n != 0 || !r.Bad() || r.Done() {
			t.Errorf("%s: after the fault it reads on", tt.text)
		}
	}
	r := NewReader([]byte{Null, 0x82, 1, 2, 0})
	if r.ArrayOf(1) != -1 || r.ArrayOf(1) != 2 || r.UnsignedTo(1) != 1 || r.Unsigned() != 2 || r.Done() || r.Left() != 1 {
		t.Error("a sound text reads otherwise")
	}
	if r.Want(false); !r.Bad() {
		t.Error("an unmet wish is no fault")
	}
}
