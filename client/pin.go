package client

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/edgecoder/edgecoder/crypto"
)

// pinned trusts servers whose chain has the CA with the pinned hash. The
// server must send its CA, which is then the only root. What the standard
// library would check is checked here, because its own check needs the root
// beforehand. Each host has a transport of its own: the connection's state
// does not name the host when it is an IP address, and the certificate must
// be for the host that was dialled.
type pinned struct {
	pin crypto.Hash

	mu     sync.Mutex
	byHost map[string]*http.Transport // as many as the client has addresses
}

func newPinned(text string) (*pinned, error) {
	pin, err := crypto.ParseHash(strings.ToLower(text))
	if err != nil {
		return nil, fmt.Errorf("CA pin: %w", err)
	}
	return &pinned{pin: pin, byHost: map[string]*http.Transport{}}, nil
}

// RoundTrip implements http.RoundTripper.
func (p *pinned) RoundTrip(req *http.Request) (*http.Response, error) {
	return p.transport(req.URL.Hostname()).RoundTrip(req)
}

// CloseIdleConnections is what http.Client looks for.
func (p *pinned) CloseIdleConnections() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.byHost {
		t.CloseIdleConnections()
	}
}

func (p *pinned) transport(host string) *http.Transport {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, ok := p.byHost[host]
	if !ok {
		t = transportOf(&tls.Config{MinVersion: tls.VersionTLS13,
			InsecureSkipVerify: true, // VerifyConnection does it
			VerifyConnection:   func(cs tls.ConnectionState) error { return verifyPinned(cs, host, p.pin) }})
		p.byHost[host] = t
	}
	return t
}

// verifyPinned checks the chain against the pin and the leaf against the host,
// a name or an IP address. Its errors are those of a failed verification, so
// that the caller knows: nothing was sent, and trying again will not help.
func verifyPinned(cs tls.ConnectionState, host string, pin crypto.Hash) error {
	roots, rest := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, cert := range cs.PeerCertificates {
		if crypto.Sum(cert.Raw) == pin {
			roots.AddCert(cert)
			found = true
			continue
		}
		rest.AddCert(cert)
	}
	err := fmt.Errorf("the server's chain has no CA with pin %s: it belongs to another cluster, or does not send its CA", pin)
	if found {
		_, err = cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: rest, DNSName: host})
	}
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: cs.PeerCertificates, Err: err}
	}
	return nil
}
