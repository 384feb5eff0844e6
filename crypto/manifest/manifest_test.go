package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"golang.org/x/mod/semver"

	"github.com/edgecoder/edgecoder/crypto"
)

func sample() Statement {
	return Statement{Name: "edgecoder-linux-amd64", Version: "1.4.2", SHA256: crypto.Sum([]byte("artifact")), Size: 8,
		Source: "https://models.example/edgecoder-1.4.2", IssuedMs: 1_767_225_600_000, ExpiresMs: 1_769_817_600_000}
}

// The bytes that are signed are for ever.
const sampleText = `{"name":"edgecoder-linux-amd64","version":"1.4.2","sha256":"c7c5c1d70c5dec4416ab6158afd0b223ef40c29b1dc1f97ed9428b94d4cadb1c","size":8,` +
	`"source":"https://models.example/edgecoder-1.4.2","issued_ms":1767225600000,"expires_ms":1769817600000}`

func TestStatementGoldenBytes(t *testing.T) {
	if got := string(sample().Encode()); got != sampleText {
		t.Errorf("encoded as\n%s", got)
	}
	if got, err := ParseStatement(PayloadType, []byte(sampleText)); err != nil || got != sample() {
		t.Errorf("parsed as %+v, %v", got, err)
	}
	if PayloadType != "application/vnd.edgecoder.manifest.v1+json" {
		t.Error("the payload type is part of what is signed")
	}
	odd := sample()
	odd.Name = `ünï <&> "x"\y` // JSON has many spellings of it
	if got, err := ParseStatement(PayloadType, odd.Encode()); err != nil || got != odd {
		t.Errorf("parsed as %+v, %v", got, err)
	}
}

func TestParseStatementRefuses(t *testing.T) {
	change := func(old, new string) string { return strings.Replace(sampleText, old, new, 1) }
	for name, text := range map[string]string{
		"nothing":           "",
		"white space":       change(`,"version"`, `, "version"`),
		"another order":     `{"version":"1.4.2","name":"edgecoder-linux-amd64"` + sampleText[strings.Index(sampleText, `,"sha256"`):],
		"an unknown member": change(`{`, `{"x":1,`),
		"a member twice":    change(`{`, `{"name":"other",`),
		"another case":      change(`"name"`, `"Name"`),
		"another escape":    change("edgecoder-linux", `\u0065dgecoder-linux`),
		"a missing member":  change(`"size":8,`, ""),
		"an exponent":       change(`"size":8`, `"size":8e0`),
		"trailing data":     sampleText + " ",
		"an upper digest":   change("c7c5c1d7", "C7C5C1D7"),
		"a zero digest":     change("c7c5c1d70c5dec4416ab6158afd0b223ef40c29b1dc1f97ed9428b94d4cadb1c", strings.Repeat("0", 64)),
		"no size":           change(`"size":8`, `"size":0`),
		"no name":           change("edgecoder-linux-amd64", ""),
		"no version":        change(`"1.4.2"`, `"latest"`),
		"plain http":        change("https:", "http:"),
		"expired when made": change("1769817600000", "1767225600000"),
		"eleven years":      change("1769817600000", "2114380800000"),
		"before all time":   change("1767225600000", "0"),
		"too long":          change("edgecoder-linux-amd64", strings.Repeat("x", MaxStatementBytes)),
		"not UTF-8":         change("edgecoder-linux", "\xff"),
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := ParseStatement(PayloadType, []byte(text)); err == nil || !errors.Is(err, ErrStatement) {
				t.Errorf("parsed as %+v, %v", s, err)
			}
		})
	}
	if _, err := ParseStatement("application/json", []byte(sampleText)); err == nil {
		t.Error("another payload type was taken")
	}
}

// TestStatementEveryFlippedBit: every bit of a statement is refused or says
// something else, which the signature is not over.
func TestStatementEveryFlippedBit(t *testing.T) {
	for i := range len(sampleText) * 8 {
		flipped := []byte(sampleText)
		flipped[i/8] ^= 1 << (i % 8)
		if s, err := ParseStatement(PayloadType, flipped); err == nil && s == sample() {
			t.Errorf("bit %d of byte %d flipped says the same", i%8, i/8)
		}
	}
}

