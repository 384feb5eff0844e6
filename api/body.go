package api

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// Bodies are read before a slot is taken: what arrives slowly holds a place in a
// room of bodies, and nothing that others need. Who sends at once is through before
// a flood of slow bodies makes it the oldest of its address or token.
const (
	strangerBodies = 16 << 20 // bytes that strangers may be sending at a time
	tokenBodies    = 64 << 20 // bytes that holders of tokens may be sending
	leastBody      = 16 << 10 // what a body is counted as at least, for its goroutine and buffers

	// openBodyTimeout bounds the body of somebody who has not shown a credential;
	// of others it is readTimeout.
	openBodyTimeout = 3 * time.Second
	// unreadTimeout is how long an answer waits for a body that nobody will read:
	// net/http takes it from the connection first, and gives up the connection else.
	unreadTimeout = 250 * time.Millisecond
)

// mostBody bounds the body of a call. Who shows no token is a stranger until the
// signature is verified, for which all of the body must be here: it gets what openSlots
// were counted with, whatever the route allows tokens.
func (c *call) mostBody() int64 {
	if c.route.access == byEither && c.token.ID == "" {
		return min(c.route.body, bodyBytes)
	}
	return c.route.body
}

// readBody reads a body up to the route's cap. It is kept as a string so that
// decoded strings can share it.
func (c *call) readBody() error {
	most := c.mostBody()
	if most == 0 {
		return nil
	}
	length := c.r.ContentLength
	if length > most {
		return bodyTooLarge(most)
	}
	control := http.NewResponseController(c.w)
	stranger := c.token.ID == ""
	if stranger {
		_ = control.SetReadDeadline(time.Now().Add(openBodyTimeout)) // fails only where no connection is below: a test
	}
	leave := c.enterBody(control, length)
	text, err := readAtMost(c.r.Body, length, most)
	stayed := leave()
	if err != nil || !stayed {
		// Whatever is still to come, nobody reads it: with the connection goes
		// what the peer could hold by sending slowly.
		c.w.Header()["Connection"] = closing
	}
	switch {
	case !stayed:
		// All of it may be here by now. But net/http, which then waits for the peer
		// to go away, met the deadline of evict and cancels the request, if not yet
		// then half way through.
		return errCrowded
	case err != nil:
		return invalid("body", "the body broke off, or did not arrive in time")
	case int64(len(text)) > most:
		return bodyTooLarge(most)
	}
	if stranger {
		_ = control.SetReadDeadline(time.Time{}) // one that passed later would cancel the request
	}
	c.body = string(text)
	return nil
}

// enterBody takes the place of a body that is about to be read. Who is sent away
// reads what a peer reads that is too slow.
func (c *call) enterBody(control *http.ResponseController, length int64) (leave func() (stayed bool)) {
	if length < 0 {
		length = c.mostBody()
	}
	size := max(int(length), leastBody)
	evict := func() { _ = control.SetReadDeadline(time.Unix(1, 0)) }
	if c.token.ID == "" {
		return c.s.strangerBodies.Enter(guardKey(c.address()), size, evict).Leave
	}
	return c.s.tokenBodies.Enter(c.token.ID, size, evict).Leave
}

// dropBody has an answer that comes before its body not wait for one that is
// slow to come.
func (c *call) dropBody() {
	if c.unread && c.r.ProtoMajor == 1 && c.r.ContentLength != 0 {
		_ = http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(unreadTimeout))
	}
}

// readAtMost reads a body of the announced length, or when that is -1 up to
// one byte more than the limit.
func readAtMost(body io.Reader, length, limit int64) ([]byte, error) {
	if length < 0 {
		return io.ReadAll(io.LimitReader(body, limit+1))
	}
	text := make([]byte, length)
	_, err := io.ReadFull(body, text)
	return text, err
}

func bodyTooLarge(limit int64) error {
	return &client.Error{Code: client.CodeTooLarge, Field: "body", Detail: fmt.Sprintf("the body of this route has at most %d bytes", limit)}
}
