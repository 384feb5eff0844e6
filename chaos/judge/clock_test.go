package judge

import (
	"fmt"
	"testing"

	"github.com/edgecoder/edgecoder/client"
)

func TestClock(t *testing.T) {
	const follows, justified = "log follows time", "denials justified"
	tell(t, []tale{
		{name: "off by what a majority may be off", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", admitted(10, -4_900))
			s.claim(10, 15, "m", "c2", admitted(11, 4_900))
		}},
		{name: "a slow answer", tell: func(s *story) { s.claim(0, 20_000, "n", "c1", admitted(10, 24_000)) }},
		{name: "ahead of every client", check: follows, want: Fail, says: "(P1) the cluster clock was 59994 ms ahead", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", admitted(10, 60_000))
		}},
		{name: "behind every client", check: follows, want: Fail, says: "(P1) the cluster clock was 60000 ms behind", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", admitted(10, -60_000))
		}},
		{name: "a repeated answer of an old attempt", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", unknown)
			s.claim(60_000, 60_005, "n", "c1", repeated(10, 3))
		}},
		{name: "a repeated answer from before the first attempt", check: follows, want: Fail, says: "30000 ms behind", tell: func(s *story) {
			s.claim(30_000, 30_005, "n", "c1", unknown)
			s.claim(60_000, 60_005, "n", "c1", repeated(10, 0))
		}},
		{name: "everybody is late by a clock of nobody's", check: justified, want: Fail, says: "denied for a skew", tell: func(s *story) {
			for i := range int64(5) {
				s.claim(1000*i, 1000*i+5, fmt.Sprint(i), "c", both(denied(client.VerdictTimestampSkew), func(op *Op) { op.Claim.ClockMs = wall0 + 600_000 }))
			}
		}},
		{name: "a ban that lasts by a clock of nobody's", check: follows, want: Fail, says: "(P9) the cluster clock was", tell: func(s *story) {
			s.ban("a", 0, 5, 10)
			s.claim(6, 9, "n", "c1", both(denied(client.VerdictBlacklisted), func(op *Op) { op.Claim.ClockMs = wall0 - 600_000 }))
		}},
		{name: "a replay is told by any node, by its own clock", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", admitted(10, 1))
			s.claim(6, 9, "n", "c2", both(denied(client.VerdictReplay), both(at(10), func(op *Op) { op.Claim.ClockMs = wall0 + 600_000 })))
		}},
		{name: "a denial names an index and the clock before it", check: follows, want: Fail, says: "ran back by", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", admitted(10, 4_000))
			s.claim(6, 9, "n", "c2", both(denied(client.VerdictReplay), both(at(11), func(op *Op) { op.Claim.ClockMs = wall0 - 60_000 })))
		}},
		{name: "a denial at an older index", tell: func(s *story) {
			s.claim(0, 20_000, "n", "c1", admitted(10, 15_000))
			s.claim(6, 9, "m", "c2", both(denied(client.VerdictTimestampSkew), both(at(9), func(op *Op) { op.Claim.TimestampMs -= 2 * skew })))
		}},
		{name: "the clock runs back, told by a repeated answer", check: follows, want: Fail, says: "ran back by 2 ms", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", unknown)
			s.claim(1, 5, "m", "c2", admitted(11, 4))
			s.claim(6, 9, "n", "c1", repeated(12, 2))
		}},
	})
}

