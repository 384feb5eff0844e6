package client

import (
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// FuzzDeltaCursor: a place has one spelling.
func FuzzDeltaCursor(f *testing.F) {
	f.Add(CursorAt(3, 7, crypto.BlacklistGenesis).String())
	f.Add("1-1-1-0000000000000000")
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := ParseCursor(text); err == nil && d.String() != text {
			t.Errorf("%q is read as %q", text, d)
		}
	})
}
