package envelope

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"testing"

	"github.com/cloudflare/circl/dh/x25519"
	"github.com/cloudflare/circl/hpke"
	"golang.org/x/crypto/hkdf"

	"github.com/edgecoder/edgecoder/crypto"
)

// This file writes the formats again from their description in doc.go, on X25519 and HPKE of another library, and uses
// nothing of the package but what it exports.

var circlSuite = hpke.NewSuite(hpke.KEM_X25519_HKDF_SHA256, hpke.KDF_HKDF_SHA256, hpke.AEAD_AES256GCM)

// circlSender is the sending side of an HPKE context of circl.
func circlSender(t *testing.T, to, info []byte) (enc []byte, s hpke.Sealer) {
	t.Helper()
	pub, err := hpke.KEM_X25519_HKDF_SHA256.Scheme().UnmarshalBinaryPublicKey(to)
	if err != nil {
		t.Fatal(err)
	}
	sender, err := circlSuite.NewSender(pub, info)
	if err != nil {
		t.Fatal(err)
	}
	if enc, s, err = sender.Setup(seed(9)); err != nil {
		t.Fatal(err)
	}
	return enc, s
}

func circlRecipient(t *testing.T, key, enc, info []byte) hpke.Opener {
	t.Helper()
	priv, err := hpke.KEM_X25519_HKDF_SHA256.Scheme().UnmarshalBinaryPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	receiver, err := circlSuite.NewReceiver(priv, info)
	if err != nil {
		t.Fatal(err)
	}
	opener, err := receiver.Setup(enc)
	if err != nil {
		t.Fatal(err)
	}
	return opener
}

