package fsm

import (
	"errors"
	"fmt"

	"github.com/edgecoder/edgecoder/crypto"
)

// RoleEdgeMember is the role of the credential that an edge gets when it joins (the `edge` column of the role matrix). It is made by EdgeJoin
// alone and bound to the edge, so that ending it ends the edge. From LevelCheckpoints on.
const RoleEdgeMember Role = "edgemember"

// ownerEdge begins the owner of an edge's key in keyOwners: a key is an edge's for ever, so one that was ended does not come back under it.
const ownerEdge = "edge:"

// Edge is who holds an edge's credential.
type Edge struct {
	NodeID     string           `cbor:"1,keyasint"`
	Name       string           `cbor:"2,keyasint"`
	SigningKey crypto.PublicKey `cbor:"3,keyasint"` // of its gossip card and heads
	TLSKey     crypto.Hash      `cbor:"4,keyasint"` // SHA-256 of its TLS public key (PKIX)
	JoinToken  string           `cbor:"5,keyasint"` // id of the token that it joined with; Apply sets it
	Version    string           `cbor:"6,keyasint"` // of its binary when it joined
}

// EdgeJoin takes an edge in. The others have only the word of the node that forwards it for who the edge is: as a token that was made through that node, the
// credential ends when it is removed as compromised, whoever made the join token. The acting token is a join token of role edge; its use is consumed with the join. The edge made its credential itself, of which
// the cluster learns the hash alone: so an answer that was lost costs nothing, and no secret travels. From LevelCheckpoints on.
type EdgeJoin struct {
	Edge Edge        `cbor:"1,keyasint"`
	ID   string      `cbor:"2,keyasint"` // of the credential
	Hash crypto.Hash `cbor:"3,keyasint"` // of its text
}

func (s *State) applyEdgeJoin(c *change, b EdgeJoin) Result {
	if s.meta.v.Level < LevelCheckpoints {
		return refuse(CodeConflict, "", "the cluster is at feature level %d, edges need %d: upgrade all coordinators first", s.meta.v.Level, LevelCheckpoints)
	}
	if s.isEdgeRetry(c, b) {
		return Result{Code: CodeOK, ID: b.ID, Repeated: true}
	}
	if res, ok := s.actorCan(c, CapJoinEdge); !ok {
		return res
	}
	if res, ok := s.checkEdgeJoin(c, b); !ok {
		return res
	}
	s.useToken(c)
	e := b.Edge
	e.JoinToken = c.actor.TokenID
	ref := e.SigningKey.Fingerprint()
	s.keyOwners.put(string(ref[:]), ownerEdge+e.NodeID)
	s.tokens.put(b.ID, Token{ID: b.ID, Hash: b.Hash, Role: RoleEdgeMember, CreatedMs: c.atMs, UsesLeft: -1, Label: e.Name, Epoch: s.meta.v.Epoch,
		Through: s.through(c.actor), Edge: &e})
	s.edges[e.NodeID] = b.ID
	s.record(c, "edge_join", e.NodeID, fmt.Sprintf("name=%s token=%s", e.Name, b.ID))
	return Result{Code: CodeOK, ID: b.ID}
}

// isEdgeRetry tells whether this is the very join that took effect, asked again because its answer was lost: the join token may be used up by now, but not
// revoked, nor expired, and the credential must not have been either.
func (s *State) isEdgeRetry(c *change, b EdgeJoin) bool {
	have, ok := s.tokens.get(b.ID)
	join, known := s.tokens.get(c.actor.TokenID)
	if !ok || have.Edge == nil || have.Hash != b.Hash || have.RevokedMs != 0 || !known || !s.retryable(join, c.atMs) {
		return false
	}
	want := b.Edge
	want.JoinToken = join.ID
	return *have.Edge == want
}

