package manifest

import (
	"strings"
	"testing"
)

// TestParseLegacy: each member exactly once, in its own spelling, and no others: two readers see one manifest.
func TestParseLegacy(t *testing.T) {
	const good = `{"modelId":"m","version":"1","source":"https://huggingface.co/m.gguf","sha256":"00","signature":"AA==","signerPeerId":"coord-a"}`
	m, err := ParseLegacy([]byte(good))
	if want := (Legacy{"m", "1", "https://huggingface.co/m.gguf", "00", "AA==", "coord-a"}); err != nil || m != want {
		t.Fatalf("%+v, %v", m, err)
	}
	if other, err := ParseLegacy([]byte("\n {\"signerPeerId\" : \"coord-a\"," + strings.Replace(good[1:], `,"signerPeerId":"coord-a"`, "", 1) + "\n")); err != nil || other != m {
		t.Errorf("in another order: %+v, %v", other, err)
	}
	change := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	for name, text := range map[string]string{
		"a member twice":          change(`"sha256":"00"`, `"sha256":"00","sha256":"11"`),
		"the same twice":          change(`"sha256":"00"`, `"sha256":"00","sha256":"00"`),
		"another case as well":    change(`"sha256":"00"`, `"sha256":"00","SHA256":"11"`),
		"another case":            change(`"modelId"`, `"modelID"`),
		"an unknown member":       change(`{`, `{"expires":"never",`),
		"a member less":           change(`"version":"1",`, ``),
		"a number":                change(`"version":"1"`, `"version":1`),
		"null":                    change(`"version":"1"`, `"version":null`),
		"an object":               change(`"version":"1"`, `"version":{}`),
		"something behind it":     good + `{}`,
		"an array":                `[` + good + `]`,
		"cut off":                 good[:len(good)-1],
		"no UTF-8":                change(`"m"`, "\"\xff\""),
		"nothing":                 "",
		"more than it ever holds": change(`"m"`, `"`+strings.Repeat("m", maxLegacyBytes)+`"`),
	} {
		if m, err := ParseLegacy([]byte(text)); err == nil || m != (Legacy{}) {
			t.Errorf("%s: read as %+v, %v", name, m, err)
		}
	}
}
