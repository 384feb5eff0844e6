package node

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/fsm"
)

// obtainIdentity reads who this edge is, or joins, for the first time or anew. The cosigners that the token of the join pins are sealed with its keys.
func (e *Edge) obtainIdentity(ctx context.Context) (joined bool, err error) {
	if e.id, err = loadIdentity(e.cfg.DataDir, e.cfg.Passphrase); err != nil {
		return false, err
	}
	if e.id != nil && e.id.ClusterID != "" {
		e.shared.Store(e.id.shared())
	}
	switch {
	case e.id != nil && e.id.Role != "" && e.id.Role != fsm.RoleEdge:
		return false, fmt.Errorf("%s is the directory of a %s, not of an edge", e.cfg.DataDir, e.id.Role)
	case e.id != nil && e.id.ClusterID != "" && !e.joinsAnew():
		return false, e.renew(ctx)
	case len(e.cfg.Join) == 0 || e.cfg.JoinToken == "":
		return false, fmt.Errorf("%s is empty: give --join and --join-token-file or EDGECODER_JOIN_TOKEN (make one with `edgecoder token create --role edge`)", e.cfg.DataDir)
	}
	token, err := crypto.ParseTokenText(e.cfg.JoinToken)
	if err != nil {
		return false, fmt.Errorf("join token: %w", err)
	}
	if token.Pin == "" || token.Set == 0 {
		return false, errors.New("join token: it pins no CA and cosigners, so it lets no edge join: make one with `edgecoder token create --role edge`")
	}
	if err := e.prepareIdentity(token); err != nil {
		return false, err
	}
	asking, cancel := e.joinTime(ctx)
	defer cancel()
	reply, err := e.askToJoin(asking, token, joinDial(token), e.seeds())
	if err == nil && !slices.ContainsFunc(reply.shared().cas, func(a authority) bool { return a.id().String() == token.Pin }) {
		err = errors.New("the seed's answer is not of the cluster in the token")
	}
	if err != nil {
		return false, e.goOnWithout(ctx, err)
	}
	pinned, err := pinnedCosigners(token, reply.Cosigners)
	if err != nil {
		return false, e.goOnWithout(ctx, fmt.Errorf("the cosigners in the seed's answer: %w", err))
	}
	e.id.Cosigners = pinned
	return true, e.become(reply, true)
}

// pinnedCosigners follows from the set that a token pins, which the first note must be, to the last one told. Whoever
// answers is believed in nothing else.
func pinnedCosigners(token crypto.TokenText, notes [][]byte) ([]byte, error) {
	if len(notes) == 0 || len(notes) > maxSetsTold {
		return nil, fmt.Errorf("%d sets, from 1 to %d", len(notes), maxSetsTold)
	}
	sets := make([]checkpoint.SignedSet, len(notes))
	for i, note := range notes {
		var err error
		if sets[i], err = checkpoint.ParseSet(note); err != nil {
			return nil, err
		}
	}
	if first := sets[0]; first.Version != token.Set || first.Hash() != token.SetHash {
		return nil, fmt.Errorf("version %d with hash %s comes first, the token pins version %d with hash %s", first.Version, first.Hash(), token.Set, token.SetHash)
	}
	last := sets[len(sets)-1]
	switch trusted, err := sets[0].Follow(sets); {
	case err != nil:
		return nil, err
	case trusted.Hash() != last.Hash():
		return nil, fmt.Errorf("version %d comes last, not version %d", last.Version, trusted.Version)
	}
	return last.Encode(), nil
}

// prepareIdentity makes keys and credential, and writes them down before the join is asked for: a crash, or an answer that is lost, then costs neither token nor
// name.
func (e *Edge) prepareIdentity(token crypto.TokenText) (err error) {
	if e.id == nil {
		if e.id, err = newIdentity(); err != nil {
			return err
		}
		e.id.iterations = e.cfg.iterations
	}
	if have, err := crypto.ParseTokenText(e.id.Credential); err == nil && have.ClusterID == token.ClusterID {
		return nil // of an earlier try
	}
	credential, err := crypto.NewTokenText(rand.Reader, token.ClusterID, string(fsm.RoleEdgeMember), "")
	if err != nil {
		return err
	}
	e.id.Credential, e.id.Role = credential.String(), fsm.RoleEdge
	return e.id.save(e.cfg.DataDir, e.cfg.Passphrase)
}

