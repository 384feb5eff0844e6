package gossiptest

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// conn is one end of a stream. Writes never block: a simulation bounds what it sends.
type conn struct {
	net           *Network
	host          *Host // whose end it is
	local, remote net.Addr
	in, out       *half
	readDeadline  deadline
	writeDeadline deadline
	closeOnce     sync.Once
}

// half is one direction: chunks with the time at which they arrive.
type half struct {
	mu     sync.Mutex // guards what follows
	chunks []chunk
	eof    bool  // the writer closed; reads end after the chunks
	err    error // reset or closed by the reader; reads and writes end now
	wake   chan struct{}
	doomed bool
	held   bool // the writer is paused: nothing of it is seen
}

type chunk struct {
	b  []byte
	at time.Time
}

func pipe(from, to *Host) (near, far *conn) {
	ab, ba := newHalf(), newHalf()
	a, b := net.TCPAddrFromAddrPort(from.addr), net.TCPAddrFromAddrPort(to.addr)
	near = &conn{net: from.net, host: from, local: a, remote: b, in: ba, out: ab}
	far = &conn{net: from.net, host: to, local: b, remote: a, in: ab, out: ba}
	for _, c := range []*conn{near, far} {
		c.readDeadline.init()
		c.writeDeadline.init()
	}
	return near, far
}

func newHalf() *half { return &half{wake: make(chan struct{})} }

// change runs f and wakes whoever reads.
func (h *half) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	close(h.wake)
	h.wake = make(chan struct{})
}

// take returns bytes that arrived, or how to wait for more.
func (h *half) take(p []byte) (n int, wake <-chan struct{}, wait time.Duration, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.err != nil:
		return 0, nil, 0, h.err
	case h.held:
		return 0, h.wake, 0, nil
	case len(h.chunks) == 0 && h.eof:
		return 0, nil, 0, io.EOF
	case len(h.chunks) == 0:
		return 0, h.wake, 0, nil
	}
	c := &h.chunks[0]
	if wait := time.Until(c.at); wait > 0 {
		return 0, h.wake, wait, nil
	}
	n = copy(p, c.b)
	if c.b = c.b[n:]; len(c.b) == 0 {
		h.chunks = h.chunks[1:]
	}
	return n, nil, 0, nil
}

func (c *conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		c.paused()
		select {
		case <-c.readDeadline.passed():
			return 0, c.opError("read", os.ErrDeadlineExceeded)
		default:
		}
		n, wake, wait, err := c.in.take(p)
		if err != nil && err != io.EOF {
			err = c.opError("read", err)
		}
		if n > 0 || err != nil {
			return n, err
		}
		var timer *time.Timer
		var arrived <-chan time.Time
		if wait > 0 {
			timer = time.NewTimer(wait)
			arrived = timer.C
		}
		select {
		case <-wake:
		case <-arrived:
		case <-c.readDeadline.passed():
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

func (c *conn) Write(p []byte) (int, error) {
	select {
	case <-c.writeDeadline.passed():
		return 0, c.opError("write", os.ErrDeadlineExceeded)
	default:
	}
	wait, open := c.net.open(c.local.String(), c.remote.String())
	c.net.sent.Add(uint64(len(p)))
	var err error
	doom := false
	c.out.change(func() {
		switch {
		case c.out.err != nil:
			err = c.out.err
		case c.out.eof:
			err = net.ErrClosed
		case c.out.doomed:
		case !open:
			c.out.doomed, doom = true, true
		default:
			c.out.chunks = append(c.out.chunks, chunk{b: append([]byte(nil), p...), at: time.Now().Add(wait)})
		}
	})
	if err != nil {
		return 0, c.opError("write", err)
	}
	if doom {
		// What is written into a partition is never seen again, and the stream is reset after a while.
		time.AfterFunc(resetAfter, c.reset)
	}
	return len(p), nil
}

func (c *conn) reset() {
	for _, h := range []*half{c.in, c.out} {
		h.change(func() {
			if h.err == nil {
				h.err = syscall.ECONNRESET
			}
		})
	}
}

func (c *conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// Close ends both directions: the other end reads what was sent, then EOF, and cannot write.
func (c *conn) Close() error {
	c.closeOnce.Do(func() {
		c.net.set(func() { delete(c.net.streams, c) })
		c.out.change(func() { c.out.eof = true })
		c.in.change(func() {
			if c.in.err == nil {
				c.in.err = net.ErrClosed
			}
		})
		c.readDeadline.set(time.Time{})
		c.writeDeadline.set(time.Time{})
	})
	return nil
}

// CloseWrite ends our direction only.
func (c *conn) CloseWrite() error {
	c.out.change(func() { c.out.eof = true })
	return nil
}

func (c *conn) LocalAddr() net.Addr                { return c.local }
func (c *conn) RemoteAddr() net.Addr               { return c.remote }
func (c *conn) SetReadDeadline(t time.Time) error  { c.readDeadline.set(t); return nil }
func (c *conn) SetWriteDeadline(t time.Time) error { c.writeDeadline.set(t); return nil }
func (c *conn) SetDeadline(t time.Time) error {
	c.readDeadline.set(t)
	c.writeDeadline.set(t)
	return nil
}

// deadline is a channel that is closed when a time has come, and replaced when it is moved. A reader that waits on the old channel is
// woken by the change and looks again.
type deadline struct {
	mu    sync.Mutex // guards what follows
	timer *time.Timer
	ch    chan struct{}
	moves uint64 // a timer that lost the race with set must not close the channel of a later deadline
}

func (d *deadline) init() { d.ch = make(chan struct{}) }

func (d *deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ch
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.moves++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	select {
	case <-d.ch:
		d.ch = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return
	}
	wait, move := time.Until(t), d.moves
	if wait <= 0 {
		close(d.ch)
		return
	}
	d.timer = time.AfterFunc(wait, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.moves == move {
			close(d.ch)
		}
	})
}
