package node

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// oldCA makes a CA as clusters from before rotations have it: no CA may stand
// below it.
func oldCA(t *testing.T) authority {
	t.Helper()
	key, err := newTLSKey()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := parseSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "EdgeCoder cluster c"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return authority{Cert: cert, Key: key}
}

func freshCA(t *testing.T) authority {
	t.Helper()
	cert, key, err := newCA("c")
	if err != nil {
		t.Fatal(err)
	}
	return authority{Cert: cert, Key: key}
}

// face issues a certificate as clients and joiners are shown it.
func (s *sharedSet) faceFor(t *testing.T, id *identity) []*x509.Certificate {
	t.Helper()
	signer, err := parseSigner(id.TLSKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := s.face().issueLeaf(id.ClusterID, id.NodeID, fsm.RoleCoordinator, signer.Public(), nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	rest, err := s.faceChain()
	if err != nil {
		t.Fatal(err)
	}
	var out []*x509.Certificate
	for _, der := range append([][]byte{leaf}, rest...) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, cert)
	}
	return out
}

// verifies tells whether a client that trusts one CA alone takes a chain.
func verifies(chain []*x509.Certificate, root authority) error {
	roots, rest := x509.NewCertPool(), x509.NewCertPool()
	ca, err := x509.ParseCertificate(root.Cert)
	if err != nil {
		return err
	}
	roots.AddCert(ca)
	for _, c := range chain[1:] {
		rest.AddCert(c)
	}
	_, err = chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: rest, DNSName: "localhost"})
	return err
}

// TestP5CAOverlap: while CAs overlap, a client and a joiner that know any of them
// take the chain, whichever they know; of one that does not count they take none.
func TestP5CAOverlap(t *testing.T) {
	id, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	id.ClusterID = "00000000-0000-4000-8000-000000000000"
	first, second, third := oldCA(t), freshCA(t), freshCA(t)
	retiring := func(a authority) authority { a.Retiring = true; return a }
	for name, tt := range map[string]struct {
		cas   []authority
		known []authority
		not   []authority
	}{
		"one":                  {[]authority{first}, []authority{first}, []authority{second}},
		"next":                 {[]authority{first, second}, []authority{first, second}, []authority{third}},
		"switched":             {[]authority{second, retiring(first)}, []authority{first, second}, []authority{third}},
		"two retiring":         {[]authority{third, retiring(second), retiring(first)}, []authority{first, second, third}, nil},
		"overlap over":         {[]authority{second}, []authority{second}, []authority{first}},
		"second rotation":      {[]authority{third, retiring(second)}, []authority{second, third}, []authority{first}},
		"old one, then a next": {[]authority{second, third, retiring(first)}, []authority{first, second, third}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := &sharedSet{cas: tt.cas, ring: [][]byte{make([]byte, poolKeyBytes)}}
			if err := s.check(); err != nil {
				t.Fatal(err)
			}
			chain := s.faceFor(t, id)
			joins := func(a authority) error {
				return checkPinned(tls.ConnectionState{PeerCertificates: chain}, crypto.TokenText{ClusterID: id.ClusterID, Pin: a.id().String()})
			}
			for i, known := range tt.known {
				if err := verifies(chain, known); err != nil {
					t.Errorf("a client that knows CA %d: %v", i, err)
				}
				if err := joins(known); err != nil {
					t.Errorf("a joiner whose token pins CA %d: %v", i, err)
				}
			}
			for i, other := range tt.not {
				if verifies(chain, other) == nil || joins(other) == nil {
					t.Errorf("CA %d, which does not count, was good for the chain", i)
				}
			}
		})
	}
}

// TestCertificatesRenewInTime: at two thirds of their life.
func TestCertificatesRenewInTime(t *testing.T) {
	now := time.UnixMilli(1_767_225_600_000)
	cert := &tls.Certificate{Leaf: &x509.Certificate{NotBefore: now, NotAfter: now.Add(30 * time.Hour)}}
	for after, want := range map[time.Duration]bool{-400 * 24 * time.Hour: true, 0: false, 19 * time.Hour: false, 21 * time.Hour: true, 40 * time.Hour: true} {
		if got := needsRenewal(cert, now.Add(after)); got != want {
			t.Errorf("after %v of 30 h: renewal %t, want %t", after, got, want)
		}
	}
}

// TestCAHasNoClock: what is made while a clock is wrong verifies once it is right,
// and so does what is issued with it.
func TestCAHasNoClock(t *testing.T) {
	id, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	id.ClusterID = "00000000-0000-4000-8000-000000000000"
	made := freshCA(t)
	signer, err := parseSigner(id.TLSKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []time.Duration{-20 * 365 * 24 * time.Hour, -400 * 24 * time.Hour, 0, 400 * 24 * time.Hour, 40 * 365 * 24 * time.Hour} {
		now := time.Now().Add(off)
		leaf, err := made.issueLeaf(id.ClusterID, id.NodeID, fsm.RoleCoordinator, signer.Public(), nil, now)
		if err != nil {
			t.Fatal(err)
		}
		trusted, err := (&sharedSet{cas: []authority{made}}).trusted()
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(leaf)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: trusted.pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			t.Errorf("by a clock that is %v off: %v", off, err)
		}
	}
}
