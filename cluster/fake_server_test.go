package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// The test binary is its own server: started as "server …" it behaves like
// one, as far as a cluster can tell.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "version" {
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == "server" {
		if err := serveFake(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "fake:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// How the fake misbehaves, by variables that name a node.
const (
	fakeFails    = "FAKE_FAILS"    // ends at once
	fakeStubborn = "FAKE_STUBBORN" // ignores SIGTERM
)

type fake struct {
	name, dataDir, dir, api, tokenOut, join *string
	bootstrap                               *bool
}

func serveFake(args []string) error {
	fs := flag.NewFlagSet("server", flag.ContinueOnError)
	f := fake{
		name: fs.String("name", "", ""), dataDir: fs.String("data-dir", "", ""), api: fs.String("api-addr", "", ""),
		tokenOut: fs.String("admin-token-out", "", ""), join: fs.String("join", "", ""), bootstrap: fs.Bool("bootstrap", false, ""),
	}
	fs.String("raft-addr", "", "")
	fs.String("gossip-addr", "", "")
	passphrase := fs.String("passphrase-file", "", "")
	if err := fs.Parse(args); err != nil {
		return err
	}
	dir := filepath.Dir(filepath.Dir(*f.dataDir))
	f.dir = &dir
	if os.Getenv(fakeFails) == *f.name {
		return errors.New("the disk is on fire")
	}
	if os.Getenv(fakeStubborn) == *f.name {
		signal.Ignore(syscall.SIGTERM)
	}
	if text, err := os.ReadFile(*passphrase); err != nil || len(text) < 8 {
		return fmt.Errorf("passphrase: %v", err)
	}
	if err := f.obtain(); err != nil {
		return err
	}
	return f.serve()
}

// obtain bootstraps or joins, unless the data directory did before.
func (f fake) obtain() error {
	id := filepath.Join(*f.dataDir, "id")
	if _, err := os.Stat(id); err == nil {
		return nil
	}
	switch {
	case *f.bootstrap:
		if err := makeCA(*f.dir); err != nil {
			return err
		}
		if err := os.WriteFile(*f.tokenOut, []byte("fake-admin\n"), 0o600); err != nil {
			return err
		}
	case *f.join == "" || !strings.HasPrefix(os.Getenv("EDGECODER_JOIN_TOKEN"), "fake-join"):
		return errors.New("empty data directory, and neither --bootstrap nor --join with a token")
	}
	if err := os.WriteFile(filepath.Join(*f.dir, "voter-"+*f.name), nil, 0o600); err != nil {
		return err
	}
	return os.WriteFile(id, nil, 0o600)
}

func (f fake) serve() error {
	pair, err := tls.LoadX509KeyPair(filepath.Join(*f.dir, "fake-ca.pem"), filepath.Join(*f.dir, "fake-ca.key"))
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(filepath.Join(*f.dir, "fake-ca.pem"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(*f.dataDir, "ca.pem"), ca, 0o600); err != nil {
		return err
	}
	l, err := net.Listen("tcp", *f.api)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v1/status", f.status)
	mux.HandleFunc("POST /v1/tokens", func(w http.ResponseWriter, r *http.Request) {
		var req client.TokenRequest
		_ = json.NewDecoder(r.Body).Decode(&req)
		text := "fake-" + req.Role
		if req.Role == "coordinator" {
			text = "fake-join"
		}
		_ = json.NewEncoder(w).Encode(client.Token{ID: "t", Token: text, Role: req.Role})
	})
	done := make(chan os.Signal, 1)
	if os.Getenv(fakeStubborn) != *f.name {
		signal.Notify(done, syscall.SIGTERM)
	}
	go func() {
		_ = http.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}), mux)
	}()
	<-done
	return nil
}

// status counts who joined, and lets the first node lead.
func (f fake) status(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer fake-admin" {
		http.Error(w, "who are you", http.StatusUnauthorized)
		return
	}
	s := client.Status{ClusterID: "fake-cluster", State: "follower", Leader: &client.Leader{Name: "node1"}, Term: 1, AppliedIndex: 7, Digest: "d", DigestIndex: 5}
	if *f.name == "node1" {
		s.State = "leader"
	}
	joined, _ := filepath.Glob(filepath.Join(*f.dir, "voter-*"))
	for _, path := range joined {
		s.Voters = append(s.Voters, client.Server{Name: strings.TrimPrefix(filepath.Base(path), "voter-")})
	}
	_ = json.NewEncoder(w).Encode(s)
}

// makeCA writes one self-signed certificate that is CA and server in one.
func makeCA(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fake"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "fake-ca.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600),
		os.WriteFile(filepath.Join(dir, "fake-ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
	)
}
