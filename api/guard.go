package api

import (
	"errors"
	"net/netip"
	"time"

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

// Whoever is over a budget is told so after a pause: a flood waits for its
// answers, and on a connection that it keeps it then costs next to nothing. What
// finds no place to wait, 16 KiB each, is refused at once.
const (
	refusalPause = 250 * time.Millisecond
	maxHeld      = 1024
)

// holdBack waits before a refusal for too many requests goes out. No slot of
// any class is held meanwhile.
func (s *Server) holdBack(c *call, err error) {
	e := (*client.Error)(nil)
	if s.pause == 0 || !errors.As(err, &e) || e.Code != client.CodeRateLimited {
		return
	}
	free, err := s.held.take()
	if err != nil {
		return
	}
	defer free()
	t := time.NewTimer(s.pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.r.Context().Done():
	case <-s.closing:
	}
}

// guard is a token bucket per remote address.
type guard struct{ budgets[netip.Addr] }

func newGuard(now func() time.Time) *guard {
	return &guard{newBudgets[netip.Addr](now, guardPerSecond, guardBurst, guardEntries)}
}

// charge takes one request from the budget of an address.
func (g *guard) charge(addr netip.Addr) error { return tooMany(g.take(guardKey(addr))) }

// spent refuses an address that has used up its budget, and takes nothing from it.
func (g *guard) spent(addr netip.Addr) error { return tooMany(g.missing(guardKey(addr))) }

func tooMany(wait time.Duration) error {
	if wait == 0 {
		return nil
	}
	return &client.Error{Code: client.CodeRateLimited, RetryAfter: wait,
		Detail: "too many requests without a valid credential from this address"}
}

// size returns how many addresses are remembered; one may count twice.
func (g *guard) size() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.young) + len(g.old)
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
