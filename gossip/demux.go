package gossip

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
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

// sealedLength checks the head of a sealed stream message and returns how much is announced.
func sealedLength(head []byte) (int64, error) {
	n := int64(binary.BigEndian.Uint32(head[1:5]))
	if head[0] != encryptedType || head[5] != sealVersion || n <= sealOverhead || n > maxStream {
		return 0, errNotGossip
	}
	return n, nil
}

// sort finds out what an accepted connection is and hands it on. It runs once per connection, in its own goroutine.
func (t *transport) sort(c net.Conn, ip netip.Addr) {
	_ = c.SetDeadline(deadlineIn(peekTimeout))
	var first [1]byte
	if _, err := io.ReadFull(c, first[:]); err != nil {
		t.shown(ip)
		t.refuse(c)
		return
	}
	if first[0] == tlsHandshake {
		t.shown(ip)
		t.handTLS(c, first[:])
		return
	}
	head, n, err := t.readGossipHead(c, first[0])
	t.shown(ip)
	if err != nil || !t.reserve(n) {
		t.refuse(c)
		return
	}
	t.handGossip(c, head, n)
}

func (t *transport) refuse(c net.Conn) {
	t.count.streamsRefused.Add(1)
	t.untrack(c)
	c.Close()
}

// handTLS calls onStream with the connection as it was before the peek.
func (t *transport) handTLS(c net.Conn, peeked []byte) {
	t.mu.Lock()
	room := t.inTLS < maxTLSStreams
	if room {
		t.inTLS++
	}
	t.mu.Unlock()
	if !room || t.onStream == nil {
		if room {
			t.leaveTLS()
		}
		t.refuse(c)
		return
	}
	_ = c.SetDeadline(noDeadline)
	t.count.streamsTLS.Add(1)
	t.onStream(&replayConn{Conn: c, ahead: peeked})
	t.leaveTLS()
	// From here on the connection is the handler's alone, open or not.
	t.untrack(c)
}

func (t *transport) leaveTLS() {
	t.mu.Lock()
	t.inTLS--
	t.mu.Unlock()
}

// readGossipHead reads the label and the head of the sealed message behind it.
func (t *transport) readGossipHead(c net.Conn, first byte) (head []byte, length int64, err error) {
	if first != labelHeader {
		return nil, 0, errNotGossip
	}
	h := 2 + len(t.label)
	head = make([]byte, h+sealHeader)
	head[0] = first
	if _, err := io.ReadFull(c, head[1:2]); err != nil {
		return nil, 0, err
	}
	if int(head[1]) != len(t.label) {
		return nil, 0, errNotGossip
	}
	if _, err := io.ReadFull(c, head[2:]); err != nil {
		return nil, 0, err
	}
	if string(head[2:h]) != t.label {
		return nil, 0, errNotGossip
	}
	length, err = sealedLength(head[h:])
	return head, length, err
}

// reserve takes n bytes from the budget of all incoming streams.
func (t *transport) reserve(n int64) bool {
	if t.declared.Add(n) > streamBudget {
		t.declared.Add(-n)
		return false
	}
	return true
}

// handGossip gives the connection to memberlist, which closes it after one exchange.
func (t *transport) handGossip(c net.Conn, head []byte, reserved int64) {
	_ = c.SetDeadline(noDeadline)
	release := func() { t.untrack(c); t.declared.Add(-reserved) }
	rc := &replayConn{Conn: c, ahead: head, onClose: release}
	select {
	case t.streamCh <- rc:
	case <-t.ctx.Done():
		rc.Close()
	}
}

// replayConn gives back what was read ahead, then reads on. Close may tell somebody, once.
type replayConn struct {
	net.Conn
	ahead   []byte // owned by the reader
	onClose func()
	once    sync.Once
}

func (c *replayConn) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	return c.Conn.Read(p)
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
		if _, err := sealedLength(head); err != nil {
			return 0, err
		}
		c.checked, c.ahead = true, head
	}
	return c.replayConn.Read(p)
}
