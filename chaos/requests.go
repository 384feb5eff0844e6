package chaos

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"sync"
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

// sign makes a fresh request of a random agent.
func sign(rng *rand.Rand, agents []agent, now time.Time) (*signedRequest, error) {
	a := agents[rng.IntN(len(agents))]
	if rng.Float64() < lateShare {
		now = now.Add(-lateBy)
	}
	nonce := fmt.Sprintf("%016x%016x", rng.Uint64(), rng.Uint64())
	path := fmt.Sprintf("/jobs/%d", rng.IntN(4))
	body := fmt.Appendf(nil, `{"job":%d}`, rng.IntN(1000))
	s, err := crypto.SignRequest(a.key, a.id, "POST", path, body, now.UnixMilli(), nonce)
	if err != nil {
		return nil, err
	}
	r := &signedRequest{wire: client.AdmissionRequest{Method: "POST", Path: path, Headers: map[string]string{}, ClaimID: client.NewClaimID()}}
	for _, h := range s.Headers() {
		r.wire.Headers[h[0]] = h[1]
	}
	r.claim = judge.Claim{Key: a.public().String(), Agent: a.id, Nonce: nonce, TimestampMs: s.TimestampMs, ClaimID: r.wire.ClaimID,
		Request: fmt.Sprintf("admin POST %s %s", path, s.BodySHA256)}
	if rng.Float64() < forgedShare {
		s.Signature[rng.IntN(len(s.Signature))] ^= 1 << rng.IntN(8)
		r.wire.Headers[crypto.HeaderSignature] = base64.StdEncoding.EncodeToString(s.Signature[:])
		r.claim.Forged = true
	}
	return r, nil
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

// replayed returns the same signed request under another claim id: what
// whoever listened in would send.
func (r *signedRequest) replayed() *signedRequest {
	again := *r
	again.claim.ClaimID = client.NewClaimID()
	again.wire.ClaimID = again.claim.ClaimID
	return &again
}

// ring remembers what was sent lately, and what ended unknown.
type ring struct {
	mu      sync.Mutex
	sent    []*signedRequest
	next    int
	unknown []*signedRequest
}

const ringSize = 400

func (r *ring) put(s *signedRequest, outcome judge.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sent) < ringSize {
		r.sent = append(r.sent, s)
	} else {
		r.sent[r.next] = s
		r.next = (r.next + 1) % ringSize
	}
	if outcome == judge.Unknown && len(r.unknown) < ringSize {
		r.unknown = append(r.unknown, s)
	}
}

// recent returns one of the last requests, or nil.
func (r *ring) recent(rng *rand.Rand) *signedRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sent) == 0 {
		return nil
	}
	return r.sent[rng.IntN(len(r.sent))]
}

// open takes out a request whose outcome is unknown: that is what a caller
// really retries.
func (r *ring) open() *signedRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.unknown) == 0 {
		return nil
	}
	s := r.unknown[0]
	r.unknown = r.unknown[1:]
	return s
}

// all returns everything that is remembered.
func (r *ring) all() []*signedRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*signedRequest(nil), r.sent...)
}
