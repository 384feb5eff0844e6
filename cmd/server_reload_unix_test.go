//go:build unix

package cmd

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/cluster"
	"github.com/edgecoder/edgecoder/node"
)

// lockedBuffer takes what a server writes while a test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// writePair writes a self-signed certificate for host and its key.
func writePair(t *testing.T, dir, host string, until time.Time) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: serial, DNSNames: []string{host}, NotBefore: until.Add(-48 * time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "api.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	writeFile(t, filepath.Join(dir, "api.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func writeFile(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// service is a server that runs as systemd would run it.
type service struct {
	t        *testing.T
	dir, api string
	states   *net.UnixConn
	errOut   lockedBuffer
	ended    chan int
	cancel   context.CancelFunc
}

func startService(t *testing.T, settings string) *service {
	t.Helper()
	cleanEnv(t)
	ports, err := cluster.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ports.Release)
	s := &service{t: t, dir: t.TempDir(), api: ports.API(0), ended: make(chan int, 1)}
	socket := filepath.Join(s.dir, "notify")
	if s.states, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.states.Close() })
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("EDGECODER_PASSPHRASE", "long enough for a test")
	s.settings(settings)
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	p := &program{in: strings.NewReader(""), out: &lockedBuffer{}, err: &s.errOut, now: time.Now, rand: rand.Reader, self: programName}
	args := []string{"server", "--config", filepath.Join(s.dir, "c.yaml"), "--data-dir", filepath.Join(s.dir, "data"), "--name", "n", "--bootstrap",
		"--api-addr", s.api, "--gossip-addr", ports.Gossip(0)}
	go func() { s.ended <- p.run(ctx, args) }()
	t.Cleanup(func() { s.cancel(); <-s.ended })
	s.wait("READY=1")
	return s
}

// settings writes the file anew; %DIR% stands for its directory.
func (s *service) settings(text string) {
	s.t.Helper()
	writeFile(s.t, filepath.Join(s.dir, "c.yaml"), []byte(strings.ReplaceAll(text, "%DIR%", s.dir)))
}

// wait returns once systemd was told of a state.
func (s *service) wait(state string) {
	s.t.Helper()
	if err := s.states.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		s.t.Fatal(err)
	}
	for b := make([]byte, 1024); ; {
		n, err := s.states.Read(b)
		if err != nil {
			s.t.Fatalf("%s did not come: %v\n%s", state, err, s.errOut.String())
		}
		if first, _, _ := strings.Cut(string(b[:n]), "\n"); first == state {
			return
		}
	}
}

// hangUp sends the signal and returns what the log said of it.
func (s *service) hangUp() string {
	s.t.Helper()
	before := len(s.errOut.String())
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil { // the server watches by now: it is ready
		s.t.Fatal(err)
	}
	s.wait("RELOADING=1")
	s.wait("READY=1")
	return s.errOut.String()[before:]
}

// shown is the certificate that a client who names host is shown.
func (s *service) shown(host string) *x509.Certificate {
	s.t.Helper()
	conn, err := tls.Dial("tcp", s.api, &tls.Config{ServerName: host, InsecureSkipVerify: true}) // the question is which it is
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

const testHost = "api.example.test"

// TestServerReloadsOnHangup runs a real server: SIGHUP swaps certificate and
// log level, names what waits for a restart, and refuses a bad pair.
func TestServerReloadsOnHangup(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a real server: run without -short, as make test and CI do")
	}
	s := startService(t, "log_level: info\n")
	if !slices.Equal(s.shown(testHost).DNSNames, s.shown("").DNSNames) {
		t.Error("without a certificate of one's own everybody is shown the cluster's")
	}
	first := writePair(t, s.dir, testHost, time.Now().Add(24*time.Hour))
	const withCert = "api_cert: '%DIR%/api.crt'\napi_key: '%DIR%/api.key'\n"
	s.settings(withCert + "log_level: debug\nbackup_keep: 3\n")
	log := s.hangUp()
	if !s.shown(testHost).Equal(first) || s.shown("").Equal(first) || s.shown("other.example.test").Equal(first) {
		t.Error("the certificate of one's own is for those who name its host, and them alone")
	}
	if !strings.Contains(log, "settings=[backup_keep]") || !strings.Contains(log, "log_level=DEBUG") {
		t.Errorf("log: %s", log)
	}
	second := writePair(t, s.dir, testHost, time.Now().Add(24*time.Hour))
	s.hangUp()
	if !s.shown(testHost).Equal(second) {
		t.Error("the renewed certificate is not shown")
	}
	s.settings(withCert + "log_level: loud\n")
	writePair(t, s.dir, testHost, time.Now().Add(-time.Hour))
	log = s.hangUp()
	if !s.shown(testHost).Equal(second) || !strings.Contains(log, "expired") || !strings.Contains(log, "log_level=DEBUG") {
		t.Errorf("what was bad was not refused: %s", log)
	}
	s.settings("nmae: n\n")
	if log = s.hangUp(); !strings.Contains(log, "nmae") || strings.Contains(log, "wait for a restart") {
		t.Errorf("log: %s", log)
	}
	s.cancel()
	s.wait("STOPPING=1")
}

// fakeCertificates remembers what it is told.
type fakeCertificates struct {
	cert, key string
	err       error
}

func (f *fakeCertificates) ReloadAPICertificate(cert, key string) error {
	f.cert, f.key = cert, key
	return f.err
}

func TestReloadKeepsWhatWasRefused(t *testing.T) {
	var out strings.Builder
	level := new(slog.LevelVar)
	now := defaultSettings()
	var readErr error
	r := &reloader{read: func() (serverSettings, error) { return now, readErr }, level: level, log: slog.New(slog.NewTextHandler(&out, nil)), running: now}
	f := &fakeCertificates{}
	now.LogLevel, now.APICert, now.APIKey = "error", "c", "k"
	r.reload(f)
	if level.Level() != slog.LevelError || f.cert != "c" || f.key != "k" || strings.Contains(out.String(), "restart") {
		t.Fatalf("%s, %+v, %s", level.Level(), f, out.String())
	}
	out.Reset()
	now.APICert, now.Name, now.Join = "other", "m", seedList{"a:1"}
	f.err = errors.New("no such pair")
	r.reload(f)
	if !strings.Contains(out.String(), "no such pair") || !strings.Contains(out.String(), `settings="[name join]"`) || r.running.APICert != "c" {
		t.Errorf("%s, %+v", out.String(), r.running)
	}
	readErr = errors.New("gone")
	r.reload(f)
	if f.cert != "c" { // the files of before, which may have been renewed
		t.Errorf("%+v", f)
	}
	if cfg := r.again(node.Config{APICert: "of the first start", Name: "n"}); cfg.APICert != "c" || cfg.APIKey != "k" || cfg.Name != "n" {
		t.Errorf("a start anew would take %+v", cfg)
	}
}

func TestNotifyWithoutSystemdIsSilent(t *testing.T) {
	var errOut strings.Builder
	p := &program{err: &errOut}
	t.Setenv("NOTIFY_SOCKET", "")
	p.tellSystemd("READY=1")
	if errOut.Len() != 0 {
		t.Error(errOut.String())
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	p.tellSystemd("READY=1")
	if !strings.Contains(errOut.String(), "READY=1") {
		t.Error("that nobody listens should be told")
	}
}
