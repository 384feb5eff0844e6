package gossip_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"log"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/edgecoder/edgecoder/gossip"
)

const wireLabel = "ec-" + cluster

// insider is a bare memberlist with the pool key: the worst that gossip must cope with.
type insider struct {
	meta, state []byte
}

func (i *insider) NodeMeta(int) []byte             { return i.meta }
func (i *insider) NotifyMsg([]byte)                {}
func (i *insider) GetBroadcasts(_, _ int) [][]byte { return nil }
func (i *insider) LocalState(bool) []byte          { return i.state }
func (i *insider) MergeRemoteState([]byte, bool)   {}

func startInsider(t *testing.T, name string, in *insider) *memberlist.Memberlist {
	t.Helper()
	mc := memberlist.DefaultLocalConfig()
	mc.Name, mc.BindAddr, mc.BindPort, mc.Label = name, "127.0.0.1", 0, wireLabel
	mc.SecretKey = poolKey
	mc.Delegate = in
	mc.EnableCompression = false
	mc.Logger = log.New(io.Discard, "", 0)
	ml, err := memberlist.Create(mc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ml.Shutdown() })
	return ml
}

func TestBadCardsAreRefused(t *testing.T) {
	t.Parallel()
	nodes := together(t, 2)
	stolen, err := cardOf(t, "n1", 1000).Encode()
	if err != nil {
		t.Fatal(err)
	}
	forged := cardOf(t, "forged", 1)
	forged.API = "10.6.6.6:6"
	forgedBytes, err := forged.Encode()
	if err != nil {
		t.Fatal(err)
	}
	foreign := cardOf(t, "foreign", 1)
	foreign.ClusterID = "c-other"
	if err := foreign.Sign(keyOf("foreign")); err != nil {
		t.Fatal(err)
	}
	foreignBytes, err := foreign.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, meta := range map[string][]byte{
		"id-thief": stolen, "id-forged": forgedBytes, "id-foreign": foreignBytes, "id-garbage": []byte("garbage"), "id-empty": nil,
	} {
		before := nodes[0].Stats().CardsRefused
		ml := startInsider(t, name, &insider{meta: meta})
		if _, err := ml.Join([]string{nodes[0].LocalAddr()}); err != nil {
			t.Fatal(err)
		}
		until(t, patience, name+" is refused", func() bool { return nodes[0].Stats().CardsRefused > before })
	}
	for _, n := range nodes {
		if ms := n.Members(); len(ms) != 2 {
			t.Errorf("%s lists %d members", n.name, len(ms))
		}
	}
	meet(t, nodes) // and the good ones still hold together
}

// TestLieAboutUsIsRefuted: somebody with the pool key claims our name with a card of his own.
func TestLieAboutUsIsRefuted(t *testing.T) {
	t.Parallel()
	nodes := together(t, 2)
	lie := cardOf(t, "n1", 9000)
	lie.API = "10.6.6.6:6"
	if err := lie.Sign(keyOf("evil")); err != nil {
		t.Fatal(err)
	}
	meta, err := lie.Encode()
	if err != nil {
		t.Fatal(err)
	}
	ml := startInsider(t, "id-n1", &insider{meta: meta})
	if _, err := ml.Join([]string{nodes[0].LocalAddr()}); err != nil {
		t.Fatal(err)
	}
	until(t, patience, "the conflict is counted", func() bool { return nodes[0].Stats().NameConflicts > 0 })
	if m := nodes[0].Members()[1]; m.Card.API != "127.0.0.1:1" || m.Addr != nodes[1].LocalAddr() {
		t.Errorf("the lie is believed: %+v", m)
	}
}

func TestBadStateAndMessagesAreCounted(t *testing.T) {
	t.Parallel()
	a := start(t, "a", nil)
	card, err := cardOf(t, "b", 1).Encode()
	if err != nil {
		t.Fatal(err)
	}
	ml := startInsider(t, "id-b", &insider{meta: card, state: bytes.Repeat([]byte{0xff}, 4<<20)})
	if _, err := ml.Join([]string{a.LocalAddr()}); err != nil {
		t.Fatal(err)
	}
	until(t, patience, "b is listed", func() bool { return a.stateOf("b") == gossip.StateAlive })
	until(t, patience, "its state is malformed", func() bool { return a.Stats().Malformed > 0 })
	was := a.Stats().Malformed
	to := &memberlist.Node{Name: "id-a", Addr: net.IPv4(127, 0, 0, 1), Port: uint16(netPort(a.LocalAddr()))}
	for _, msg := range [][]byte{nil, {0}, []byte("garbage"), bytes.Repeat([]byte{0x9f}, 1000), make([]byte, 1200)} {
		if err := ml.SendBestEffort(to, msg); err != nil {
			t.Fatal(err)
		}
	}
	if err := ml.SendReliable(to, make([]byte, 5<<20)); err != nil {
		t.Fatal(err)
	}
	until(t, patience, "all are malformed", func() bool { return a.Stats().Malformed >= was+6 })
}

func netPort(addr string) int {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		panic(err)
	}
	return a.Port
}

// seal is memberlist's encryption, for what memberlist itself would not send.
func seal(t *testing.T, version byte, plain, authenticated []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(poolKey)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, 12)
	return gcm.Seal(append([]byte{version}, nonce...), nonce, plain, authenticated)
}

func labelled(b []byte) []byte {
	return append(append([]byte{244, byte(len(wireLabel))}, wireLabel...), b...)
}

