package judge

import (
	"testing"

	"github.com/edgecoder/edgecoder/client"
)

const once = "claims admitted once"

func TestClaims(t *testing.T) {
	tell(t, []tale{
		{name: "admitted, then a replay elsewhere is refused", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", admitted(10, 1))
			s.claim(6, 9, "n", "c2", denied(client.VerdictReplay))
		}},
		{name: "the same claim again gets its first answer", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", admitted(10, 1))
			s.claim(6, 9, "n", "c1", repeated(10, 1))
		}},
		{name: "an unknown claim took effect", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", unknown)
			s.claim(6, 9, "n", "c2", denied(client.VerdictReplay))
			s.claim(10, 12, "n", "c1", repeated(10, 1))
		}},
		{name: "an unknown claim never happened", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", unknown)
			s.claim(6, 9, "n", "c2", admitted(10, 1))
			s.claim(10, 12, "n", "c1", denied(client.VerdictReplay))
		}},
		{name: "an unknown claim takes effect late", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", unknown)
			s.burst(8, 5, 5, 5)
			s.claim(6, 9, "n", "c2", denied(client.VerdictRateLimited)) // the nonce is still free
			s.claim(20, 22, "n", "c2", denied(client.VerdictReplay))
		}},
		{name: "two at the same time, one wins", tell: func(s *story) {
			s.claim(0, 9, "n", "c1", denied(client.VerdictReplay))
			s.claim(1, 8, "n", "c2", admitted(10, 1))
		}},
		{name: "unavailable is not done, so another may have it", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", unavailable)
			s.claim(6, 9, "n", "c2", admitted(10, 1))
		}},
		{name: "the same nonce of another key", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", admitted(10, 1))
			s.claimBy("b", 6, 9, "n", admitted(11, 2))
		}},
		{name: "a nonce whose timestamp left the window is free for another", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", admitted(10, 1))
			s.claim(200_000, 200_001, "n", "c2", func(op *Op) {
				admitted(99, 200_000)(op)
				op.Claim.TimestampMs = wall0 + 200_000
			})
		}},
		{name: "a node asked its leader twice", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", repeated(10, 1))
			s.claim(6, 9, "n", "c2", denied(client.VerdictReplay))
			s.claim(10, 12, "n", "c1", repeated(10, 1))
		}},
		{name: "denied for a ban after its dead leader had admitted it", tell: func(s *story) {
			s.ban("a", 0, 5, 7)
			s.claim(0, 8, "n", "c1", denied(client.VerdictBlacklisted))
			s.lift("a", 10, 12, 8)
			s.claim(16, 19, "n", "c2", denied(client.VerdictReplay))
		}},
		{name: "denied for its age, and the nonce is free", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", signedAt(-200_000, denied(client.VerdictTimestampSkew)))
			s.claim(6, 9, "n", "c2", admitted(10, 1))
		}},
		{name: "rate limited uses no nonce", check: once, want: Fail, says: "refused as a replay", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", denied(client.VerdictRateLimited))
			s.claim(6, 9, "n", "c2", denied(client.VerdictReplay))
		}},
		{name: "forged and refused", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", func(op *Op) { denied(client.VerdictInvalidSignature)(op); op.Claim.Forged = true })
			s.claim(6, 9, "n", "c2", admitted(10, 1))
		}},
		{name: "admitted twice", check: once, want: Fail, says: "admitted more than once", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", admitted(10, 1))
			s.claim(6, 9, "n", "c2", admitted(11, 2))
		}},
		{name: "admitted twice at the same time", check: once, want: Fail, says: "admitted more than once", tell: func(s *story) {
			s.claim(0, 9, "n", "c1", admitted(10, 1))
			s.claim(0, 9, "n", "c2", admitted(10, 1))
		}},
		{name: "the same claim admitted anew", check: once, want: Fail, says: "admitted more than once", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", admitted(10, 1))
			s.claim(6, 9, "n", "c1", admitted(12, 2))
		}},
		{name: "the retry gets another answer", check: once, want: Fail, says: "not with the first answer", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", admitted(10, 1))
			s.claim(6, 9, "n", "c1", repeated(11, 1))
		}},
		{name: "two retries disagree", check: once, want: Fail, says: "different first answers", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", unknown)
			s.claim(6, 9, "n", "c1", repeated(11, 1))
			s.claim(10, 12, "n", "c1", repeated(12, 1))
		}},
		{name: "another claim's answer is repeated", check: once, want: Fail, says: "not with the first answer", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", admitted(10, 1))
			s.claim(6, 9, "n", "c2", repeated(10, 1))
		}},
		{name: "the same claim id for another request is no retry", check: once, want: Fail, says: "not with the first answer", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", admitted(10, 1))
			s.claim(6, 9, "n", "c1", func(op *Op) { repeated(10, 1)(op); op.Claim.Request = "POST /y" })
		}},
		{name: "a replay of nothing", check: once, want: Fail, says: "nothing else could have used its nonce", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", denied(client.VerdictReplay))
		}},
		{name: "a replay before the first was asked", check: once, want: Fail, says: "nothing else could have used", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", denied(client.VerdictReplay))
			s.claim(6, 9, "n", "c2", unknown)
		}},
		{name: "certainly not done, and yet done", check: once, want: Fail, says: "(P9) a request was refused as a replay although nothing else", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", unavailable)
			s.claim(6, 9, "n", "c2", denied(client.VerdictReplay))
		}},
		{name: "an own retry is no replay", check: once, want: Fail, says: "called a replay", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", admitted(10, 1))
			s.claim(6, 9, "n", "c1", denied(client.VerdictReplay))
		}},
		{name: "a used nonce is not rate limited", check: once, want: Fail, tell: func(s *story) {
			s.claim(0, 5, "n", "c1", admitted(10, 1))
			s.claim(6, 9, "n", "c2", denied(client.VerdictRateLimited))
		}},
		{name: "the same timestamp is never free again", check: once, want: Fail, says: "more than once", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", admitted(10, 1))
			s.claim(200_000, 200_001, "n", "c2", admitted(99, 200_000))
		}},
		{name: "forged and admitted", check: once, want: Fail, says: "does not verify", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", func(op *Op) { admitted(10, 1)(op); op.Claim.Forged = true })
		}},
	})
}

