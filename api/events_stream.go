package api

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// eventRetry is what a browser waits before it resumes, in milliseconds.
const eventRetry = 1000

// eventWriter writes text/event-stream (WHATWG HTML, section 9.2).
type eventWriter struct {
	c       *call
	out     *bufio.Writer
	control *http.ResponseController
	last    time.Time // when something was sent
}

// eventWriter begins the answer: the server's own deadlines are for requests
// that end.
func (c *call) eventWriter() (*eventWriter, error) {
	w := &eventWriter{c: c, control: http.NewResponseController(c.w), last: time.Now()}
	w.out = bufio.NewWriterSize(w, 16<<10)
	if err := supported(w.control.SetReadDeadline(time.Time{})); err != nil {
		return nil, err
	}
	return w, nil
}

// supported lets recorders of tests pass, which have no connection.
func supported(err error) error {
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

// Write implements io.Writer for the buffer. Its deadline is lifted afterwards:
// HTTP/2 ends a stream whose deadline passes even when nobody writes.
func (w *eventWriter) Write(p []byte) (int, error) {
	if err := supported(w.control.SetWriteDeadline(time.Now().Add(eventWrite))); err != nil {
		return 0, errEnded // the connection is gone
	}
	n, err := w.c.w.Write(p)
	if err == nil {
		err = supported(w.control.Flush())
	}
	if err != nil {
		return n, errEnded // gone, or too slow: it resumes from its last id
	}
	return n, supported(w.control.SetWriteDeadline(time.Time{}))
}

// open sends the headers and the id to resume from before there is any event.
func (w *eventWriter) open(at mark) error {
	w.c.setIndexHeader()
	h := w.c.w.Header()
	h["Content-Type"] = eventType
	h["X-Accel-Buffering"] = []string{"no"} // proxies that buffer would hold events back
	w.c.wrote = true
	w.c.s.meter.answered(http.StatusOK)
	w.c.w.WriteHeader(http.StatusOK)
	fmt.Fprintf(w.out, "retry: %d\nid: %s\n\n", eventRetry, at)
	return w.flush("")
}

var eventType = []string{"text/event-stream"}

func (w *eventWriter) event(id string, e client.Event) error {
	fmt.Fprintf(w.out, "id: %s\nevent: %s\ndata: ", id, e.Type) // bufio keeps the first error
	_, _ = w.out.Write(encodeJSON(e))                           // one line, and its end
	return w.out.WriteByte('\n')
}

// flush sends what was written, or a heartbeat, and the id if there is one.
func (w *eventWriter) flush(id string) error {
	if id != "" {
		fmt.Fprintf(w.out, "id: %s\n\n", id)
	} else if w.out.Buffered() == 0 {
		fmt.Fprint(w.out, ": still here\n\n")
	}
	w.last = time.Now()
	return w.out.Flush()
}

// reset tells that what was told is lost. It has no id: there is nothing to
// resume from.
func (w *eventWriter) reset(e client.Event) error {
	fmt.Fprintf(w.out, "event: %s\ndata: ", client.EventReset)
	_, _ = w.out.Write(encodeJSON(e))
	if err := w.out.WriteByte('\n'); err != nil {
		return err
	}
	return w.out.Flush()
}

// EndStreams has streams of events end, as a server must before it can wait for
// the requests under way.
func (s *Server) EndStreams() { s.endStreams.Do(func() { close(s.closing) }) }