func TestLateDenials(t *testing.T) {
	tell(t, []tale{
		{name: "a ban that may not have been in force yet", tell: func(s *story) {
			s.ban("a", 0, 50, 7)
			s.claim(10, 60, "n", "c1", denied(client.VerdictBlacklisted))
			s.lift("a", 70, 80, 8)
			s.claim(90, 95, "n", "c2", denied(client.VerdictReplay))
		}},
		{name: "a lift came in between", tell: func(s *story) {
			s.ban("a", 0, 5, 7)
			s.lift("a", 10, 30, 8)
			s.ban("a", 31, 35, 9)
			s.claim(8, 40, "n", "c1", denied(client.VerdictBlacklisted))
			s.lift("a", 50, 55, 10)
			s.claim(60, 65, "n", "c2", denied(client.VerdictReplay))
		}},
		{name: "the ban may have run out", tell: func(s *story) {
			s.banUntil("a", 0, 5, 7, 12_000)
			s.claim(10_000, 10_002, "n", "c1", denied(client.VerdictBlacklisted))
			s.claim(30_000, 30_002, "n", "c2", denied(client.VerdictReplay))
		}},
		{name: "the ban held all the time", check: once, want: Fail, says: "nothing else could have used", tell: func(s *story) {
			s.ban("a", 0, 5, 7)
			s.claim(10_000, 10_002, "n", "c1", denied(client.VerdictBlacklisted))
			s.lift("a", 20_000, 20_002, 8)
			s.claim(30_000, 30_002, "n", "c2", denied(client.VerdictReplay))
		}},
		{name: "the other ban held too", check: once, want: Fail, says: "nothing else could have used", tell: func(s *story) {
			s.ban("a", 0, 5, 7)
			s.ban("a", 9_000, 11_000, 8)
			s.claim(10_000, 10_002, "n", "c1", denied(client.VerdictBlacklisted))
			s.lift("a", 20_000, 20_002, 9)
			s.claim(30_000, 30_002, "n", "c2", denied(client.VerdictReplay))
		}},
		{name: "it fell out of the window while it was asked", tell: func(s *story) {
			s.claim(skew-10, skew+5, "n", "c1", denied(client.VerdictTimestampSkew))
			s.claim(skew+6, skew+9, "n", "c2", denied(client.VerdictReplay))
		}},
		{name: "ten minutes late", check: once, want: Fail, says: "nothing else could have used", tell: func(s *story) {
			s.claim(600_000, 600_005, "n", "c1", denied(client.VerdictTimestampSkew))
			s.claim(600_006, 600_009, "n", "c2", denied(client.VerdictReplay))
		}},
		{name: "its use lies within its attempt", check: once, want: Fail, says: "nothing else could have used", tell: func(s *story) {
			s.ban("a", 0, 50, 7)
			s.lift("a", 51, 52, 8)
			s.claim(12, 15, "n", "c2", denied(client.VerdictReplay))
			s.claim(20, 60, "n", "c1", denied(client.VerdictBlacklisted))
		}},
		{name: "only one of two may have used it", check: once, want: Fail, tell: func(s *story) {
			s.ban("a", 0, 50, 7)
			s.claim(10, 60, "n", "c1", denied(client.VerdictBlacklisted))
			s.lift("a", 61, 62, 8)
			s.claim(70, 75, "n", "c2", denied(client.VerdictReplay))
			s.claim(80, 85, "n", "c1", denied(client.VerdictReplay))
		}},
	})
}

