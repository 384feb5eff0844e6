package crypto

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/edgecoder/edgecoder/crypto/golden"
)

// goldenVectors are the parts of testdata/edgecoder.json that this package answers for. They were computed by
// running the reference implementation; they are never regenerated from our own code.
type goldenVectors struct {
	Keys struct {
		Ed25519 map[string]goldenKey `json:"ed25519"`
	} `json:"keys"`
	JSON           []goldenJSON    `json:"jsonCanonicalization"`
	RequestSigning goldenRequests  `json:"requestSigning"`
	Blacklist      goldenBlacklist `json:"blacklist"`
}

type goldenKey struct {
	Name, SeedHex, PrivateKeyPem, PublicKeyPem, PublicKeyRawHex string
}

type goldenJSON struct {
	Input, Output, OutputUtf8Hex, Sha256 string
}

type goldenRequest struct {
	Case, Method, Path, AgentID, Body, BodySha256, CanonicalString string
	Headers                                                        map[string]string
}

type goldenRequests struct {
	MaxSkewMs         int64
	Valid             []goldenRequest
	VerificationCases []struct {
		Case     string
		Base     int
		NowMs    int64
		Override struct {
			Method, Path, PublicKey string
			Headers                 map[string]string
		}
		Result struct {
			Valid  bool
			Reason string
		}
	}
	MustRejectInNewSystem []struct {
		goldenRequest
		SubstitutedBody, SubstitutedBodySha256 string
	}
}

type goldenBlacklist struct {
	Genesis string
	Chain   []struct {
		Record       json.RawMessage
		HashPreimage string
		SignerKey    string
	}
	ChainHead        string
	ReporterEvidence struct {
		Evidence struct {
			AgentID, ReasonCode, Reason, EvidenceHashSha256, ReporterID string
			TimestampMs                                                 int64
		}
		CanonicalString, CanonicalSha256, ReporterSignature string
	}
	NullHandling struct {
		AbsentExpiryHash, ExplicitNullExpiryHash, ZeroExpiryHash string
	}
}

func loadGolden(t testing.TB) *goldenVectors {
	t.Helper()
	v := new(goldenVectors)
	golden.Load(t, v)
	return v
}

// key returns a golden key pair by alias (coordA) or name (coordinator-a).
func (v *goldenVectors) key(t testing.TB, which string) (PrivateKey, PublicKey) {
	t.Helper()
	for alias, k := range v.Keys.Ed25519 {
		if alias != which && k.Name != which {
			continue
		}
		priv, err := ParsePrivateKeyPEM([]byte(k.PrivateKeyPem))
		if err != nil {
			t.Fatal(err)
		}
		return priv, PublicOf(priv)
	}
	t.Fatalf("no golden key %q", which)
	return nil, PublicKey{}
}

// testKey makes a key from a seed of repeated bytes.
func testKey(t testing.TB, b byte) PrivateKey {
	t.Helper()
	priv, err := GenerateKey(bytes.NewReader(bytes.Repeat([]byte{b}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return priv
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
