package client

import (
	"fmt"
	"net/http"
	"time"
)

// Error codes of the API (CONTRACT.md). A code is stable; its text is not.
const (
	CodeUnauthorized   = "unauthorized"
	CodeForbidden      = "forbidden"
	CodeNotFound       = "not_found"
	CodeConflict       = "conflict"
	CodeInvalid        = "invalid"
	CodeTooLarge       = "too_large"
	CodeRateLimited    = "rate_limited"
	CodeOverloaded     = "overloaded"
	CodeUnavailable    = "unavailable"
	CodeUnknownOutcome = "unknown_outcome"
	CodeDiskFull       = "disk_full"
	CodeInternal       = "internal"
)

// Verdict codes of an admission.
const (
	VerdictOK               = "ok"
	VerdictMissingHeaders   = "missing_headers"
	VerdictMalformed        = "malformed"
	VerdictTimestampSkew    = "timestamp_skew"
	VerdictUnknownAgent     = "unknown_agent"
	VerdictAgentNotActive   = "agent_not_active"
	VerdictInvalidSignature = "invalid_signature"
	VerdictKeyExpired       = "key_expired"
	VerdictBlacklisted      = "agent_blacklisted"
	VerdictReplay           = "replay"
	VerdictRateLimited      = "rate_limited"
)

// Retry says what a caller may do after an error.
type Retry int

// The ways to retry.
const (
	RetryNo        Retry = iota // the same call will fail again
	RetryLater                  // certainly not done: call again, after Retry-After if given
	RetrySameID                 // may have been done: call again only with the same claim id or idempotency key
	RetryElsewhere              // certainly not done here: another node may, this one not before somebody mends it
)

// codes is the one table between codes, HTTP statuses and retry rules.
var codes = map[string]struct {
	status int
	retry  Retry
}{
	CodeUnauthorized:   {http.StatusUnauthorized, RetryNo},
	CodeForbidden:      {http.StatusForbidden, RetryNo},
	CodeNotFound:       {http.StatusNotFound, RetryNo},
	CodeConflict:       {http.StatusConflict, RetryNo},
	CodeInvalid:        {http.StatusUnprocessableEntity, RetryNo},
	CodeTooLarge:       {http.StatusRequestEntityTooLarge, RetryNo},
	CodeRateLimited:    {http.StatusTooManyRequests, RetryLater},
	CodeOverloaded:     {http.StatusServiceUnavailable, RetryLater},
	CodeUnavailable:    {http.StatusServiceUnavailable, RetryLater},
	CodeUnknownOutcome: {http.StatusServiceUnavailable, RetrySameID},
	CodeDiskFull:       {http.StatusInsufficientStorage, RetryElsewhere},
	CodeInternal:       {http.StatusInternalServerError, RetryNo},
}

// StatusOf returns the HTTP status of a code, and 500 for an unknown one.
func StatusOf(code string) int {
	if c, ok := codes[code]; ok {
		return c.status
	}
	return http.StatusInternalServerError
}

// RetryOf returns how a call that failed with code may be tried again.
func RetryOf(code string) Retry { return codes[code].retry }

// KnownCode tells whether code is one of the API's error codes.
func KnownCode(code string) bool { _, ok := codes[code]; return ok }

// Error is an API error on both sides of the wire: the server writes it as
// application/problem+json (RFC 9457), the client returns it.
type Error struct {
	Code           string
	Detail         string        // what happened, to which input, and what to do next
	Field          string        // the offending member, for invalid and too_large
	Reason         string        // finer cause, such as "clock" with unavailable
	RetryAfter     time.Duration // 0: no hint
	ClaimID        string        // with unknown_outcome or unavailable: retry under it
	IdempotencyKey string        // likewise
	RequestID      string

	cause error // of a failure below HTTP
}

// Unwrap returns the network failure behind the error, if there was one.
func (e *Error) Unwrap() error { return e.cause }

func (e *Error) Error() string {
	if e.Field != "" {
		return fmt.Sprintf("%s: %s: %s", e.Code, e.Field, e.Detail)
	}
	return e.Code + ": " + e.Detail
}

// Problem is the body of an error answer (RFC 9457).
type Problem struct {
	Type           string `json:"type"`
	Title          string `json:"title"`
	Status         int    `json:"status"`
	Code           string `json:"code"`
	Detail         string `json:"detail,omitempty"`
	Field          string `json:"field,omitempty"`
	Reason         string `json:"reason,omitempty"`
	RetryAfterMs   int64  `json:"retry_after_ms,omitempty"`
	ClaimID        string `json:"claim_id,omitempty"`
	IdempotencyKey string `json:"idempotency_key,omitempty"`
	RequestID      string `json:"request_id,omitempty"`
}

// Problem returns the body that the server writes for e.
func (e *Error) Problem() Problem {
	status := StatusOf(e.Code)
	return Problem{
		Type: "urn:edgecoder:error:" + e.Code, Title: http.StatusText(status), Status: status,
		Code: e.Code, Detail: e.Detail, Field: e.Field, Reason: e.Reason,
		RetryAfterMs: e.RetryAfter.Milliseconds(), ClaimID: e.ClaimID,
		IdempotencyKey: e.IdempotencyKey, RequestID: e.RequestID,
	}
}

// Error returns the error that the body p describes.
func (p Problem) Error() *Error {
	return &Error{Code: p.Code, Detail: p.Detail, Field: p.Field, Reason: p.Reason,
		RetryAfter: time.Duration(p.RetryAfterMs) * time.Millisecond,
		ClaimID:    p.ClaimID, IdempotencyKey: p.IdempotencyKey, RequestID: p.RequestID}
}
