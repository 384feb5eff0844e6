package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// ALPN protocols. Raft and forwarding need a client certificate of the
// cluster; the API's clients show a token instead.
const (
	protoRaft = "edgecoder-raft/1"
	protoRPC  = "edgecoder-rpc/1"
	protoJoin = "http/1.1" // the gossip port serves nothing else over TLS
)

// credentials is what TLS needs; the certificate is swapped when it renews.
type credentials struct {
	clusterID string
	caCert    []byte
	roots     *x509.CertPool
	cert      atomic.Pointer[tls.Certificate]
	apiCert   atomic.Pointer[tls.Certificate] // the operator's, for the API; mostly nil
	check     func(peerName) error            // asked of the replicated records at each handshake
	now       func() time.Time
}

func newCredentials(id *identity, check func(peerName) error) (*credentials, error) {
	ca, err := x509.ParseCertificate(id.CACert)
	if err != nil {
		return nil, fmt.Errorf("CA certificate: %w", err)
	}
	c := &credentials{clusterID: id.ClusterID, caCert: id.CACert, roots: x509.NewCertPool(), check: check, now: time.Now}
	c.roots.AddCert(ca)
	cert, err := id.tlsCertificate()
	if err != nil {
		return nil, err
	}
	c.cert.Store(cert)
	return c, nil
}

func (c *credentials) getCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.cert.Load(), nil
}

// verify checks a peer's certificate: chain, cluster, and that the records know
// the node by this key. It never asks the raft configuration, which may be
// older than the caller. want is the node id that must answer, or "" for whoever
// calls. Who calls for raft is a coordinator: raft itself takes entries from
// anybody that it hears, and observers only ever answer it.
func (c *credentials) verify(state tls.ConnectionState, want string) error {
	peer, err := c.identify(state, want)
	if err != nil {
		return err
	}
	if want == "" && state.NegotiatedProtocol == protoRaft && peer.role != fsm.RoleCoordinator {
		return fmt.Errorf("node %s is an %s: only coordinators open connections for raft", peer.id, peer.role)
	}
	return c.check(peer)
}

// identify is verify as far as a certificate goes: whoever holds the CA key, as
// every coordinator that ever was does, can make one.
func (c *credentials) identify(state tls.ConnectionState, want string) (peerName, error) {
	if len(state.PeerCertificates) == 0 {
		return peerName{}, errors.New("the peer shows no certificate")
	}
	leaf := state.PeerCertificates[0]
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: c.roots, CurrentTime: c.now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return peerName{}, fmt.Errorf("the peer's certificate is not of this cluster's CA: %w", err)
	}
	peer, err := nameOf(leaf)
	switch {
	case err != nil:
		return peer, err
	case peer.cluster != c.clusterID:
		return peer, fmt.Errorf("the peer belongs to cluster %s, this is %s", peer.cluster, c.clusterID)
	case want != "" && want != peer.id:
		return peer, fmt.Errorf("node %s answers where %s was expected: the address has moved", peer.id, want)
	}
	return peer, nil
}

// server returns the TLS configuration of a listener that serves the given
// protocols: peers show certificates, API clients none.
func (c *credentials) server(api, peer bool) *tls.Config {
	apiConfig := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: c.getAPICertificate, NextProtos: []string{"h2", "http/1.1"}}
	peerConfig := &tls.Config{
		MinVersion: tls.VersionTLS13, GetCertificate: c.getCertificate, NextProtos: []string{protoRaft, protoRPC},
		ClientAuth:             tls.RequireAnyClientCert, // verify checks the chain, with better words
		VerifyConnection:       func(s tls.ConnectionState) error { return orFarewell(c.verify(s, ""), s.NegotiatedProtocol) },
		SessionTicketsDisabled: true, // a resumed session would skip the list of removed nodes
	}
	if !peer {
		return apiConfig
	}
	if !api {
		return peerConfig
	}
	shared := apiConfig.Clone()
	shared.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if speaksPeer(hello) {
			return peerConfig, nil
		}
		return nil, nil // the API's
	}
	return shared
}

