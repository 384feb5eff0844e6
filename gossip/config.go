package gossip

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"
)

// Profile names a set of timings; single knobs are not offered.
type Profile string

const (
	ProfileLAN   Profile = "lan"   // one site; the default
	ProfileWAN   Profile = "wan"   // members far apart: slower to suspect
	ProfileLocal Profile = "local" // one machine: tests
)

// Config is what Start needs. It is not changed after Start.
type Config struct {
	ClusterID     string          // memberlist label = "ec-" + ClusterID
	Card          Card            // already signed; Card.NodeID is the memberlist name
	BindAddr      string          // host:port, TCP and UDP; port 0 takes any that is free for both
	AdvertiseAddr string          // optional host:port
	PoolKeys      [][]byte        // first is primary, KeyBytes each; required
	Seeds         func() []string // host:port list, asked at every rejoin
	RejoinEvery   time.Duration   // default 30 s
	Profile       Profile         // default ProfileLAN

	// OnStream gets each TLS stream (first byte 0x16) that reaches the gossip TCP port, with no byte missing. It runs on a goroutine
	// of its own and owns the connection, also after it returned; how many it holds is for it to bound. Shutdown closes the
	// connections of calls still running. nil: streams are closed.
	OnStream func(net.Conn)

	// MemberAt tells whether a member is at an address (limit.HolderOf): what comes from there waits apart from what strangers hold
	// open. It is called from many goroutines and must not block. nil: nobody is.
	MemberAt func(netip.Addr) bool

	// Trust, OnNews and OnHead are called from one goroutine, with no lock held; they may call any method of Pool except Join, Leave and
	// Shutdown. While one of them dawdles, news are dropped and counted.

	// Trust is asked for each new or changed card, and for every live member again at each rejoin round and Recheck. nil trusts every
	// well-signed card.
	Trust func(Card) bool

	// OnNews gets each message once. from is whom the message names as its origin: a trusted member, but only the pool key vouches for the
	// claim, so judge the payload by its own signature. true: it was new and good, pass it on.
	OnNews func(from string, payload []byte) bool

	// OnHead gets the heads of other members. true: accepted, kept in Member.Head and passed on.
	OnHead func(from string, head []byte) bool

	Sockets   *Sockets             // optional: ready-made sockets, for simulations; BindAddr is then not used
	Transport memberlist.Transport // optional: replaces our transport altogether; OnStream is then never called

	Now func() time.Time // default time.Now
	Log *slog.Logger     // default: discard
}

// withDefaults returns a copy with every optional field filled in.
func (c Config) withDefaults() Config {
	if c.RejoinEvery == 0 {
		c.RejoinEvery = defaultRejoin
	}
	if c.Profile == "" {
		c.Profile = ProfileLAN
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Seeds == nil {
		c.Seeds = func() []string { return nil }
	}
	if c.MemberAt == nil {
		c.MemberAt = func(netip.Addr) bool { return false }
	}
	if c.Trust == nil {
		c.Trust = func(Card) bool { return true }
	}
	if c.OnNews == nil {
		c.OnNews = func(string, []byte) bool { return false }
	}
	if c.OnHead == nil {
		c.OnHead = func(string, []byte) bool { return false }
	}
	return c
}

// Validate reports all faults together.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("gossip: "+format, args...)) }

	if c.ClusterID == "" || len(c.ClusterID) > MaxClusterID || !utf8.ValidString(c.ClusterID) {
		fault("ClusterID must be 1 to %d bytes of UTF-8", MaxClusterID)
	}
	if c.Card.ClusterID != c.ClusterID {
		fault("Card is signed for cluster %q, not %q", c.Card.ClusterID, c.ClusterID)
	}
	if _, err := c.Card.Encode(); err != nil {
		fault("Card: %w", err)
	} else if !c.Card.Verify() {
		fault("Card: signature does not verify")
	}
	if len(c.PoolKeys) == 0 || len(c.PoolKeys) > maxKeys {
		fault("PoolKeys must hold 1 to %d keys", maxKeys)
	}
	for i, k := range c.PoolKeys {
		if len(k) != KeyBytes {
			fault("PoolKeys[%d] has %d bytes, not %d", i, len(k), KeyBytes)
		}
	}
	if c.Transport != nil && c.Sockets != nil {
		fault("Transport and Sockets exclude each other")
	}
	if c.Transport == nil && c.Sockets == nil {
		if _, _, err := net.SplitHostPort(c.BindAddr); err != nil {
			fault("BindAddr: %w", err)
		}
	}
	if c.AdvertiseAddr != "" {
		if _, _, err := net.SplitHostPort(c.AdvertiseAddr); err != nil {
			fault("AdvertiseAddr: %w", err)
		}
	}
	if c.RejoinEvery < 0 {
		fault("RejoinEvery must not be negative")
	}
	switch c.Profile {
	case "", ProfileLAN, ProfileWAN, ProfileLocal:
	default:
		fault("unknown Profile %q", c.Profile)
	}
	return errors.Join(faults...)
}

// timings returns memberlist's settings for a profile.
//
// Against memberlist's own defaults: RetransmitMult is higher, because with 4 the last of five members misses about one message in
// two hundred; push/pull is more frequent, because it repairs heads; on one site news go out twice as often and to four members instead of three, so that they
// reach a thousand in well under a second, at no more bytes: each member sends each message equally often; compression is off, because what we send is mostly signatures.
func (p Profile) timings() *memberlist.Config {
	var mc *memberlist.Config
	switch p {
	case ProfileWAN:
		mc = memberlist.DefaultWANConfig()
		mc.TCPTimeout = 15 * time.Second
		mc.PushPullInterval = 30 * time.Second
	case ProfileLocal:
		mc = memberlist.DefaultLocalConfig()
		mc.ProbeInterval = 500 * time.Millisecond
		mc.ProbeTimeout = 250 * time.Millisecond
		mc.SuspicionMult = 4
		mc.GossipInterval = 20 * time.Millisecond
		mc.PushPullInterval = time.Second
		mc.TCPTimeout = 2 * time.Second
		mc.IndirectChecks = 2
	default:
		mc = memberlist.DefaultLANConfig()
		mc.GossipInterval = 100 * time.Millisecond
		mc.GossipNodes = 4
		mc.TCPTimeout = 5 * time.Second
		mc.PushPullInterval = 15 * time.Second
	}
	mc.RetransmitMult = 6
	mc.EnableCompression = false
	mc.UDPBufferSize = udpBufferSize
	mc.DeadNodeReclaimTime = deadReclaim
	mc.GossipVerifyIncoming = true
	mc.GossipVerifyOutgoing = true
	mc.SkipInboundLabelCheck = false
	return mc
}

// label is the memberlist label of a cluster: packets and streams of another are dropped unread, and it is authenticated.
func label(clusterID string) string { return "ec-" + clusterID }
