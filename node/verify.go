package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/api"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

const (
	// maxVerify bounds one round of verification, so that the first of a burst
	// do not wait for the last: 1,024 signatures take some 15 ms on a core.
	maxVerify = 1024
	// maxConfirmTries bounds how often a request goes back because the agent
	// appeared while the read was confirmed.
	maxConfirmTries = 3
	// maxConfirms bounds rounds of confirmation under way; each waits for the leader.
	maxConfirms = 64
	// maxVerifyKeys bounds expanded keys kept, about 1.3 KiB each, in each of
	// two generations.
	maxVerifyKeys = 16 << 10
)

// verifyKeys keeps expanded keys in two generations: what is used moves to the
// young one, and when that is full the old one is dropped.
type verifyKeys struct {
	young, old map[crypto.PublicKey]*crypto.VerifyKey
}

func newVerifyKeys() verifyKeys {
	return verifyKeys{young: map[crypto.PublicKey]*crypto.VerifyKey{}, old: map[crypto.PublicKey]*crypto.VerifyKey{}}
}

func (v *verifyKeys) get(pub crypto.PublicKey) *crypto.VerifyKey {
	if k, ok := v.young[pub]; ok {
		return k
	}
	k, ok := v.old[pub]
	if !ok {
		var err error
		if k, err = crypto.NewVerifyKey(pub); err != nil {
			return nil // enrolment refuses such keys; treat it as one that never verifies
		}
	}
	if len(v.young) >= maxVerifyKeys {
		v.old, v.young = v.young, map[crypto.PublicKey]*crypto.VerifyKey{}
	}
	v.young[pub] = k
	return k
}

// verifyLoop verifies what came in, sorts out what this replica would deny, and
// passes the rest on.
func (n *Node) verifyLoop(ctx context.Context) {
	confirms := make(chan struct{}, maxConfirms)
	for {
		items := n.admit.fresh.take(ctx, maxVerify)
		if items == nil {
			return
		}
		items = stillWanted(items)
		ready, doubtful := n.sortOut(items)
		n.admit.ready.put(ready...)
		if len(doubtful) == 0 {
			continue
		}
		select {
		case confirms <- struct{}{}:
			n.loops.Go(func() {
				defer func() { <-confirms }()
				n.confirm(ctx, doubtful)
			})
		case <-ctx.Done():
			return
		}
	}
}

func stillWanted(items []*admission) []*admission {
	out := items[:0:0]
	for _, a := range items {
		if a.call.ctx.Err() == nil {
			out = append(out, a)
		}
	}
	return out
}

// sortOut verifies signatures and asks this replica. Only a committed replay
// is refused for good here, and only from a state that may be told; every other
// denial is doubtful until the replica is known to be up to date.
func (n *Node) sortOut(items []*admission) (ready, doubtful []*admission) {
	var level uint32
	n.machine.Read(func(s *fsm.State) {
		level = s.Meta().Level
		for _, a := range items {
			a.keys, _ = s.AgentKeys(a.Signed.AgentID)
		}
	})
	items = loggable(items, level)
	n.verifyAll(items)
	now := n.clockMs()
	var diverged *fsm.Divergence
	var replays []*admission
	var replay api.AdmitOutcome
	n.machine.Read(func(s *fsm.State) {
		diverged = n.divergedIn(s)
		replay = api.AdmitOutcome{Result: fsm.ClaimResult{Code: fsm.CodeReplay, Index: s.Index(), ClockMs: now}, MaxSkewMs: s.Policy().MaxSkewMs}
		for _, a := range items {
			switch {
			case a.denial == "" && s.IsReplay(&a.claim):
				replays = append(replays, a)
			case a.denial == "" && s.CheckCaller(a.TokenID, now) == fsm.CodeOK && s.Check(&a.claim, now).Code == fsm.CodeOK:
				ready = append(ready, a)
				n.noteKeyUse(s, a, now)
			default:
				doubtful = append(doubtful, a)
			}
		}
	})
	if len(replays) > 0 && n.stateServes(diverged) != nil {
		return ready, append(doubtful, replays...) // confirm says why, or that it was for a moment
	}
	for _, a := range replays {
		a.answer(replay)
	}
	return ready, doubtful
}

// loggable answers the requests whose claims the log must not carry yet, since
// an older server could not read them, and returns the others.
func loggable(items []*admission, level uint32) []*admission {
	if level >= fsm.LevelProfiles {
		return items
	}
	out := items[:0:0]
	for _, a := range items {
		if a.Signed.Profile() == crypto.ProfileFiveHeader {
			out = append(out, a)
			continue
		}
		a.fail(&client.Error{Code: client.CodeUnavailable, Reason: reasonLevel, RetryAfter: time.Minute, Detail: fmt.Sprintf(
			"the cluster is at feature level %d, HTTP message signatures need %d: upgrade every server first; nothing was admitted", level, fsm.LevelProfiles)})
	}
	return out
}

