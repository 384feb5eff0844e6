package chaos

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
	"github.com/edgecoder/edgecoder/client"
)

func answered(code string, outcome judge.Outcome) judge.Op {
	return judge.Op{Outcome: outcome, Claim: &judge.Claim{Code: code}}
}

func signedAt(age time.Duration) *signedRequest {
	return &signedRequest{claim: judge.Claim{TimestampMs: time.Now().Add(-age).UnixMilli()}}
}

// TestMemoryKeepsTheOld holds that requests stay until they are a fifth older
// than the window, that refusals flush none out, and that memory is bounded.
func TestMemoryKeepsTheOld(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	m := newMemory(time.Minute)
	gone, old, open := signedAt(3*time.Minute), signedAt(65*time.Second), signedAt(50*time.Second)
	m.put(gone, answered(client.VerdictOK, judge.OK))
	m.put(old, answered(client.VerdictOK, judge.OK))
	m.put(open, answered("", judge.Unknown))
	for range 10_000 {
		m.put(signedAt(0), answered(client.VerdictBlacklisted, judge.OK))
		m.put(signedAt(0), answered("", judge.Refused))
	}
	unknown, admitted := m.sample(rng, 1_000)
	if len(unknown) != 1 || unknown[0] != open || len(admitted) != 1 || admitted[0] != old {
		t.Fatalf("kept %d unknown and %d admitted ones, want one each", len(unknown), len(admitted))
	}
	for range 2 {
		if m.unknown(rng) != open {
			t.Error("an unknown request was asked only once")
		}
	}
	for range 10_000 {
		m.put(signedAt(time.Duration(rng.Int64N(int64(50*time.Second)))), answered(client.VerdictOK, judge.OK))
	}
	seen := map[*signedRequest]bool{}
	for range 2_000 {
		seen[m.aged(rng)] = true
	}
	if !seen[old] {
		t.Error("the oldest was never replayed")
	}
	_, admitted = m.sample(rng, 1_000_000)
	if len(admitted) > 10*bagSize || len(m.last()) > ringSize {
		t.Errorf("%d and %d requests are kept", len(admitted), len(m.last()))
	}
}

// TestPoliciesStayNearTheWindow holds that the traffic's own policies do not
// undo a narrow window.
func TestPoliciesStayNearTheWindow(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, mix := range []Traffic{{}, {SkewMs: 10_000}} {
		for range 1_000 {
			if got := mix.drawSkew(rng); got < mix.skew()*9/10 || got > mix.widestWindow() {
				t.Fatalf("a window of %s around %s", got, mix.skew())
			}
		}
	}
	if late := (&Traffic{}).widestWindow(); late >= lateBy {
		t.Errorf("requests late by %s are within the window of %s", lateBy, late)
	}
}
