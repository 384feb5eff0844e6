package gossip

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
)

func testKey(seed byte) crypto.PrivateKey {
	return crypto.PrivateKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32)))
}

func testCard(t testing.TB, id string, seed byte, issuedMs int64) Card {
	t.Helper()
	return recoveredTestCard(t, id, seed, issuedMs, "")
}

func recoveredTestCard(t testing.TB, id string, seed byte, issuedMs int64, recovery string) Card {
	t.Helper()
	c := Card{NodeID: id, Name: id, Role: "edge", API: "api:1", Raft: "raft:2", Gossip: "gossip:3", IssuedMs: issuedMs, Recovery: recovery, ClusterID: "c"}
	if err := c.Sign(testKey(seed)); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCardGolden forbids a change of the encoding or of what is signed. The first is what servers of version 1 send and read.
func TestCardGolden(t *testing.T) {
	for recovery, want := range map[string]string{
		"":                 "8a01666e6f64652d31666e6f64652d316465646765656170693a3166726166743a3268676f737369703a3358208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c1b0000018bcfe5680058400fd3f437ec3514b51ac1cf19d54f4490f9a24457c649a613488a80a716d31c23f5ed57a2f25c8ac63f450d01b778c3f38d583fae81edc6be1bd34b7eee9ca30d",
		"0123456789abcdef": "8b02666e6f64652d31666e6f64652d316465646765656170693a3166726166743a3268676f737369703a3358208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c1b0000018bcfe56800703031323334353637383961626364656658401665d67a7854b40a24820c93eec791b5e878c6ca1858892d6b7c9e21571b054273df2691d57cc4d0e2fdac5505c5c4714993b40f524f77bca7d589432394e103",
	} {
		c := recoveredTestCard(t, "node-1", 1, 1700000000000, recovery)
		b, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", b); got != want {
			t.Errorf("recovery %q: encoded as\n%s, not\n%s", recovery, got, want)
		}
		golden, err := hex.DecodeString(want)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseCard("c", golden); err != nil || !back.equal(&c) || !back.Verify() {
			t.Errorf("recovery %q: read as %+v, %v", recovery, back, err)
		}
	}
}

func TestCardRoundTripAndFlips(t *testing.T) {
	for _, recovery := range []string{"", "00ff"} {
		c := recoveredTestCard(t, "node-1", 1, 5, recovery)
		b, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseCard("c", b)
		if err != nil || !back.equal(&c) || !back.Verify() {
			t.Fatalf("%+v, %v", back, err)
		}
		if other, err := ParseCard("d", b); err != nil || other.Verify() {
			t.Errorf("verifies in another cluster (%v)", err)
		}
		for i := range len(b) * 8 {
			f := bytes.Clone(b)
			f[i/8] ^= 1 << (i % 8)
			if c, err := ParseCard("c", f); err == nil && c.Verify() {
				t.Errorf("verifies with bit %d flipped", i)
			}
		}
		for i := range b {
			if _, err := ParseCard("c", b[:i]); !errors.Is(err, ErrCard) {
				t.Errorf("cut at %d: %v", i, err)
			}
		}
		if _, err := ParseCard("c", append(bytes.Clone(b), 0)); !errors.Is(err, ErrCard) {
			t.Errorf("with a byte more: %v", err)
		}
		// The same card, not in shortest form: the version as two bytes.
		long := append([]byte{b[0], 0x18, b[1]}, b[2:]...)
		if _, err := ParseCard("c", long); !errors.Is(err, ErrCard) {
			t.Errorf("second spelling: %v", err)
		}
	}
}

