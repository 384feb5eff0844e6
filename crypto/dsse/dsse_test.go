package dsse

import (
	"bytes"
	"context"
	stdcrypto "crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	reference "github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/edgecoder/edgecoder/crypto"
)

const testType = "application/vnd.edgecoder.test+json"

func testKey(name string) crypto.PrivateKey {
	seed := crypto.Sum([]byte("dsse test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func signedBy(t testing.TB, names ...string) Envelope {
	t.Helper()
	e := Envelope{PayloadType: testType, Payload: []byte(`{"a":1}`)}
	for _, name := range names {
		if err := e.Sign(testKey(name)); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

func publics(names ...string) []crypto.PublicKey {
	var out []crypto.PublicKey
	for _, name := range names {
		out = append(out, crypto.PublicOf(testKey(name)))
	}
	return out
}

// TestProtocolVector is the example of protocol.md, signed with ECDSA: our
// reader and our PAE must lead to the bytes that its signature is over.
func TestProtocolVector(t *testing.T) {
	e, err := Parse([]byte(`{"payload": "aGVsbG8gd29ybGQ=",
 "payloadType": "http://example.com/HelloWorld",
 "signatures": [{"sig": "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if string(e.PAE()) != "DSSEv1 29 http://example.com/HelloWorld 11 hello world" {
		t.Fatalf("PAE %q", e.PAE())
	}
	x, _ := new(big.Int).SetString("46950820868899156662930047687818585632848591499744589407958293238635476079160", 10)
	y, _ := new(big.Int).SetString("5640078356564379163099075877009565129882514886557779369047442380624545832820", 10)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x.FillBytes(make([]byte, 32)), y.FillBytes(make([]byte, 32))))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(e.PAE())
	sig := e.Signatures[0].Sig
	if len(sig) != 64 || !ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		t.Error("the vector's signature does not verify over our PAE")
	}
	if got := e.Signers(publics("a")); len(got) != 0 {
		t.Errorf("a signature of another kind counts for %v", got)
	}
}

// TestByHand checks both ways against nothing but the standard library: PAE is
// written out here.
func TestByHand(t *testing.T) {
	body := []byte("payload \x00\xff")
	pae := slices.Concat([]byte(fmt.Sprintf("DSSEv1 %d %s %d ", len(testType), testType, len(body))), body)
	e := Envelope{PayloadType: testType, Payload: body}
	if err := e.Sign(testKey("a")); err != nil {
		t.Fatal(err)
	}
	if !ed25519.Verify(testKey("a").Public().(ed25519.PublicKey), pae, e.Signatures[0].Sig) {
		t.Error("crypto/ed25519 does not verify what we signed")
	}
	text := fmt.Sprintf(`{"signatures":[{"sig":%q}],"payload":%q,"payloadType":%q,"more":[1]}`,
		base64.URLEncoding.EncodeToString(ed25519.Sign(testKey("b"), pae)), base64.StdEncoding.EncodeToString(body), testType)
	back, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if got := back.Signers(publics("a", "b")); !slices.Equal(got, publics("b")) {
		t.Errorf("signers %v", got)
	}
}

// other is a key for the reference library.
type other struct{ key crypto.PrivateKey }

func (o other) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.Sign(o.key, data), nil
}
func (o other) KeyID() (string, error)      { return crypto.PublicOf(o.key).KeyID(), nil }
func (o other) Public() stdcrypto.PublicKey { return o.key.Public() }
func (o other) Verify(_ context.Context, data, sig []byte) error {
	if !ed25519.Verify(o.key.Public().(ed25519.PublicKey), data, sig) {
		return errors.New("no")
	}
	return nil
}

// TestReferenceLibrary: it verifies what we sign, and we what it signs.
func TestReferenceLibrary(t *testing.T) {
	var theirs reference.Envelope
	if err := json.Unmarshal(signedBy(t, "a", "b").Encode(), &theirs); err != nil {
		t.Fatal(err)
	}
	v, err := reference.NewMultiEnvelopeVerifier(2, other{testKey("a")}, other{testKey("b")})
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := v.Verify(t.Context(), &theirs); err != nil || len(keys) != 2 {
		t.Errorf("it accepts %d keys of ours: %v", len(keys), err)
	}
	signer, err := reference.NewEnvelopeSigner(other{testKey("a")}, other{testKey("b")})
	if err != nil {
		t.Fatal(err)
	}
	made, err := signer.SignPayload(t.Context(), testType, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Parse(text)
	if err != nil || len(e.Signers(publics("a", "b", "c"))) != 2 {
		t.Errorf("we read %+v, %v", e, err)
	}
	if !bytes.Equal(e.Encode(), text) {
		t.Errorf("we write\n%s, it writes\n%s", e.Encode(), text)
	}
}

// TestSignersCountsKeysNotSignatures: k of n is about distinct keys.
func TestSignersCountsKeysNotSignatures(t *testing.T) {
	ab := signedBy(t, "a", "b")
	a := ab.Signatures[0]
	with := func(change func(e *Envelope)) Envelope {
		e := Envelope{PayloadType: ab.PayloadType, Payload: ab.Payload, Signatures: slices.Clone(ab.Signatures)}
		change(&e)
		return e
	}
	for name, c := range map[string]struct {
		e       Envelope
		trusted []crypto.PublicKey
		want    []crypto.PublicKey
	}{
		"both":                    {ab, publics("a", "b", "c"), publics("a", "b")},
		"in the order of trusted": {ab, publics("b", "a"), publics("b", "a")},
		"only one is trusted":     {ab, publics("b"), publics("b")},
		"nobody is trusted":       {ab, nil, nil},
		"one signature twice":     {with(func(e *Envelope) { e.Signatures = []Signature{a, a} }), publics("a", "b"), publics("a")},
		"twice under two key ids": {with(func(e *Envelope) { e.Signatures = []Signature{a, {KeyID: "x", Sig: a.Sig}} }), publics("a", "b"), publics("a")},
		"a key trusted twice":     {ab, publics("a", "a"), publics("a")},
		"without a key id":        {with(func(e *Envelope) { e.Signatures[0].KeyID = "" }), publics("a", "b"), publics("a", "b")},
		"an unknown key id":       {with(func(e *Envelope) { e.Signatures[0].KeyID = "sha256:other" }), publics("a", "b"), publics("a", "b")},
		"another's key id":        {with(func(e *Envelope) { e.Signatures[0].KeyID = e.Signatures[1].KeyID }), publics("a", "b"), publics("b")},
		"another payload type":    {with(func(e *Envelope) { e.PayloadType += "x" }), publics("a", "b"), nil},
		"another payload":         {with(func(e *Envelope) { e.Payload = []byte(`{"a":2}`) }), publics("a", "b"), nil},
		"a short signature":       {with(func(e *Envelope) { e.Signatures = []Signature{{Sig: a.Sig[:63]}} }), publics("a"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.e.Signers(c.trusted); !slices.Equal(got, c.want) {
				t.Errorf("signers %v, want %v", got, c.want)
			}
		})
	}
}

func TestSignRefuses(t *testing.T) {
	e := signedBy(t, "a")
	if err := e.Sign(testKey("a")); err == nil || len(e.Signatures) != 1 {
		t.Errorf("a key signed twice: %v, %d signatures", err, len(e.Signatures))
	}
	full := signedBy(t, "a")
	for len(full.Signatures) < MaxSignatures {
		full.Signatures = append(full.Signatures, full.Signatures[0])
	}
	for name, e := range map[string]Envelope{"no type": {Payload: []byte("x")}, "no payload": {PayloadType: testType},
		"too long": {PayloadType: testType, Payload: make([]byte, MaxPayloadBytes+1)}, "full": full} {
		if e.Sign(testKey("b")) == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := string(signedBy(t, "a").Encode())
	payload, sig := base64.StdEncoding.EncodeToString([]byte(`{"a":1}`)), base64.StdEncoding.EncodeToString(make([]byte, 64))
	many := strings.TrimSuffix(strings.Repeat(`{"sig":"`+sig+`"},`, MaxSignatures+1), ",")
	for name, text := range map[string]string{
		"nothing":                "",
		"no object":              "[]",
		"trailing data":          good + "{}",
		"cut":                    good[:len(good)-1],
		"payload twice":          strings.Replace(good, `{"payloadType"`, `{"payload":"`+payload+`","payloadType"`, 1),
		"another case":           strings.Replace(good, `"payload"`, `"Payload"`, 1),
		"no payload":             `{"payloadType":"x","signatures":[{"sig":"` + sig + `"}]}`,
		"empty payload":          `{"payloadType":"x","payload":"","signatures":[{"sig":"` + sig + `"}]}`,
		"no type":                `{"payload":"` + payload + `","signatures":[{"sig":"` + sig + `"}]}`,
		"no signatures":          `{"payloadType":"x","payload":"` + payload + `"}`,
		"signatures null":        `{"payloadType":"x","payload":"` + payload + `","signatures":null}`,
		"no signature in it":     `{"payloadType":"x","payload":"` + payload + `","signatures":[]}`,
		"an empty signature":     `{"payloadType":"x","payload":"` + payload + `","signatures":[{"keyid":"k"}]}`,
		"a number for a type":    `{"payloadType":1,"payload":"` + payload + `","signatures":[{"sig":"` + sig + `"}]}`,
		"null for a payload":     `{"payloadType":"x","payload":null,"signatures":[{"sig":"` + sig + `"}]}`,
		"sig twice":              `{"payloadType":"x","payload":"` + payload + `","signatures":[{"sig":"` + sig + `","sig":"` + sig + `"}]}`,
		"a key id too long":      `{"payloadType":"x","payload":"` + payload + `","signatures":[{"keyid":"` + strings.Repeat("k", 257) + `","sig":"` + sig + `"}]}`,
		"too many signatures":    `{"payloadType":"x","payload":"` + payload + `","signatures":[` + many + `]}`,
		"payload too long":       `{"payloadType":"x","payload":"` + base64.StdEncoding.EncodeToString(make([]byte, MaxPayloadBytes+1)) + `","signatures":[{"sig":"` + sig + `"}]}`,
		"too long":               good + strings.Repeat(" ", MaxEnvelopeBytes),
		"base64 without padding": strings.Replace(good, payload, strings.TrimRight(payload, "="), 1),
		"base64 with a break":    strings.Replace(good, payload, payload[:4]+`\n`+payload[4:], 1),
		"base64, loose last bit": strings.Replace(good, payload, "eyJhIjoxfR==", 1),
		"not UTF-8":              strings.Replace(good, "vnd.", "\xff", 1),
	} {
		t.Run(name, func(t *testing.T) {
			if e, err := Parse([]byte(text)); err == nil || !errors.Is(err, ErrEnvelope) {
				t.Errorf("read as %+v, %v", e, err)
			}
		})
	}
}

// TestEveryFlippedBit: a flipped bit of an envelope is refused, leaves no
// signature, or is in what means nothing, such as a key id: then the very same
// payload is signed by the very same key.
func TestEveryFlippedBit(t *testing.T) {
	whole := signedBy(t, "a")
	text := whole.Encode()
	inHint := 0
	for i := range len(text) * 8 {
		flipped := slices.Clone(text)
		flipped[i/8] ^= 1 << (i % 8)
		e, err := Parse(flipped)
		if err != nil || len(e.Signers(publics("a"))) == 0 {
			continue
		}
		if e.PayloadType != whole.PayloadType || !bytes.Equal(e.Payload, whole.Payload) || !bytes.Equal(e.Signatures[0].Sig, whole.Signatures[0].Sig) {
			t.Errorf("bit %d of byte %d flipped: verified as %+v", i%8, i/8, e)
		}
		inHint++
	}
	if inHint == 0 || inHint > 8*len(`"keyid":"0123456789abcdef"`) {
		t.Errorf("%d flipped bits change nothing; the key id and its name alone may", inHint)
	}
}

// FuzzEnvelope: what parses encodes to what parses as the same.
func FuzzEnvelope(f *testing.F) {
	f.Add(signedBy(f, "a", "b").Encode())
	f.Add([]byte(`{"payload":"aGVsbG8gd29ybGQ=","payloadType":"x","signatures":[{"sig":"_-8="}],"x":{"y":[]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(e.Encode())
		if err != nil && len(e.Encode()) <= MaxEnvelopeBytes {
			t.Fatalf("what we write does not parse: %v\n%s", err, e.Encode())
		}
		if err == nil && !bytes.Equal(again.Encode(), e.Encode()) {
			t.Errorf("written twice it differs:\n%s\n%s", e.Encode(), again.Encode())
		}
		if len(e.Signers(publics("a"))) > 0 && !slices.Equal(again.Signers(publics("a")), publics("a")) {
			t.Error("a signature got lost in writing")
		}
	})
}
