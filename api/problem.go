package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// refusals is the one table from codes of the state machine to API errors.
// Codes of claims are missing here on purpose: they are verdicts, see
// verdictCodes.
var refusals = map[fsm.Code]client.Error{
	fsm.CodeUnauthorized: {Code: client.CodeUnauthorized},
	fsm.CodeForbidden:    {Code: client.CodeForbidden},
	fsm.CodeNotFound:     {Code: client.CodeNotFound},
	fsm.CodeConflict:     {Code: client.CodeConflict},
	fsm.CodeInvalid:      {Code: client.CodeInvalid},
	fsm.CodeTooLarge:     {Code: client.CodeTooLarge},
	fsm.CodeOverloaded:   {Code: client.CodeOverloaded},
	fsm.CodeUnavailable:  {Code: client.CodeUnavailable},
	fsm.CodeStale:        {Code: client.CodeUnavailable, Reason: "stale"},
	fsm.CodeClockAhead:   {Code: client.CodeUnavailable, Reason: "clock"},
}

// refusal returns the API error of a command that the state refused.
func refusal(res fsm.Result) error {
	e, ok := refusals[res.Code]
	if !ok {
		e = client.Error{Code: client.CodeInternal}
	}
	e.Detail, e.Field = res.Detail, res.Field
	if e.Detail == "" {
		e.Detail = string(res.Code)
	}
	return &e
}

func invalid(field, detail string) *client.Error {
	return &client.Error{Code: client.CodeInvalid, Field: field, Detail: detail}
}

// discreet keeps what is wrong with this node from those who have shown no token:
// names of members, epochs and what to do are for operators. Code and reason stay.
func (c *call) discreet(e client.Error) client.Error {
	if e.Code == client.CodeUnavailable && c.token.ID == "" {
		e.Detail = "this node cannot answer that now"
	}
	return e
}

// asError returns what to tell the caller about err. An error that is not the
// API's own is logged, not told: it may hold what is nobody's business.
func (c *call) asError(err error) client.Error {
	var e *client.Error
	switch {
	case errors.As(err, &e):
		return c.discreet(*e)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return client.Error{Code: client.CodeUnavailable, Detail: "the request's time ran out before it was decided"}
	}
	c.s.cfg.Log.Error("request failed", "request_id", c.requestID, "error", err)
	return client.Error{Code: client.CodeInternal, Detail: "this node failed on the request; its log names the request id"}
}

// fail writes an error: the one place that does.
func (c *call) fail(err error) {
	if c.wrote { // too late for an error: cut the answer off
		c.s.cfg.Log.Error("answer broke off", "request_id", c.requestID, "error", err)
		panic(http.ErrAbortHandler)
	}
	status, allow := 0, (*methodError)(nil)
	var e client.Error
	if errors.As(err, &allow) {
		status, e = http.StatusMethodNotAllowed, client.Error{Code: client.CodeInvalid, Detail: allow.Error()}
		c.w.Header().Set("Allow", allow.allow)
	} else {
		e = c.asError(err)
		status = client.StatusOf(e.Code)
		c.s.meter.refused(e.Code, errors.Is(err, errCrowded))
	}
	c.code, c.field, c.reason = e.Code, e.Field, e.Reason
	e.RequestID = c.requestID
	if e.Code == client.CodeUnauthorized {
		c.w.Header().Set("WWW-Authenticate", `Bearer realm="edgecoder"`)
	}
	c.setRetryAfter(&e)
	c.dropBody()
	c.setIndexHeader()
	if f := (*wireFault)(nil); errors.As(err, &f) {
		c.verdict = f.verdict()
		c.w.Header()["Content-Type"] = jsonType
		c.write(cmp.Or(f.status, status), encodeJSON(f.body))
		return
	}
	if c.route != nil && c.route.wire() {
		c.writeWireError(status, e)
		return
	}
	p := e.Problem()
	p.Status, p.Title = status, http.StatusText(status)
	c.w.Header().Set("Content-Type", "application/problem+json")
	c.write(status, encodeJSON(p))
}

// setRetryAfter rounds up to whole seconds: a caller that comes back early is
// refused again.
func (c *call) setRetryAfter(e *client.Error) {
	wait := e.RetryAfter
	if wait <= 0 && client.RetryOf(e.Code) != client.RetryNo {
		wait = time.Second
	}
	if wait > 0 {
		seconds := (wait + time.Second - 1) / time.Second
		c.w.Header().Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
}

// wireError is the error shape of WIRE.md 0.3.
type wireError struct {
	Error  string `json:"error"`
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// writeWireError answers as the protocol of WIRE.md does, with 400 for bodies
// where the reference threw a 500.
func (c *call) writeWireError(status int, e client.Error) {
	out := wireError{Error: e.Code, Detail: e.Detail}
	switch e.Code {
	case client.CodeUnauthorized:
		out = wireError{Error: "mesh_unauthorized"}
	case client.CodeForbidden:
		out.Error = "mesh_forbidden"
	case client.CodeInvalid:
		out.Error, out.Reason = "invalid_request", e.Field
		if e.Reason != "" {
			out.Error = e.Reason
		}
		if status == http.StatusUnprocessableEntity {
			status = http.StatusBadRequest
		}
	}
	c.w.Header()["Content-Type"] = jsonType
	c.write(status, encodeJSON(out))
}
