package client

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
)

// Bounds of a call.
const (
	DefaultTimeout  = 15 * time.Second // of one call, its retries included
	DefaultAttempts = 5
	// maxResponseBytes bounds an answer; a full batch or page stays far below.
	maxResponseBytes = 32 << 20
	maxErrorBytes    = 64 << 10
)

// Config says which cluster to talk to and as whom.
type Config struct {
	Addrs  []string // API URLs of one cluster, such as https://127.0.0.1:4301: tried in turn
	CAFile string   // PEM file of the cluster's CAs, the only ones that are trusted; read again when it changes
	CAPEM  []byte   // the same in memory; wins over CAFile
	CAPin  string   // SHA-256 of the CA certificate in hex, as join and enrolment tokens carry it; used when no CA is given
	Token  string   // API token; sent to https and loopback addresses only

	Timeout  time.Duration // of one call with its retries; 0: DefaultTimeout
	Attempts int           // at most so many tries of one call; 0: DefaultAttempts

	Transport http.RoundTripper // instead of the built-in TLS transport, for tests
}

// Client talks to a cluster. It is safe for concurrent use and stays with the
// address that answered last.
type Client struct {
	addrs    []string
	token    string
	timeout  time.Duration
	attempts int
	http     *http.Client
	current  atomic.Int64 // index of the address that answered last
	sleep    sleeper
}

// New returns a client. It does not connect yet.
func New(cfg Config) (*Client, error) {
	addrs, err := checkAddrs(cfg.Addrs)
	if err != nil {
		return nil, err
	}
	transport := cfg.Transport
	if transport == nil {
		if transport, err = newTransport(cfg, needsTLS(addrs)); err != nil {
			return nil, err
		}
	}
	return &Client{
		addrs: addrs, token: strings.TrimSpace(cfg.Token),
		timeout: cmp.Or(cfg.Timeout, DefaultTimeout), attempts: cmp.Or(cfg.Attempts, DefaultAttempts),
		http: &http.Client{
			Transport: transport,
			// A redirect could carry the token to somebody else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		sleep: sleepContext,
	}, nil
}

// Addrs returns the addresses that the client tries.
func (c *Client) Addrs() []string { return append([]string(nil), c.addrs...) }

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func checkAddrs(addrs []string) ([]string, error) {
	out := make([]string, 0, len(addrs))
	for _, a := range addrs {
		a = strings.TrimRight(strings.TrimSpace(a), "/")
		if a == "" {
			continue
		}
		if err := checkAddr(a); err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	if len(out) == 0 {
		return nil, errors.New("no API address: give one such as https://127.0.0.1:4301 (--addr or EDGECODER_ADDR)")
	}
	return out, nil
}

// checkAddr refuses plain HTTP to anything but this machine: tokens travel in
// headers and in bodies.
func checkAddr(addr string) error {
	u, err := url.Parse(addr)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Path != "" {
		return fmt.Errorf("API address %q: want https://host:port", addr)
	}
	if u.Scheme == "https" || (u.Scheme == "http" && isLoopback(u.Hostname())) {
		return nil
	}
	return fmt.Errorf("API address %q: only https, or http to a loopback address, so that tokens never travel in the clear", addr)
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}

func needsTLS(addrs []string) bool {
	for _, a := range addrs {
		if strings.HasPrefix(a, "https:") {
			return true
		}
	}
	return false
}

// NewClaimID returns a fresh claim id or idempotency key.
func NewClaimID() string {
	id, err := crypto.NewUUID(rand.Reader)
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return id
}
