// Package golden holds the golden vectors of the EdgeCoder protocol for the
// tests of every room. The reference implementation computed them; no code of
// this project had a part in it (WIRE.md).
package golden

import (
	_ "embed"
	"encoding/json"
	"testing"
)

//go:embed edgecoder.json
var edgecoder []byte

// Load decodes into the caller's type, which names the sections it answers for.
func Load(t testing.TB, into any) {
	t.Helper()
	if err := json.Unmarshal(edgecoder, into); err != nil {
		t.Fatalf("golden vectors: %v", err)
	}
}
