package node

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/edgecoder/edgecoder/api"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// An edge joins as a server does, behind the gossip port of a coordinator, and gets less: a certificate, the pool key, where the coordinators are, and the
// cosigners that its token pins. Its credential for the API it made itself; the cluster learns the hash. A member asks again at each start and once a day, by its
// credential instead of the join token: for a fresh certificate and what changed of the rest.

const (
	edgeJoinPath  = "/join-edge"
	edgeJoinLabel = "edge join v1"
)

type edgeJoinRequest struct {
	Token     string      `cbor:"1,keyasint"` // the join token, or the credential of a member
	Edge      fsm.Edge    `cbor:"2,keyasint"`
	ID        string      `cbor:"3,keyasint"` // of the credential
	Hash      crypto.Hash `cbor:"4,keyasint"` // of its text
	TLSPublic []byte      `cbor:"5,keyasint"` // PKIX of the TLS key
	Proof     []byte      `cbor:"6,keyasint"` // by the signing key, over all of the above
}

func (r edgeJoinRequest) parts() ([][]byte, error) {
	e, err := fsm.Encode(r.Edge)
	return [][]byte{[]byte(r.Token), e, []byte(r.ID), r.Hash[:], r.TLSPublic}, err
}

type edgeJoinReply struct {
	ClusterID string     `cbor:"1,keyasint"`
	CACert    []byte     `cbor:"2,keyasint"`
	TLSCert   []byte     `cbor:"3,keyasint"`
	PoolKeys  [][]byte   `cbor:"4,keyasint"`
	Members   memberFile `cbor:"5,keyasint"`
	Cosigners [][]byte   `cbor:"6,keyasint"` // of a join: the set that the token pins and those since, as signed notes

	MoreCAs []authority `cbor:"7,keyasint,omitempty"` // trusted beside CACert, while the CA is rotated; without keys

	seed peerName // whom the connection was with
}

func (r edgeJoinReply) shared() *sharedSet {
	return &sharedSet{ring: r.PoolKeys, cas: append([]authority{{Cert: r.CACert}}, r.MoreCAs...)}
}

// maxSetsTold bounds the cosigner sets in an answer: some 100 KiB. What came later the edge follows by itself.
const maxSetsTold = 64

func (n *Node) serveEdgeJoin(r *http.Request) (edgeJoinReply, error) {
	var req edgeJoinRequest
	leave, err := n.admitJoiner(r, &req)
	if err != nil {
		return edgeJoinReply{}, err
	}
	defer leave()
	proved, err := provesKey(r, req.TLSPublic)
	if err != nil {
		return edgeJoinReply{}, err
	}
	token, stored, err := n.edgeToken(r.Context(), req)
	if err != nil {
		return edgeJoinReply{}, err
	}
	if stored.Edge != nil { // it may have been ended where this replica has not come to yet
		return n.welcomeEdge(r.Context(), req, token, proved, api.ReadOptions{Strong: true})
	}
	member, err := n.isEdge(r.Context(), req.Edge)
	if err != nil {
		return edgeJoinReply{}, err
	}
	if member { // it is on record, and comes with a new token for whom to trust
		return n.welcomeEdge(r.Context(), req, token, proved, api.ReadOptions{Strong: true})
	}
	cmd, err := fsm.New(fsm.Actor{TokenID: token.ID}, fsm.EdgeJoin{Edge: req.Edge, ID: req.ID, Hash: req.Hash})
	if err != nil {
		return edgeJoinReply{}, err
	}
	if n.audit.Err() != nil {
		return edgeJoinReply{}, errNoAudit()
	}
	res, err := n.Propose(r.Context(), cmd)
	if err != nil {
		return edgeJoinReply{}, err
	}
	if !res.OK() {
		return edgeJoinReply{}, &client.Error{Code: string(res.Code), Field: res.Field, Detail: res.Detail}
	}
	joined := fsm.Coordinator{ID: req.Edge.NodeID, Name: req.Edge.Name, Role: fsm.RoleEdge}
	if err := n.noteJoined(r, token.ID, joined); err != nil {
		return edgeJoinReply{}, err
	}
	return n.welcomeEdge(r.Context(), req, token, proved, api.ReadOptions{MinIndex: res.Index})
}

// isEdge tells whether an edge, which has proved its signing key, is on record by just these keys.
func (n *Node) isEdge(ctx context.Context, edge fsm.Edge) (member bool, err error) {
	_, err = n.Read(ctx, api.ReadOptions{Strong: true}, func(s *fsm.State) {
		have, ok := s.Edge(edge.NodeID)
		member = ok && have.SigningKey == edge.SigningKey && have.TLSKey == edge.TLSKey
	})
	return member, err
}

