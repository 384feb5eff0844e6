package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// operatorPair writes a certificate for hosts, good for a day from from on,
// and its key, and returns the two files.
func operatorPair(t *testing.T, from time.Time, hosts ...string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: hosts, NotBefore: from, NotAfter: from.Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "api.crt"), filepath.Join(dir, "api.key")
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func TestAPICertificateRefused(t *testing.T) {
	now := time.UnixMilli(1_767_225_600_000)
	good, goodKey := operatorPair(t, now.Add(-time.Hour), "a.example")
	if _, err := loadAPICertificate(good, goodKey, now); err != nil {
		t.Fatal(err)
	}
	_, otherKey := operatorPair(t, now, "a.example")
	old, oldKey := operatorPair(t, now.Add(-48*time.Hour), "a.example")
	early, earlyKey := operatorPair(t, now.Add(time.Hour), "a.example")
	nameless, namelessKey := operatorPair(t, now.Add(-time.Hour))
	shared, sharedKey := operatorPair(t, now.Add(-time.Hour), "a.example")
	if err := os.Chmod(sharedKey, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ cert, key, want string }{
		{good, "", "belong together"}, {"", goodKey, "belong together"},
		{good, otherKey, "does not match"}, {goodKey, good, "EDGECODER_API_CERT"},
		{"/nowhere", goodKey, "--api-cert"}, {good, "/nowhere", "--api-key"},
		{old, oldKey, "expired"}, {early, earlyKey, "begins only"}, {nameless, namelessKey, "names no host"},
		{shared, sharedKey, "chmod 600"},
	} {
		if _, err := loadAPICertificate(tt.cert, tt.key, now); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s with %s: %v, want %q", tt.cert, tt.key, err, tt.want)
		}
		cfg := DefaultConfig()
		cfg.APICert, cfg.APIKey, cfg.Now = tt.cert, tt.key, func() time.Time { return now }
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Validate: %v, want %q", err, tt.want)
		}
	}
}

// TestAPICertificateIsForItsHosts: everybody else is shown the cluster's.
func TestAPICertificateIsForItsHosts(t *testing.T) {
	now := time.UnixMilli(1_767_225_600_000)
	certFile, keyFile := operatorPair(t, now.Add(-time.Hour), "a.example", "*.b.example")
	c := &credentials{}
	cluster := &tls.Certificate{}
	c.face.Store(cluster)
	n := &Node{creds: c, cfg: Config{Now: func() time.Time { return now }}}
	shown := func(host string) bool {
		got, err := c.getAPICertificate(&tls.ClientHelloInfo{ServerName: host})
		if err != nil {
			t.Fatal(err)
		}
		return got != cluster
	}
	if shown("a.example") {
		t.Error("a certificate that nobody gave is shown")
	}
	if err := n.ReloadAPICertificate(certFile, keyFile); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{"a.example": true, "x.b.example": true, "b.example": false, "": false, "c.example": false} {
		if shown(host) != want {
			t.Errorf("%q: shown %v", host, !want)
		}
	}
	if err := n.ReloadAPICertificate(certFile, certFile); err == nil || !shown("a.example") {
		t.Errorf("a bad pair: %v, and the old one is gone", err)
	}
	if err := n.ReloadAPICertificate("", ""); err != nil || shown("a.example") {
		t.Errorf("taken back: %v", err)
	}
}

// TestAPICertificateIsFollowed: whatever renews the files need not signal the server.
func TestAPICertificateIsFollowed(t *testing.T) {
	now := time.UnixMilli(1_767_225_600_000)
	certFile, keyFile := operatorPair(t, now.Add(-time.Hour), "a.example")
	n := &Node{creds: &credentials{}, log: testLog(t), cfg: Config{Now: func() time.Time { return now }}}
	if err := n.ReloadAPICertificate(certFile, keyFile); err != nil {
		t.Fatal(err)
	}
	first := n.creds.apiCert.Load()
	if n.followAPICertificate(""); n.creds.apiCert.Load() != first {
		t.Error("files that did not change were read again")
	}
	freshCert, freshKey := operatorPair(t, now.Add(-time.Minute), "a.example")
	for _, file := range []string{freshCert, freshKey} { // the clock of files may stand still for milliseconds
		if err := os.Chtimes(file, now, now); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(freshCert, certFile); err != nil {
		t.Fatal(err)
	}
	told := n.followAPICertificate("")
	if n.creds.apiCert.Load() != first || told == "" {
		t.Error("half of a pair was taken up, or its refusal is not remembered")
	}
	if err := os.Rename(freshKey, keyFile); err != nil {
		t.Fatal(err)
	}
	if n.followAPICertificate(told); n.creds.apiCert.Load() == first {
		t.Error("a new pair was not taken up")
	}
}
