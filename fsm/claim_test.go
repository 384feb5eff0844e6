package fsm

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// plainClaim is a claim without the decoder by hand.
type plainClaim Claim

// The decoder by hand reads exactly what the general encoder writes.
func TestClaimDecoderAgreesWithTheGeneralOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Claim{
			Caller:      rapid.Uint16().Draw(t, "caller"),
			AgentID:     rapid.String().Draw(t, "agent"),
			TimestampMs: rapid.Int64().Draw(t, "time"),
			Nonce:       rapid.StringN(0, 300, -1).Draw(t, "nonce"),
		}
		copy(c.Key[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key"))
		copy(c.Tag[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "tag"))
		copy(c.ClaimID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "claim id"))
		data, err := Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		var byHand Claim
		var general plainClaim
		if err := Decode(data, &byHand); err != nil || byHand != c {
			t.Fatalf("%+v became %+v: %v", c, byHand, err)
		}
		if err := Decode(data, &general); err != nil || Claim(general) != c {
			t.Fatalf("the general decoder says %+v: %v", general, err)
		}
	})
}

// addEncoded adds the encoding of a value, and what is cut short or too long, to the seeds.
func addEncoded(f *testing.F, v any) {
	data, err := Encode(v)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:len(data)-1])
	f.Add(append(bytes.Clone(data), 0))
}

// FuzzClaim: what the decoder by hand accepts, the general one accepts as the
// same, and it is the one spelling.
func FuzzClaim(f *testing.F) {
	for _, c := range []Claim{{}, claimOf("agent", "nonce", worldStart, "c1"), {TimestampMs: -1, Caller: 1<<16 - 1}, {TimestampMs: -1 << 63}} {
		addEncoded(f, c)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var byHand Claim
		if err := Decode(data, &byHand); err != nil {
			if byHand != (Claim{}) {
				t.Error("a refused claim left something behind")
			}
			return
		}
		var general plainClaim
		if err := Decode(data, &general); err != nil || Claim(general) != byHand {
			t.Errorf("by hand %+v, in general %+v: %v", byHand, general, err)
		}
		if again, err := Encode(byHand); err != nil || !bytes.Equal(again, data) {
			t.Errorf("a second spelling: %x and %x", data, again)
		}
	})
}

func TestClaimOtherSpellingsRefused(t *testing.T) {
	data, err := Encode(claimOf("agent", "nonce", worldStart, "c1"))
	if err != nil {
		t.Fatal(err)
	}
	var c Claim
	for i := range data {
		if err := Decode(data[:i], &c); err == nil {
			t.Errorf("cut to %d bytes: accepted", i)
		}
	}
	for name, bad := range map[string][]byte{
		"nothing":            nil,
		"null":               {0xf6},
		"six members":        append([]byte{0x86}, data[1:len(data)-17]...),
		"caller in two":      append([]byte{0x87, 0x18, 0x00}, data[2:]...),
		"caller of 65536":    append([]byte{0x87, 0x1a, 0, 1, 0, 0}, data[2:]...),
		"agent as bytes":     append([]byte{0x87, 0x00, data[2] - 0x20}, data[3:]...),
		"agent not UTF-8":    append([]byte{0x87, 0x00, data[2], 0xff}, data[4:]...),
		"agent of no length": append([]byte{0x87, 0x00, 0x7f}, data[3:]...),
	} {
		if err := Decode(bad, &c); err == nil && name != "null" {
			t.Errorf("%s: accepted", name)
		}
	}
}