// become takes what a coordinator told a member: at a start, before anybody else looks at the identity.
func (e *Edge) become(reply *edgeJoinReply, believed bool) error {
	fresh, err := e.keep(reply, believed)
	if err != nil {
		return err
	}
	*e.id = *fresh
	return nil
}

// keep writes down what a coordinator told a member and returns the identity with it. Others read the one in use, of which the parts
// that change count at a start alone. A coordinator that is not believed (believes) renews the certificate and tells the keys that the
// CA in use comes with; who the coordinators are, and of another CA, it tells nothing.
func (e *Edge) keep(reply *edgeJoinReply, believed bool) (*identity, error) {
	set, fresh := reply.shared(), *e.id
	err := set.check()
	if err == nil {
		err = issuedBy(reply.TLSCert, set.active())
	}
	if err == nil && !believed {
		if _, held := e.shared.Load().authority(set.active().id()); !held {
			err = fmt.Errorf("the key of node %s is none that this edge was told of, and it tells of a CA that this edge has never heard of", reply.seed.id)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the coordinator's answer: %w", err)
	}
	fresh.take(set)
	fresh.ClusterID, fresh.TLSCert = reply.ClusterID, reply.TLSCert
	if err := fresh.save(e.cfg.DataDir, e.cfg.Passphrase); err != nil {
		return nil, err
	}
	if believed {
		e.book.record(reply.Members)
	}
	e.shared.Store(set)
	return &fresh, nil
}

// renewTime bounds how long a start waits for a fresh certificate: the edge answers without one.
const renewTime = 3 * time.Second

// renew asks for what may have changed since this edge was last up. Nobody being there is no reason not to start.
func (e *Edge) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	reply, err := e.rejoin(ctx)
	var refused *client.Error
	switch {
	case errors.As(err, &refused) && (refused.Code == client.CodeUnauthorized || refused.Code == client.CodeForbidden):
		return fmt.Errorf("the cluster takes this edge for none of its own: %w. If it was removed, move %s away and join with a new token", err, filepath.Join(e.cfg.DataDir, fileKeys))
	case err != nil:
		e.log.Warn("no coordinator was reached at the start: answering from the list of the last run", "error", err)
		return nil
	}
	return e.become(reply, e.believes(reply.seed))
}

// rejoin asks the coordinators by this edge's own credential.
func (e *Edge) rejoin(ctx context.Context) (*edgeJoinReply, error) {
	credential, err := crypto.ParseTokenText(e.id.Credential)
	if err != nil {
		return nil, fmt.Errorf("the credential of this edge: %w", err)
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{protoJoin},
		InsecureSkipVerify: true, // checkKnown decides
		VerifyConnection:   e.checkKnown,
	}
	return e.askToJoin(ctx, credential, config, e.seeds())
}

// checkKnown makes sure that a seed is a coordinator: by any CA that this edge trusts, and where it missed a rotation of the CA by the
// TLS key that the coordinator had on record when the edge last heard.
func (e *Edge) checkKnown(s tls.ConnectionState) error {
	var failed error
	for _, a := range e.shared.Load().cas {
		if failed = checkPinned(s, crypto.TokenText{ClusterID: e.id.ClusterID, Pin: a.id().String()}); failed == nil {
			return nil
		}
	}
	if len(s.PeerCertificates) > 0 {
		if seed, err := nameOf(s.PeerCertificates[0]); err == nil && seed.cluster == e.id.ClusterID && e.isKnown(seed) {
			return nil
		}
	}
	return fmt.Errorf("%w: %w", errWrongSeed, failed)
}

// isKnown tells whether a seed proved that it is a coordinator that this edge was told of.
func (e *Edge) isKnown(seed peerName) bool {
	known, _, listed := e.book.recordOf(seed.id)
	return listed && known.Role == fsm.RoleCoordinator && e.knows(seed, known)
}

