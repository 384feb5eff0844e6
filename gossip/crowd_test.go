package gossip_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/gossip"
)

// silentStreams is more than a node holds of those that do not say what they are.
const silentStreams = 300

// dialFrom opens a stream from an address of this machine, and sends what is given.
func dialFrom(t *testing.T, from, to string, first []byte) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Write(first); err != nil {
		t.Fatal(err)
	}
	return c
}

// joins tells that a pool takes another node in.
func joins(t *testing.T, name string, at *node) {
	t.Helper()
	b := start(t, name, nil)
	if _, err := b.Join([]string{at.LocalAddr()}); err != nil {
		t.Errorf("%s does not get in: %v", name, err)
	}
}

func closed(c net.Conn) bool {
	c.SetReadDeadline(time.Now().Add(patience))
	_, err := c.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// TestSilentStreamsMakeRoom: who says nothing shuts the port for nobody, and is sent
// away in the end.
func TestSilentStreamsMakeRoom(t *testing.T) {
	t.Parallel()
	a := start(t, "a", nil)
	var silent []net.Conn
	for range silentStreams {
		silent = append(silent, dialFrom(t, "", a.LocalAddr(), nil))
	}
	// Lower bounds: a port that a node of another test had may be called by those who knew that node.
	until(t, patience, "the oldest made room", func() bool { return a.Stats().StreamsRefused >= 44 })
	joins(t, "b", a)
	for _, c := range silent {
		if !closed(c) {
			t.Fatal("a silent stream was not closed")
		}
	}
	until(t, patience, "all are counted", func() bool { return a.Stats().StreamsRefused >= silentStreams })
}

// TestStreamsWeighWhatCame: a stranger knows the label. What it announces costs
// nothing, and what it sends takes the room of its own other streams.
func TestStreamsWeighWhatCame(t *testing.T) {
	t.Parallel()
	a := start(t, "a", nil)
	head := append(labelled([]byte{10}), binary.BigEndian.AppendUint32(nil, 8<<20)...)
	head = append(head, 1)
	for range 20 {
		dialFrom(t, "", a.LocalAddr(), head)
	}
	joins(t, "b", a)
	if n := a.Stats().StreamsRefused; n > 0 {
		t.Errorf("%d streams refused that sent nothing yet", n)
	}
	payload := append(head, make([]byte, 7<<20)...)
	for range 6 { // 42 MiB
		go func() { // ends with the test, when its stream is closed
			if c, err := net.Dial("tcp", a.LocalAddr()); err == nil {
				c.SetDeadline(time.Now().Add(patience))
				c.Write(payload)
				c.Read(make([]byte, 1))
				c.Close()
			}
		}()
	}
	until(t, patience, "what is too much makes room", func() bool { return a.Stats().StreamsRefused > 0 })
	joins(t, "c", a)
}

// TestMembersHaveTheirOwnRoom: hundreds of addresses with one silent stream each
// send each other away, and no member.
func TestMembersHaveTheirOwnRoom(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux all of 127.0.0.0/8 is this machine: CI runs it")
	}
	arrived := make(chan struct{}, 1)
	a := start(t, "a", func(c *gossip.Config) {
		c.MemberAt = func(at netip.Addr) bool { return at == netip.MustParseAddr("127.9.9.9") }
		c.OnStream = func(c net.Conn) { c.Close(); arrived <- struct{}{} }
	})
	member := dialFrom(t, "127.9.9.9", a.LocalAddr(), nil)
	for i := range silentStreams {
		dialFrom(t, fmt.Sprintf("127.9.%d.%d", i/200, 10+i%200), a.LocalAddr(), nil)
	}
	until(t, patience, "the oldest stranger made room", func() bool { return a.Stats().StreamsRefused >= 44 })
	if _, err := member.Write([]byte{0x16}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-arrived:
	case <-time.After(patience):
		t.Error("a member's stream was sent away before it said what it is")
	}
}
