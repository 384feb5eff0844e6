// Package node assembles a coordinator: keys, TLS, raft and its stores,
// gossip, the admission path, leader duties, join, and the API in front.
package node

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/store"
)

// Config is what an operator decides about one coordinator.
type Config struct {
	DataDir    string // everything the node keeps; remembers its ids
	Name       string // label of the node, unique in the cluster
	APIAddr    string // host:port of the HTTPS API
	GossipAddr string // host:port, TCP and UDP
	RaftAddr   string // host:port of raft and forwarding; empty: shares APIAddr by ALPN

	// APICert and APIKey are PEM files of a certificate that the API shows to
	// clients who name one of its hosts; empty: the cluster's own for everybody.
	APICert, APIKey string
	// TrustedProxies may say on whose behalf they ask (X-Forwarded-For).
	TrustedProxies []netip.Prefix

	Bootstrap bool     // start a new cluster if DataDir is empty
	Join      []string // gossip addresses of live members: asked if DataDir is empty, seeds of gossip ever after
	JoinToken string   // text of a coordinator or observer token

	BackupDir   string        // where scheduled backups go
	BackupEvery time.Duration // between two of them; 0: none
	BackupKeep  int           // how many of them stay

	DiskReserve int64 // bytes kept in DataDir for what must be written on a full disk; 0: none

	RequireManifest string // name of a manifest that must have accepted this binary before it joins and serves; empty: none

	Passphrase []byte // of the key file in DataDir
	Version    string // of the binary, shown in status
	Timing     Timing
	Log        *slog.Logger
	Now        func() time.Time // wall clock; nil: time.Now
	Exit       func(code int)   // ends the process when the leader's disk hangs; nil: os.Exit

	disk       diskHooks
	executable func() (io.ReadCloser, error) // tests: what this binary is
	step       func(name string)             // tests: called at each step of a restore
}

// Timing is a profile of timeouts; fields are not tuned one by one.
type Timing struct {
	Heartbeat   time.Duration // raft: follower waits this long for the leader
	Election    time.Duration // raft: candidate waits this long for votes
	LeaderLease time.Duration // raft: leader steps down after this long without a quorum
	Commit      time.Duration // raft: idle append interval
	Request     time.Duration // longest a write or admission waits for its decision
	NoLeader    time.Duration // longest a request waits for a leader to appear
	Tick        time.Duration // leader's clock tick when idle
	Mark        time.Duration // digest mark
	Ping        time.Duration // clock and health exchange between coordinators
	Stall       time.Duration // a write of raft that takes longer hangs: a leader ends, others are not ready
}

// LocalTiming suits nodes on one machine or one network.
func LocalTiming() Timing {
	return Timing{
		Heartbeat: time.Second, Election: time.Second, LeaderLease: time.Second, Commit: 50 * time.Millisecond,
		Request: 3 * time.Second, NoLeader: time.Second,
		Tick: time.Second, Mark: 5 * time.Second, Ping: time.Second,
		Stall: 1500 * time.Millisecond,
	}
}

// DefaultConfig returns loopback addresses and the local profile.
func DefaultConfig() Config {
	return Config{
		APIAddr: "127.0.0.1:4301", GossipAddr: "127.0.0.1:4401",
		DiskReserve: store.DefaultReserve, BackupKeep: 7,
		Timing: LocalTiming(), Log: slog.Default(), Version: "dev",
	}
}

// minPassphrase is a floor against typing mistakes, not a measure of strength.
const minPassphrase = 8

// maxTrustedProxies bounds what every request is held against.
const maxTrustedProxies = 256

// widestProxies is the shortest prefix that trusted proxies may have: that of the
// largest private networks (RFC 1918, RFC 4193). What is wider is the Internet.
func widestProxies(p netip.Prefix) int {
	if p.Addr().Is4() {
		return 8
	}
	return 7
}