func TestExpiryAtTheVeryMillisecond(t *testing.T) {
	s := sample()
	if s.Expired(s.ExpiresMs) || !s.Expired(s.ExpiresMs+1) {
		t.Error("a statement holds until expires_ms, that millisecond included")
	}
}

// TestVersionOrder lists versions in ascending order; those of a line are the same.
func TestVersionOrder(t *testing.T) {
	order := [][]string{
		{"0", "v0", "0.0.0", "00"},
		{"0.0.1-alpha"}, {"0.0.1-alpha.1"}, {"0.0.1-alpha.beta"}, {"0.0.1-beta"}, {"0.0.1-beta.2"}, {"0.0.1-beta.11"}, {"0.0.1-rc.1", "0.0.1-rc.1+b"},
		{"0.0.1", "v0.0.1", "0.0.1+build.7"},
		{"1.0.0-1"}, {"1.0.0-2"}, {"1.0.0-10"}, {"1.0.0-a"},
		{"1", "1.0", "1.0.0", "1.0.0.0", "v1"},
		{"1.0.0.1"}, {"1.2"}, {"1.10"}, {"2.0.0"},
		{"2026.01.1", "2026.1.1", "2026.1.1.0.0.0.0.0"},
		{"2026.01.2-rc.1"}, {"2026.01.2"}, {"999999999999999999"},
	}
	for i, same := range order {
		for j, others := range order {
			for _, a := range same {
				for _, b := range others {
					got, err := CompareVersions(a, b)
					if want := signOf(i - j); err != nil || got != want {
						t.Errorf("%s against %s: %d, %v, want %d", a, b, got, err, want)
					}
				}
			}
		}
	}
}

func signOf(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

func TestVersionRefuses(t *testing.T) {
	for _, text := range []string{"", "v", "latest", "1.", ".1", "1..2", "1.x", "-1", "1-", "1+", "1-01", "1-a..b", "1-ä", "1 ", " 1", "1.-2", "+1", "V1", "vv1", "1_0",
		"1.2.3.4.5.6.7.8.9", "1000000000000000000", strings.Repeat("1", 19), "1-" + strings.Repeat("a", MaxVersionBytes), "1\n", "1\x00"} {
		if v, err := ParseVersion(text); err == nil {
			t.Errorf("%q parsed as %+v", text, v)
		}
	}
	for _, pair := range [][2]string{{"1", "x"}, {"x", "1"}} {
		if _, err := CompareVersions(pair[0], pair[1]); err == nil {
			t.Errorf("%q compared with %q", pair[0], pair[1])
		}
	}
}

// FuzzVersion: versions of Semantic Versioning stand in its order, whatever is a
// version equals itself, and comparing is antisymmetric and transitive.
func FuzzVersion(f *testing.F) {
	f.Add("1.2.3", "1.2.3-rc.1", "2026.01.1")
	f.Add("v1.0.0+a", "1", "0.9.9-x.7.z.92")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		ab, err := CompareVersions(a, b)
		if err != nil {
			return
		}
		if ba, err := CompareVersions(b, a); err != nil || ba != -ab {
			t.Errorf("%q %q: %d one way, %d the other, %v", a, b, ab, ba, err)
		}
		if plain(a) && plain(b) {
			if want := semver.Compare("v"+a, "v"+b); ab != want {
				t.Errorf("%q %q: %d, semver says %d", a, b, ab, want)
			}
		}
		bc, err := CompareVersions(b, c)
		if err != nil {
			return
		}
		if ac, err := CompareVersions(a, c); err != nil || ab <= 0 && bc <= 0 && ac != min(ab, bc) || ab >= 0 && bc >= 0 && ac != max(ab, bc) {
			t.Errorf("%q %q %q: %d, %d, %d, %v", a, b, c, ab, bc, ac, err)
		}
	})
}

// plain tells whether a text is a whole version of Semantic Versioning 2.0.0.
func plain(text string) bool {
	return semver.IsValid("v"+text) && strings.Count(strings.SplitN(strings.SplitN(text, "-", 2)[0], "+", 2)[0], ".") == 2
}