func TestDenials(t *testing.T) {
	const justified = "denials justified"
	tell(t, []tale{
		{name: "at the edge of the window", tell: func(s *story) { s.claim(0, 5, "n", "c1", signedAt(2-skew, admitted(10, 2))) }},
		{name: "outside the window", check: justified, want: Fail, says: "from the cluster clock", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", signedAt(1-skew, admitted(10, 2)))
		}},
		{name: "signed in the future", check: justified, want: Fail, says: "from the cluster clock", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", signedAt(3+skew, admitted(10, 2)))
		}},
		{name: "a wider window may be in force while its change is under way", tell: func(s *story) {
			s.setPolicy(0, 50, 1, 3, func(op *Op) { op.PolicySet.Policy.MaxSkewMs = 2 * skew })
			s.claim(10, 20, "n", "c1", signedAt(10-skew, admitted(10, 11)))
		}},
		{name: "a narrower window holds once acknowledged", check: justified, want: Fail, says: "at most 1000", tell: func(s *story) {
			s.setPolicy(0, 5, 1, 3, func(op *Op) { op.PolicySet.Policy.MaxSkewMs = 1000 })
			s.claim(10, 20, "n", "c1", signedAt(-990, admitted(10, 11)))
		}},
		{name: "late, and told so", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", signedAt(-skew-1, denied(client.VerdictTimestampSkew)))
		}},
		{name: "in time, and called late", check: justified, want: Fail, says: "denied for a skew", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", denied(client.VerdictTimestampSkew))
		}},
		{name: "a good signature called bad", check: justified, want: Fail, says: "called invalid", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", denied(client.VerdictInvalidSignature))
		}},
		{name: "an enrolled agent unknown", check: justified, want: Fail, says: "enrolled and active", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", denied(client.VerdictUnknownAgent))
		}},
		{name: "a stranger unknown", tell: func(s *story) { s.claimBy("stranger", 0, 5, "n", denied(client.VerdictUnknownAgent)) }},
		{name: "a well-formed request called malformed", check: justified, want: Fail, says: "well-formed", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", denied(client.VerdictMalformed))
		}},
		{name: "admitted with the code of a denial", check: justified, want: Fail, tell: func(s *story) {
			s.claim(0, 5, "n", "c1", func(op *Op) { admitted(10, 1)(op); op.Claim.Code = client.VerdictRateLimited })
		}},
	})
}

func TestRateLimits(t *testing.T) {
	const hold = "limits hold"
	burst := func(clocks ...int64) func(s *story) {
		return func(s *story) {
			for i, clock := range clocks {
				s.claim(int64(10*i), int64(10*i+5), string(rune('a'+i)), "c", admitted(uint64(10+i), clock))
			}
		}
	}
	tell(t, []tale{
		{name: "as many as allowed", tell: burst(0, 1, 2)},
		{name: "the oldest left the window", tell: burst(0, 1, 2, 1001)},
		{name: "one too many", check: hold, want: Fail, says: "admitted 4 times", tell: burst(0, 1, 2, 3)},
		{name: "exactly one window old still counts", check: hold, want: Fail, says: "admitted 4 times", tell: burst(0, 1, 2, 1000)},
		{name: "a repeated answer costs nothing", tell: func(s *story) {
			burst(0, 1, 2)(s)
			s.claim(100, 101, "a", "c", repeated(10, 0))
		}},
		{name: "while a higher limit may be in force", tell: func(s *story) {
			s.setPolicy(0, 100, 1, 10, unknown)
			burst(0, 1, 2, 3)(s)
		}},
		{name: "an override counts", check: hold, want: Fail, says: "at most 1 ", tell: func(s *story) {
			s.run.About.Policy.Policy.Overrides = map[string]client.RateLimit{"a": {Requests: 1, WindowMs: 1000}}
			burst(0, 1)(s)
		}},
	})
}
