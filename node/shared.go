package node

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
	"github.com/edgecoder/edgecoder/fsm"
)

// What all nodes share: the cluster's CAs and the keys of the gossip pool. While
// one is rotated there are several: the next, which is trusted before anybody
// uses it, the active one, and those that still count until their overlap ends.

// authority is one cluster CA.
type authority struct {
	Cert     []byte `cbor:"1,keyasint"`           // DER
	Key      []byte `cbor:"2,keyasint,omitempty"` // PKCS#8; coordinators hold it, nobody else
	Retiring bool   `cbor:"3,keyasint,omitempty"` // it was active, and clients may know no other yet
}

// id names a CA: the pin of join tokens.
func (a authority) id() crypto.Hash { return crypto.Sum(a.Cert) }

// sharedSet is what one node holds of them at one time. It is replaced, never
// changed.
type sharedSet struct {
	asOf uint64      // log index as of which it is right; 0: from before any rotation
	cas  []authority // the first is active, all are trusted; 1 to maxShared
	ring [][]byte    // gossip keys: the first seals, all open; 1 to maxShared
}

// maxShared bounds the CAs, and the gossip keys, that count at once: the active
// one, the next, and those whose overlaps have not ended.
const maxShared = 8

func (s *sharedSet) active() authority { return s.cas[0] }

// face is the CA that issues what clients and joiners are shown: the oldest that
// still counts, since they may not know those after it.
func (s *sharedSet) face() authority {
	face := s.cas[0]
	for _, a := range s.cas {
		if a.Retiring {
			face = a
		}
	}
	return face
}

func (s *sharedSet) authority(id crypto.Hash) (authority, bool) {
	i := slices.IndexFunc(s.cas, func(a authority) bool { return a.id() == id })
	if i < 0 {
		return authority{}, false
	}
	return s.cas[i], true
}

func (s *sharedSet) certs() [][]byte {
	var out [][]byte
	for _, a := range s.cas {
		out = append(out, a.Cert)
	}
	return out
}

func (s *sharedSet) check() error {
	if len(s.cas) == 0 || len(s.cas) > maxShared || len(s.ring) == 0 || len(s.ring) > maxShared {
		return fmt.Errorf("%d CAs and %d gossip keys: 1 to %d each", len(s.cas), len(s.ring), maxShared)
	}
	for _, a := range s.cas {
		if _, _, err := a.parse(); err != nil {
			return err
		}
	}
	for _, key := range s.ring {
		if len(key) != poolKeyBytes {
			return fmt.Errorf("gossip key of %d bytes, want %d", len(key), poolKeyBytes)
		}
	}
	return nil
}

// and returns a set beside another, which may be nil and comes first: all of it
// counts. Of a CA in both it has the key, if one has it.
func (s *sharedSet) and(told *sharedSet) *sharedSet {
	if told == nil {
		return s
	}
	both := &sharedSet{asOf: s.asOf, cas: slices.Clone(told.cas), ring: slices.Clone(told.ring)}
	for _, a := range s.cas {
		if i := slices.IndexFunc(both.cas, func(b authority) bool { return bytes.Equal(a.Cert, b.Cert) }); i < 0 {
			both.cas = append(both.cas, a)
		} else if len(both.cas[i].Key) == 0 {
			both.cas[i].Key = a.Key
		}
	}
	// What this node held itself is not crowded out.
	both.ring = both.ring[:min(len(both.ring), maxShared-len(s.ring))]
	for _, key := range s.ring {
		if !slices.ContainsFunc(both.ring, func(b []byte) bool { return bytes.Equal(key, b) }) {
			both.ring = append(both.ring, key)
		}
	}
	return both
}

func (s *sharedSet) equal(o *sharedSet) bool {
	return slices.EqualFunc(s.cas, o.cas, func(a, b authority) bool {
		return a.Retiring == b.Retiring && bytes.Equal(a.Cert, b.Cert) && bytes.Equal(a.Key, b.Key)
	}) && slices.EqualFunc(s.ring, o.ring, bytes.Equal)
}

// shared reads the set from the key file's contents.
func (id *identity) shared() *sharedSet {
	return &sharedSet{asOf: id.SharedAsOf, ring: id.PoolKeys,
		cas: append([]authority{{Cert: id.CACert, Key: id.CAKey}}, id.MoreCAs...)}
}

