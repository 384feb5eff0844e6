package node

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
)

// The leader rotates what all share. Every step is a log entry, and what is to be
// done next is read from the state alone, so a new leader goes on where the last
// one stopped, and one that comes back after the key was due does it at once:
//
//	nothing on record   the key in use is put there
//	due, or asked for   the next one is made and prepared, sealed to each member
//	made for a removal  that never came, and most lack it: another takes its place
//	prepared            members take it up and say so (KeyReady); when all that
//	                    are here did, or after switchWait, it is switched to
//	switched            members use it; the one before counts until its overlap ends

const (
	// switchWait is how long a switch that is due waits for members that are here
	// and do not hold the key. Who missed it fetches it.
	switchWait = 30 * time.Second
	// urgentWait is how long a revocation waits for them.
	urgentWait = 1200 * time.Millisecond
	// readyPause is between two looks at who holds the key.
	readyPause = 50 * time.Millisecond
	// sharedDuty is how often the leader looks after shared keys.
	sharedDuty = 250 * time.Millisecond
)

// sharedDuties is a loop of one term.
func (n *Node) sharedDuties(ctx context.Context, l *leadership) {
	waits := map[crypto.PublicKey]time.Time{} // since when each next key could be switched to; owned here
	for l.usable(ctx) == nil {
		for _, of := range fsm.HeldShared(fsm.RoleCoordinator) {
			if err := n.rotateShared(ctx, l, of, waits); err != nil && ctx.Err() == nil {
				n.log.Warn("a key that all share is not rotated yet", "subject", of, "error", err)
				pause(ctx, time.Second)
			}
		}
		if !pause(ctx, sharedDuty) {
			return
		}
	}
}

// rotateShared does what is next for one subject, if anything is.
func (n *Node) rotateShared(ctx context.Context, l *leadership, of fsm.Subject, waits map[crypto.PublicKey]time.Time) error {
	level, _ := n.clusterLevel()
	if level < fsm.LevelKeys || n.clockRefuses(l) != nil || !l.rotating.TryLock() {
		return nil
	}
	defer l.rotating.Unlock()
	k, nowMs := n.standing(of)
	switch {
	case len(k.Ring) == 0:
		return n.recordShared(ctx, l, of)
	case k.Pending >= 0 && n.leftover(k.Ring[k.Pending], nowMs):
		_, err := n.prepareShared(ctx, l, of, 0, "")
		return err
	case k.Pending >= 0:
		return n.switchShared(ctx, l, k, nowMs, waits)
	case k.Due(nowMs):
		beginMs := int64(0)
		if k.Asked == nil {
			beginMs = k.DueMs
		}
		_, err := n.prepareShared(ctx, l, of, beginMs, "")
		return err
	}
	return nil
}

// leftover tells whether a next key is of a removal that did not happen.
func (n *Node) leftover(k fsm.Key, nowMs int64) (yes bool) {
	n.machine.Read(func(s *fsm.State) { yes = s.Leftover(k, nowMs) })
	return yes
}

// recordShared puts the key in use on record.
func (n *Node) recordShared(ctx context.Context, l *leadership, of fsm.Subject) error {
	have := n.shared.Load()
	b := fsm.KeyPrepare{Subject: of.String(), Public: fsm.PoolKeyName(have.ring[0])}
	if of.Kind == fsm.SubjectCA {
		b.Public, b.Data = crypto.PublicKey(have.active().id()), have.active().Cert
	}
	return n.proposeAs(ctx, l, fsm.Actor{NodeID: n.id.NodeID}, b)
}

// prepareShared makes the next key and has it prepared, to begin at a time, or
// when the members are ready if that is 0. One node may be left out.
func (n *Node) prepareShared(ctx context.Context, l *leadership, of fsm.Subject, beginMs int64, without string) (ref fsm.KeyRef, err error) {
	k, nowMs := n.standing(of)
	if k.Active < 0 {
		return ref, fmt.Errorf("no key of %s is active", of)
	}
	b := fsm.KeyPrepare{Subject: of.String(), By: k.Ring[k.Active].Public, NotBeforeMs: beginMs, SignedMs: nowMs, Without: without}
	var secret []byte
	if of.Kind == fsm.SubjectCA {
		if b.Data, secret, err = newCA(n.id.ClusterID); err == nil {
			b.Public = crypto.PublicKey(crypto.Sum(b.Data))
		}
	} else if secret, err = newPoolKey(); err == nil {
		b.Public = fsm.PoolKeyName(secret)
	}
	if err != nil {
		return ref, err
	}
	defer clear(secret)
	signer, err := n.signingKey()
	if err != nil {
		return ref, err
	}
	defer clear(signer)
	// The coordinator that made the key orders it: each member verifies its copy by
	// the same signer.
	b.Order = b.Succession(n.id.ClusterID).Order(signer)
	if b.Copies, err = n.sealedCopies(signer, of.Kind, crypto.Hash(b.Public), secret, without); err != nil {
		return ref, err
	}
	return b.Public.Fingerprint(), n.proposeAs(ctx, l, fsm.Actor{NodeID: n.id.NodeID}, b)
}

