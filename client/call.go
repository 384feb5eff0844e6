package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Option changes one call.
type Option func(*call)

// Strong asks for a linearizable read.
func Strong() Option { return func(c *call) { c.query.Set("level", LevelStrong) } }

// MinIndex asks the replica to wait until it has the log index.
func MinIndex(index uint64) Option {
	return func(c *call) { c.query.Set("min_index", strconv.FormatUint(index, 10)) }
}

// Page asks for up to limit rows after the given id.
func Page(after string, limit int) Option {
	return func(c *call) {
		if after != "" {
			c.query.Set("after", after)
		}
		if limit > 0 {
			c.query.Set("limit", strconv.Itoa(limit))
		}
	}
}

// IdempotencyKey sets the key of a mutation, so that a later process can ask
// again under it. Without it the client makes one a call.
func IdempotencyKey(key string) Option { return func(c *call) { c.key = key } }

// Index stores the log index that the answer reflects, also one that refuses:
// that nothing was found is an answer too.
func Index(into *uint64) Option { return func(c *call) { c.index = into } }

// call is one request and how it may be repeated.
type call struct {
	method, path string
	query        url.Values
	header       http.Header
	body         []byte
	upload       *Backup                   // a body that is streamed, instead
	claim        string                    // claim id of an admission
	key          string                    // idempotency key of a mutation
	index        *uint64                   // where to store the answer's index
	mesh         bool                      // the token goes into x-mesh-token
	sign         func(*http.Request) error // shows an agent's signature instead of a token
	once         bool                      // no second try after an unknown outcome: nothing makes it safe
	untimed      bool                      // only the caller's context bounds it: a stream
	read         func(io.Reader) error
	sent         atomic.Bool // a connection was had for the current try: it may have reached the server
}

func newCall(method, path string, opts []Option) *call {
	c := &call{method: method, path: path, query: url.Values{}, header: http.Header{}}
	for _, o := range opts {
		o(c)
	}
	return c
}

// changes tells whether the call may change something.
func (c *call) changes() bool { return c.method != http.MethodGet }

// Backoff between tries: doubled each time, with full jitter so that clients
// which failed together do not come back together.
const (
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = 2 * time.Second
)

type sleeper func(context.Context, time.Duration) error

