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

	level      uint32 // tests: the feature level that this binary says it knows
	disk       diskHooks
	network    network                       // simulations: in memory; nil: the machine's
	iterations int                           // tests: cost of a new key file; 0: the default
	oftenSnap  bool                          // tests: snapshots after few entries
	executable func() (io.ReadCloser, error) // tests: what this binary is
	step       func(name string)             // tests: called at each step of a restore
	silence    func() time.Duration          // tests: how much longer ago than it was every node was last heard
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
	// minLease leaves a round of checkpoints a second, whose time is counted in seconds.
	minLease = 3 * time.Second
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
	if c.Timing.Lease < minLease {
		bad("checkpoint lease %s: below %s coordinators would do little but cosign", c.Timing.Lease, minLease)
	}
	if t := c.Timing; t.LeaderLease > t.Silence || t.Silence > t.Heartbeat {
		bad("leader lease %s, silence %s, heartbeat %s: none may exceed the next, or a deposed leader could think it leads", t.LeaderLease, t.Silence, t.Heartbeat)
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
