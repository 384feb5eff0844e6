package client

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// A backup that a leader broke off at is not sent to the next one: the file may
// be what ended it.
func TestUploadsThatBreakOffAreNotSentAgain(t *testing.T) {
	file := Backup{ReaderAt: strings.NewReader("a backup"), Size: 8}
	for name, k := range map[string]struct {
		call func(*Client) error
		code string
	}{
		"a plan":    {func(c *Client) error { _, err := c.RestorePlan(t.Context(), file); return err }, CodeUnavailable},
		"a restore": {func(c *Client) error { _, err := c.Restore(t.Context(), file, RestoreOrder{}); return err }, CodeUnknownOutcome},
	} {
		t.Run(name, func(t *testing.T) {
			var uploads atomic.Int64
			step := func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v1/status" {
					_, _ = io.WriteString(w, fmt.Sprintf(`{"leader":{"name":"n","api":"http://%s"}}`, r.Host))
					return
				}
				uploads.Add(1)
				panic(http.ErrAbortHandler)
			}
			c, _ := start(t, &script{steps: []func(http.ResponseWriter, *http.Request){step}})
			wantCode(t, k.call(c), k.code)
			if n := uploads.Load(); n != 1 {
				t.Errorf("sent %d times", n)
			}
		})
	}
}

// A leader that was never reached is asked again.
func TestUploadsThatDidNotBeginAreRetried(t *testing.T) {
	var uploads atomic.Int64
	step := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/status" {
			_, _ = io.WriteString(w, fmt.Sprintf(`{"leader":{"name":"n","api":"http://%s"}}`, r.Host))
			return
		}
		if uploads.Add(1) < 3 {
			problem(CodeUnavailable, "")(w, r)
			return
		}
		_, _ = io.WriteString(w, `{"new_epoch":7}`)
	}
	c, _ := start(t, &script{steps: []func(http.ResponseWriter, *http.Request){step}})
	plan, err := c.RestorePlan(t.Context(), Backup{ReaderAt: strings.NewReader("a backup"), Size: 8})
	if err != nil || plan.NewEpoch != 7 || uploads.Load() != 3 {
		t.Errorf("%d uploads: %+v, %v", uploads.Load(), plan, err)
	}
}
