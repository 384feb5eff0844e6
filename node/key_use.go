package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// maxKeyUses bounds what a node remembers of keys that are used while they retire:
// some 200 bytes each. It is noted in two halves, so that an admission pays for one
// look-up: when the younger is full it becomes the older, whose rest is forgotten.
const maxKeyUses = 4096

// keyUses is who still signs with a key that has a successor, as far as this node
// saw it since it started.
type keyUses struct {
	mu         sync.Mutex           // guards what follows
	young, old map[keyUser]keyUse   // no user is in both
	warned     map[crypto.Hash]bool // keys that an alarm was raised for; at most maxKeyUses
	requests   uint64               // that were signed with such a key
}

type keyUser struct {
	subject, by string // the token that asked, "" for an agent that asked for itself
	key         crypto.Hash
}

type keyUse struct {
	count  uint64
	lastMs int64 // by the clock of the cluster
}

func (u *keyUses) note(who keyUser, atMs int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	have, young := u.young[who]
	if !young {
		have = u.old[who]
		delete(u.old, who)
		if len(u.young) >= maxKeyUses/2 {
			u.old, u.young = u.young, nil
		}
		if u.young == nil {
			u.young = map[keyUser]keyUse{}
		}
	}
	u.young[who] = keyUse{have.count + 1, max(have.lastMs, atMs)}
	u.requests++
}

// warn tells whether nobody was warned about a key yet. Of too many the first are
// forgotten all at once, and warned about again.
func (u *keyUses) warn(key crypto.Hash) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.warned[key] {
		return false
	}
	if u.warned == nil || len(u.warned) >= maxKeyUses {
		u.warned = map[crypto.Hash]bool{}
	}
	u.warned[key] = true
	return true
}

func (u *keyUses) total() uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.requests
}

// of returns who uses keys of a subject, the last use first.
func (u *keyUses) of(subject string) []client.KeyUse {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := []client.KeyUse{}
	for _, half := range []map[keyUser]keyUse{u.young, u.old} {
		for who, use := range half {
			if who.subject == subject {
				out = append(out, client.KeyUse{KeyID: crypto.KeyIDOf(who.key), By: who.by, Count: use.count, LastMs: use.lastMs})
			}
		}
	}
	slices.SortFunc(out, lastUseFirst)
	return out
}

func lastUseFirst(a, b client.KeyUse) int {
	return cmp.Or(cmp.Compare(b.LastMs, a.LastMs), cmp.Compare(a.By, b.By), cmp.Compare(a.KeyID, b.KeyID))
}

// noteKeyUse notes a request that was signed with another key than the agent's
// newest one that verifies. It is called for what this replica would admit.
func (n *Node) noteKeyUse(s *fsm.State, a *admission, nowMs int64) {
	if len(a.keys) < 2 {
		return
	}
	agent, _ := s.Agent(a.Signed.AgentID)
	if active, ok := agent.Keys.Active(nowMs); ok && active.Public.Fingerprint() != a.claim.Key {
		who := keyUser{fsm.AgentSubject(agent.ID).String(), a.TokenID, a.claim.Key}
		n.keyUses.note(who, nowMs)
		n.warnOfUse(agent.Keys, active, who, nowMs)
	}
}

// warnOfUse raises an alarm, once a key, about one that ends soon and is in use.
func (n *Node) warnOfUse(ring fsm.Ring, active fsm.Key, who keyUser, nowMs int64) {
	i := slices.IndexFunc(ring, func(k fsm.Key) bool { return k.Public.Fingerprint() == who.key })
	if i < 0 || !endsSoon(ring[i], active, nowMs) || !n.keyUses.warn(who.key) {
		return
	}
	n.note("key_retiring_used", audit.LevelWarn, "ends_soon", map[string]string{"subject": who.subject, "key_id": crypto.KeyIDOf(who.key),
		"until_ms": strconv.FormatInt(ring[i].NotAfterMs, 10), "by": who.by, "successor": active.Public.KeyID()})
}

// warnAheadMs is how long before its end a key that is still used raises an alarm: a
// day, for somebody to act on, but in the second half of the overlap alone.
const warnAheadMs = 24 * 3_600_000

func endsSoon(k, successor fsm.Key, nowMs int64) bool {
	return k.NotAfterMs != 0 && k.NotAfterMs-nowMs <= min(warnAheadMs, (k.NotAfterMs-successor.NotBeforeMs)/2)
}

// maxToldUses bounds the uses that one node tells of one subject, the last ones: some
// 120 bytes each. A service has one token, or one an instance.
const maxToldUses = 128

type keyUsesRequest struct {
	Subject string `cbor:"1,keyasint"`
}

type keyUsesReply struct {
	Uses []toldUse `cbor:"1,keyasint"`
}

type toldUse struct {
	_      struct{} `cbor:",toarray"`
	KeyID  string
	By     string
	Count  uint64
	LastMs int64
}

// serveKeyUses tells another node what this one saw.
func (n *Node) serveKeyUses(_ context.Context, _ string, req keyUsesRequest) (keyUsesReply, error) {
	var out keyUsesReply
	for _, u := range n.keyUses.of(req.Subject) {
		if len(out.Uses) == maxToldUses {
			break
		}
		out.Uses = append(out.Uses, toldUse{KeyID: u.KeyID, By: u.By, Count: u.Count, LastMs: u.LastMs})
	}
	return out, nil
}

// fault says what is wrong with what another node tells.
func (r keyUsesReply) fault() error {
	if len(r.Uses) > maxToldUses {
		return fmt.Errorf("it tells of %d uses, at most %d", len(r.Uses), maxToldUses)
	}
	for _, u := range r.Uses {
		if err := crypto.CheckID(u.KeyID); err != nil {
			return fmt.Errorf("a use of the key %q: %w", u.KeyID, err)
		}
		if err := crypto.CheckID(u.By); err != nil && u.By != "" {
			return fmt.Errorf("a use by %q: %w", u.By, err)
		}
	}
	return nil
}

// KeyUses implements api.Keys.
func (n *Node) KeyUses(ctx context.Context, subject string) (uses []client.KeyUse, unreachable []client.AuditMissing) {
	type answer struct {
		of    fsm.Coordinator
		reply keyUsesReply
		err   error
	}
	answers := askAll(ctx, n, func(ctx context.Context, c fsm.Coordinator) (a answer) {
		a.of = c
		if req := (keyUsesRequest{subject}); c.ID == n.id.NodeID {
			a.reply, a.err = n.serveKeyUses(ctx, c.ID, req)
		} else {
			a.err = n.call(ctx, c.ID, rpcKeyUses, req, &a.reply)
		}
		if a.err == nil {
			a.err = a.reply.fault()
		}
		return a
	})
	for _, a := range answers {
		if a.err != nil {
			unreachable = append(unreachable, client.AuditMissing{Node: a.of.ID, Name: a.of.Name, Detail: a.err.Error()})
			continue
		}
		for _, u := range a.reply.Uses {
			uses = append(uses, client.KeyUse{KeyID: u.KeyID, By: u.By, Node: a.of.ID, Count: u.Count, LastMs: u.LastMs})
		}
	}
	slices.SortStableFunc(uses, lastUseFirst)
	return uses, unreachable
}
