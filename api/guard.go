package api

import (
	"errors"
	"net/netip"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/limit"
)

// The budget of one address for requests without a valid credential. Honest
// callers rarely need it: who enrols, or was let in elsewhere a moment ago. A flood
// beyond it is refused before any signature is checked or the leader is asked; what
// is within it costs some hundredths of a core.
const (
	guardPerSecond = 50
	guardBurst     = 500
	guardEntries   = 65_536
)

// What an address may have looked up at the leader of that: a round between
// coordinators, which what others ask has to share.
const (
	lookupsPerSecond = 10
	lookupsBurst     = 200
)

// What is left to agents at an address whose budget others have used up: so many
// verifications for each enrolled id that is named, an honest worker needs two in
// 1.2 s, and for the address, a hundredth of a core.
const (
	namedPerSecond = 5
	namedBurst     = 20
	lastPerSecond  = 100
	lastBurst      = 200
)

// Whoever is over a budget is told so after a pause: a flood waits for its
// answers, and on a connection that it keeps it then costs next to nothing. Who
// finds no place to wait, 16 KiB each, is told at once and loses the connection.
const (
	refusalPause = 250 * time.Millisecond
	maxHeld      = 1024
)

// guard keeps what addresses may ask without a valid credential.
type guard struct {
	all   *limit.Rates[netip.Addr]
	looks *limit.Rates[netip.Addr] // strong reads
	last  *limit.Rates[netip.Addr] // for what may be an agent's, when all is used up
	named *limit.Rates[named]      // the same, by the id that is named
	held  *limit.Slots[netip.Addr] // refusals that wait, see holdBack
}

// named is an agent's id and who says it: nobody uses up what an agent has at
// another address.
type named struct {
	agentID string
	from    netip.Addr
}

func newGuard(now func() time.Time) *guard {
	return &guard{
		all:   limit.NewRates[netip.Addr](now, guardPerSecond, guardBurst, guardEntries),
		looks: limit.NewRates[netip.Addr](now, lookupsPerSecond, lookupsBurst, guardEntries),
		last:  limit.NewRates[netip.Addr](now, lastPerSecond, lastBurst, guardEntries),
		named: limit.NewRates[named](now, namedPerSecond, namedBurst, guardEntries),
		held:  limit.NewSlots[netip.Addr](maxHeld),
	}
}

// charge takes one request from the budget of an address.
func (g *guard) charge(addr netip.Addr) error { return tooMany(g.all.Take(guardKey(addr))) }

// lookUp takes one strong read from the budget of an address.
func (g *guard) lookUp(addr netip.Addr) error { return tooMany(g.looks.Take(guardKey(addr))) }

// spent refuses an address that has used up its budget, and takes nothing from it.
func (g *guard) spent(addr netip.Addr) error { return tooMany(g.all.Missing(guardKey(addr))) }

// spare takes one from what an address that has used up its budget has left for
// an agent.
func (g *guard) spare(agentID string, addr netip.Addr) bool {
	addr = guardKey(addr)
	return g.named.Take(named{agentID, addr}) == 0 && g.last.Take(addr) == 0
}

// guardKey is whom an address stands for.
func guardKey(addr netip.Addr) netip.Addr { return limit.Holder(addr) }

func tooMany(wait time.Duration) error {
	if wait == 0 {
		return nil
	}
	return &client.Error{Code: client.CodeRateLimited, RetryAfter: wait,
		Detail: "too many requests without a valid credential from this address"}
}

// hear lets what may be an agent's go on to be verified. Where an address has used
// up its budget that is: a connection over which an agent has shown who it is,
// until something else comes over it, and a few requests for each id that this
// replica knows.
func (s *Server) hear(c *call) error {
	spent := s.guard.spent(c.address())
	if spent == nil || c.vouched() {
		return nil
	}
	if id := s.mayBe(c); id != "" && s.guard.spare(id, c.address()) {
		return nil
	}
	return spent
}

// mayBe returns whose a request may be, by what costs next to nothing to look at:
// the agent that its headers name, or the token that is in force. "" is nobody.
func (s *Server) mayBe(c *call) (id string) {
	get, isSigned := c.selfHeaders()
	if !isSigned {
		text, _ := header(c.r.Header, client.HeaderMeshToken)
		if t, err := s.parseToken(text); err == nil {
			if _, found, err := s.lookUp(c.ctx, ReadOptions{Always: true}, t.ID, crypto.Sum([]byte(text))); err == nil && found == tokenInForce {
				return t.ID
			}
		}
		return ""
	}
	signed, err := crypto.ParseSignedRequest(c.r.Method, c.route.pattern, get)
	if err != nil {
		return ""
	}
	_, err = s.node.Read(c.ctx, ReadOptions{Always: true}, func(state *fsm.State) {
		ahead, skew := signed.TimestampMs-state.ClockMs(), state.Policy().MaxSkewMs
		if _, enrolled := state.Agent(signed.AgentID); enrolled && ahead <= skew && ahead >= -skew {
			id = signed.AgentID
		}
	})
	if err != nil {
		return ""
	}
	return id
}

// holdBack waits before a refusal for too many requests goes out. No slot of
// any class is held meanwhile.
func (s *Server) holdBack(c *call, err error) {
	e := (*client.Error)(nil)
	if s.pause == 0 || !errors.As(err, &e) || e.Code != client.CodeRateLimited {
		return
	}
	free, err := take(s.guard.held, guardKey(c.address()))
	if err != nil {
		c.w.Header()["Connection"] = closing
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
