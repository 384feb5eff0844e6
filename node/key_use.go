package node

import (
	"cmp"
	"slices"
	"sync"

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
	mu         sync.Mutex
	young, old map[keyUser]keyUse // guarded by mu; no user is in both
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
	slices.SortFunc(out, func(a, b client.KeyUse) int {
		return cmp.Or(cmp.Compare(b.LastMs, a.LastMs), cmp.Compare(a.By, b.By), cmp.Compare(a.KeyID, b.KeyID))
	})
	return out
}

// noteKeyUse notes a request that was signed with another key than the agent's
// newest one that verifies. It is called for what this replica would admit.
func (n *Node) noteKeyUse(s *fsm.State, a *admission, nowMs int64) {
	if len(a.keys) < 2 {
		return
	}
	agent, _ := s.Agent(a.Signed.AgentID)
	if active, ok := agent.Keys.Active(nowMs); ok && active.Public.Fingerprint() != a.claim.Key {
		n.keyUses.note(keyUser{fsm.AgentSubject(agent.ID).String(), a.TokenID, a.claim.Key}, nowMs)
	}
}

// KeyUses implements api.Keys.
func (n *Node) KeyUses(subject string) []client.KeyUse { return n.keyUses.of(subject) }
