package api

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// streamFlush is how much of a stream is written under one deadline, so that a
// reader may take as long as it needs, as long as it goes on reading.
const streamFlush = 64 << 10

// stream is an answer of unknown length that holds one buffer in memory. The
// first bytes go out with the first full buffer, so that what fails before
// that is still a proper error.
type stream struct {
	c       *call
	out     *bufio.Writer
	kind    []string // content type
	control *http.ResponseController
	n       int
}

// stream begins an answer with status 200 and its opening text.
func (c *call) stream(opening string) (*stream, error) {
	st := &stream{c: c, kind: jsonType, control: http.NewResponseController(c.w)}
	st.out = bufio.NewWriterSize(st, streamFlush)
	if err := st.control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, fmt.Errorf("stream: %w", err) // the server's read timeout must not end a long answer
	}
	_, err := st.out.WriteString(opening)
	return st, err
}

// Write sends a full buffer to the caller.
func (st *stream) Write(p []byte) (int, error) {
	if !st.c.wrote {
		if err := st.c.keep(); err != nil {
			return 0, err
		}
		st.c.setIndexHeader()
		st.c.w.Header()["Content-Type"] = st.kind
		st.c.wrote = true
		st.c.s.meter.answered(http.StatusOK)
		st.c.w.WriteHeader(http.StatusOK)
	}
	err := st.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, fmt.Errorf("stream: %w", err)
	}
	return st.c.w.Write(p)
}

// element adds one element of the array that the stream is about.
func (st *stream) element(text []byte) error {
	if st.n++; st.n > 1 {
		if err := st.out.WriteByte(','); err != nil {
			return err
		}
	}
	_, err := st.out.Write(text)
	return err
}

func (st *stream) end(closing string) error {
	if _, err := st.out.WriteString(closing); err != nil {
		return err
	}
	return st.out.Flush()
}
