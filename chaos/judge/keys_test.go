package judge

import (
	"testing"

	"github.com/edgecoder/edgecoder/client"
)

// TestKeyChanges: the story of an agent whose key is replaced a second after the start,
// with a window of 120 s.
func TestKeyChanges(t *testing.T) {
	const good, verifies = "key-of-b", "keys verify in their time"
	rekey := func(answer func(*Op)) func(*story) {
		return func(s *story) {
			op := Op{Kind: KindRekey, Rekey: &Rekey{Agent: "a", From: someKey, To: good}}
			answer(&op)
			s.add(1_000, 1_100, op)
		}
	}
	made := rekey(func(*Op) {})
	open := rekey(unknown)
	by := func(key string, at int64, answer func(*Op)) func(*story) {
		return func(s *story) {
			s.claim(at, at+10, "n", "n", signedAt(at, both(answer, func(op *Op) { op.Claim.Key, op.Claim.ClockMs = key, wall0+at })))
		}
	}
	after := func(first, second func(*story)) func(*story) {
		return func(s *story) {
			first(s)
			second(s)
		}
	}
	late := skew + 8_000 // beyond the overlap, whatever the clocks
	tell(t, []tale{
		{name: "both in the overlap", tell: after(made, after(by(someKey, 60_000, admitted(9, 60_000)), by(good, 2_000, admitted(8, 2_000))))},
		{name: "the new one before it was asked for", check: verifies, want: Fail, says: "before anybody asked", tell: after(by(good, 500, admitted(7, 500)), made)},
		{name: "the old one after its end", check: verifies, want: Fail, says: "that had ended", tell: after(made, by(someKey, late, admitted(9, late)))},
		{name: "the old one after its end, asked again", tell: after(by(someKey, 60_000, admitted(9, 60_000)), after(made, func(s *story) {
			s.claim(late, late+10, "n", "n", signedAt(60_000, repeated(9, 60_000)))
		}))},
		{name: "the old one, and nobody knows whether it was replaced", tell: after(open, by(someKey, late, admitted(9, late)))},
		{name: "the old one is denied after its end", tell: after(made, by(someKey, late, denied(client.VerdictKeyExpired)))},
		{name: "the old one is denied in the overlap", check: "denials justified", want: Fail, says: "key_expired", tell: after(made, by(someKey, 60_000, denied(client.VerdictKeyExpired)))},
		{name: "the new one is denied", check: "denials justified", want: Fail, says: "good signature", tell: after(made, by(good, 2_000, denied(client.VerdictInvalidSignature)))},
		{name: "the new one is denied before it was acknowledged", tell: after(open, by(good, 2_000, denied(client.VerdictInvalidSignature)))},
	})
}
