package api

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/edgecoder/edgecoder/client"
)

// The budget of one address for requests without a valid credential. Honest
// callers rarely need it; a flood beyond it is refused before any signature
// is checked or the leader is asked.
const (
	guardPerSecond = 500
	guardBurst     = 2000
	guardEntries   = 65_536 // in both generations together
)

// guard is a token bucket per remote address. Two generations bound it: when
// the young one is full it becomes the old one, whose unused half is forgotten.
type guard struct {
	now func() time.Time

	mu         sync.Mutex
	young, old map[netip.Addr]*rate.Limiter
}

func newGuard(now func() time.Time) *guard {
	return &guard{now: now, young: map[netip.Addr]*rate.Limiter{}}
}

// charge takes one request from the budget of an address.
func (g *guard) charge(addr netip.Addr) error {
	now := g.now()
	r := g.limiter(addr).ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	r.CancelAt(now)
	return &client.Error{Code: client.CodeRateLimited, RetryAfter: wait,
		Detail: "too many requests without a valid credential from this address"}
}

func (g *guard) limiter(addr netip.Addr) *rate.Limiter {
	key := guardKey(addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	if l, ok := g.young[key]; ok {
		return l
	}
	l, ok := g.old[key]
	if !ok {
		l = rate.NewLimiter(guardPerSecond, guardBurst)
	}
	if len(g.young) >= guardEntries/2 {
		g.young, g.old = make(map[netip.Addr]*rate.Limiter), g.young
	}
	g.young[key] = l
	return l
}

// guardKey is the address, or the /64 of an IPv6 address: one host has a whole
// /64 to choose from.
func guardKey(addr netip.Addr) netip.Addr {
	if !addr.Is6() {
		return addr
	}
	p, err := addr.WithZone("").Prefix(64)
	if err != nil {
		return addr
	}
	return p.Addr()
}
