package manifest

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/golden"
)

// vectors are the golden vectors of WIRE 20.1 and 21.
type vectors struct {
	Keys struct {
		Ed25519 map[string]struct {
			PublicKeyPEM string `json:"publicKeyPem"`
		} `json:"ed25519"`
	} `json:"keys"`
	ModelManifest struct {
		SignerKey       string `json:"signerKey"`
		CanonicalString string `json:"canonicalString"`
		Signed          Legacy `json:"signed"`
		Cases           []struct {
			Case     string          `json:"case"`
			Override json.RawMessage `json:"override"`
			Trust    json.RawMessage `json:"trust"`
			Result   struct {
				Valid  bool   `json:"valid"`
				Reason string `json:"reason"`
			} `json:"result"`
		} `json:"cases"`
	} `json:"modelManifest"`
	ReleaseManifest struct {
		SignerKey                     string            `json:"signerKey"`
		DistFiles                     map[string]string `json:"distFiles"`
		DistTreePreimage              string            `json:"distTreePreimage"`
		DistTreeHash                  string            `json:"distTreeHash"`
		Manifest                      json.RawMessage   `json:"manifest"`
		VerifierPreimage              string            `json:"verifierPreimage"`
		SignatureOverVerifierPreimage string            `json:"signatureOverVerifierPreimage"`
		CIPreimagePretty2             string            `json:"ciPreimagePretty2"`
		SignatureOverCIPreimage       string            `json:"signatureOverCiPreimage"`
	} `json:"releaseManifest"`
}

func loadVectors(t *testing.T) vectors {
	t.Helper()
	var v vectors
	golden.Load(t, &v)
	return v
}

func (v vectors) key(t *testing.T, name string) crypto.PublicKey {
	t.Helper()
	key, err := crypto.ParsePublicKeyPEM(v.Keys.Ed25519[name].PublicKeyPEM)
	if err != nil {
		t.Fatalf("key %s: %v", name, err)
	}
	return key
}

// stricter are the cases that the reference accepts and must not: what we answer.
var stricter = map[string]string{
	"source swapped to another allowlisted URL (reference accepts)": LegacySourceNotBound,
	"plain http scheme on an allowlisted host (reference accepts)":  LegacyInsecureSource,
	"extension check bypass by query (reference accepts)":           LegacyDisallowedExtension,
}