// A card has the version that its contents call for: there is no second way to say the same.
func TestCardVersionsDoNotMix(t *testing.T) {
	plain, recovered := testCard(t, "node-1", 1, 5), recoveredTestCard(t, "node-1", 1, 5, "00ff")
	stripped, claimed := recovered, plain
	stripped.Recovery, claimed.Recovery = "", "00ff"
	if stripped.Verify() || claimed.Verify() {
		t.Error("the recovery can be taken away or put in")
	}
	for version, recovery := range map[uint64]string{0: "00ff", 1: "00ff", 2: "", 3: "00ff"} {
		w := recovered.wire().(cardWire)
		w.Version, w.Recovery = version, recovery
		b, err := encMode.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseCard("c", b); !errors.Is(err, ErrCard) {
			t.Errorf("version %d with the recovery %q: %v", version, recovery, err)
		}
	}
	for _, version := range []uint64{0, 2} {
		w := plain.wire().(plainWire)
		w.Version = version
		b, err := encMode.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseCard("c", b); !errors.Is(err, ErrCard) {
			t.Errorf("version %d without a place for a recovery: %v", version, err)
		}
	}
}

func TestCardBounds(t *testing.T) {
	for name, change := range map[string]func(*Card){
		"no id":         func(c *Card) { c.NodeID = "" },
		"long id":       func(c *Card) { c.NodeID = strings.Repeat("x", 129) },
		"control in id": func(c *Card) { c.NodeID = "a\nb" },
		"long name":     func(c *Card) { c.Name = strings.Repeat("x", 65) },
		"bad name":      func(c *Card) { c.Name = "\xff" },
		"no role":       func(c *Card) { c.Role = "" },
		"loud role":     func(c *Card) { c.Role = "EDGE" },
		"long address":  func(c *Card) { c.API = strings.Repeat("x", 129) },
		"space":         func(c *Card) { c.Raft = "a b" },
		"negative time": func(c *Card) { c.IssuedMs = -1 },
		"far time":      func(c *Card) { c.IssuedMs = 1 << 53 },
		"no cluster":    func(c *Card) { c.ClusterID = "" },
		"too large": func(c *Card) {
			c.API, c.Raft, c.Gossip = strings.Repeat("x", 128), strings.Repeat("x", 128), strings.Repeat("x", 128)
		},
	} {
		c := testCard(t, "a", 1, 1)
		change(&c)
		if err := c.Sign(testKey(1)); !errors.Is(err, ErrCard) || c.Signature != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLimitsFitOneDatagram does memberlist's sum: what does not fit is skipped for ever, in silence.
func TestLimitsFitOneDatagram(t *testing.T) {
	const sealed, compound, perMessage, userByte, checksum = sealOverhead, 2, 2, 1, 5
	labelBytes := 2 + len(label(strings.Repeat("c", MaxClusterID)))
	avail := udpBufferSize - compound - labelBytes - sealed
	for kind, size := range map[uint64]int{kindNews: MaxNews, kindHead: MaxHead, kindReport: MaxHead} {
		m := message{Kind: kind, From: strings.Repeat("i", 128), AtMs: 1<<53 - 1, Body: make([]byte, size)}
		b, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		if need := len(b) + perMessage + userByte; need > avail {
			t.Errorf("kind %d needs %d of %d bytes", kind, need, avail)
		}
	}
	if udpBufferSize+checksum+labelBytes+sealed > maxPacket {
		t.Error("our own packets would be dropped as too large")
	}
}

func TestSeen(t *testing.T) {
	now := time.Unix(0, 0)
	s := newSeen(10, time.Minute, now)
	id := func(i int) crypto.Hash { return crypto.Sum([]byte{byte(i)}) }
	if !s.add(id(0), now) || s.add(id(0), now) {
		t.Fatal("new, then known")
	}
	if s.add(id(0), now.Add(time.Minute)) {
		t.Error("forgotten after one generation")
	}
	if !s.add(id(0), now.Add(3*time.Minute)) {
		t.Error("remembered for ever")
	}
	for i := range 200 {
		s.add(id(i), now.Add(3*time.Minute))
		if n := len(s.young) + len(s.old); n > 20 {
			t.Fatalf("%d ids kept", n)
		}
	}
}

func TestMessageIDs(t *testing.T) {
	news := func(from, body string, at int64) *message {
		return &message{Kind: kindNews, From: from, AtMs: at, Body: []byte(body)}
	}
	if news("a", "x", 1).id() != news("b", "x", 2).id() || news("a", "x", 1).id() != crypto.Sum([]byte("x")) {
		t.Error("news are not known by their payload")
	}
	head := func(from string, at int64) *message {
		return &message{Kind: kindHead, From: from, AtMs: at, Body: []byte("x")}
	}
	if head("a", 1).id() != head("a", 2).id() || head("a", 1).id() == head("b", 1).id() {
		t.Error("a head belongs to its owner, whenever said")
	}
}

func FuzzParseCard(f *testing.F) {
	c := testCard(f, "node-1", 1, 5)
	b, _ := c.Encode()
	f.Add(b)
	c = recoveredTestCard(f, "node-1", 1, 5, "00ff")
	b, _ = c.Encode()
	f.Add(b)
	f.Add([]byte{0x8a})
	f.Add([]byte{0x8b})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCard("c", b)
		if err != nil {
			return
		}
		again, err := c.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("parse then print is not identity: %v", err)
		}
	})
}