func TestLimited(t *testing.T) {
	const earnest, hold = "limits denied in earnest", "limits hold"
	tell(t, []tale{
		{name: "the window is full", tell: func(s *story) {
			s.burst(10, 0, 10, 20)
			s.claim(30, 35, "n", "c1", denied(client.VerdictRateLimited))
		}},
		{name: "exactly one window old still counts", tell: func(s *story) {
			s.burst(10, 0, 10, 20)
			s.claim(1000, 1005, "n", "c1", denied(client.VerdictRateLimited))
		}},
		{name: "unknown ones may fill it", tell: func(s *story) {
			s.burst(10, 0)
			s.claim(10, 15, "x", "c1", unknown)
			s.claim(20, 25, "y", "c2", unknown)
			s.claim(30, 35, "n", "c3", denied(client.VerdictRateLimited))
		}},
		{name: "while a smaller limit may be in force", tell: func(s *story) {
			s.burst(10, 0)
			s.setPolicy(10, 50, 1, 1, unknown)
			s.claim(30, 35, "n", "c1", denied(client.VerdictRateLimited))
		}},
		{name: "the very first request", check: earnest, want: Fail, says: "after at most 0 admissions in the window, 3 are allowed", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", denied(client.VerdictRateLimited))
		}},
		{name: "the oldest left the window", check: earnest, want: Fail, says: "at most 2 admissions", tell: func(s *story) {
			s.burst(10, 0, 10, 20)
			s.claim(1001, 1005, "n", "c1", denied(client.VerdictRateLimited))
		}},
		{name: "one unknown asked often is one", check: earnest, want: Fail, says: "at most 2 admissions", tell: func(s *story) {
			s.burst(10, 0)
			for i := range int64(5) {
				s.claim(10+i, 15+i, "x", "c1", unknown)
			}
			s.claim(30, 35, "n", "c3", denied(client.VerdictRateLimited))
		}},
		{name: "those of another agent", check: earnest, want: Fail, says: "b was called rate limited", tell: func(s *story) {
			s.burst(10, 0, 10, 20)
			s.claimBy("b", 30, 35, "n", denied(client.VerdictRateLimited))
		}},
		{name: "what came later in the log", check: earnest, want: Fail, says: "at most 2 admissions", tell: func(s *story) {
			s.burst(10, 0, 10)
			s.claim(20, 40, "m", "m", admitted(14, 20))
			s.claim(30, 35, "n", "c1", both(denied(client.VerdictRateLimited), at(13)))
		}},
		{name: "three unknown ones turn out to be done", tell: func(s *story) {
			for i := range int64(3) {
				s.claim(i, i+100, fmt.Sprint("m", i), fmt.Sprint("c", i), unknown)
			}
			for i := range int64(3) {
				s.claim(200+i, 300+i, fmt.Sprint("m", i), fmt.Sprint("c", i), repeated(uint64(10+i), 50+i))
			}
		}},
		{name: "one more than the limit turn out to be done", check: hold, want: Fail, says: "admitted 4 times", tell: func(s *story) {
			for i := range int64(4) {
				s.claim(i, i+100, fmt.Sprint("m", i), fmt.Sprint("c", i), unknown)
			}
			for i := range int64(4) {
				s.claim(200+i, 300+i, fmt.Sprint("m", i), fmt.Sprint("c", i), repeated(uint64(10+i), 50+i))
			}
		}},
	})
}

func TestRefusals(t *testing.T) {
	const blame = "refusals blame the cluster"
	ban := func(code string, expires int64) func(*story) {
		return func(s *story) {
			b := &Ban{Agent: "a", Reason: "x"}
			if expires != 0 {
				b.ExpiresMs = wall0 + expires
			}
			s.add(0, 5, Op{Kind: KindBan, Code: code, Ban: b})
		}
	}
	signed := func(ago int64) func(*story) {
		return func(s *story) {
			s.add(0, 5, Op{Kind: KindBan, Code: client.CodeInvalid, Ban: &Ban{Agent: "a", Reason: "x", SignedMs: wall0 - ago}})
		}
	}
	var tales []tale
	for _, code := range []string{client.CodeInvalid, client.CodeForbidden, client.CodeUnauthorized, client.CodeTooLarge, client.CodeInternal, client.CodeConflict, client.CodeNotFound} {
		tales = append(tales, tale{name: code, check: blame, want: Fail, says: "a well-formed ban was refused with \"" + code, tell: ban(code, 0)})
	}
	for _, code := range []string{client.CodeUnavailable, client.CodeUnknownOutcome, client.CodeOverloaded, client.CodeDiskFull, client.CodeRateLimited} {
		tales = append(tales, tale{name: code, tell: ban(code, 0)})
	}
	tell(t, append(tales,
		tale{name: "it has run out before it was asked for again", tell: ban(client.CodeInvalid, 4_000)},
		tale{name: "it was signed too long ago when it was asked for again", tell: signed(118_000)},
		tale{name: "it was signed lately", check: blame, want: Fail, says: "invalid", tell: signed(60_000)},
		tale{name: "it has long to run", check: blame, want: Fail, says: "invalid", tell: ban(client.CodeInvalid, 60_000)},
		tale{name: "a strong read fails inside", check: blame, want: Fail, says: "ban_read was refused", tell: func(s *story) {
			s.read("a", 0, 5, false, true)
			s.run.Ops[0].Code, s.run.Ops[0].Outcome = client.CodeInternal, Unknown
		}},
		tale{name: "a claim conflicts", check: blame, want: Fail, says: "claim was refused", tell: func(s *story) {
			s.claim(0, 5, "n", "c1", func(op *Op) { op.Code = client.CodeConflict })
		}},
	))
}