const (
	// maxDiskReserve is far more than anybody needs: a slip of the unit.
	maxDiskReserve = 1 << 40
	// minStall is what a disk under load takes now and then.
	minStall = 500 * time.Millisecond
)

// Setting spells the three names under which an operator gives a setting: its
// flag, its member in the file, its variable.
func Setting(flag string) string {
	name := strings.ReplaceAll(flag, "-", "_")
	return "--" + flag + " (" + name + ", EDGECODER_" + strings.ToUpper(name) + ")"
}

// Validate reports all faults of the configuration together.
func (c Config) Validate() error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.DataDir == "" {
		bad("%s is empty: name a directory for this node's state", Setting("data-dir"))
	}
	if err := crypto.CheckID(c.Name); err != nil {
		bad("%s %q: %w", Setting("name"), c.Name, err)
	}
	for _, a := range []struct{ flag, addr string }{{"api-addr", c.APIAddr}, {"gossip-addr", c.GossipAddr}, {"raft-addr", c.RaftAddr}} {
		if a.addr == "" && a.flag == "raft-addr" {
			continue
		}
		if host, port, err := net.SplitHostPort(a.addr); err != nil || host == "" || port == "" {
			bad("%s %q: want host:port, such as 127.0.0.1:4301", Setting(a.flag), a.addr)
		}
	}
	if c.APICert != "" || c.APIKey != "" {
		if _, err := loadAPICertificate(c.APICert, c.APIKey, c.now()); err != nil {
			faults = append(faults, err)
		}
	}
	if len(c.TrustedProxies) > maxTrustedProxies {
		bad("%s: %d networks, at most %d", Setting("trusted-proxies"), len(c.TrustedProxies), maxTrustedProxies)
	}
	for _, p := range c.TrustedProxies {
		switch {
		case !p.IsValid() || p != p.Masked():
			bad("%s %s: want the network itself, such as %s", Setting("trusted-proxies"), p, p.Masked())
		case p.Bits() < widestProxies(p):
			bad("%s %s: whoever is in it may ask in anybody's name; name the proxies themselves, or a network of /%d at the widest", Setting("trusted-proxies"), p, widestProxies(p))
		}
	}
	if len(c.Passphrase) < minPassphrase {
		bad("the passphrase of the key file has %d bytes, at least %d: give %s, EDGECODER_PASSPHRASE or the systemd credential \"passphrase\"", len(c.Passphrase), minPassphrase, Setting("passphrase-file"))
	}
	if c.DiskReserve < 0 || c.DiskReserve > maxDiskReserve {
		bad("%s of %d bytes: want 0 (none) to %d", Setting("disk-reserve"), c.DiskReserve, maxDiskReserve)
	}
	if c.BackupEvery < 0 || c.BackupEvery > 0 && c.BackupDir == "" {
		bad("%s %s: name a directory with %s, and a time above nothing", Setting("backup-every"), c.BackupEvery, Setting("backup-dir"))
	}
	if c.BackupDir != "" && c.BackupEvery > 0 && c.BackupKeep < 1 {
		bad("%s %d: want 1 or more", Setting("backup-keep"), c.BackupKeep)
	}
	if err := crypto.CheckID(c.RequireManifest); c.RequireManifest != "" && err != nil {
		bad("%s %q: %w", Setting("require-manifest"), c.RequireManifest, err)
	}
	if c.Timing.Stall < minStall {
		bad("stall limit %s: below %s a sound disk would be taken for a hung one", c.Timing.Stall, minStall)
	}
	if c.Timing.LeaderLease > c.Timing.Heartbeat {
		bad("leader lease %s exceeds heartbeat %s: a deposed leader could think it leads", c.Timing.LeaderLease, c.Timing.Heartbeat)
	}
	return errors.Join(faults...)
}

// now returns the wall clock's time.
func (c Config) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// raftAddr is where raft and forwarding are reached.
func (c Config) raftAddr() string {
	if c.RaftAddr != "" {
		return c.RaftAddr
	}
	return c.APIAddr
}
