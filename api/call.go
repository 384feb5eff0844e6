package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

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
	token     fsm.Token   // who asks, after authentication
	fresh     ReadOptions // what a read asks for in its query
	body      string
	key       string // idempotency key of a mutation, the caller's or ours
	index     uint64 // log index that the answer reflects; 0: not known yet
	wrote     bool
	unread    bool   // a body is still to come
	free      func() // gives back the slot; nil: none is held

	// What the audit log is told (audit.go).
	code, field, reason string            // of the refusal; empty: answered
	claimed             string            // token id that was named without its secret
	subject             string            // who or what the call is about, where the path does not say
	result              string            // id that a change led to
	self                client.AuditActor // the agent that asks for itself, once it showed that it is
	verdict             string            // in the words of WIRE.md, why an agent or a peer is refused
	did                 kept              // what a change was, where its route does not say
	told                map[string]string // what a change changed; no secret
	proposed            bool              // a change took effect
	issues              bool              // it is to: an outcome that is unknown is told too
	kept                bool              // the event was recorded
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
		err := crypto.CheckID(arg)
		if c.route.ofSubject() {
			_, err = fsm.ParseScheduled(arg)
		}
		if err != nil {
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
		index, err := c.s.node.Read(c.r.Context(), ReadOptions{Always: true}, func(*fsm.State) {})
		if err == nil {
			c.index = index
		}
	}
	c.w.Header()[client.HeaderIndex] = []string{strconv.FormatUint(c.index, 10)}
}

func (c *call) write(status int, text []byte) {
	if err := c.keep(); err != nil {
		c.fail(err)
		return
	}
	c.wrote = true
	c.s.meter.answered(status)
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