// TestLegacyVectors: every case by its result code, but those that the reference
// accepts though nobody signed the source: they are refused here.
func TestLegacyVectors(t *testing.T) {
	v := loadVectors(t)
	mm := v.ModelManifest
	if got := string(mm.Signed.Text()); got != mm.CanonicalString {
		t.Fatalf("signed text %q", got)
	}
	key := v.key(t, mm.SignerKey)
	accepts := 0
	for _, c := range mm.Cases {
		t.Run(c.Case, func(t *testing.T) {
			m := mm.Signed
			if len(c.Override) > 0 {
				if err := json.Unmarshal(c.Override, &m); err != nil {
					t.Fatal(err)
				}
			}
			trust := LegacyTrust{Peers: []string{"coord-a"}, Keys: map[string]crypto.PublicKey{"coord-a": key}, Source: mm.Signed.Source}
			if len(c.Trust) > 0 { // the one case with it has no key
				trust.Keys = nil
			}
			want, weak := stricter[c.Case]
			if !weak {
				want = c.Result.Reason
			}
			if strings.Contains(c.Case, "reference accepts") {
				accepts++
			}
			if weak != strings.Contains(c.Case, "reference accepts") || weak && !c.Result.Valid {
				t.Fatal("the table of stricter cases does not match the vectors")
			}
			if got := VerifyLegacy(m, trust); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
	if accepts != len(stricter) {
		t.Errorf("%d cases that the reference accepts, %d expected", accepts, len(stricter))
	}
}

func TestLegacyHoles(t *testing.T) {
	v := loadVectors(t)
	key := v.key(t, v.ModelManifest.SignerKey)
	for name, c := range map[string]struct {
		change func(*Legacy, *LegacyTrust)
		want   string
	}{
		"no source is known":       {func(_ *Legacy, tr *LegacyTrust) { tr.Source = "" }, LegacySourceNotBound},
		"a fragment":               {func(m *Legacy, _ *LegacyTrust) { m.Source += "#x" }, LegacyInsecureSource},
		"a user":                   {func(m *Legacy, _ *LegacyTrust) { m.Source = "https://u@huggingface.co/x.gguf" }, LegacyInsecureSource},
		"another port":             {func(m *Legacy, _ *LegacyTrust) { m.Source = "https://huggingface.co:8443/x.gguf" }, LegacySourceNotAllowed},
		"a version cut elsewhere":  {func(m *Legacy, _ *LegacyTrust) { m.ModelID, m.Version = "qwen-small\n2026.01.1", "" }, LegacyInvalidSignature},
		"base64 of other spelling": {func(m *Legacy, _ *LegacyTrust) { m.Signature += "\n" }, LegacyInvalidSignature},
		"an upper-case digest":     {func(m *Legacy, _ *LegacyTrust) { m.SHA256 = strings.ToUpper(m.SHA256) }, LegacyInvalidSignature},
	} {
		t.Run(name, func(t *testing.T) {
			m, trust := v.ModelManifest.Signed, LegacyTrust{Peers: []string{"coord-a"}, Keys: map[string]crypto.PublicKey{"coord-a": key}, Source: v.ModelManifest.Signed.Source}
			c.change(&m, &trust)
			if got := VerifyLegacy(m, trust); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestReleaseVectors(t *testing.T) {
	v := loadVectors(t).ReleaseManifest
	key := loadVectors(t).key(t, v.SignerKey)
	files := map[string]crypto.Hash{}
	for name, text := range v.DistFiles {
		files[name] = crypto.Sum([]byte(text))
	}
	if got := DistTreeHash(files).String(); got != v.DistTreeHash || got != crypto.Sum([]byte(v.DistTreePreimage)).String() {
		t.Errorf("tree hash %s, want %s", got, v.DistTreeHash)
	}
	r, err := ParseRelease(v.Manifest)
	if err != nil || string(r.Text()) != v.VerifierPreimage {
		t.Fatalf("signed text\n%s\n%v", r.Text(), err)
	}
	if !r.SignedBy(key, v.SignatureOverVerifierPreimage) {
		t.Error("the signature over the compact text does not verify")
	}
	if r.SignedBy(key, v.SignatureOverCIPreimage) {
		t.Error("the signature over the pretty-printed text verifies")
	}
	pretty, err := ParseRelease([]byte(v.CIPreimagePretty2))
	if err != nil || !pretty.SignedBy(key, v.SignatureOverVerifierPreimage) {
		t.Errorf("pretty-printed it is another manifest: %v", err)
	}
	for i := range v.VerifierPreimage {
		flipped := []byte(v.VerifierPreimage)
		flipped[i] ^= 1
		if r, err := ParseRelease(flipped); err == nil && r.SignedBy(key, v.SignatureOverVerifierPreimage) {
			t.Errorf("byte %d flipped verifies", i)
		}
	}
}

// The order of UTF-16 code units is not that of bytes.
func TestDistTreeHashOrder(t *testing.T) {
	h := crypto.Sum(nil)
	want := crypto.Sum([]byte("a\x00" + h.String() + "\n" + "\U0001F600\x00" + h.String() + "\n" + "\uff5e\x00" + h.String() + "\n"))
	if got := DistTreeHash(map[string]crypto.Hash{"\uff5e": h, "\U0001F600": h, "a": h}); got != want {
		t.Error("surrogates come before U+FF5E in UTF-16")
	}
}

// FuzzRelease: a manifest that is read has one signed text.
func FuzzRelease(f *testing.F) {
	f.Add([]byte(`{"version":"1","artifacts":[{"name":"a","sha256":"00"}],"distTreeHash":"x","timestamp":"y"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRelease(text)
		if err != nil {
			return
		}
		again, err := ParseRelease(r.Text())
		if err != nil || string(again.Text()) != string(r.Text()) {
			t.Errorf("%s\nreads as %s, %v", r.Text(), again.Text(), err)
		}
	})
}
