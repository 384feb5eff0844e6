package envelope

import (
	"bytes"
	"crypto/ecdh"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/golden"
)

// goldenTask is the part of edgecoder.json about WIRE 19. It was computed by running the reference implementation.
type goldenTask struct {
	RecipientPublicKeyBase64OnWire string
	EphemeralPrivateKeyHex         string
	AESKeyHex                      string `json:"aesKeyHex"`
	PlaintextJSON                  string `json:"plaintextJson"`
	Envelope                       json.RawMessage
	EncryptedResult                json.RawMessage
	ResultPlaintextJSON            string `json:"resultPlaintextJson"`
	ResultPostBody                 json.RawMessage
	MustRejectInNewSystem          []map[string]any

	recipient *ecdh.PrivateKey
}

func loadGolden(t testing.TB) *goldenTask {
	t.Helper()
	var all struct {
		TaskEnvelope goldenTask
		Keys         struct {
			X25519 map[string]struct{ PrivateKeyRawHex string } `json:"x25519"`
		}
	}
	golden.Load(t, &all)
	var err error
	if all.TaskEnvelope.recipient, err = ecdh.X25519().NewPrivateKey(unhex(t, all.Keys.X25519["agent1"].PrivateKeyRawHex)); err != nil {
		t.Fatal(err)
	}
	return &all.TaskEnvelope
}

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// compact is JSON without white space, members as they stand.
func compact(t testing.TB, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func nonceOf(t testing.TB, text []byte) []byte {
	t.Helper()
	var e struct{ Nonce string }
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	return unhex(t, e.Nonce)
}

// TestGoldenV1 makes and opens the very bytes of the reference, in both directions.
func TestGoldenV1(t *testing.T) {
	v := loadGolden(t)
	rand := bytes.NewReader(append(unhex(t, v.EphemeralPrivateKeyHex), nonceOf(t, v.Envelope)...))
	priority := 50
	c := Clear{"5ab7a5c0-0000-4000-8000-000000000001", Metadata{ResourceClass: "cpu", Priority: &priority, Language: "python"}}
	to, err := crypto.ParseEncryptionPublicKey(v.RecipientPublicKeyBase64OnWire)
	if err != nil {
		t.Fatal(err)
	}
	text, session, err := SealV1(rand, to, c, []byte(v.PlaintextJSON))
	if err != nil || string(text) != string(compact(t, v.Envelope)) {
		t.Fatalf("sealed %s, %v; want %s", text, err, v.Envelope)
	}
	if got := hex.EncodeToString(session.key); got != v.AESKeyHex {
		t.Errorf("AES key %s, want %s", got, v.AESKeyHex)
	}

	opened, err := OpenV1(v.recipient, v.Envelope)
	if err != nil || string(opened.Payload) != v.PlaintextJSON || opened.Clear.SubtaskID != c.SubtaskID {
		t.Fatalf("opened %+v, %v", opened, err)
	}
	task, err := opened.Task()
	if err != nil || string(task.JSON()) != v.PlaintextJSON || task.Kind != "python" {
		t.Errorf("task %+v, %v", task, err)
	}

	result, err := ParseResult([]byte(v.ResultPlaintextJSON))
	if err != nil || !result.OK || result.Output != "6\n" || result.DurationMs != 41.25 {
		t.Fatalf("result %+v, %v", result, err)
	}
	payload, err := result.JSON()
	if err != nil || string(payload) != v.ResultPlaintextJSON {
		t.Fatalf("result prints as %s, %v", payload, err)
	}
	text, err = opened.SealResult(bytes.NewReader(nonceOf(t, v.EncryptedResult)), payload)
	if err != nil || string(text) != string(compact(t, v.EncryptedResult)) {
		t.Fatalf("sealed %s, %v; want %s", text, err, v.EncryptedResult)
	}
	var post ResultV1 // a service takes the four members out of the posted body
	if err := json.Unmarshal(v.ResultPostBody, &post); err != nil {
		t.Fatal(err)
	}
	if got, err := session.OpenResult(post.JSON()); err != nil || string(got) != v.ResultPlaintextJSON {
		t.Fatalf("opened %s, %v", got, err)
	}
	if _, err := session.OpenResult(post.JSON()); !errors.Is(err, ErrUsed) {
		t.Errorf("a second result: %v", err)
	}
}

// TestGoldenV1MustReject refuses what the reference wrongly accepts. Changed metadata as such cannot be seen in version
// 1; that of the vector is out of bounds.
func TestGoldenV1MustReject(t *testing.T) {
	v := loadGolden(t)
	if len(v.MustRejectInNewSystem) != 3 {
		t.Fatalf("%d cases", len(v.MustRejectInNewSystem))
	}
	for _, tt := range v.MustRejectInNewSystem {
		var e map[string]any
		if err := json.Unmarshal(v.Envelope, &e); err != nil {
			t.Fatal(err)
		}
		for name, value := range tt {
			if name != "case" {
				e[name] = value
			}
		}
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if o, err := OpenV1(v.recipient, text); !errors.Is(err, ErrMalformed) || o != nil {
			t.Errorf("%s: %v", tt["case"], err)
		}
	}
}

// TestRFC9180 runs the official vector of our suite (github.com/cfrg/draft-irtf-cfrg-hpke, test-vectors.json at
// 5f503c5, its first encryptions) through the very function that opens version 2 and streams.
func TestRFC9180(t *testing.T) {
	text := testdata(t, "rfc9180_x25519_sha256_aes256gcm_base.json")
	var v struct {
		Mode        int
		KEM         int `json:"kem_id"`
		KDF         int `json:"kdf_id"`
		AEAD        int `json:"aead_id"`
		Info        string
		SkRm        string `json:"skRm"`
		Enc         string
		Encryptions []struct{ AAD, Ct, Pt string }
		Exports     []struct {
			Context string `json:"exporter_context"`
			L       int
			Value   string `json:"exported_value"`
		}
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if v.Mode != 0 || v.KEM != 0x20 || v.KDF != 1 || v.AEAD != 2 || len(v.Encryptions) == 0 || len(v.Exports) == 0 {
		t.Fatalf("not the vector of our suite: %+v", v)
	}
	key, err := ecdh.X25519().NewPrivateKey(unhex(t, v.SkRm))
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRecipient(key, unhex(t, v.Enc), unhex(t, v.Info))
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range v.Encryptions {
		if pt, err := r.Open(unhex(t, e.AAD), unhex(t, e.Ct)); err != nil || hex.EncodeToString(pt) != e.Pt {
			t.Errorf("encryption %d: %x, %v", i, pt, err)
		}
	}
	for i, e := range v.Exports {
		if got, err := r.Export(string(unhex(t, e.Context)), e.L); err != nil || hex.EncodeToString(got) != e.Value {
			t.Errorf("export %d: %x, %v", i, got, err)
		}
	}
}

// TestGoldenOwn opens what the first release of our own formats sealed: they may never change under their version.
// interop_test.go says that the formats are those of doc.go.
func TestGoldenOwn(t *testing.T) {
	v := versions(t)[1]
	opened, err := v.open(testdata(t, "task.v2.json"))
	if err != nil || string(opened.Payload) != "payload" || !equalJSON(t, opened.Clear, testClear()) {
		t.Fatalf("task: %v", err)
	}
	session := Session{opened.key, opened.format}
	if got, err := session.OpenResult(testdata(t, "result.v2.json")); err != nil || string(got) != "result" {
		t.Errorf("result: %q, %v", got, err)
	}
	if got, err := openAll(t, testdata(t, "file.stream")); err != nil || string(got) != "a short file" {
		t.Errorf("stream: %q, %v", got, err)
	}
}