func plainGCM(t *testing.T, key []byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func unb64(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func shortID(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// signed is the text that crypto.SignText signs.
func signed(parts ...[]byte) []byte {
	text := []byte("edgecoder envelope v2\n")
	for _, p := range parts {
		text = append(binary.BigEndian.AppendUint64(text, uint64(len(p))), p...)
	}
	return text
}

// TestInteropV1 opens what we seal and seals what we open, both directions.
func TestInteropV1(t *testing.T) {
	agent := testKey(t, 1)
	aesKey := func(own, other []byte, id string) cipher.AEAD {
		var shared, secret, public x25519.Key
		copy(secret[:], own)
		copy(public[:], other)
		if !x25519.Shared(&shared, &secret, &public) {
			t.Fatal("small order")
		}
		key := make([]byte, 32)
		if _, err := io.ReadFull(hkdf.New(sha256.New, shared[:], []byte(id), []byte("edgecoder-envelope")), key); err != nil {
			t.Fatal(err)
		}
		return plainGCM(t, key)
	}

	text, session, err := SealV1(seed(5), agent.PublicKey(), Clear{SubtaskID: "task"}, []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	var e struct{ EphemeralPublicKey, EncryptedPayload, Nonce, Tag string }
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	aead := aesKey(agent.Bytes(), unb64(t, e.EphemeralPublicKey), "task")
	payload, err := aead.Open(nil, unhex(t, e.Nonce), append(unb64(t, e.EncryptedPayload), unhex(t, e.Tag)...), nil)
	if err != nil || string(payload) != "payload" {
		t.Fatalf("they open ours: %q, %v", payload, err)
	}
	nonce := bytes.Repeat([]byte{7}, 12)
	sealed := aead.Seal(nil, nonce, []byte("result"), nil)
	result := fmt.Sprintf(`{"subtaskId":"task","encryptedPayload":%q,"nonce":"%x","tag":"%x"}`, b64(sealed[:6]), nonce, sealed[6:])
	if got, err := session.OpenResult([]byte(result)); err != nil || string(got) != "result" {
		t.Fatalf("we open their result: %q, %v", got, err)
	}

	var secret, public x25519.Key
	secret[3] = 77
	x25519.KeyGen(&public, &secret)
	aead = aesKey(secret[:], agent.PublicKey().Bytes(), "task")
	sealed = aead.Seal(nil, nonce, []byte("payload"), nil)
	theirs := fmt.Sprintf(`{"metadata": {}, "subtaskId":"task","ephemeralPublicKey":%q,"encryptedPayload":%q,"nonce":"%x","tag":"%x"}`,
		b64(public[:]), b64(sealed[:7]), nonce, sealed[7:])
	opened, err := OpenV1(agent, []byte(theirs))
	if err != nil || string(opened.Payload) != "payload" {
		t.Fatalf("we open theirs: %v", err)
	}
	answer, err := opened.SealResult(seed(8), []byte("result"))
	if err != nil || json.Unmarshal(answer, &e) != nil {
		t.Fatal(err)
	}
	if got, err := aead.Open(nil, unhex(t, e.Nonce), append(unb64(t, e.EncryptedPayload), unhex(t, e.Tag)...), nil); err != nil || string(got) != "result" {
		t.Fatalf("they open our result: %q, %v", got, err)
	}
}

const (
	theirClear  = `{"v":2,"direction":"task","subtaskId":"task","recipient":"%s","sender":"%s","metadata":{"language":"python"}`
	theirResult = `{"v":2,"direction":"result","subtaskId":"task","recipient":"%s","sender":"%s"`
)

func TestInteropV2WeOpenTheirs(t *testing.T) {
	agent := testKey(t, 1)
	signer, sender := testSigner(t, 3)
	to := agent.PublicKey().Bytes()
	info := append(append([]byte("edgecoder envelope v2\n"), sender[:]...), to...)
	enc, theirs := circlSender(t, to, info)
	clear := fmt.Sprintf(theirClear, shortID(to), shortID(sender[:]))
	aad := []byte(clear + "}")
	payload, err := theirs.Seal([]byte("payload"), aad)
	if err != nil {
		t.Fatal(err)
	}
	signature := ed25519.Sign(signer, signed(info, aad, enc, payload))
	text := fmt.Sprintf(`%s,"enc":%q,"payload":%q,"signature":%q}`, clear, b64(enc), b64(payload), b64(signature))
	opened, err := OpenV2(agent, []crypto.PublicKey{sender}, []byte(text))
	if err != nil || string(opened.Payload) != "payload" || opened.Clear.Metadata.Language != "python" {
		t.Fatalf("%v", err)
	}
	answer, err := opened.SealResult(seed(8), []byte("result"))
	if err != nil {
		t.Fatal(err)
	}
	var r struct{ Nonce, Payload string }
	if err := json.Unmarshal(answer, &r); err != nil {
		t.Fatal(err)
	}
	aead := plainGCM(t, theirs.Export([]byte("edgecoder envelope v2 result"), 32))
	aad = []byte(fmt.Sprintf(theirResult, shortID(sender[:]), shortID(to)) + "}")
	if got, err := aead.Open(nil, unhex(t, r.Nonce), unb64(t, r.Payload), aad); err != nil || string(got) != "result" {
		t.Fatalf("they open our result: %q, %v", got, err)
	}
}

func TestInteropV2TheyOpenOurs(t *testing.T) {
	agent := testKey(t, 1)
	signer, sender := testSigner(t, 3)
	to := agent.PublicKey().Bytes()
	text, session, err := SealV2(signer, agent.PublicKey(), Clear{"task", Metadata{Language: "python"}}, []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	var e struct{ Enc, Payload, Signature string }
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	info := append(append([]byte("edgecoder envelope v2\n"), sender[:]...), to...)
	aad := []byte(fmt.Sprintf(theirClear, shortID(to), shortID(sender[:])) + "}")
	if !ed25519.Verify(sender[:], signed(info, aad, unb64(t, e.Enc), unb64(t, e.Payload)), unb64(t, e.Signature)) {
		t.Error("the signature does not verify")
	}
	opener := circlRecipient(t, agent.Bytes(), unb64(t, e.Enc), info)
	if got, err := opener.Open(unb64(t, e.Payload), aad); err != nil || string(got) != "payload" {
		t.Fatalf("they open ours: %q, %v", got, err)
	}
	aead := plainGCM(t, opener.Export([]byte("edgecoder envelope v2 result"), 32))
	nonce := bytes.Repeat([]byte{7}, 12)
	clear := fmt.Sprintf(theirResult, shortID(sender[:]), shortID(to))
	result := fmt.Sprintf(`%s,"nonce":"%x","payload":%q}`, clear, nonce, b64(aead.Seal(nil, nonce, []byte("result"), []byte(clear+"}"))))
	if got, err := session.OpenResult([]byte(result)); err != nil || string(got) != "result" {
		t.Fatalf("we open their result: %q, %v", got, err)
	}
}

// chunkAt is where chunk i of a stream of the plain size lies, in the plain file, and its nonce.
func chunkAt(i, plainSize int) (from, to int, nonce []byte) {
	from, to = i*65536, min((i+1)*65536, plainSize)
	nonce = binary.BigEndian.AppendUint64(make([]byte, 3), uint64(i))
	if to == plainSize {
		return from, to, append(nonce, 1)
	}
	return from, to, append(nonce, 0)
}

func TestInteropStream(t *testing.T) {
	agent := testKey(t, 1)
	to := agent.PublicKey().Bytes()
	info := append([]byte("edgecoder stream v1\n"), to...)
	plain := pattern(2*65536 + 5)
	id := sha256.Sum256(to)

	enc, theirs := circlSender(t, to, info)
	stream := append([]byte("edgecoder-stream\x01"), id[:8]...)
	stream = append(stream, enc...)
	header := bytes.Clone(stream)
	aead := plainGCM(t, theirs.Export([]byte("edgecoder stream v1 chunks"), 32))
	for i := range 3 {
		from, to, nonce := chunkAt(i, len(plain))
		stream = aead.Seal(stream, nonce, plain[from:to], header)
	}
	if got, err := openAll(t, stream); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("we open theirs: %d bytes, %v", len(got), err)
	}

	ours := sealAll(t, plain)
	header, body := ours[:57], ours[57:]
	if !bytes.Equal(header[:25], stream[:25]) {
		t.Errorf("header %x, want %x", header[:25], stream[:25])
	}
	aead = plainGCM(t, circlRecipient(t, agent.Bytes(), header[25:], info).Export([]byte("edgecoder stream v1 chunks"), 32))
	for i := range 3 {
		from, to, nonce := chunkAt(i, len(plain))
		got, err := aead.Open(nil, nonce, body[from+16*i:to+16*(i+1)], header)
		if err != nil || !bytes.Equal(got, plain[from:to]) {
			t.Fatalf("they open chunk %d of ours: %v", i, err)
		}
	}
}