// believes tells whether a seed's word on whom to trust counts: of one that this edge knows by its key, or of anybody that the CA
// names while it knows nobody. A certificate alone may be of one that was removed, or for a key that was revoked.
func (e *Edge) believes(seed peerName) bool {
	return e.isKnown(seed) || len(e.book.coordinators(e.id.NodeID)) == 0
}

// knows tells whether a coordinator proves itself by a TLS key that this edge was told,
// or that came after it.
func (e *Edge) knows(seed peerName, known peerAddress) bool {
	record := fsm.Coordinator{ID: seed.id, TLSKeys: known.tlsRing(), Keys: known.ring()}
	return inRing(record.TLSRing(), seed.tlsKey) || seed.proof.proves(e.id.ClusterID, record, seed.tlsKey, 0) // its book has keys that counted when it heard, and no time
}

// askToJoin asks seeds in turn until one answers, for as long as ctx lasts.
func (e *Edge) askToJoin(ctx context.Context, token crypto.TokenText, config *tls.Config, seeds []string) (*edgeJoinReply, error) {
	req, err := e.joinRequest(token)
	if err != nil {
		return nil, err
	}
	if config, err = e.id.showing(config); err != nil {
		return nil, err
	}
	cfg := e.cfg.config()
	cfg.Join, cfg.Log = seeds, e.log
	if len(seeds) == 0 {
		return nil, errors.New("no coordinator's gossip address is known: give --join")
	}
	return askSeeds(ctx, cfg, func(seed string) (*edgeJoinReply, error) {
		var reply edgeJoinReply
		if reply.seed, err = postSeed(ctx, cfg, seed, config, edgeJoinPath, req, &reply); err != nil {
			if reply.seed.id != "" && fsm.Role(token.Role) == fsm.RoleEdgeMember && !e.believes(reply.seed) {
				err = fmt.Errorf("node %s, by a key that this edge was not told of: %s", reply.seed.id, err) //nolint:errorlint // its refusal is no word of the cluster
			}
			return nil, err
		}
		if reply.ClusterID != token.ClusterID {
			return nil, errors.New("the seed's answer is not of the cluster in the token")
		}
		return &reply, nil
	})
}

func (e *Edge) joinRequest(token crypto.TokenText) (edgeJoinRequest, error) {
	public, err := tlsPublic(e.id.TLSKey)
	if err != nil {
		return edgeJoinRequest{}, err
	}
	credential, err := crypto.ParseTokenText(e.id.Credential)
	if err != nil {
		return edgeJoinRequest{}, err
	}
	text := token
	if token.ID == credential.ID {
		text = credential
	}
	req := edgeJoinRequest{Token: text.String(), ID: credential.ID, Hash: credential.Hash(), TLSPublic: public,
		Edge: fsm.Edge{NodeID: e.id.NodeID, Name: e.cfg.Name, SigningKey: e.id.publicKey(), TLSKey: crypto.Sum(public), Version: e.cfg.Version}}
	parts, err := req.parts()
	if err != nil {
		return edgeJoinRequest{}, err
	}
	key := e.id.signingKey()
	defer clear(key)
	req.Proof = crypto.SignText(key, edgeJoinLabel, parts...)
	return req, nil
}

// seeds are the gossip addresses of coordinators, as far as this edge knows them.
func (e *Edge) seeds() []string {
	out := e.book.gossipSeeds(e.id.NodeID)
	for _, a := range e.cfg.Join {
		if a != e.cfg.GossipAddr && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// refreshLoop fetches, once a day, a certificate that ends later, and what else changed.
func (e *Edge) refreshLoop(ctx context.Context) {
	for pause(ctx, 24*time.Hour) {
		if err := e.refresh(ctx); err != nil {
			e.log.Warn("certificate not renewed, trying again tomorrow", "error", err)
		}
	}
}

func (e *Edge) refresh(ctx context.Context) error {
	e.refreshing.Lock()
	defer e.refreshing.Unlock()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	reply, err := e.rejoin(ctx)
	if err != nil {
		return err
	}
	fresh, err := e.keep(reply, e.believes(reply.seed))
	if err != nil {
		return err
	}
	return e.useShared(fresh)
}
