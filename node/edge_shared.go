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
// which keys they hold (Pool.Acknowledge). When that is not what this edge holds, it asks one of them by its credential, and tells the
// coordinators what it holds: the leader waits for edges that are here before it switches, for switchWait at most. An edge that missed a switch
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
	// sharedRepeat is for how long an edge repeats to the coordinators what it holds, once every sharedAgain: datagrams are lost, and who leads is started anew.
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

// acknowledge tells the coordinators what this edge holds, once they say what they do, and again for a while.
func (e *Edge) acknowledge(members []gossip.Member) {
	have, now := e.shared.Load().acks(), time.Now()
	if !slices.Equal(have, e.told.acks) {
		e.told = toldAcks{acks: have, until: now.Add(sharedRepeat)}
	}
	if now.After(e.told.until) || now.Before(e.told.next) {
		return
	}
	coordinators := coordinatorsOf(members)
	if !slices.ContainsFunc(coordinators, func(m gossip.Member) bool { return m.Holds != nil }) {
		e.told.until = now.Add(sharedRepeat)
		return // nobody of them would understand it
	}
	to := make([]string, len(coordinators))
	for i, m := range coordinators {
		to[i] = m.Card.NodeID
	}
	e.told.next = now.Add(sharedAgain)
	if err := e.pool.AcknowledgeTo(have, to...); err != nil && !errors.Is(err, gossip.ErrClosed) {
		e.log.Debug("some coordinator is not told yet which keys this edge holds", "error", err)
	}
}

// toldAcks is what an edge tells the coordinators that it holds: until when it repeats it, and when next.
type toldAcks struct {
	acks        []gossip.AckID
	until, next time.Time
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