// verifyAll sets the claim of each item whose signature verifies with one of
// the agent's keys, and the denial of each other.
func (n *Node) verifyAll(items []*admission) {
	type candidate struct {
		item *admission
		key  crypto.PublicKey
	}
	var all []candidate
	var batch []crypto.BatchItem
	for _, a := range items {
		a.denial = fsm.CodeInvalidSignature
		if len(a.keys) == 0 {
			a.denial = fsm.CodeUnknownAgent
		}
		for _, pub := range a.keys {
			if !a.Signed.MayBeOf(pub) {
				continue // it names another key of this agent
			}
			if k := n.admit.keys.get(pub); k != nil {
				all = append(all, candidate{a, pub})
				batch = append(batch, crypto.BatchItem{Key: k, Msg: a.Signed.Canonical(), Sig: a.Signed.Signature[:]})
			}
		}
	}
	for i, ok := range verifyParallel(batch) {
		if ok {
			all[i].item.newClaim(all[i].key)
			all[i].item.denial = ""
		}
	}
}

// minShare is the least number of signatures worth a goroutine of their own.
const minShare = 32

func verifyParallel(batch []crypto.BatchItem) []bool {
	shares := min(runtime.GOMAXPROCS(0), max(1, len(batch)/minShare))
	if shares == 1 {
		return crypto.VerifyBatch(batch, rand.Reader)
	}
	out := make([]bool, len(batch))
	var all sync.WaitGroup
	for i := range shares {
		from, to := len(batch)*i/shares, len(batch)*(i+1)/shares
		all.Go(func() { copy(out[from:to], crypto.VerifyBatch(batch[from:to], rand.Reader)) })
	}
	all.Wait()
	return out
}

// confirm brings this replica up to the leader's read point and asks again:
// what is still denied then is denied; what is not goes on.
func (n *Node) confirm(ctx context.Context, items []*admission) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	var point readPoint
	err := n.stateServes(nil)
	if err == nil {
		point, err = n.reads.get(ctx)
	}
	if err == nil {
		err = n.waitIndex(ctx, point.Index)
	}
	if err != nil {
		failAll(items, err)
		return
	}
	var diverged *fsm.Divergence
	var skew int64
	var ready, again, denied []*admission
	var denials []fsm.ClaimResult
	n.machine.Read(func(s *fsm.State) {
		diverged, skew = n.divergedIn(s), s.Policy().MaxSkewMs
		for _, a := range items {
			res, decided := n.recheck(s, a, point.ClockMs)
			switch {
			case decided:
				denied, denials = append(denied, a), append(denials, res)
			case a.denial != "":
				again = append(again, a)
			default:
				ready = append(ready, a)
				n.noteKeyUse(s, a, point.ClockMs)
			}
		}
	})
	if err := n.stateServes(diverged); err != nil {
		failAll(items, err)
		return
	}
	for i, a := range denied {
		a.answer(api.AdmitOutcome{Result: denials[i], MaxSkewMs: skew})
	}
	n.admit.ready.put(ready...)
	n.admit.fresh.put(again...)
}

func failAll(items []*admission, err error) {
	for _, a := range items {
		a.fail(asAPIError(readOnly(err)))
	}
}

// recheck decides on a confirmed replica. Undecided means that Apply must
// decide, or that the agent's keys changed and the signature is worth another look.
func (n *Node) recheck(s *fsm.State, a *admission, nowMs int64) (fsm.ClaimResult, bool) {
	deny := func(code fsm.Code) (fsm.ClaimResult, bool) {
		return fsm.ClaimResult{Code: code, Index: s.Index(), ClockMs: nowMs}, true
	}
	if code := s.CheckCaller(a.TokenID, nowMs); code != fsm.CodeOK {
		return deny(code)
	}
	if a.denial == "" {
		res := s.Check(&a.claim, nowMs)
		return res, res.Code != fsm.CodeOK
	}
	keys, known := s.AgentKeys(a.Signed.AgentID)
	if !known {
		return deny(fsm.CodeUnknownAgent)
	}
	if slices.Equal(keys, a.keys) || a.tries >= maxConfirmTries {
		return deny(fsm.CodeInvalidSignature)
	}
	a.tries++ // enrolled or re-keyed in the meantime: worth another look
	return fsm.ClaimResult{}, false
}
