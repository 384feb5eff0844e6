package client

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// FuzzProblem: whatever a server, or something in between, answers with an
// error status becomes an error with a known code.
func FuzzProblem(f *testing.F) {
	f.Add(503, "1", `{"code":"unavailable","detail":"d","retry_after_ms":5}`)
	f.Add(401, "", `{"error":"signature_invalid","reason":"replay"}`)
	f.Add(502, "-1", `<html>`)
	f.Fuzz(func(t *testing.T, status int, retryAfter, text string) {
		resp := &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {retryAfter}}, Body: io.NopCloser(strings.NewReader(text))}
		if e := problemOf(resp); !KnownCode(e.Code) || e.RetryAfter < 0 || e.Error() == "" {
			t.Errorf("%d %q: %+v", status, text, e)
		}
	})
}
