package client

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestCAFileIsFollowed: a client that runs on trusts what its CA file holds now,
// and what it held before while the new one is unreadable.
func TestCAFileIsFollowed(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(srv.Close)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	good := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	stranger, _ := makeCert(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true}, nil, nil)
	other := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: stranger.Raw})
	path := filepath.Join(t.TempDir(), "ca.pem")
	at := time.UnixMilli(1_767_225_600_000)
	write := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		at = at.Add(time.Minute)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	write(other)
	f, err := newFollowed(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	f.now = func() time.Time { return now }
	c := &http.Client{Transport: f}
	reaches := func() bool {
		now = now.Add(caFileLook)
		resp, err := c.Get(srv.URL)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil
	}
	if reaches() {
		t.Fatal("a server of another CA is trusted")
	}
	write(append(other, good...))
	if !reaches() {
		t.Error("the new file is not followed")
	}
	write([]byte("half written"))
	if !reaches() {
		t.Error("a file without a certificate ended the trust of before")
	}
	if err := os.Remove(path); err != nil || !reaches() {
		t.Errorf("a missing file ended it: %v", err)
	}
	write(other)
	if reaches() {
		t.Error("a CA that is in the file no more is trusted on a new connection")
	}
	c.CloseIdleConnections()
}
