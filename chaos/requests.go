package chaos

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// signedRequest is a request that an agent signed, ready to be sent as often as
// an attacker or an honest retry would.
type signedRequest struct {
	claim judge.Claim // input only
	wire  client.AdmissionRequest
	node  string // where it went first
}

// Shares of odd requests among the fresh ones.
const (
	forgedShare = 0.03
	lateShare   = 0.02
)

// lateBy is beyond every skew that the traffic's policies allow.
const lateBy = 10 * time.Minute

// sign makes a fresh request of a random agent, now and then an odd one.
func sign(rng *rand.Rand, agents []agent, now time.Time) (*signedRequest, error) {
	a := agents[rng.IntN(len(agents))]
	if rng.Float64() < lateShare {
		now = now.Add(-lateBy)
	}
	r, s, err := signHonest(rng, a, now)
	if err == nil && rng.Float64() < forgedShare {
		s.Signature[rng.IntN(len(s.Signature))] ^= 1 << rng.IntN(8)
		r.wire.Headers[crypto.HeaderSignature] = base64.StdEncoding.EncodeToString(s.Signature[:])
		r.claim.Forged = true
	}
	return r, err
}

// signHonest makes a fresh request with nothing odd about it.
func signHonest(rng *rand.Rand, a agent, now time.Time) (*signedRequest, *crypto.SignedRequest, error) {
	nonce := fmt.Sprintf("%016x%016x", rng.Uint64(), rng.Uint64())
	path := fmt.Sprintf("/jobs/%d", rng.IntN(4))
	body := fmt.Appendf(nil, `{"job":%d}`, rng.IntN(1000))
	s, err := crypto.SignRequest(a.key, a.id, "POST", path, body, now.UnixMilli(), nonce)
	if err != nil {
		return nil, nil, err
	}
	r := &signedRequest{wire: client.AdmissionRequest{Method: "POST", Path: path, Headers: map[string]string{}, ClaimID: client.NewClaimID()}}
	for _, h := range s.Headers() {
		r.wire.Headers[h[0]] = h[1]
	}
	r.claim = judge.Claim{Key: a.public().String(), Agent: a.id, Nonce: nonce, TimestampMs: s.TimestampMs, ClaimID: r.wire.ClaimID,
		Request: fmt.Sprintf("admin POST %s %s", path, s.BodySHA256)}
	return r, &s, nil
}

// agentOff draws how far an agent's clock is off: all of the window but a tenth
// on either side, which the requests need to arrive.
func (t *Traffic) agentOff(rng *rand.Rand) time.Duration {
	if t.SkewMs == 0 {
		return 0
	}
	most := t.SkewMs * 9 / 10
	return time.Duration(rng.Int64N(2*most+1)-most) * time.Millisecond
}

// defaultSkew is the server's skew window unless a policy says otherwise.
const defaultSkew = 120 * time.Second

// skew is the window at the start of the run.
func (t *Traffic) skew() time.Duration {
	return cmp.Or(time.Duration(t.SkewMs)*time.Millisecond, defaultSkew)
}

// widestWindow is the widest one that the traffic's policies set.
func (t *Traffic) widestWindow() time.Duration { return t.skew() * 13 / 12 }

// drawSkew draws the window of a new policy, a twelfth around the first one.
func (t *Traffic) drawSkew(rng *rand.Rand) time.Duration {
	return (t.skew()*11/12 + time.Duration(rng.Int64N(int64(t.skew()/6)))).Round(time.Millisecond)
}

// replayed returns the same signed request under another claim id: what
// whoever listened in would send.
func (r *signedRequest) replayed() *signedRequest {
	again := *r
	again.claim.ClaimID = client.NewClaimID()
	again.wire.ClaimID = again.claim.ClaimID
	return &again
}
