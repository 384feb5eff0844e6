package chaos

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
	"github.com/edgecoder/edgecoder/client"
)

// memory holds requests worth asking again: a replay proves something only
// while its nonce may still be remembered wrongly, so those that were admitted
// and those whose outcome is unknown are kept beyond the end of their window.
// What was refused, however much it is, flushes none of them out.
type memory struct {
	width time.Duration // of a slice of signed timestamps
	keep  time.Duration // how long after the end of its slice a request is kept

	mu     sync.Mutex // guards what follows
	slices map[int64]*slice
	sent   []*signedRequest // a ring of the last ones, whatever came of them
	next   int
}

// slice holds what was signed within one stretch of time.
type slice struct{ admitted, unknown bag }

// bag is a fair sample of all that was put into it.
type bag struct {
	items []*signedRequest
	seen  int
}

const (
	ringSize = 400
	bagSize  = 40
)

func (b *bag) put(s *signedRequest) {
	b.seen++
	if len(b.items) < bagSize {
		b.items = append(b.items, s)
	} else if k := rand.IntN(b.seen); k < bagSize {
		b.items[k] = s
	}
}

// newMemory suits a policy whose skew window is at most that wide.
func newMemory(window time.Duration) *memory {
	return &memory{width: min(10*time.Second, window/4), keep: window * 6 / 5, slices: map[int64]*slice{}}
}

// put remembers a request after its first answer.
func (m *memory) put(s *signedRequest, op judge.Op) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.sent) < ringSize {
		m.sent = append(m.sent, s)
	} else {
		m.sent[m.next] = s
		m.next = (m.next + 1) % ringSize
	}
	if s.claim.Forged {
		return
	}
	switch {
	case op.Outcome == judge.Unknown:
		m.slice(s).unknown.put(s)
	case op.Outcome == judge.OK && op.Claim.Code == client.VerdictOK:
		m.slice(s).admitted.put(s)
	}
}

// slice returns the slice of a request, and drops those that are too old.
func (m *memory) slice(s *signedRequest) *slice {
	width := m.width.Milliseconds()
	oldest := time.Now().Add(-m.keep).UnixMilli()
	for at := range m.slices {
		if (at+1)*width < oldest {
			delete(m.slices, at)
		}
	}
	at := s.claim.TimestampMs / width
	if m.slices[at] == nil {
		m.slices[at] = &slice{}
	}
	return m.slices[at]
}

// recent returns one of the last requests, or nil.
func (m *memory) recent(rng *rand.Rand) *signedRequest {
	m.mu.Lock()
	defer m.mu.Unlock()
	return oneOf(rng, m.sent)
}

// aged returns a request that was admitted, of any age that is kept, or nil.
func (m *memory) aged(rng *rand.Rand) *signedRequest {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ages [][]*signedRequest
	for _, s := range m.slices {
		if len(s.admitted.items) > 0 {
			ages = append(ages, s.admitted.items)
		}
	}
	if len(ages) == 0 {
		return nil
	}
	return oneOf(rng, ages[rng.IntN(len(ages))])
}

// unknown returns a request whose first outcome was unknown, or nil: that is
// what a caller really retries. It stays, so that "repeated" is asked for too.
func (m *memory) unknown(rng *rand.Rand) *signedRequest {
	m.mu.Lock()
	defer m.mu.Unlock()
	return oneOf(rng, m.all(func(s *slice) []*signedRequest { return s.unknown.items }))
}

// sample returns up to n unknown ones and up to n that were admitted, the
// unknown ones first.
func (m *memory) sample(rng *rand.Rand, n int) (unknown, admitted []*signedRequest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	draw := func(all []*signedRequest) []*signedRequest {
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		return all[:min(n, len(all))]
	}
	return draw(m.all(func(s *slice) []*signedRequest { return s.unknown.items })),
		draw(m.all(func(s *slice) []*signedRequest { return s.admitted.items }))
}

// last returns a copy of the ring.
func (m *memory) last() []*signedRequest {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.sent)
}

func (m *memory) all(of func(*slice) []*signedRequest) []*signedRequest {
	var out []*signedRequest
	for _, s := range m.slices {
		out = append(out, of(s)...)
	}
	return out
}

func oneOf(rng *rand.Rand, from []*signedRequest) *signedRequest {
	if len(from) == 0 {
		return nil
	}
	return from[rng.IntN(len(from))]
}