// sealedCopies seals a secret to every member that may have it.
func (n *Node) sealedCopies(signer crypto.PrivateKey, kind fsm.SubjectKind, id crypto.Hash, secret []byte, without string) (out []fsm.SealedCopy, err error) {
	var members []fsm.Coordinator
	n.machine.Read(func(s *fsm.State) { members = s.Coordinators() }) // in the order of their ids
	for _, m := range members {
		if m.ID == without || !slices.Contains(fsm.HeldShared(m.Role), fsm.Subject{Kind: kind}) {
			continue
		}
		sealed, err := sealTo(signer, m.EncryptionKey, sealingID(string(kind), id), secret)
		if err != nil {
			// It fetches the key; one bad record must not hold up everybody.
			n.log.Warn("a key cannot be sealed to a member", "subject", kind, "node", m.ID, "error", err)
			continue
		}
		out = append(out, fsm.SealedCopy{NodeID: m.ID, Sealed: sealed})
	}
	return out, nil
}

// switchShared switches to the next key once it is time and the members hold it.
func (n *Node) switchShared(ctx context.Context, l *leadership, k fsm.KeyStanding, nowMs int64, waits map[crypto.PublicKey]time.Time) error {
	next := k.Ring[k.Pending]
	if nowMs < next.NotBeforeMs {
		return nil
	}
	since, seen := waits[next.Public]
	if !seen {
		clear(waits)
		since = time.Now()
		waits[next.Public] = since
	}
	late := n.notReady(next)
	var most bool
	n.machine.Read(func(s *fsm.State) { most = s.MostReady(next) })
	if !most || len(late) > 0 && time.Since(since) < switchWait {
		return nil
	}
	err := n.proposeAs(ctx, l, fsm.Actor{NodeID: n.id.NodeID}, fsm.KeySwitch{Subject: k.Subject.String(), Key: next.Public.Fingerprint()})
	if err == nil && len(late) > 0 {
		named := late[:min(len(late), maxLateNamed)]
		n.log.Warn("a key is switched to that some members do not hold yet: they fetch it, but edges of older versions, which lose the pool with the key before: upgrade them", "subject", k.Subject, "late", len(late), "members", named)
		n.note("key_rotation", audit.LevelWarn, "late", map[string]string{"subject": k.Subject.String(), "step": "switched", "key_id": next.Public.KeyID(), "late": strconv.Itoa(len(late)), "members": strings.Join(named, " ")})
	}
	return err
}

// maxLateNamed bounds the members that one line of the log and one event name.
const maxLateNamed = 8

// notReady lists the members that are here and did not say that they hold a key:
// those on record by the log, others of the pool by its own word.
func (n *Node) notReady(k fsm.Key) (late []string) {
	known := map[string]bool{}
	n.machine.Read(func(s *fsm.State) {
		for _, c := range s.Coordinators() {
			known[c.ID] = true
		}
	})
	for id := range known {
		if _, said := slices.BinarySearch(k.Shared.Ready, id); !said && (id == n.id.NodeID || n.fresh(id)) {
			late = append(late, id)
		}
	}
	for _, m := range n.pool.Members() {
		here := m.State == gossip.StateAlive || m.State == gossip.StateSuspect
		if m.Card.Role == string(fsm.RoleEdge) && k.Shared.Without != "" {
			continue // edges are not told yet (forEdges)
		}
		if here && !known[m.Card.NodeID] && !slices.Contains(m.Holds, ackOf(crypto.Hash(k.Public))) {
			late = append(late, m.Card.NodeID)
		}
	}
	slices.Sort(late)
	return late
}