func (s *State) checkEdgeJoin(c *change, b EdgeJoin) (Result, bool) {
	if err := b.Edge.fault(); err != nil {
		return refuse(CodeInvalid, "edge", "%v", err), false
	}
	if field, fault := s.describedFault(b.Edge.Version); fault != "" {
		return refuse(CodeInvalid, field, "%s", fault), false
	}
	if err := crypto.CheckID(b.ID); err != nil {
		return refuse(CodeInvalid, "id", "%v", err), false
	}
	if _, taken := s.tokens.get(b.ID); taken || b.Hash.IsZero() {
		return refuse(CodeConflict, "id", "the credential %s exists already, or has no hash", b.ID), false
	}
	ref := b.Edge.SigningKey.Fingerprint()
	if _, owned := s.keyOwners.get(string(ref[:])); owned {
		return refuse(CodeConflict, "signing_key", "this public key belongs, or belonged, to another member or an agent: join with an empty data directory, which gets a new one"), false
	}
	if res, ok := s.checkEdgeNames(b.Edge); !ok {
		return res, false
	}
	if res, ok := s.checkThrough(c.actor); !ok {
		return res, false
	}
	if live := s.liveEdges(); live >= MaxEdges || s.tokens.full() || s.keyOwners.full() {
		return refuse(CodeOverloaded, "", "%d edges of at most %d, %d tokens, %d public keys: end some with `edgecoder peers remove`", live, MaxEdges, s.tokens.size(), s.keyOwners.size()), false
	}
	return Result{}, true
}

// checkEdgeNames: operators name members by id or name, so neither is another's, nor that of a coordinator that was removed.
func (s *State) checkEdgeNames(e Edge) (Result, bool) {
	if _, was := s.edges[e.NodeID]; was || s.IsRemoved(e.NodeID) {
		return refuse(CodeConflict, "edge", "node %s was here before: join with an empty data directory, which gets a new id", e.NodeID), false
	}
	for _, n := range s.coordinators.values() {
		if e.taken(n.ID, n.Name) {
			return refuse(CodeConflict, "name", "%q or %q names the coordinator %s", e.Name, e.NodeID, n.ID), false
		}
	}
	for _, gone := range s.removed.m {
		if e.taken(gone.ID, gone.Name) {
			return refuse(CodeConflict, "name", "%q or %q names a coordinator that was removed: choose another name", e.Name, e.NodeID), false
		}
	}
	return s.checkNotEdge(e.NodeID, e.Name)
}

// checkNotEdge refuses a member that would be taken for an edge.
func (s *State) checkNotEdge(id, name string) (Result, bool) {
	var clash *Edge // the first by node id: replicas answer alike
	for nodeID := range s.edges {
		if e, member := s.Edge(nodeID); member && e.taken(id, name) && (clash == nil || e.NodeID < clash.NodeID) {
			clash = &e
		}
	}
	if clash != nil {
		return refuse(CodeConflict, "name", "%q is the edge %s: choose another name, or end that edge with `edgecoder peers remove %s`", clash.Name, clash.NodeID, clash.NodeID), false
	}
	if _, was := s.edges[id]; was {
		return refuse(CodeConflict, "id", "node %s was an edge: join with an empty data directory, which gets a new id", id), false
	}
	return Result{}, true
}

// taken tells whether an id and a name are, in part, those of the edge.
func (e Edge) taken(id, name string) bool {
	return e.NodeID == id || e.NodeID == name || e.Name == id || e.Name == name
}

func (s *State) liveEdges() (n int) {
	for nodeID := range s.edges {
		if _, member := s.Edge(nodeID); member {
			n++
		}
	}
	return n
}

func (e *Edge) fault() error {
	for _, id := range []string{e.NodeID, e.Name} {
		if err := crypto.CheckID(id); err != nil {
			return err
		}
	}
	if err := crypto.CheckPublicKey(e.SigningKey); err != nil {
		return fmt.Errorf("signing key: %w", err)
	}
	if e.TLSKey.IsZero() {
		return errors.New("no TLS key")
	}
	if len(e.Version) > MaxLabelBytes {
		return fmt.Errorf("a version of %d bytes, at most %d", len(e.Version), MaxLabelBytes)
	}
	return nil
}

// Edge returns an edge that is a member, by its node id. One whose credential was revoked is none.
func (s *State) Edge(nodeID string) (Edge, bool) {
	t, ok := s.tokens.get(s.edges[nodeID])
	if !ok || t.Edge == nil || t.RevokedMs != 0 {
		return Edge{}, false
	}
	return *t.Edge, true
}

// EdgeCredential returns the id of the token that a member edge holds, by its node id or name.
func (s *State) EdgeCredential(nodeIDOrName string) (tokenID string, known bool) {
	for nodeID, id := range s.edges {
		if e, member := s.Edge(nodeID); member && (nodeID == nodeIDOrName || e.Name == nodeIDOrName) {
			return id, true
		}
	}
	return "", false
}

// indexEdges finds the edges among the tokens.
func (s *State) indexEdges() {
	s.edges = map[string]string{}
	for id, t := range s.tokens.m {
		if t.Edge != nil {
			s.edges[t.Edge.NodeID] = id
		}
	}
}
