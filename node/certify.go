package node

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// Certificates of nodes. A coordinator signs its own; an observer, which holds no
// CA key, asks the leader.

type certifyRequest struct {
	NodeID    string `cbor:"1,keyasint"`
	TLSPublic []byte `cbor:"2,keyasint"` // PKIX
	// Face asks for what clients are shown, a whole chain (sharedSet.faceChain).
	Face bool `cbor:"3,keyasint,omitempty"`
}

func (n *Node) serveCertify(_ context.Context, from string, req certifyRequest) ([]byte, error) {
	if req.NodeID != from {
		return nil, &client.Error{Code: client.CodeForbidden, Detail: "a node asks for its own certificate only"}
	}
	return n.sign(req)
}

// certify issues a certificate here, or on the leader if this node has no CA key.
func (n *Node) certify(ctx context.Context, s *sharedSet, req certifyRequest) ([]byte, error) {
	if len(s.active().Key) > 0 {
		return n.signWith(s, req)
	}
	_, leader := n.raft.LeaderWithID()
	if leader == "" {
		return nil, &client.Error{Code: client.CodeUnavailable, Reason: reasonNoLeader, Detail: "no leader to ask for a certificate"}
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	var cert []byte
	err := n.call(ctx, string(leader), rpcCertify, req, &cert)
	return cert, err
}

func (n *Node) sign(req certifyRequest) ([]byte, error) { return n.signWith(n.shared.Load(), req) }

// signWith issues a certificate for what is on record: role, hosts and key of a
// node are never its own free choice.
func (n *Node) signWith(s *sharedSet, req certifyRequest) ([]byte, error) {
	c, known := n.recordOf(req.NodeID)
	key := crypto.Sum(req.TLSPublic)
	if !known || !counts(c.TLSRing(), key, n.clusterClockMs(), true) {
		return nil, &client.Error{Code: client.CodeForbidden, Field: "tls_public", Detail: "the node is not on record with this key"}
	}
	public, err := x509.ParsePKIXPublicKey(req.TLSPublic)
	if err != nil {
		return nil, &client.Error{Code: client.CodeInvalid, Field: "tls_public", Detail: err.Error()}
	}
	issuer := s.active()
	if req.Face {
		issuer = s.face()
	}
	proof, err := n.proofNames(req.NodeID, key)
	if err != nil {
		return nil, err
	}
	leaf, err := issuer.issueLeaf(n.id.ClusterID, req.NodeID, c.Role, public, n.hostsOnRecord(req.NodeID), time.Now(), proof...)
	if err != nil || !req.Face {
		return leaf, err
	}
	rest, err := s.faceChain()
	if err != nil {
		return nil, err
	}
	return append(leaf, bytes.Join(rest, nil)...), nil
}

// chainsOf issues what this node shows while a set is in force.
func (n *Node) chainsOf(ctx context.Context, s *sharedSet) (chains, error) {
	key, err := n.creds.chosen()
	if err != nil {
		return chains{}, err
	}
	req := certifyRequest{NodeID: n.id.NodeID, TLSPublic: key.public}
	leaf, err := n.certify(ctx, s, req)
	if err != nil {
		return chains{}, err
	}
	out := chains{peer: [][]byte{leaf, s.active().Cert}}
	if err := issuedBy(leaf, s.active()); err != nil {
		return chains{}, err // by a leader that is behind, or ahead
	}
	if len(s.cas) > 1 { // else one certificate serves both
		req.Face = true
		all, err := n.certify(ctx, s, req)
		if err != nil {
			return chains{}, err
		}
		if out.face, err = splitChain(all); err == nil {
			err = issuedBy(out.face[0], s.face())
		}
		if err != nil {
			return chains{}, err
		}
	}
	return out, nil
}

// issuedBy checks that a certificate is of a CA.
func issuedBy(leaf []byte, by authority) error {
	cert, err := x509.ParseCertificate(leaf)
	if err != nil {
		return err
	}
	ca, _, err := by.parse()
	if err != nil {
		return err
	}
	if err := cert.CheckSignatureFrom(ca); err != nil {
		return fmt.Errorf("the certificate is not of CA %s: %w", by.id(), err)
	}
	return nil
}

// renewCertificate issues this node fresh certificates; only memory changes,
// the old one stays in the key file for a start without a CA key at hand.
func (n *Node) renewCertificate(ctx context.Context) error {
	s := n.shared.Load()
	if n.toldSet() != nil {
		return nil // it shows what it was told, for as long as that counts
	}
	if len(s.active().Key) == 0 && n.raft == nil {
		return nil // an observer asks the leader, later
	}
	shown, err := n.chainsOf(ctx, s)
	if err != nil {
		return err
	}
	return n.creds.present(s, shown)
}

// certificateLoop renews certificates when two thirds of their life are over, or
// when the clock was set back before their beginning.
func (n *Node) certificateLoop(ctx context.Context) {
	var told time.Time
	for pause(ctx, renewPause) {
		if !needsRenewal(n.creds.cert.Load(), n.cfg.Now()) && !needsRenewal(n.creds.face.Load(), n.cfg.Now()) {
			continue
		}
		n.sharing.Lock()
		err := n.renewCertificate(ctx)
		n.sharing.Unlock()
		if err != nil && time.Since(told) >= overduePause {
			told = time.Now()
			n.log.Warn("certificate not renewed, trying again each minute", "error", err)
			n.noteOverdue(n.cfg.Now(), err)
		}
	}
}

const (
	// renewPause is how often a node looks at the age of its certificates: a clock
	// that was set leaves it without good ones for as long.
	renewPause = time.Minute
	// overduePause is how often it tells that it cannot renew them.
	overduePause = time.Hour
)

// noteOverdue records that this node's certificate could not be renewed.
func (n *Node) noteOverdue(now time.Time, why error) {
	ends := n.creds.cert.Load().Leaf.NotAfter
	typ, level := "key_rotation_overdue", audit.LevelWarn
	if now.After(ends) {
		typ, level = "key_expired", audit.LevelCritical
	}
	n.note(typ, level, "not_renewed", map[string]string{"subject": "certificate", "ends": ends.UTC().Format(time.RFC3339), "error": why.Error()})
}
