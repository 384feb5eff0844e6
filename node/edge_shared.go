package node

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
)

// The keys that all share, at an edge. It has no replica that names them, and no copies are sealed to it; but coordinators tell the pool
// which keys they hold (Pool.Acknowledge). When that is not what this edge holds, it asks one of them by its credential, and says in
// turn what it holds: the leader waits for edges that are here before it switches, for switchWait at most. An edge that missed a switch
// hears no coordinator any more, and asks too; so does one that a coordinator shows an unknown signing key. The last answer counts: one that lags is set right by the next.

const (
	// sharedLook is how often an edge compares.
	sharedLook = 2 * time.Second
	// sharedAgain is how soon it asks again after an answer that changed nothing, twice as long each time, up to sharedSeldom: a
	// coordinator that lags says for as long that it holds something else.
	sharedAgain  = 10 * time.Second
	sharedSeldom = 5 * time.Minute
	// sharedSpread is the time that each edge of the pool has to ask: of a thousand, that all hear at once, each waits for up to 10 s.
	sharedSpread = 10 * time.Millisecond
	// sharedRepeat is for how long an edge repeats what it holds, with each rejoin round of the pool: thousands that did so for ever would
	// be most of what the pool says.
	sharedRepeat = 3 * time.Minute
)

// sharedLoop follows the keys of the cluster.
func (e *Edge) sharedLoop(ctx context.Context) {
	var next time.Time // when it may ask again
	wait := sharedAgain
	for pause(ctx, sharedLook) {
		members := e.pool.Members()
		e.acknowledge(members)
		if time.Now().Before(next) || !e.strange.Load() && !e.lagsBehind(members) {
			continue
		}
		e.strange.Store(false)
		edges := len(e.otherEdges())
		if edges > 0 && !pause(ctx, rand.N(time.Duration(edges)*sharedSpread)) {
			return
		}
		have := e.shared.Load()
		err := e.refresh(ctx)
		if err != nil {
			e.log.Warn("the keys of the cluster may have changed and cannot be asked for yet", "error", err)
		}
		if wait = min(2*wait, sharedSeldom); err == nil && !e.shared.Load().equal(have) {
			wait = sharedAgain
		}
		next = time.Now().Add(wait)
	}
}

// lagsBehind tells whether coordinators hold other keys than this edge, or none is heard.
func (e *Edge) lagsBehind(members []gossip.Member) bool {
	var said []gossip.AckID
	alone := true
	for _, m := range coordinatorsOf(members) {
		alone = false
		said = append(said, m.Holds...)
	}
	if alone || len(said) == 0 { // below fsm.LevelKeys nobody says anything, and nothing is rotated
		return alone
	}
	have := e.shared.Load().acks()
	lacks := func(in []gossip.AckID) func(gossip.AckID) bool {
		return func(id gossip.AckID) bool { return !slices.Contains(in, id) }
	}
	return slices.ContainsFunc(said, lacks(have)) || slices.ContainsFunc(have, lacks(said))
}

// acknowledge says what this edge holds, once coordinators do.
func (e *Edge) acknowledge(members []gossip.Member) {
	have := e.shared.Load().acks()
	switch {
	case !slices.Equal(have, e.said):
		if !slices.ContainsFunc(coordinatorsOf(members), func(m gossip.Member) bool { return m.Holds != nil }) {
			return
		}
		e.said, e.saidAt = have, time.Now()
	case e.saidAt.IsZero() || time.Since(e.saidAt) < sharedRepeat:
		return
	default:
		have, e.saidAt = nil, time.Time{} // says nothing more, and takes nothing back
	}
	if err := e.pool.Acknowledge(have); err != nil && !errors.Is(err, gossip.ErrClosed) {
		e.log.Warn("the pool is not told which keys this edge holds", "error", err)
	}
}

// coordinatorsOf returns the coordinators of the pool that are here.
func coordinatorsOf(members []gossip.Member) []gossip.Member {
	return slices.DeleteFunc(slices.Clone(members), func(m gossip.Member) bool {
		return m.Card.Role != string(fsm.RoleCoordinator) || m.State != gossip.StateAlive && m.State != gossip.StateSuspect
	})
}

// useShared has TLS and gossip go by what was kept. The caller holds refreshing.
func (e *Edge) useShared(id *identity) error {
	set := e.shared.Load()
	if err := e.creds.present(set, chains{peer: [][]byte{id.TLSCert, set.active().Cert}}); err != nil {
		return err
	}
	e.sources.forget()
	e.pool.Recheck() // coordinators may have changed their own keys
	return e.pool.SetKeys(set.ring)
}