func TestSources(t *testing.T) {
	for _, good := range []string{"https://a/b", "https://models.example:8443/x/y-1.2_3~4.gguf", "https://10.0.0.1/f", "https://a.b-c/d/e", "https://a/x@1=2"} {
		if err := CheckSource(good); err != nil {
			t.Errorf("%v", err)
		}
	}
	for _, bad := range []string{"", "nope", "http://a/b", "HTTPS://a/b", "https:/a/b", "https:a", "https://", "https:///b", "https://a", "https://a/", "https://a/b/",
		"https://u@a/b", "https://u:p@a/b", "https://a/b?c=d", "https://a/b?", "https://a/b#c", "https://A/b", "https://a:443/b", "https://a:0443/b", "https://a:/b", "https://a:x/b",
		"https://a:99999/b", "https://[::1]/b", "https://a./b", "https://.a/b", "https://a..b/c", "https://a/../b", "https://a/./b", "https://a/b/..", "https://a//b", "https://a/b%2e", "https://a/%62",
		"https://a/b c", "https://a/b\\c", "https://a/ü", "https://ü/b", "https://a/b\n", " https://a/b", "https://a\\@evil/b", "file:///b", "https://a/b\x7f",
		"https://a/" + strings.Repeat("b", MaxSourceBytes)} {
		if CheckSource(bad) == nil {
			t.Errorf("%q is taken for a source", bad)
		}
	}
	for _, bad := range []string{"https://a", "https://a/b", "https://a/b?", "http://a/", "https://a//", "https://a/../", "*", "https://*/", "https://a/" + strings.Repeat("b", MaxSourceRuleBytes) + "/"} {
		if CheckSourceRule(bad) == nil {
			t.Errorf("%q is taken for a rule", bad)
		}
	}
	for _, c := range []struct {
		rule, source string
		allows       bool
	}{
		{"https://models.example/", "https://models.example/x", true},
		{"https://models.example/acme/", "https://models.example/acme/x/y", true},
		{"https://models.example/acme/", "https://models.example/acme-evil/x", false},
		{"https://models.example/acme/", "https://models.example/x", false},
		{"https://models.example/", "https://models.example.evil/x", false},
		{"https://models.example/", "https://models.example:8443/x", false},
		{"https://models.example:8443/", "https://models.example:8443/x", true},
	} {
		if CheckSourceRule(c.rule) != nil || CheckSource(c.source) != nil {
			t.Fatalf("%q, %q: no rule, or no source", c.rule, c.source)
		}
		if Allows(c.rule, c.source) != c.allows {
			t.Errorf("%s allows %s: %t", c.rule, c.source, !c.allows)
		}
	}
}

// FuzzStatement: a payload that is read is the one spelling of what was read.
func FuzzStatement(f *testing.F) {
	f.Add([]byte(sampleText))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseStatement(PayloadType, text)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Encode(), text) {
			t.Errorf("read from\n%s\nit encodes as\n%s", text, s.Encode())
		}
		if !json.Valid(text) || len(text) > MaxStatementBytes {
			t.Error("no JSON, or too long")
		}
		if order, err := CompareVersions(s.Version, s.Version); err != nil || order != 0 {
			t.Errorf("its version %q has no place: %v", s.Version, err)
		}
	})
}

func TestLongestStatementFits(t *testing.T) {
	s := sample()
	s.Name, s.Version = strings.Repeat(`"`, 128), "1-"+strings.Repeat("a", MaxVersionBytes-2)
	s.Source = "https://a/" + strings.Repeat("b", MaxSourceBytes-10)
	s.Size, s.ExpiresMs = maxInteger, maxInteger
	s.IssuedMs = maxInteger - MaxLifeMs
	if _, err := ParseStatement(PayloadType, s.Encode()); err != nil {
		t.Error(err)
	}
}

func TestFormatOf(t *testing.T) {
	for text, want := range map[string]Format{`{"modelId":""}`: FormatLegacy, `{"distTreeHash":""}`: FormatRelease, `{"payload":""}`: FormatEnvelope, `[`: FormatEnvelope} {
		if got := FormatOf([]byte(text)); got != want {
			t.Errorf("%s: %d", text, got)
		}
	}
}
