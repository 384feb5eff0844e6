package limit

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rates are a token bucket per holder. Two generations bound it: when the young
// one is full it becomes the old one, whose unused half is forgotten.
type Rates[K comparable] struct {
	now     func() time.Time
	every   rate.Limit
	burst   int
	entries int // in both generations together

	mu         sync.Mutex
	young, old map[K]*rate.Limiter
}

// NewRates returns budgets of perSecond and burst for each of so many holders.
func NewRates[K comparable](now func() time.Time, perSecond float64, burst, entries int) *Rates[K] {
	return &Rates[K]{now: now, every: rate.Limit(perSecond), burst: burst, entries: entries, young: map[K]*rate.Limiter{}}
}

// Take takes one from a budget, or tells after what time there is one.
func (b *Rates[K]) Take(holder K) (wait time.Duration) { return b.TakeN(holder, 1) }

// TakeN takes n, at most the burst, or none.
func (b *Rates[K]) TakeN(holder K, n int) (wait time.Duration) {
	now := b.now()
	r := b.limiter(holder).ReserveN(now, n)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// Missing tells after what time there is one to take, and takes nothing.
func (b *Rates[K]) Missing(holder K) (wait time.Duration) {
	have := b.limiter(holder).TokensAt(b.now())
	if have >= 1 {
		return 0
	}
	return time.Duration((1 - have) / float64(b.every) * float64(time.Second))
}

func (b *Rates[K]) limiter(holder K) *rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l, ok := b.young[holder]; ok {
		return l
	}
	l, ok := b.old[holder]
	if !ok {
		l = rate.NewLimiter(b.every, b.burst)
	}
	if len(b.young) >= b.entries/2 {
		b.young, b.old = make(map[K]*rate.Limiter), b.young
	}
	b.young[holder] = l
	return l
}

// Size returns how many holders are remembered; one may count twice.
func (b *Rates[K]) Size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.young) + len(b.old)
}
