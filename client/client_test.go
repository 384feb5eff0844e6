package client

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
