package node

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strings"
	"time"

	housecrypto "github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

const (
	leafLife = 30 * 24 * time.Hour // renewed at every start and at two thirds of it
	// leafBackdate lets a peer whose clock is behind accept a fresh certificate.
	leafBackdate = 24 * time.Hour
	// uriScheme is the scheme of the URI name that ties a certificate to one
	// node of one cluster: edgecoder://<cluster id>/<role>/<node id>.
	uriScheme = "edgecoder"
)

// A CA begins and ends by the log, which all agree on, never by the clock of the
// node that made it: one made while that was wrong would verify nowhere once it is
// right. The end is what RFC 5280 section 4.1.2.5 writes for none.
var (
	caBegins = time.Unix(0, 0).UTC()
	caEnds   = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

func newTLSKey() ([]byte, error) {
	// P-256: every TLS client speaks it, Ed25519 certificates not everywhere.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

func parseSigner(pkcs8 []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key of type %T cannot sign", key)
	}
	return signer, nil
}

func serial() (*big.Int, error) { return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) }

// newCA makes a cluster CA: its certificate in DER and its key in PKCS#8. One
// more CA may stand below it: its predecessor, cross-signed (crossSign).
func newCA(clusterID string) (cert, key []byte, err error) {
	if key, err = newTLSKey(); err != nil {
		return nil, nil, err
	}
	signer, err := parseSigner(key)
	if err != nil {
		return nil, nil, err
	}
	number, err := serial()
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		// The serial number keeps the names of a cluster's CAs apart.
		SerialNumber: number, Subject: pkix.Name{CommonName: "EdgeCoder cluster " + clusterID, SerialNumber: number.Text(16)},
		NotBefore: caBegins, NotAfter: caEnds,
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: 1, KeyUsage: x509.KeyUsageCertSign,
	}
	cert, err = x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	return cert, key, err
}

// parse returns the certificate of a CA and its key; without the key the signer
// is nil.
func (a authority) parse() (*x509.Certificate, crypto.Signer, error) {
	ca, err := x509.ParseCertificate(a.Cert)
	if err != nil {
		return nil, nil, fmt.Errorf("CA certificate: %w", err)
	}
	if len(a.Key) == 0 {
		return ca, nil, nil
	}
	signer, err := parseSigner(a.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("CA key: %w", err)
	}
	return ca, signer, nil
}

// crossSign signs another CA's key and name with this one: whoever trusts only
// this CA then trusts what the other issued. It ends with the first of the two.
func (a authority) crossSign(other *x509.Certificate) ([]byte, error) {
	ca, err := x509.ParseCertificate(a.Cert)
	if err != nil {
		return nil, fmt.Errorf("CA certificate: %w", err)
	}
	template := &x509.Certificate{
		RawSubject: other.RawSubject, SubjectKeyId: other.SubjectKeyId,
		NotBefore: other.NotBefore, NotAfter: other.NotAfter,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if ca.NotAfter.Before(template.NotAfter) {
		template.NotAfter = ca.NotAfter
	}
	return a.sign(template, other.PublicKey)
}

// sign completes a certificate with a serial number and this CA's signature.
func (a authority) sign(template *x509.Certificate, public crypto.PublicKey) ([]byte, error) {
	ca, signer, err := a.parse()
	if err != nil {
		return nil, err
	}
	if signer == nil {
		return nil, errNoCAKey
	}
	if template.SerialNumber, err = serial(); err != nil {
		return nil, err
	}
	return x509.CreateCertificate(rand.Reader, template, ca, public, signer)
}

var errNoCAKey = errors.New("this node does not hold the CA key: only coordinators sign certificates")

// issueLeaf signs a node's certificate for its public key, with further names perhaps.
func (a authority) issueLeaf(clusterID, nodeID string, role fsm.Role, public crypto.PublicKey, hosts []string, now time.Time, more ...*url.URL) ([]byte, error) {
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: nodeID},
		NotBefore: now.Add(-leafBackdate), NotAfter: now.Add(leafLife), BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        append([]*url.URL{{Scheme: uriScheme, Host: clusterID, Path: "/" + string(role) + "/" + nodeID}}, more...),
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	for _, h := range hosts {
		if strings.Contains(h, "*") {
			return nil, fmt.Errorf("host %q: a certificate names hosts, no patterns", h)
		}
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if h != "" {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	return a.sign(template, public)
}

// peerName is whom a certificate was issued for.
type peerName struct {
	cluster, id string
	role        fsm.Role
	tlsKey      housecrypto.Hash // SHA-256 of the certified public key (PKIX)
	proof       *tlsProof        // how the key came to be the node's; nil of one that it joined with
}

func nameOf(leaf *x509.Certificate) (peerName, error) {
	for _, u := range leaf.URIs {
		role, id, ok := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
		if ok && u.Scheme == uriScheme && id != "" && !strings.Contains(id, "/") {
			proof, err := proofIn(leaf)
			return peerName{cluster: u.Host, id: id, role: fsm.Role(role), tlsKey: housecrypto.Sum(leaf.RawSubjectPublicKeyInfo), proof: proof}, err
		}
	}
	return peerName{}, errors.New("the certificate names no EdgeCoder node")
}

func certPEM(ders ...[]byte) []byte {
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}
