package fsm

import (
	"bytes"
	"testing"
)

// TestP1OnceRecoverForgetsNothingThatWasLost: the majority that is lost may have
// widened the window, and the clock of whoever recovers may be slow. What was
// admitted there is not admitted again.
func TestP1OnceRecoverForgetsNothingThatWasLost(t *testing.T) {
	for name, c := range map[string]struct{ skewMs, signedAheadMs, passMs, slowMs int64 }{
		"a wider window": {600_000, 500_000, 0, 0},
		"a slow clock":   {DefaultSkewMs, 0, 300_000, 200_000},
	} {
		t.Run(name, func(t *testing.T) {
			w := genesisWorld(t)
			w.enroll("a")
			survivor := copyState(t, w.s)
			w.setPolicy(func(p *Policy) { p.MaxSkewMs = c.skewMs })
			w.pass(c.passMs)
			claim := claimOf("a", "lost", w.wallMs+c.signedAheadMs, "")
			w.wantVerdict(claim, CodeOK)
			r := recoveryAt(w.wallMs-c.slowMs, "recover")
			r.Forgetful = true
			if _, err := survivor.Recover(r, "n0"); err != nil {
				t.Fatal(err)
			}
			index, now := w.index, claim.TimestampMs
			apply := func(body any) Result {
				index++
				cmd, err := New(Actor{}, body)
				if err != nil {
					t.Fatal(err)
				}
				cmd.AtMs, cmd.Term = now, 9
				res, _, err := survivor.Apply(index, cmd)
				if err != nil {
					t.Fatal(err)
				}
				return res
			}
			for range 3 { // up to the end of the widest window
				if res := apply(Tick{Term: 9, Voters: 1, Walls: walls(now, 0)}); res.Code == CodeOK {
					res = apply(AdmitBatch{Callers: []string{"verifier"}, Claims: []Claim{claim}})
					if res.Claims[0].Code == CodeOK {
						t.Fatalf("admitted again at %+d ms", now-claim.TimestampMs)
					}
				}
				now += DefaultSkewMs / 2
			}
		})
	}
}

func copyState(t *testing.T, s *State) *State {
	t.Helper()
	var b bytes.Buffer
	if err := s.Freeze().Write(&b); err != nil {
		t.Fatal(err)
	}
	back, _, err := ReadSnapshot(&b)
	if err != nil {
		t.Fatal(err)
	}
	return back
}
