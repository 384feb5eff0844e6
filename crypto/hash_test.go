package crypto

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestHashText(t *testing.T) {
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // FIPS 180-4, B.1
	h := Sum([]byte("abc"))
	if h.String() != abc {
		t.Fatalf("Sum(abc) = %s", h)
	}
	parsed, err := ParseHash(abc)
	if err != nil || parsed != h || !parsed.Equal(h) || parsed.Equal(Hash{}) {
		t.Fatalf("ParseHash = %s, %v", parsed, err)
	}
	text, err := json.Marshal(map[string]Hash{"h": h})
	if err != nil || string(text) != `{"h":"`+abc+`"}` {
		t.Fatalf("as JSON: %s, %v", text, err)
	}
	var back map[string]Hash
	if err := json.Unmarshal(text, &back); err != nil || back["h"] != h {
		t.Fatalf("from JSON: %v, %v", back, err)
	}
	if h.IsZero() || !(Hash{}).IsZero() {
		t.Error("IsZero")
	}
}

func TestHashRefused(t *testing.T) {
	const good = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	for _, bad := range []string{"", good[1:], good + "0", strings.ToUpper(good), "g" + good[1:],
		good[:63] + "\n", " " + good[1:], good[:62] + "é", "0x" + good[2:], good[:63] + "\x00"} {
		if _, err := ParseHash(bad); err == nil {
			t.Errorf("ParseHash accepted %q", bad)
		}
		h := Sum(nil)
		if err := h.UnmarshalText([]byte(bad)); err == nil || h != Sum(nil) {
			t.Errorf("UnmarshalText(%q): error %v, hash touched: %v", bad, err, h != Sum(nil))
		}
	}
}