// edgeToken compares the token's hash and the proof of possession before anything is proposed or told; whether a join token is in force is asked again in Apply.
func (n *Node) edgeToken(ctx context.Context, req edgeJoinRequest) (token crypto.TokenText, stored fsm.Token, err error) {
	if token, err = crypto.ParseTokenText(req.Token); err != nil {
		return token, stored, &client.Error{Code: client.CodeUnauthorized, Detail: err.Error()}
	}
	if token.ClusterID != n.id.ClusterID {
		return token, stored, &client.Error{Code: client.CodeUnauthorized, Detail: fmt.Sprintf("the token is of cluster %s, this is %s", token.ClusterID, n.id.ClusterID)}
	}
	if stored, err = n.joinToken(ctx, token); err != nil {
		return token, stored, err
	}
	state, opens := stored.State(n.clockMs()), stored.Edge != nil || stored.Opens(n.clockMs())
	member := stored.Edge != nil && stored.Edge.NodeID == req.Edge.NodeID && stored.Edge.SigningKey == req.Edge.SigningKey && stored.Edge.TLSKey == req.Edge.TLSKey
	switch {
	case !stored.Hash.Equal(token.Hash()):
		return token, stored, errEdgeToken("is unknown")
	case stored.Role == fsm.RoleEdge && !n.pinsCosigners(token):
		return token, stored, &client.Error{Code: client.CodeConflict, Reason: "cosigners_pin", Field: "token", Detail: fmt.Sprintf(
			"from cosigner set %d, which the token pins, nobody can follow to who cosigns now: a recovery began anew, or it is of another past; make a new token with `edgecoder token create --role edge`", token.Set)}
	case stored.Role != fsm.RoleEdge && !member:
		return token, stored, &client.Error{Code: client.CodeForbidden, Field: "role",
			Detail: fmt.Sprintf("a token of role %s takes no edge in: make one with `edgecoder token create --role edge`", stored.Role)}
	case state == "revoked" || !opens:
		return token, stored, errEdgeToken("is " + state)
	case crypto.Sum(req.TLSPublic) != req.Edge.TLSKey:
		return token, stored, &client.Error{Code: client.CodeInvalid, Field: "tls_key", Detail: "the TLS key is not the one in the record"}
	}
	parts, err := req.parts()
	if err != nil || !crypto.VerifyText(req.Edge.SigningKey, req.Proof, edgeJoinLabel, parts...) {
		return token, stored, &client.Error{Code: client.CodeInvalid, Field: "proof", Detail: "the edge's proof of its signing key does not verify"}
	}
	return token, stored, nil
}

// pinsCosigners tells whether an edge that believes the set in a token can follow from it. It is asked before the token
// is used up.
func (n *Node) pinsCosigners(token crypto.TokenText) (yes bool) {
	n.machine.Read(func(s *fsm.State) { yes = len(setsSince(s, token)) > 0 })
	return yes
}

func errEdgeToken(what string) *client.Error {
	return &client.Error{Code: client.CodeUnauthorized, Detail: "the edge's token " + what + ": make a join token with `edgecoder token create --role edge`"}
}

// welcomeEdge hands a member what it needs, by what is on record.
func (n *Node) welcomeEdge(ctx context.Context, req edgeJoinRequest, token crypto.TokenText, proved bool, opts api.ReadOptions) (edgeJoinReply, error) {
	var edge fsm.Edge
	var member, may bool
	var sets [][]byte
	var held, keys *sharedSet
	read := func(s *fsm.State) {
		held = n.shared.Load()
		keys = held.forEdges(s)
		edge, member = s.Edge(req.Edge.NodeID)
		may = proved || edgeToldWithoutProof(s)
		sets = setsSince(s, token)
	}
	if _, err := n.Read(ctx, opts, read); err != nil {
		return edgeJoinReply{}, err
	}
	switch {
	case !member:
		return edgeJoinReply{}, &client.Error{Code: client.CodeForbidden, Detail: "the edge was removed: its credential is revoked"}
	case !may:
		return edgeJoinReply{}, errUnproved()
	case edge.TLSKey != crypto.Sum(req.TLSPublic):
		return edgeJoinReply{}, &client.Error{Code: client.CodeForbidden, Field: "tls_public", Detail: "the edge is not on record with this key"}
	}
	cert, err := n.signEdge(held.active(), edge, req.TLSPublic)
	if err != nil {
		return edgeJoinReply{}, err
	}
	return edgeJoinReply{ClusterID: n.id.ClusterID, CACert: keys.active().Cert, MoreCAs: keys.cas[1:], TLSCert: cert, PoolKeys: keys.ring,
		Members: n.memberRecords(), Cosigners: sets}, nil
}

// setsSince are the notes of the set that a token pins and of those since, none if nobody could follow from it.
func setsSince(s *fsm.State, token crypto.TokenText) (notes [][]byte) {
	if token.Set == 0 {
		return nil // the credential of a member, which knows whom it believes
	}
	for i, v := range s.CosignerSets(token.Set, maxSetsTold) {
		set := v.Signed(s.Meta().ClusterID)
		if i == 0 && set.Hash() != token.SetHash {
			return nil
		}
		notes = append(notes, set.Encode())
	}
	return notes
}

// signEdge issues a certificate that names no hosts: members find edges by their node id.
func (n *Node) signEdge(by authority, edge fsm.Edge, tlsPublic []byte) ([]byte, error) {
	public, err := x509.ParsePKIXPublicKey(tlsPublic)
	if err != nil {
		return nil, &client.Error{Code: client.CodeInvalid, Field: "tls_public", Detail: err.Error()}
	}
	return by.issueLeaf(n.id.ClusterID, edge.NodeID, fsm.RoleEdge, public, nil, time.Now())
}

// forEdges is what edges are told of a set: all but what was prepared for the removal of a compromised coordinator, which may have edges of
// its own. Once that is in force those are gone.
func (s *sharedSet) forEdges(state *fsm.State) *sharedSet {
	out := s.forRole(fsm.RoleEdge)
	out.ring = slices.Clone(out.ring)
	for _, of := range fsm.HeldShared(fsm.RoleCoordinator) {
		k, _ := state.KeyStanding(of, state.ClockMs())
		if k.Pending < 0 || k.Ring[k.Pending].Shared.Without == "" {
			continue
		}
		next := crypto.Hash(k.Ring[k.Pending].Public)
		out.cas = slices.DeleteFunc(out.cas, func(a authority) bool { return a.id() == next })
		out.ring = slices.DeleteFunc(out.ring, func(key []byte) bool { return poolKeyID(key) == next })
	}
	return out
}