func FuzzParseMessage(f *testing.F) {
	for _, m := range []message{{Kind: kindNews, From: "a", AtMs: 1, Body: []byte("x")}, {Kind: kindGoodbye, From: "b", AtMs: 2},
		{Kind: kindAcks, From: "c", AtMs: 3, Body: encodeAcks([]AckID{{1}, {2}})}, {Kind: kindHeld, From: "c", AtMs: 3, Body: encodeAcks([]AckID{{1}})}} {
		b, err := m.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil {
			return
		}
		m.id()
		if again, err := m.encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("parse then print is not identity: %v", err)
		}
	})
}

func FuzzParseState(f *testing.F) {
	f.Add(encodeState(nil))
	f.Add(encodeState([]headOf{{Node: "a", Head: []byte("h")}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		heads, err := parseState(b)
		if err != nil {
			return
		}
		if again, err := parseState(encodeState(heads)); err != nil || len(again) != len(heads) {
			t.Errorf("what was read cannot be written: %v", err)
		}
	})
}

func FuzzDoor(f *testing.F) {
	f.Add([]byte{labelHeader, 4, 'e', 'c', '-', 'c', sealVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		if packetLooksOurs(b, "ec-c") && (len(b) <= 6+sealOverhead || string(b[2:6]) != "ec-c") {
			t.Error("let in")
		}
	})
}

func TestStateHoldsAFullTable(t *testing.T) {
	heads := make([]headOf, maxStateHeads)
	for i := range heads {
		heads[i] = headOf{Node: strings.Repeat("i", 128), Head: make([]byte, MaxHead)}
	}
	if got, err := parseState(encodeState(heads)); err != nil || len(got) != maxStateHeads {
		t.Errorf("%d heads, %v", len(got), err)
	}
	if _, err := parseState(encodeState(append(heads, heads[0]))); err == nil {
		t.Error("one more was taken")
	}
	for _, bad := range []headOf{{Head: []byte("h")}, {Node: "a"}, {Node: "a", Head: make([]byte, MaxHead+1)}} {
		if _, err := parseState(encodeState([]headOf{bad})); err == nil {
			t.Errorf("%q with %d bytes was taken", bad.Node, len(bad.Head))
		}
	}
}

func TestAdvertised(t *testing.T) {
	tcp := func(s string) *net.TCPAddr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	for _, c := range []struct{ bound, advertise, want string }{
		{"127.0.0.1:5", "", "127.0.0.1:5"},
		{"[::1]:5", "", "[::1]:5"},
		{"127.0.0.1:5", "10.0.0.1:0", "10.0.0.1:5"},
		{"0.0.0.0:5", "10.0.0.1:6", "10.0.0.1:6"},
		{"127.0.0.1:5", "10.0.0.1:x", ""},
	} {
		got, err := advertised(tcp(c.bound), c.advertise)
		if (err != nil) != (c.want == "") || (err == nil && got.String() != c.want) {
			t.Errorf("bound %s, advertise %q: %v, %v", c.bound, c.advertise, got, err)
		}
	}
	if got, err := advertised(tcp("0.0.0.0:5"), ""); err != nil || got.Addr().IsUnspecified() || got.Port() != 5 {
		t.Errorf("bound to all: %v, %v", got, err)
	}
}