// take puts a set into what the key file will hold.
func (id *identity) take(s *sharedSet) {
	first := s.active()
	id.SharedAsOf, id.PoolKeys, id.CACert, id.CAKey, id.MoreCAs = s.asOf, s.ring, first.Cert, first.Key, s.cas[1:]
}

// chains are the certificates that a node shows, each from its own on, in DER.
type chains struct {
	peer [][]byte // to nodes: of the active CA
	face [][]byte // to clients and joiners: of the oldest CA that counts
}

// faceChain lists what stands beside a certificate of the face CA: that CA signed
// by each of the others, so that those who trust one of them verify it, and the
// CAs themselves, for those who know a pin. The face CA is the last.
func (s *sharedSet) faceChain() ([][]byte, error) {
	face := s.face()
	cert, _, err := face.parse()
	if err != nil {
		return nil, err
	}
	var crosses, roots [][]byte
	for _, other := range s.cas {
		if other.id() == face.id() {
			continue
		}
		if len(other.Key) == 0 { // its copy did not come yet: nobody trusts it alone so early
			roots = append(roots, other.Cert)
			continue
		}
		cross, err := other.crossSign(cert)
		if err != nil {
			return nil, err
		}
		crosses, roots = append(crosses, cross), append(roots, other.Cert)
	}
	return append(append(crosses, roots...), face.Cert), nil
}

// trustedCAs are the roots of a set. Replaced, never changed.
type trustedCAs struct {
	pool   *x509.CertPool
	bundle []byte // PEM
}

func (s *sharedSet) trusted() (*trustedCAs, error) {
	out := &trustedCAs{pool: x509.NewCertPool(), bundle: certPEM(s.certs()...)}
	for _, a := range s.cas {
		ca, _, err := a.parse()
		if err != nil {
			return nil, err
		}
		out.pool.AddCert(ca)
	}
	return out, nil
}

// present has the node trust a set and show these certificates.
func (c *credentials) present(s *sharedSet, shown chains) error {
	trusted, err := s.trusted()
	if err != nil {
		return err
	}
	peer, err := certificateFor(c.held(), shown.peer)
	if err != nil {
		return err
	}
	face := peer
	if len(shown.face) > 0 {
		if face, err = certificateFor(c.held(), shown.face); err != nil {
			return err
		}
	}
	c.trusted.Store(trusted)
	c.cert.Store(peer)
	c.face.Store(face)
	return nil
}

// needsRenewal tells whether a certificate has used up two thirds of its life, or
// is of a clock that was ahead and has been set right.
func needsRenewal(cert *tls.Certificate, now time.Time) bool {
	leaf := cert.Leaf
	return now.Before(leaf.NotBefore) || now.After(leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore)*2/3))
}

// writeCA leaves the CAs where clients are told to find them, the active one first.
func (s *sharedSet) writeCA(dir string) error {
	return writeIfChanged(filepath.Join(dir, fileCA), certPEM(s.certs()...))
}

// splitChain reads certificates that stand one after the other.
func splitChain(ders []byte) ([][]byte, error) {
	certs, err := x509.ParseCertificates(ders)
	if err != nil {
		return nil, err
	}
	if len(certs) == 0 || len(certs) > 2*maxShared {
		return nil, fmt.Errorf("a chain of %d certificates, want 1 to %d", len(certs), 2*maxShared)
	}
	var out [][]byte
	for _, c := range certs {
		out = append(out, c.Raw)
	}
	return out, nil
}

// forRole returns a set as a node of a role holds it: with CA keys, or without.
func (s *sharedSet) forRole(role fsm.Role) *sharedSet {
	out := &sharedSet{asOf: s.asOf, cas: slices.Clone(s.cas), ring: s.ring}
	if role != fsm.RoleCoordinator {
		for i := range out.cas {
			out.cas[i].Key = nil
		}
	}
	return out
}

// writeIfChanged replaces a file, unless it has these contents.
func writeIfChanged(path string, text []byte) error {
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, text) {
		return nil
	}
	return keyfile.WriteAtomic(path, text)
}