// proposeAs proposes a command of this leader's own and waits for it.
func (n *Node) proposeAs(ctx context.Context, l *leadership, actor fsm.Actor, body any) error {
	cmd, err := fsm.New(actor, body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	p, err := n.enqueue(l, cmd)
	if err != nil {
		return err
	}
	res, err := n.await(ctx, p)
	if err == nil && !res.OK() {
		err = &client.Error{Code: string(res.Code), Field: res.Field, Detail: res.Detail}
	}
	return err
}

// revokeShared has a key revoked that all share: the next one begins at the same
// index, so there must be one, and the members get a moment to take it up.
func (n *Node) revokeShared(ctx context.Context, l *leadership, cmd fsm.Command) (fsm.Result, error) {
	body, err := fsm.BodyOf[fsm.KeyRevoke](cmd)
	if err != nil {
		return fsm.Result{}, &client.Error{Code: client.CodeInvalid, Detail: err.Error()}
	}
	if of, err := fsm.ParseSubject(body.Subject); err == nil && of.Kind.Shared() {
		l.rotating.Lock()
		defer l.rotating.Unlock()
		if err := n.readyNext(ctx, l, cmd.Actor, of, body.Key); err != nil {
			return fsm.Result{}, err
		}
	}
	p, err := n.enqueue(l, cmd)
	if err != nil {
		return fsm.Result{}, err
	}
	return n.await(ctx, p)
}

// readyNext has the next key of a subject prepared if the active one is to be revoked.
// The caller holds rotating.
func (n *Node) readyNext(ctx context.Context, l *leadership, actor fsm.Actor, of fsm.Subject, revoked fsm.KeyRef) error {
	k, _ := n.standing(of)
	if k.Active >= 0 && k.Ring[k.Active].Public.Fingerprint() == revoked && n.may(actor, fsm.CapAdmin) {
		if k.Pending < 0 {
			if err := n.makeWay(ctx, l, actor, of, "it leaves room for the key after "+crypto.KeyIDOf(revoked)+", which is revoked"); err != nil {
				return err
			}
			if _, err := n.prepareShared(ctx, l, of, 0, ""); err != nil {
				return err
			}
		}
		n.awaitReady(ctx, "", of)
	}
	return nil
}

// replaceHeld prepares successors of all that a node holds, for the others alone, and
// names them. What was prepared before, or leaves no room, is revoked first, on the
// same word: the node may have been given it, or have made it. The caller holds
// rotating.
func (n *Node) replaceHeld(ctx context.Context, l *leadership, actor fsm.Actor, nodeID string) (next []fsm.KeyRef, err error) {
	if level, _ := n.clusterLevel(); level < fsm.LevelKeys {
		return nil, nil
	}
	var subjects []fsm.Subject
	n.machine.Read(func(s *fsm.State) { subjects = s.MustReplace(nodeID, s.ClockMs()) })
	for _, of := range subjects {
		k, _ := n.standing(of)
		if len(k.Ring) == 0 {
			if err := n.recordShared(ctx, l, of); err != nil {
				return nil, err
			}
		}
		if err := n.makeWay(ctx, l, actor, of, nodeID+" may know it, which is removed as compromised"); err != nil {
			return nil, err
		}
		made, err := n.prepareShared(ctx, l, of, 0, nodeID)
		if err != nil {
			return nil, err
		}
		next = append(next, made)
	}
	n.awaitReady(ctx, nodeID, subjects...)
	return next, nil
}

// makeWay revokes, on the word of who asked for a revocation, what keeps a successor
// from being prepared now.
func (n *Node) makeWay(ctx context.Context, l *leadership, actor fsm.Actor, of fsm.Subject, reason string) error {
	var inTheWay []fsm.KeyRef
	n.machine.Read(func(s *fsm.State) { inTheWay = s.InTheWay(of, s.ClockMs()) })
	for _, key := range inTheWay {
		if err := n.proposeAs(ctx, l, actor, fsm.KeyRevoke{Subject: of.String(), Key: key, Reason: reason}); err != nil {
			return err
		}
	}
	return nil
}

// awaitReady waits until all members that are here, but for one, hold the next
// keys, for urgentWait at most.
func (n *Node) awaitReady(ctx context.Context, but string, subjects ...fsm.Subject) {
	ctx, cancel := context.WithTimeout(ctx, urgentWait)
	defer cancel()
	for _, of := range subjects {
		for {
			k, _ := n.standing(of)
			if k.Pending < 0 || len(slices.DeleteFunc(n.notReady(k.Ring[k.Pending]), func(id string) bool { return id == but })) == 0 {
				break
			}
			if !pause(ctx, readyPause) {
				return
			}
		}
	}
}

// may tells whether the token of an actor is in force here and allows something;
// Apply asks again.
func (n *Node) may(actor fsm.Actor, need fsm.Capability) (yes bool) {
	n.machine.Read(func(s *fsm.State) {
		t, ok := s.TokenInForce(actor.TokenID, s.ClockMs())
		yes = ok && t.Role.Can(need)
	})
	return yes
}