func sleepContext(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// do sends a call until it is answered, refused for good, or out of tries.
// Every try carries the same ids, so a change happens once.
func (c *Client) do(ctx context.Context, q *call) error {
	if !q.untimed {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	maybe := false // an earlier try may have taken effect
	start := c.current.Load()
	for try := 0; ; try++ {
		at := (start + int64(try)) % int64(len(c.addrs))
		failure := c.try(ctx, c.addrs[at], q)
		if failure == nil || RetryOf(failure.Code) == RetryNo {
			c.current.Store(at) // it answered
			if maybe && failure != nil {
				return q.giveUp(failure, maybe)
			}
			return asError(failure)
		}
		maybe = maybe || RetryOf(failure.Code) == RetrySameID
		if RetryOf(failure.Code) == RetryElsewhere && try+1 >= len(c.addrs) {
			return q.giveUp(failure, maybe) // every node was asked
		}
		if try+1 >= c.attempts || (q.once && maybe) || c.pause(ctx, try, failure) != nil {
			return q.giveUp(failure, maybe)
		}
	}
}

// asError keeps a nil *Error a nil error.
func asError(e *Error) error {
	if e == nil {
		return nil
	}
	return e
}

// pause waits before the next try. The first round over the addresses does
// not wait after a failure to connect, or one that only concerns the node that
// answered: another node may well do it.
func (c *Client) pause(ctx context.Context, try int, failure *Error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	wait := rand.N(min(firstBackoff<<min(try, 10), maxBackoff)) + time.Millisecond
	switch {
	case (failure.cause != nil || RetryOf(failure.Code) == RetryElsewhere) && try+1 < len(c.addrs):
		return nil
	case isCertificateError(failure.cause):
		return failure // it will not mend itself
	case failure.RetryAfter > 0:
		wait += failure.RetryAfter
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
		return context.DeadlineExceeded
	}
	return c.sleep(ctx, wait)
}

// giveUp returns the last failure. If an earlier try may have taken effect the
// outcome is unknown, whatever became of the later ones.
func (q *call) giveUp(failure *Error, maybe bool) error {
	if maybe && failure.Code != CodeUnknownOutcome {
		failure.Detail = "an earlier try may have taken effect; the last one ended " + failure.Code + ": " + failure.Detail
		failure.Code = CodeUnknownOutcome
	}
	if failure.ClaimID == "" {
		failure.ClaimID = q.claim
	}
	if failure.IdempotencyKey == "" {
		failure.IdempotencyKey = q.key
	}
	return failure
}

// try sends the call once.
func (c *Client) try(ctx context.Context, addr string, q *call) *Error {
	req, err := c.request(ctx, addr, q)
	if err != nil {
		return &Error{Code: CodeInvalid, Detail: err.Error(), cause: err}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return q.networkError(addr, err)
	}
	defer resp.Body.Close()
	if q.index != nil {
		*q.index, _ = strconv.ParseUint(resp.Header.Get(HeaderIndex), 10, 64)
	}
	if resp.StatusCode/100 != 2 {
		failure := problemOf(resp)
		if failure.Code == CodeUnknownOutcome && !q.changes() {
			failure.Code = CodeUnavailable
		}
		return failure
	}
	if q.read == nil {
		return nil
	}
	if err := q.read(resp.Body); err != nil {
		return q.networkError(addr, fmt.Errorf("read the answer: %w", err))
	}
	return nil
}

func (c *Client) request(ctx context.Context, addr string, q *call) (*http.Request, error) {
	target := addr + q.path
	if len(q.query) > 0 {
		target += "?" + q.query.Encode()
	}
	var body io.Reader
	if q.body != nil {
		body = bytes.NewReader(q.body)
	}
	if q.upload != nil {
		body = io.NewSectionReader(q.upload, 0, q.upload.Size)
	}
	q.sent.Store(false)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { q.sent.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, q.method, target, body)
	if err != nil {
		return nil, err
	}
	for name, values := range q.header {
		req.Header[name] = values
	}
	if q.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if q.upload != nil {
		req.ContentLength = q.upload.Size
		req.Header.Set("Content-Type", SnapshotType)
		req.Header.Set("Expect", "100-continue") // whoever refuses it says so before it is sent
	}
	if q.key != "" {
		req.Header.Set(HeaderIdempotencyKey, q.key)
	}
	switch {
	case q.sign != nil:
		return req, q.sign(req)
	case c.token == "":
	case q.mesh:
		req.Header.Set(HeaderMeshToken, c.token)
	default:
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return req, nil
}

// networkError tells what is known after a failure below HTTP: without a
// connection nothing happened, after that a change may have.
func (q *call) networkError(addr string, err error) *Error {
	failure := &Error{Code: CodeUnavailable, Detail: fmt.Sprintf("%s %s: %v", q.method, addr+q.path, bare(err)), cause: err}
	if q.changes() && q.sent.Load() {
		failure.Code = CodeUnknownOutcome
	}
	return failure
}

// bare drops the method and URL that *url.Error repeats.
func bare(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}

func isCertificateError(err error) bool {
	bad := (*tls.CertificateVerificationError)(nil)
	return errors.As(err, &bad)
}

// problemOf reads the error of an answer. Anything that is no problem
// document comes from something in between.
func problemOf(resp *http.Response) *Error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBytes)) // a torn body is treated as no document
	var p Problem
	if err := json.Unmarshal(text, &p); err != nil || !KnownCode(p.Code) {
		return strangeAnswer(resp, text)
	}
	failure := p.Error()
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 && failure.RetryAfter == 0 {
		failure.RetryAfter = time.Duration(s) * time.Second
	}
	return failure
}

func strangeAnswer(resp *http.Response, text []byte) *Error {
	var wire struct{ Error, Reason, Detail string } // WIRE.md 0.3
	if json.Unmarshal(text, &wire) == nil && wire.Error != "" {
		code := codeOfStatus(resp.StatusCode)
		if KnownCode(wire.Error) {
			code = wire.Error
		}
		return &Error{Code: code, Field: wire.Reason, Reason: wire.Error, Detail: strings.TrimSpace(wire.Error + " " + wire.Detail)}
	}
	return &Error{Code: codeOfStatus(resp.StatusCode),
		Detail: fmt.Sprintf("HTTP %d without a problem document: is this address an EdgeCoder API? %.200q", resp.StatusCode, text)}
}

func codeOfStatus(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return CodeUnauthorized
	case http.StatusForbidden:
		return CodeForbidden
	case http.StatusNotFound:
		return CodeNotFound
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return CodeInvalid
	case http.StatusTooManyRequests:
		return CodeRateLimited
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return CodeUnknownOutcome // who answered may not know
	}
	return CodeInternal
}

// into decodes the answer into out, bounded.
func into(out any) func(io.Reader) error {
	return func(r io.Reader) error {
		text, err := io.ReadAll(io.LimitReader(r, maxResponseBytes+1))
		if err != nil {
			return err
		}
		if len(text) > maxResponseBytes {
			return fmt.Errorf("more than %d bytes", maxResponseBytes)
		}
		return json.Unmarshal(text, out)
	}
}
