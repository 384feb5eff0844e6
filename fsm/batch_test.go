package fsm

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/crypto"
)

// plainBatch and plainNotedBatch are a batch as the general encoder has it.
type (
	plainBatch struct {
		_       struct{} `cbor:",toarray"`
		Callers []string
		Claims  []plainClaim
	}
	plainNote struct {
		_         struct{} `cbor:",toarray"`
		Profile   uint8
		ExpiresMs int64
	}
	plainNotedBatch struct {
		_       struct{} `cbor:",toarray"`
		Callers []string
		Claims  []plainClaim
		Notes   []plainNote
	}
)

// plain returns what the general encoder makes of a batch.
func plain(t rapid.TB, b AdmitBatch) []byte {
	t.Helper()
	two := plainBatch{Callers: b.Callers}
	if b.Claims != nil {
		two.Claims = make([]plainClaim, 0)
	}
	var notes []plainNote
	noted := false
	for _, c := range b.Claims {
		notes = append(notes, plainNote{Profile: uint8(c.Profile), ExpiresMs: c.ExpiresMs})
		noted = noted || c.Profile != 0 || c.ExpiresMs != 0
		two.Claims = append(two.Claims, plainClaim(c))
	}
	var v any = two
	if noted {
		v = plainNotedBatch{Callers: b.Callers, Claims: two.Claims, Notes: notes}
	}
	data, err := Encode(v)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return data
}

func drawAnyClaim(t *rapid.T) Claim {
	c := Claim{
		Caller:      rapid.Uint16().Draw(t, "caller"),
		AgentID:     rapid.String().Draw(t, "agent"),
		TimestampMs: rapid.Int64().Draw(t, "time"),
		Nonce:       rapid.StringN(0, 300, -1).Draw(t, "nonce"),
	}
	copy(c.Key[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key"))
	copy(c.Tag[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "tag"))
	if chance(t, "noted", 3) {
		c.Profile = crypto.Profile(rapid.Uint8().Draw(t, "profile"))
		c.ExpiresMs = rapid.Int64().Draw(t, "expires")
	}
	return c
}

// The encoder by hand writes what the general one would, and is read back.
func TestBatchEncoderAgreesWithTheGeneralOne(t *testing.T) {
	for _, b := range []AdmitBatch{{}, {Callers: []string{}, Claims: []Claim{}}, {Callers: []string{"a"}, Claims: make([]Claim, 300)}} {
		agree(t, b)
	}
	rapid.Check(t, func(t *rapid.T) {
		agree(t, AdmitBatch{
			Callers: rapid.SliceOfN(rapid.StringN(0, 40, -1), 0, 30).Draw(t, "callers"),
			Claims:  rapid.SliceOfN(rapid.Custom(drawAnyClaim), 0, 5).Draw(t, "claims"),
		})
	})
}

func agree(t rapid.TB, b AdmitBatch) {
	t.Helper()
	data, err := Encode(b)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if want := plain(t, b); !bytes.Equal(data, want) {
		t.Fatalf("%+v encodes to %x, in general %x", b, data, want)
	}
	var back AdmitBatch
	if err := Decode(data, &back); err != nil {
		t.Fatalf("%x: %v", data, err)
	}
	if again := plain(t, back); !bytes.Equal(again, data) || (back.Claims == nil) != (b.Claims == nil) {
		t.Fatalf("%+v came back as %+v", b, back)
	}
}

// FuzzAdmitBatch: what the decoder by hand accepts, the general one reads as the
// same, and it is the one spelling.
func FuzzAdmitBatch(f *testing.F) {
	for _, b := range []AdmitBatch{{}, {Callers: []string{"verifier"}, Claims: []Claim{claimOf("a", "n", worldStart, "c")}},
		{Callers: []string{"x", ""}, Claims: []Claim{{}, messageOf(claimOf("b", "n", -5, ""), worldStart)}}} {
		addEncoded(f, b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var b AdmitBatch
		if err := Decode(data, &b); err != nil {
			if b.Callers != nil || b.Claims != nil {
				t.Error("a refused batch left something behind")
			}
			return
		}
		if want := plain(t, b); !bytes.Equal(want, data) {
			t.Errorf("a second spelling: %x and %x", data, want)
		}
		if again, err := Encode(b); err != nil || !bytes.Equal(again, data) {
			t.Errorf("it encodes to %x, %v", again, err)
		}
	})
}

func TestBatchOtherSpellingsRefused(t *testing.T) {
	full, err := Encode(AdmitBatch{Callers: []string{"v"}, Claims: []Claim{messageOf(claimOf("a", "n", 1, ""), 0)}})
	if err != nil {
		t.Fatal(err)
	}
	var b AdmitBatch
	if err := Decode(full, &b); err != nil || b.Claims[0].Profile != crypto.ProfileRFC9421 {
		t.Fatalf("%+v, %v", b, err)
	}
	for i := range full {
		if err := Decode(full[:i], &b); err == nil {
			t.Errorf("cut to %d bytes: accepted", i)
		}
	}
	notes := len(full) - 4 // array of 1, array of 2, profile, expiry
	for name, bad := range map[string][]byte{
		"one member":        {0x81, 0x80},
		"four members":      append([]byte{0x84}, append(bytes.Clone(full[1:]), 0xf6)...),
		"notes of nothing":  append(bytes.Clone(full[:notes]), 0x81, 0x82, 0, 0),
		"no notes":          append(bytes.Clone(full[:notes]), 0x80),
		"null notes":        append(bytes.Clone(full[:notes]), 0xf6),
		"two notes":         append(bytes.Clone(full[:notes]), 0x82, 0x82, 1, 0, 0x82, 1, 0),
		"a note of three":   append(bytes.Clone(full[:notes]), 0x81, 0x83, 1, 0, 0),
		"profile of 256":    append(bytes.Clone(full[:notes]), 0x81, 0x82, 0x19, 1, 0, 0),
		"profile in two":    append(bytes.Clone(full[:notes]), 0x81, 0x82, 0x18, 1, 0),
		"negative profile":  append(bytes.Clone(full[:notes]), 0x81, 0x82, 0x20, 0),
		"expiry as text":    append(bytes.Clone(full[:notes]), 0x81, 0x82, 1, 0x60),
		"callers as a map":  {0x82, 0xa0, 0x80},
		"caller as bytes":   {0x82, 0x81, 0x40, 0x80},
		"caller not UTF-8":  {0x82, 0x81, 0x61, 0xff, 0x80},
		"more than is said": {0x82, 0x80, 0x9a, 0, 1, 0, 0},
	} {
		if err := Decode(bad, &b); err == nil {
			t.Errorf("%s: accepted as %+v", name, b)
		}
	}
}

// Logs of binaries that knew no profiles hold these very bytes.
func TestBatchOfOldLogs(t *testing.T) {
	var golden map[string]string
	if err := json.Unmarshal(readGolden(t, goldenCommands), &golden); err != nil {
		t.Fatal(err)
	}
	data, err := hex.DecodeString(golden["admit_batch"])
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := DecodeCommand(data)
	if err != nil {
		t.Fatal(err)
	}
	if cmd.Body[0] != 0x82 {
		t.Fatalf("the golden batch begins with %#x, old ones are arrays of two", cmd.Body[0])
	}
	b, err := BodyOf[AdmitBatch](cmd)
	if err != nil || len(b.Claims) != 2 {
		t.Fatalf("%+v, %v", b, err)
	}
	for _, c := range b.Claims {
		if c.Profile != crypto.ProfileFiveHeader || c.ExpiresMs != 0 {
			t.Errorf("an old claim became %+v", c)
		}
	}
}