// orFarewell lets a node that was removed as far as the calls, where it hears
// that it was and nothing else (mayCall).
func orFarewell(err error, proto string) error {
	if proto == protoRPC && errors.Is(err, errRemoved) {
		return nil
	}
	return err
}

// dial returns the TLS configuration to reach one node for one protocol.
func (c *credentials) dial(proto, nodeID string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{proto},
		InsecureSkipVerify:   true, // verify checks chain, cluster and node id instead of a host name
		VerifyConnection:     func(s tls.ConnectionState) error { return c.verify(s, nodeID) },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.cert.Load(), nil },
	}
}

// joinServer returns the configuration of the join service, whose callers have
// no certificate yet.
func (c *credentials) joinServer() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: c.getCertificate, NextProtos: []string{protoJoin}}
}

// joinDial returns the configuration of a joiner: it knows no CA yet, only the
// pin in its token.
func joinDial(token crypto.TokenText) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{protoJoin},
		InsecureSkipVerify: true, // the pin decides
		VerifyConnection:   func(s tls.ConnectionState) error { return verifyPinned(s, token) },
	}
}

// errWrongSeed marks a seed that proved to be of another cluster: asking it
// again will not help.
var errWrongSeed = errors.New("this seed is not of the join token's cluster")

func verifyPinned(s tls.ConnectionState, token crypto.TokenText) error {
	if err := checkPinned(s, token); err != nil {
		return fmt.Errorf("%w: %w", errWrongSeed, err)
	}
	return nil
}

func checkPinned(s tls.ConnectionState, token crypto.TokenText) error {
	if len(s.PeerCertificates) < 2 {
		return errors.New("the seed shows no CA certificate: it is no EdgeCoder coordinator")
	}
	ca := s.PeerCertificates[len(s.PeerCertificates)-1]
	if crypto.Sum(ca.Raw).String() != token.Pin {
		return errors.New("the seed's CA is not the one pinned in the join token: the token is of another cluster, or somebody is in between")
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if _, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return fmt.Errorf("the seed's certificate: %w", err)
	}
	seed, err := nameOf(s.PeerCertificates[0])
	switch {
	case err != nil:
		return err
	case seed.cluster != token.ClusterID:
		return fmt.Errorf("the seed belongs to cluster %s, the join token to %s", seed.cluster, token.ClusterID)
	case seed.role != fsm.RoleCoordinator:
		return fmt.Errorf("the seed is an %s: only coordinators take nodes in", seed.role)
	}
	return nil
}

// renewCertificate issues this node a fresh certificate; only memory changes,
// the old one stays in the key file for a start without a CA key at hand.
func (n *Node) renewCertificate(ctx context.Context) error {
	public, err := tlsPublic(n.id.TLSKey)
	if err != nil {
		return err
	}
	if len(n.id.CAKey) == 0 && n.raft == nil {
		return nil // an observer asks the leader, later
	}
	cert, err := n.certify(ctx, certifyRequest{NodeID: n.id.NodeID, TLSPublic: public})
	if err != nil {
		return err
	}
	fresh := *n.id
	fresh.TLSCert = cert
	chain, err := fresh.tlsCertificate()
	if err != nil {
		return err
	}
	n.creds.cert.Store(chain)
	return nil
}

func (n *Node) certificateLoop(ctx context.Context) {
	for pause(ctx, 24*time.Hour) {
		if err := n.renewCertificate(ctx); err != nil {
			n.log.Warn("certificate not renewed, trying again tomorrow", "error", err)
			n.noteOverdue(n.cfg.Now(), err)
		}
	}
}

// noteOverdue records that this node's certificate could not be renewed.
func (n *Node) noteOverdue(now time.Time, why error) {
	ends := n.creds.cert.Load().Leaf.NotAfter
	typ, level := "key_rotation_overdue", audit.LevelWarn
	if now.After(ends) {
		typ, level = "key_expired", audit.LevelCritical
	}
	n.note(typ, level, "not_renewed", map[string]string{"subject": "certificate", "ends": ends.UTC().Format(time.RFC3339), "error": why.Error()})
}