// TestGarbageDoesNoHarm throws at the port whatever a stranger, or a member gone bad, can throw, among it what memberlist would panic on.
func TestGarbageDoesNoHarm(t *testing.T) {
	t.Parallel()
	nodes := together(t, 2)
	rnd := mathrand.New(mathrand.NewPCG(1, 2))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return b
	}
	packets := [][]byte{
		{}, {244}, {244, 0}, {244, 255}, labelled(nil), labelled([]byte{1}), labelled(random(29)), make([]byte, 9000),
		labelled(seal(t, 1, nil, []byte(wireLabel))), // empty plaintext
		labelled(seal(t, 0, nil, []byte(wireLabel))), // empty padding: panics in memberlist
		labelled(seal(t, 0, []byte{255}, []byte(wireLabel))),
		labelled(seal(t, 1, []byte{7, 255, 255}, []byte(wireLabel))), // truncated compound
		labelled(seal(t, 1, append([]byte{4}, random(100)...), []byte(wireLabel))),
		labelled(seal(t, 1, append([]byte{8}, random(1200)...), []byte(wireLabel))),
	}
	for range 200 {
		packets = append(packets, random(rnd.IntN(1500)), labelled(random(rnd.IntN(1300))))
	}
	u, err := net.Dial("udp", nodes[0].LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for _, p := range packets {
		u.Write(p)
	}

	sealedStream := func(version byte, plain []byte) []byte {
		head := binary.BigEndian.AppendUint32([]byte{10}, uint32(29+len(plain)))
		return labelled(append(head, seal(t, version, plain, append(bytes.Clone(head), wireLabel...))...))
	}
	for _, s := range [][]byte{
		{}, {0}, {244}, labelled(nil), labelled([]byte{6}), labelled(random(100)), random(3000),
		labelled([]byte{10, 255, 255, 255, 255, 1}), labelled([]byte{10, 0, 0, 0, 0, 1}), labelled([]byte{10, 0, 0x7f, 0, 0, 1, 2, 3}),
		sealedStream(1, nil), // panics in memberlist
		sealedStream(0, nil), sealedStream(1, []byte{6}), sealedStream(1, []byte{8, 1, 2, 3}), sealedStream(1, random(500)),
		append([]byte("GET / HTTP/1.1\r\n\r\n"), random(100)...),
	} {
		c, err := net.Dial("tcp", nodes[0].LocalAddr())
		if err != nil {
			t.Fatal(err)
		}
		c.Write(s)
		c.(*net.TCPConn).CloseWrite()
		c.SetDeadline(time.Now().Add(patience))
		io.Copy(io.Discard, c)
		c.Close()
	}
	until(t, patience, "packets and streams are refused at the door", func() bool {
		s := nodes[0].Stats()
		return s.PacketsDropped > 0 && s.StreamsRefused > 0
	})
	meet(t, nodes)
	if err := nodes[1].Broadcast([]byte("still here")); err != nil {
		t.Fatal(err)
	}
	until(t, patience, "news still flow", func() bool { return nodes[0].newsCount("still here") == 1 })
}

// TestBadAnswerDoesNoHarm: the one we call answers with what memberlist would panic on.
func TestBadAnswerDoesNoHarm(t *testing.T) {
	t.Parallel()
	a := start(t, "a", nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			head := binary.BigEndian.AppendUint32([]byte{10}, 29)
			c.Write(append(head, seal(t, 1, nil, append(bytes.Clone(head), wireLabel...))...))
			c.Close()
		}
	}()
	if n, err := a.Join([]string{l.Addr().String()}); err == nil {
		t.Errorf("joined %d", n)
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"join"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestTLSOnTheGossipPort: a real handshake passes through the peek, and gossip goes on beside it.
func TestTLSOnTheGossipPort(t *testing.T) {
	t.Parallel()
	l := gossip.NewStreamListener(&net.TCPAddr{})
	defer l.Close()
	a := start(t, "a", func(c *gossip.Config) { c.OnStream = l.Deliver })
	server := tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); io.Copy(c, c) }()
		}
	}()
	c, err := tls.Dial("tcp", a.LocalAddr(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := bytes.Repeat([]byte("join me "), 10_000)
	go func() { c.Write(want); c.CloseWrite() }()
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d of %d bytes came back: %v", len(got), len(want), err)
	}
	b := start(t, "b", nil)
	if _, err := b.Join([]string{a.LocalAddr()}); err != nil {
		t.Fatal(err)
	}
	meet(t, []*node{a, b})
	if s := a.Stats(); s.StreamsTLS != 1 {
		t.Errorf("stats: %+v", s)
	}
}

func TestStreamKeepsEveryByte(t *testing.T) {
	t.Parallel()
	got := make(chan []byte, 1)
	a := start(t, "a", func(c *gossip.Config) {
		c.OnStream = func(c net.Conn) {
			defer c.Close()
			b, _ := io.ReadAll(c)
			got <- b
		}
	})
	c, err := net.Dial("tcp", a.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	hello := []byte{0x16, 3, 1, 0, 4, 1, 2, 3, 4}
	for _, b := range hello { // a byte at a time
		c.Write([]byte{b})
	}
	c.(*net.TCPConn).CloseWrite()
	if b := <-got; !bytes.Equal(b, hello) {
		t.Errorf("got % x", b)
	}
}

func TestTLSWithoutHandlerIsClosed(t *testing.T) {
	t.Parallel()
	a := start(t, "a", nil)
	c, err := net.Dial("tcp", a.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte{0x16, 3, 1})
	c.SetDeadline(time.Now().Add(patience))
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d", n)
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Error("not closed")
	}
}
