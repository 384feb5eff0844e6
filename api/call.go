package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// call is one request on its way through the server.
type call struct {
	s     *Server
	w     http.ResponseWriter
	r     *http.Request
	ctx   context.Context // bounded by requestTimeout
	route *route
	args  []string // of the pattern, in order

	requestID string
	token     fsm.Token // who asks, after authentication
	body      string
	key       string // idempotency key of a mutation, the caller's or ours
	index     uint64 // log index that the answer reflects; 0: not known yet
	wrote     bool
}

// readBody reads a body up to the route's cap. It is kept as a string so that
// decoded strings can share it.
func (c *call) readBody() error {
	limit := c.route.body
	if limit == 0 {
		return nil
	}
	length := c.r.ContentLength
	if length > limit {
		return bodyTooLarge(limit)
	}
	if c.route.access == byBody {
		defer c.hurry()()
	}
	var text []byte
	var err error
	if length >= 0 {
		text = make([]byte, length)
		_, err = io.ReadFull(c.r.Body, text)
	} else {
		text, err = io.ReadAll(io.LimitReader(c.r.Body, limit+1))
	}
	switch {
	case int64(len(text)) > limit:
		return bodyTooLarge(limit)
	case err != nil:
		return invalid("body", "the body broke off: "+err.Error())
	}
	c.body = string(text)
	return nil
}

// openBodyTimeout bounds the body of somebody who has not shown a credential:
// strangers must not hold slots by sending slowly.
const openBodyTimeout = 3 * time.Second

// hurry sets a short read deadline and returns what lifts it again: one that
// passed later would cancel the request.
func (c *call) hurry() (lift func()) {
	control := http.NewResponseController(c.w)
	if control.SetReadDeadline(time.Now().Add(openBodyTimeout)) != nil {
		return func() {} // no connection below: a test
	}
	return func() { _ = control.SetReadDeadline(time.Time{}) } // a connection that is gone needs none
}

func bodyTooLarge(limit int64) error {
	return &client.Error{Code: client.CodeTooLarge, Field: "body", Detail: fmt.Sprintf("the body of this route has at most %d bytes", limit)}
}

// decode parses the body strictly into v, a pointer to a struct.
func (c *call) decode(v any) error { return decodeStrict(c.body, v) }

// noBody refuses a body where none belongs; an empty object is as good as none.
func (c *call) noBody() error {
	if strings.TrimSpace(c.body) == "" {
		return nil
	}
	return c.decode(&struct{}{})
}

// checkArgs holds ids in the path to the rule of all ids. Broken UTF-8 must
// never get into a command: no replica could decode it.
func (c *call) checkArgs() error {
	for _, arg := range c.args {
		if err := crypto.CheckID(arg); err != nil {
			return invalid("path", err.Error())
		}
	}
	return nil
}

// checkQuery refuses parameters that the route does not know and repeated
// ones: a mistyped min_index would quietly read the past.
func (c *call) checkQuery() error {
	if c.r.URL.RawQuery == "" {
		return nil
	}
	if c.route.wire() || c.route.class == classHealth {
		return nil // existing clients may add what they like
	}
	for name, values := range c.r.URL.Query() {
		if !slices.Contains(c.route.query, name) {
			return invalid(name, "this route has no such query parameter")
		}
		if len(values) != 1 {
			return invalid(name, "this query parameter is given more than once")
		}
	}
	return nil
}

func (c *call) readOptions() (ReadOptions, error) {
	var o ReadOptions
	if c.r.URL.RawQuery == "" {
		return o, nil
	}
	q := c.r.URL.Query()
	switch level := q.Get("level"); {
	case level == client.LevelStrong:
		o.Strong = true
	case q.Has("level") && level != client.LevelLocal:
		return o, invalid("level", fmt.Sprintf("%s is neither %s nor %s", quote(level), client.LevelLocal, client.LevelStrong))
	}
	var err error
	o.MinIndex, err = c.queryNumber("min_index", 0, 1<<63)
	return o, err
}

func (c *call) queryNumber(name string, absent, most uint64) (uint64, error) {
	q := c.r.URL.Query()
	if !q.Has(name) {
		return absent, nil
	}
	n, err := strconv.ParseUint(q.Get(name), 10, 64)
	if err != nil || n > most {
		return 0, invalid(name, fmt.Sprintf("%s is no number from 0 to %d", quote(q.Get(name)), most))
	}
	return n, nil
}

// Bounds of a list page.
const (
	defaultPage = 100
	maxPage     = 1000
)

func (c *call) pageLimit() (int, error) {
	n, err := c.queryNumber("limit", defaultPage, maxPage)
	if err == nil && n == 0 {
		err = invalid("limit", fmt.Sprintf("a page has 1 to %d rows", maxPage))
	}
	return int(n), err
}

// read asks this replica, as fresh as the query wants it.
func (c *call) read(f func(*fsm.State)) error {
	opts, err := c.readOptions()
	if err != nil {
		return err
	}
	return c.readAt(opts, f)
}

func (c *call) readAt(opts ReadOptions, f func(*fsm.State)) error {
	index, err := c.s.node.Read(c.ctx, opts, f)
	if err != nil {
		return err
	}
	c.index = max(c.index, index)
	return nil
}

func (c *call) reply(status int, v any) error {
	c.replyText(status, encodeJSON(v))
	return nil
}

func (c *call) replyText(status int, text []byte) {
	c.setIndexHeader()
	c.w.Header()["Content-Type"] = jsonType
	c.write(status, text)
}

// setIndexHeader names the log index that the answer reflects. An answer that
// asked nothing of the state reflects this replica as it is.
func (c *call) setIndexHeader() {
	if c.index == 0 {
		index, err := c.s.node.Read(c.r.Context(), ReadOptions{}, func(*fsm.State) {})
		if err == nil {
			c.index = index
		}
	}
	c.w.Header()[client.HeaderIndex] = []string{strconv.FormatUint(c.index, 10)}
}

func (c *call) write(status int, text []byte) {
	c.wrote = true
	c.w.Header()["Content-Length"] = []string{strconv.Itoa(len(text))}
	c.w.WriteHeader(status)
	_, _ = c.w.Write(text) // the caller went away: nobody is left to tell
}

// encodeJSON leaves <, > and & alone: events keep the bytes that were hashed.
func encodeJSON(v any) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("api: encode %T: %v", v, err)) // our own plain types always encode
	}
	return out.Bytes()
}

// quote shows hostile text in an error: escaped and short.
func quote(s string) string {
	const most = 64
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "…"
	}
	return strconv.QuoteToASCII(s)
}
