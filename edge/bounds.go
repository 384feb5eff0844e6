package edge

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// Bounds of what callers may have an edge hold. Who asks is on this machine, and may be anybody there.
const (
	// maxConns bounds connections to the face: services hold a few each.
	maxConns = 512
	// Bodies by route: of one admission; of a batch, agents take a fraction of it; of a batch of questions, with every id twice as long as it may be, since JSON
	// may spell it so; and of what has no body.
	maxAdmissionBytes = 16 << 10
	maxBatchBytes     = client.MaxBatch * 4 << 10
	maxCheckBytes     = client.MaxBatch * 272
	maxNoBytes        = 1 << 10
	// largeBytes is from where on a body is one of maxLarge at a time: while it comes in, which a caller may draw out, it costs up to one and a half times its bound.
	largeBytes = 64 << 10
	maxLarge   = 16
	// maxForwards bounds admissions that wait for a coordinator, and maxDeltas mirrors of the whole list; above, callers hear at once that the edge is full.
	maxForwards = 256
	maxDeltas   = 8
)

// slots are what is free of something that is bounded.
type slots chan struct{}

// take takes one, or says what there are too many of.
func (s slots) take(what string) error {
	select {
	case s <- struct{}{}:
		return nil
	default:
		return &client.Error{Code: client.CodeOverloaded, RetryAfter: time.Second, Detail: fmt.Sprintf("%d %s already", cap(s), what)}
	}
}

func (s slots) free() { <-s }

// bodied bounds the body of a request; free is to be called once the request was answered.
func (s *Server) bodied(w http.ResponseWriter, r *http.Request, most int64) (free func(), err error) {
	r.Body = http.MaxBytesReader(w, r.Body, most)
	if r.ContentLength > most {
		return nil, &client.Error{Code: client.CodeTooLarge, Field: "body", Detail: fmt.Sprintf("the body is larger than %d bytes", most)}
	}
	if most <= largeBytes || r.ContentLength >= 0 && r.ContentLength <= largeBytes {
		return func() {}, nil
	}
	if err := s.large.take("large bodies are being read"); err != nil {
		return nil, err
	}
	return s.large.free, nil
}

// isUnix tells whether a request came over a unix socket, whose file says who may.
func isUnix(r *http.Request) bool {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && at.Network() == "unix"
}

// Bounded closes connections at once that are too many for the face of an edge.
func Bounded(l net.Listener) net.Listener { return &bounded{Listener: l, open: make(slots, maxConns)} }

type bounded struct {
	net.Listener
	open slots
}

// Accept implements net.Listener.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if b.open.take("connections") == nil {
			return &boundedConn{Conn: conn, free: sync.OnceFunc(b.open.free)}, nil
		}
		_ = conn.Close()
	}
}

type boundedConn struct {
	net.Conn
	free func()
}

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}
