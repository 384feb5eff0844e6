package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// eventServer answers each request for events with the next of its scripts.
type eventServer struct {
	*httptest.Server
	mu      sync.Mutex
	scripts []func(w http.ResponseWriter)
	asked   []string // Last-Event-ID of each request
}

func newEventServer(t *testing.T, scripts ...func(w http.ResponseWriter)) *eventServer {
	s := &eventServer{scripts: scripts}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, r.Header.Get(HeaderLastEventID)+"|"+r.URL.RawQuery)
		next := func(w http.ResponseWriter) { w.WriteHeader(http.StatusUnauthorized) }
		if len(s.scripts) > 0 {
			next, s.scripts = s.scripts[0], s.scripts[1:]
		}
		s.mu.Unlock()
		next(w)
	}))
	t.Cleanup(s.Close)
	return s
}

func says(text string) func(w http.ResponseWriter) {
	return func(w http.ResponseWriter) { _, _ = io.WriteString(w, text) }
}

func eventClient(t *testing.T, addrs ...string) *Client {
	t.Helper()
	c, err := New(Config{Addrs: addrs})
	if err != nil {
		t.Fatal(err)
	}
	c.sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	return c
}

func TestEventsResumeWhereTheyBrokeOff(t *testing.T) {
	s := newEventServer(t,
		says("retry: 1000\nid: 1-1-0-0-00\n\nid: 1-1-1-0-aa\nevent: ban\ndata: {\"type\":\"ban\",\"subject\":\"a\"}\n\n: still here\n\nid: 1-1-1-5-bb\n\nid: torn\nevent: ban\ndata: {"),
		says(""),
		says("id: 1-1-2-5-cc\nevent: lift\ndata: {\"type\":\"lift\",\"subject\":\"a\"}\n\n"))
	var got []string
	var last error
	for e, err := range eventClient(t, s.URL).Events(t.Context(), EventFilter{Types: []string{EventBan, EventLift}}) {
		if err != nil {
			last = err
			break
		}
		got = append(got, e.ID+" "+e.Type+" "+e.Subject)
	}
	if fmt.Sprint(got) != "[1-1-1-0-aa ban a 1-1-2-5-cc lift a]" {
		t.Errorf("%v", got)
	}
	if e := (*Error)(nil); !errors.As(last, &e) || e.Code != CodeUnauthorized {
		t.Errorf("ended with %v", last)
	}
	const types = "|types=ban%2Clift"
	if fmt.Sprint(s.asked) != fmt.Sprint([]string{types, "1-1-1-5-bb" + types, "1-1-1-5-bb" + types, "1-1-2-5-cc" + types}) {
		t.Errorf("asked %v", s.asked)
	}
}

func TestEventsEndWithTheCallerOrAReset(t *testing.T) {
	s := newEventServer(t, says("id: 1\nevent: ban\ndata: {}\n\nid: 2\nevent: ban\ndata: {}\n\n"),
		says("id: 3\nevent: ban\ndata: {}\n\nevent: reset\ndata: {\"type\":\"reset\",\"detail\":\"read anew\"}\n\n"))
	c := eventClient(t, s.URL)
	for range c.Events(t.Context(), EventFilter{}) {
		break
	}
	seen := 0
	var reset *Error
	for _, err := range c.Events(t.Context(), EventFilter{After: "2"}) {
		if err == nil {
			seen++
		} else if !errors.As(err, &reset) {
			t.Fatal(err)
		}
	}
	if seen != 1 || reset == nil || reset.Reason != ReasonReset || reset.Detail != "read anew" || len(s.asked) != 2 {
		t.Errorf("%d events, %+v, asked %v", seen, reset, s.asked)
	}
}

func TestEventsGiveUpWhenNobodyAnswers(t *testing.T) {
	s := newEventServer(t)
	s.Close()
	n := 0
	for _, err := range eventClient(t, s.URL).Events(t.Context(), EventFilter{}) {
		if n++; err == nil {
			t.Error("an event from nobody")
		}
	}
	if n != 1 {
		t.Errorf("%d errors", n)
	}
}

func TestEventReaderIsBounded(t *testing.T) {
	for what, text := range map[string]string{
		"a line": "data: " + strings.Repeat("x", maxEventBytes+1) + "\n\n",
		"data":   strings.Repeat("data: "+strings.Repeat("x", 1<<10)+"\n", maxEventBytes>>10+1) + "\n",
	} {
		if _, err := newEventReader(strings.NewReader(text)).next(); err == nil || !strings.Contains(err.Error(), "above") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzEventReader(f *testing.F) {
	f.Add("id: 1\r\nevent: ban\rdata: {}\n\n: hi\n\ndata: a\ndata: b\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		r := newEventReader(strings.NewReader(text))
		for range len(text) + 1 {
			m, err := r.next()
			if err != nil {
				return
			}
			if strings.ContainsAny(m.id+m.event, "\r\n") || len(m.data) > maxEventBytes {
				t.Fatalf("%+v", m)
			}
		}
		t.Fatal("more blocks than bytes")
	})
}
