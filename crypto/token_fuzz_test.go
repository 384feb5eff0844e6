package crypto

import (
	"strings"
	"testing"
)

// FuzzParseTokenText: what parses is spelt in one way only, so the hash of a
// token's parts is the hash of what was shown.
func FuzzParseTokenText(f *testing.F) {
	token := TokenText{ClusterID: strings.Repeat("0a", 16), Role: "admin", ID: strings.Repeat("1b", 8), Secret: strings.Repeat("2c", 32)}
	f.Add(token.String())
	token.Pin = strings.Repeat("3d", 32)
	f.Add(token.String())
	f.Add(token.String() + "_")
	token.Set, token.SetHash = 7, Sum(nil)
	f.Add(token.String())
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseTokenText(text)
		if err == nil && got.String() != text {
			t.Errorf("%q became %q", text, got.String())
		}
	})
}
