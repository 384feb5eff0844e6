package client

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
)

func TestAddressesThatWouldLeakTheToken(t *testing.T) {
	for _, bad := range []string{"", "  ", "http://example.com:4301", "http://10.0.0.1:1", "http://127.0.0.1.example.com", "ftp://127.0.0.1",
		"127.0.0.1:4301", "https://", "https://user:pw@host", "https://host/path", "https://host?x=1", "http://localhost.evil.com", "://"} {
		if _, err := New(Config{Addrs: []string{bad}, CAPin: strings.Repeat("0", 64)}); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	for _, good := range []string{"http://127.0.0.1:4301", "http://[::1]:4301/", "http://localhost:4301", " https://node.example:4301 "} {
		if _, err := New(Config{Addrs: []string{good}, CAPin: strings.Repeat("0", 64)}); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

func TestTLSTrustsTheClusterAlone(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }))
	defer srv.Close()
	srv.Config.ErrorLog = nil
	cert := srv.Certificate()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	pin := crypto.Sum(cert.Raw).String()
	for name, cfg := range map[string]Config{"file": {CAFile: file}, "memory": {CAPEM: ca}, "pin": {CAPin: pin}, "upper-case pin": {CAPin: strings.ToUpper(pin)}} {
		cfg.Addrs = []string{srv.URL}
		c, err := New(cfg)
		if err != nil {
			t.Fatal(name, err)
		}
		if _, err := c.Status(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
	}
	c, err := New(Config{Addrs: []string{srv.URL}, CAPin: strings.Repeat("0", 64), Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "another cluster") {
		t.Errorf("another pin: %v", err)
	}
	for name, cfg := range map[string]Config{"no CA": {}, "no such file": {CAFile: file + "x"}, "no PEM": {CAPEM: []byte("x")}, "bad pin": {CAPin: "xy"}} {
		cfg.Addrs = []string{srv.URL}
		if _, err := New(cfg); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
}

// TestPinnedCertificateMustBeForTheHost: any node's certificate has the right
// CA; only one is for the host that was dialled.
func TestPinnedCertificateMustBeForTheHost(t *testing.T) {
	ca, caKey := makeCert(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	for _, c := range []struct {
		name, host string
		leaf       x509.Certificate
		good       bool
	}{
		{"its IP", "127.0.0.1", x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, true},
		{"another IP", "127.0.0.1", x509.Certificate{IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}}, false},
		{"a name for an IP", "127.0.0.1", x509.Certificate{DNSNames: []string{"localhost"}}, false},
		{"its name", "localhost", x509.Certificate{DNSNames: []string{"localhost"}}, true},
		{"another name", "localhost", x509.Certificate{DNSNames: []string{"node2"}}, false},
		{"an IP for a name", "localhost", x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, false},
	} {
		leaf, key := makeCert(t, &c.leaf, ca, caKey)
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }))
		srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw, ca.Raw}, PrivateKey: key}}}
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		srv.StartTLS()
		api, err := New(Config{Addrs: []string{strings.Replace(srv.URL, "127.0.0.1", c.host, 1)}, CAPin: crypto.Sum(ca.Raw).String(), Attempts: 1})
		if err != nil {
			t.Fatal(err)
		}
		_, err = api.Status(t.Context())
		if e := (*Error)(nil); (err == nil) != c.good || (errors.As(err, &e) && !isCertificateError(e.cause)) {
			t.Errorf("%s: %v", c.name, err)
		}
		api.Close()
		srv.Close()
	}
}

// makeCert signs a certificate, by itself if there is no parent.
func makeCert(t *testing.T, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if parent == nil {
		parent, parentKey = template, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func TestCertificateErrorIsNotRetriedForLong(t *testing.T) {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	other := httptest.NewUnstartedServer(nil)
	defer other.Close()
	unrelated := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	c, err := New(Config{Addrs: []string{strings.Replace(srv.URL, "127.0.0.1", "localhost", 1)}, CAPEM: unrelated})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.CreateToken(t.Context(), TokenRequest{}) // the certificate is not for localhost
	if e := wantCode(t, err, CodeUnavailable); !isCertificateError(e.cause) {
		t.Errorf("%+v", e)
	}
}
