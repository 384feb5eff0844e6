package envelope

import (
	"bytes"
	"crypto/ecdh"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
)

// TestOtherSpellings: version 1 takes JSON as other writers print it, version 2 has one spelling.
func TestOtherSpellings(t *testing.T) {
	texts := map[string][]byte{}
	for _, v := range versions(t) {
		text, _, err := v.seal(testClear(), []byte("task"))
		if err != nil {
			t.Fatal(err)
		}
		texts[v.name] = text
	}
	for _, tt := range []struct {
		name     string
		from, to string
		v1       bool // opens in version 1
	}{
		{"white space", `,"`, ", \n\"", true},
		{"escaped", `task-1`, `task\u002d1`, true},
		{"slash", `ünï`, `\u00fcn\u00ef`, true},
		{"member twice", `"subtaskId":`, `"subtaskId":"task-1:ünï","subtaskId":`, false},
		{"null", `"c++"`, `null`, false},
		{"unknown member", `{"`, `{"x":1,"`, false},
		{"name in another case", `"subtaskId"`, `"subtaskid"`, false},
		{"no metadata", `"metadata":{"resourceClass":"gpu","priority":0,"language":"c++","timeoutMs":60000}`, `"metadata":null`, false},
		{"empty language", `"c++"`, `""`, false},
		{"priority as float", `"priority":0`, `"priority":0.5`, false},
		{"priority too high", `"priority":0`, `"priority":101`, false},
		{"unknown in metadata", `"priority":0`, `"x":0`, false},
		{"unknown class", `"gpu"`, `"tpu"`, false},
		{"no timeout", `60000`, `0`, false},
		{"negative timeout", `60000`, `-1`, false},
		{"long timeout", `60000`, `86400001`, false},
		{"line break in base64", `=`, `\n=`, false},
		{"base64 without padding", `=`, ``, false},
		{"id with a control character", `task-1`, `task\u0007`, false},
		{"no id", `task-1:ünï`, ``, false},
		{"not UTF-8", `ü`, "\xff", false},
	} {
		for _, v := range versions(t) {
			changed := strings.ReplaceAll(string(texts[v.name]), tt.from, tt.to)
			if changed == string(texts[v.name]) {
				t.Fatalf("%s, %s: nothing to change", tt.name, v.name)
			}
			_, err := v.open([]byte(changed))
			if want := v.name == "v1" && tt.v1; want != (err == nil) || err != nil && !errors.Is(err, ErrMalformed) {
				t.Errorf("%s, %s: %v", tt.name, v.name, err)
			}
		}
	}
	for _, v := range versions(t) {
		for name, text := range map[string]string{
			"nothing": "", "array": "[]", "object": "{}", "cut": string(texts[v.name][:40]), "twice": string(texts[v.name]) + "{}",
			"long": strings.Repeat(" ", MaxTextBytes) + string(texts[v.name]), "other version": string(texts[map[string]string{"v1": "v2", "v2": "v1"}[v.name]]),
		} {
			if _, err := v.open([]byte(text)); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s, %s: %v", name, v.name, err)
			}
		}
	}
}

// TestV1StrictFields: tags of 16 bytes and hex in lower case only; ephemeral keys that are points of small order, or
// another spelling of a key, are refused.
func TestV1StrictFields(t *testing.T) {
	v := versions(t)[0]
	text, _, err := v.seal(testClear(), []byte("task"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := parseTaskV1(text)
	if err != nil {
		t.Fatal(err)
	}
	highBit := append([]byte(nil), e.ephemeral...)
	highBit[31] |= 0x80 // X25519 ignores it
	low := append([]byte{1}, make([]byte, 31)...)
	for name, change := range map[string]struct{ member, value string }{
		"short tag": {"tag", "b7589bca"}, "long tag": {"tag", strings.Repeat("a", 34)}, "upper case": {"tag", strings.Repeat("A", 32)},
		"short nonce": {"nonce", "0505"}, "upper-case nonce": {"nonce", strings.Repeat("AB", 12)},
		"zero point": {"ephemeralPublicKey", encode64(make([]byte, 32))}, "small order": {"ephemeralPublicKey", encode64(low)},
		"high bit": {"ephemeralPublicKey", encode64(highBit)}, "short key": {"ephemeralPublicKey", "AAAA"},
		"base64 without padding": {"encryptedPayload", "dA"}, "base64 with other last bits": {"encryptedPayload", "dB=="},
	} {
		var object map[string]any
		if err := json.Unmarshal(text, &object); err != nil {
			t.Fatal(err)
		}
		object[change.member] = change.value
		if _, err := v.open([]byte(mustJSON(t, object))); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	signer, _ := testSigner(t, 3)
	key := testKey(t, 1)
	p256, err := ecdh.P256().NewPrivateKey(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	high := MaxPriority + 1
	for name, tt := range map[string]struct {
		to   *ecdh.PublicKey
		c    Clear
		size int
	}{
		"no id":     {key.PublicKey(), Clear{}, 0},
		"metadata":  {key.PublicKey(), Clear{"a", Metadata{Priority: &high}}, 0},
		"language":  {key.PublicKey(), Clear{"a", Metadata{Language: "Python"}}, 0},
		"timeout":   {key.PublicKey(), Clear{"a", Metadata{TimeoutMs: -1}}, 0},
		"too large": {key.PublicKey(), Clear{SubtaskID: "a"}, MaxPayloadBytes + 1},
		"P-256":     {p256.PublicKey(), Clear{SubtaskID: "a"}, 0},
	} {
		if text, s, err := SealV1(seed(1), tt.to, tt.c, make([]byte, tt.size)); err == nil || text != nil || s != nil {
			t.Errorf("%s: version 1: %v", name, err)
		}
		if text, s, err := SealV2(signer, tt.to, tt.c, make([]byte, tt.size)); err == nil || text != nil || s != nil {
			t.Errorf("%s: version 2: %v", name, err)
		}
	}
	if _, _, err := SealV1(nil, key.PublicKey(), testClear(), nil); err == nil {
		t.Error("sealed without randomness")
	}
	if _, _, err := SealV1(bytes.NewReader(make([]byte, 40)), key.PublicKey(), testClear(), nil); err == nil {
		t.Error("sealed with too little randomness")
	}
	for _, d := range []float64{-1, math.NaN(), math.Inf(1)} {
		if _, err := (Result{DurationMs: d}).JSON(); err == nil {
			t.Errorf("duration %v", d)
		}
	}
}

func TestPayloads(t *testing.T) {
	for _, want := range []Result{{}, {true, "a\u2028\x00\"<", "", 1e21}, {false, "", "failed", 1e-7}} {
		text, err := want.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseResult(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "{}", `{"ok":true,"output":"","durationMs":-1}`, `{"ok":1,"output":"","durationMs":1}`, `{"ok":true,"output":"","durationMs":1e999}`} {
		if _, err := ParseResult([]byte(text)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", text, err)
		}
	}
	want := Task{"in\u2028put", "ref", "python"}
	if got, err := (&Opened{Payload: want.JSON()}).Task(); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}
