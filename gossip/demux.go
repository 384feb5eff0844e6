package gossip

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"

	"github.com/edgecoder/edgecoder/limit"
)

// What memberlist v0.7.0 puts first on the wire (net.go, label.go, security.go). If an update changes it, members cannot join each
// other and nearly every test of the room fails.
const (
	tlsHandshake  = 0x16 // first byte of a TLS ClientHello record
	labelHeader   = 244  // packet or stream: then a length byte and the label
	encryptedType = 10   // stream: then a four-byte length and the sealed bytes
	sealVersion   = 1    // first sealed byte: AES-GCM without padding
	sealOverhead  = 29   // version, nonce, tag

	sealHeader = 6 // encryptedType, length, sealVersion
)

var errNotGossip = errors.New("gossip: not gossip of this cluster")

// packetLooksOurs says whether a datagram can be one of this cluster at all: its label, the current seal, and something inside it.
// Besides sparing memberlist the work and the log line, this keeps two things from it that it would panic on when they come from a holder
// of the key: an empty plaintext, and one with the padding of seal version 0.
func packetLooksOurs(b []byte, label string) bool {
	h := 2 + len(label)
	return len(b) > h+sealOverhead && b[0] == labelHeader && int(b[1]) == len(label) && string(b[2:h]) == label && b[h] == sealVersion
}

// checkSealed checks the head of a sealed stream message.
func checkSealed(head []byte) error {
	n := binary.BigEndian.Uint32(head[1:5])
	if head[0] != encryptedType || head[5] != sealVersion || n <= sealOverhead || n > maxStream {
		return errNotGossip
	}
	return nil
}

// lane is what connections of one kind of callers may hold: what strangers hold open or send takes nothing from members.
type lane struct {
	silent  *limit.Room[netip.Addr] // connections that have not shown what they are
	streams *limit.Room[netip.Addr] // gossip, by what has come of it
}

func newLane() *lane {
	return &lane{silent: limit.NewRoom[netip.Addr](maxSilent), streams: limit.NewRoom[netip.Addr](streamBudget)}
}

// sort finds out what an accepted connection is and hands it on. It runs once per connection, in its own goroutine.
func (t *transport) sort(c net.Conn) {
	from, lane := limit.HolderOf(c.RemoteAddr().String()), t.strangers
	if t.memberAt(from) {
		lane = t.members
	}
	_ = c.SetDeadline(deadlineIn(peekTimeout))
	place := lane.silent.Enter(from, 1, func() { c.Close() })
	head, err := t.peek(c)
	if stayed := place.Leave(); err != nil || !stayed {
		t.refuse(c)
		return
	}
	_ = c.SetDeadline(noDeadline)
	if head[0] == tlsHandshake {
		t.handTLS(c, head)
		return
	}
	t.handGossip(c, head, from, lane)
}

// peek reads as much as tells what a connection is: one byte of TLS, or the head of gossip.
func (t *transport) peek(c net.Conn) (head []byte, err error) {
	var first [1]byte
	if _, err := io.ReadFull(c, first[:]); err != nil {
		return nil, err
	}
	if first[0] == tlsHandshake {
		return first[:], nil
	}
	return t.readGossipHead(c, first[0])
}

func (t *transport) refuse(c net.Conn) {
	t.count.streamsRefused.Add(1)
	t.untrack(c)
	c.Close()
}

// handTLS calls onStream with the connection as it was before the peek.
func (t *transport) handTLS(c net.Conn, peeked []byte) {
	if t.onStream == nil {
		t.refuse(c)
		return
	}
	t.count.streamsTLS.Add(1)
	t.onStream(&replayConn{Conn: c, ahead: peeked})
	// From here on the connection is the handler's alone, open or not.
	t.untrack(c)
}

// readGossipHead reads the label and the head of the sealed message behind it.
func (t *transport) readGossipHead(c net.Conn, first byte) (head []byte, err error) {
	if first != labelHeader {
		return nil, errNotGossip
	}
	h := 2 + len(t.label)
	head = make([]byte, h+sealHeader)
	head[0] = first
	if _, err := io.ReadFull(c, head[1:2]); err != nil {
		return nil, err
	}
	if int(head[1]) != len(t.label) {
		return nil, errNotGossip
	}
	if _, err := io.ReadFull(c, head[2:]); err != nil {
		return nil, err
	}
	if string(head[2:h]) != t.label {
		return nil, errNotGossip
	}
	return head, checkSealed(head[h:])
}

// handGossip gives the connection to memberlist, which closes it after one exchange.
func (t *transport) handGossip(c net.Conn, head []byte, from netip.Addr, lane *lane) {
	place := lane.streams.Enter(from, streamWeight, func() { c.Close() })
	rc := &replayConn{Conn: c, ahead: head, arrived: place.Grow, onClose: func() {
		if !place.Leave() {
			t.count.streamsRefused.Add(1)
		}
		t.untrack(c)
	}}
	select {
	case t.streamCh <- rc:
	case <-t.ctx.Done():
		rc.Close()
	}
}

// replayConn gives back what was read ahead, then reads on. It may tell somebody how much came, and of its Close, once.
type replayConn struct {
	net.Conn
	ahead   []byte // owned by the reader
	arrived func(bytes int)
	onClose func()
	once    sync.Once
}

func (c *replayConn) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p)
	if c.arrived != nil {
		c.arrived(n)
	}
	return n, err
}

// Close closes the connection.
func (c *replayConn) Close() error {
	err := c.Conn.Close()
	if c.onClose != nil {
		c.once.Do(c.onClose)
	}
	return err
}

// CloseWrite passes a half-close on, so that a TLS server on the connection ends as it would on TCP.
func (c *replayConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}

// replyConn is a dialled connection whose first incoming message gets the same check as an accepted one.
type replyConn struct {
	replayConn
	checked bool // owned by the reader
}

func newReplyConn(c net.Conn, onClose func()) *replyConn {
	return &replyConn{replayConn: replayConn{Conn: c, onClose: onClose}}
}

func (c *replyConn) Read(p []byte) (int, error) {
	if !c.checked {
		head := make([]byte, sealHeader)
		if _, err := io.ReadFull(c.Conn, head); err != nil {
			return 0, err
		}
		if err := checkSealed(head); err != nil {
			return 0, err
		}
		c.checked, c.ahead = true, head
	}
	return c.replayConn.Read(p)
}
