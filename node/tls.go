package node

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// ALPN protocols. Raft and forwarding need a client certificate of the
// cluster; the API's clients show a token instead.
const (
	protoRaft = "edgecoder-raft/1"
	protoRPC  = "edgecoder-rpc/1"
	protoJoin = "http/1.1" // the gossip port serves nothing else over TLS
	// protoReturn is for a node that missed a rotation of the CA (return.go).
	protoReturn = "edgecoder-return/1"
)

// credentials is what TLS needs; all but the cluster is swapped while it is in use.
type credentials struct {
	clusterID string
	trusted   atomic.Pointer[trustedCAs]
	cert      atomic.Pointer[tls.Certificate] // shown to nodes
	face      atomic.Pointer[tls.Certificate] // shown to the API's clients and to joiners
	apiCert   atomic.Pointer[tls.Certificate] // the operator's, for the API; mostly nil
	check     func(peerName) error            // asked of the replicated records at each handshake
	now       func() time.Time
	keys      atomic.Pointer[[]tlsKey] // held by this node; replaced, never changed
	want      atomic.Pointer[tlsKey]   // that certificates are asked for; nil: that of cert
}

func newCredentials(id *identity, check func(peerName) error) (*credentials, error) {
	c := &credentials{clusterID: id.ClusterID, check: check, now: time.Now}
	s := id.shared()
	if err := c.hold(id); err != nil {
		return nil, err
	}
	return c, c.present(s, chains{peer: [][]byte{id.TLSCert, s.active().Cert}})
}

func (c *credentials) getCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.cert.Load(), nil
}

func (c *credentials) getFace(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.face.Load(), nil
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
	peer, err := nameOf(leaf)
	if err != nil {
		return peer, err
	}
	if state.NegotiatedProtocol != protoReturn { // there the key on record speaks for the node, and no CA
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: c.trusted.Load().pool, CurrentTime: c.now(),
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			return peer, fmt.Errorf("%w: %w", errForeignCA, err)
		}
	}
	switch {
	case peer.cluster != c.clusterID:
		return peer, fmt.Errorf("the peer belongs to cluster %s, this is %s", peer.cluster, c.clusterID)
	case want != "" && want != peer.id:
		return peer, fmt.Errorf("node %s answers where %s was expected: the address has moved", peer.id, want)
	}
	return peer, nil
}

// errForeignCA refuses a certificate of no CA that counts here. It may be of the
// next one, or of one before: then this node or the other missed a rotation.
var errForeignCA = errors.New("the peer's certificate is not of this cluster's CA")

// server returns the TLS configuration of a listener that serves the given
// protocols: peers show certificates, API clients none.
func (c *credentials) server(api, peer bool) *tls.Config {
	apiConfig := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: c.getAPICertificate, NextProtos: []string{"h2", "http/1.1"}}
	peerConfig := &tls.Config{
		MinVersion: tls.VersionTLS13, GetCertificate: c.getCertificate, NextProtos: []string{protoRaft, protoRPC, protoReturn},
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

// orFarewell lets a node that was removed as far as the calls and the door, where it hears
// that it was and nothing else (mayCall).
func orFarewell(err error, proto string) error {
	if (proto == protoRPC || proto == protoReturn) && errors.Is(err, errRemoved) {
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
// no certificate of the cluster yet: they show their key (identity.showing).
func (c *credentials) joinServer() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: c.getFace, NextProtos: []string{protoJoin},
		ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true} // each handshake proves the key anew
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
	roots, rest := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, cert := range s.PeerCertificates[1:] {
		if crypto.Sum(cert.Raw).String() == token.Pin {
			roots.AddCert(cert)
			found = true
		} else {
			rest.AddCert(cert) // while the CA is rotated, the pinned one may have signed that of the seed
		}
	}
	if !found {
		return errors.New("the seed's CA is not the one pinned in the join token: the token is of another cluster, its CA was rotated since, or somebody is in between")
	}
	if _, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: rest, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
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
