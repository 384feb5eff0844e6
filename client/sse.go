package client

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxEventBytes bounds a message of a stream: the largest event is 16 KiB
// before JSON escapes it.
const maxEventBytes = 256 << 10

// message is one block of a stream of events. One without data is a heartbeat.
type message struct {
	id, event, data string
}

// eventReader reads text/event-stream (WHATWG HTML, section 9.2).
type eventReader struct {
	lines *bufio.Scanner
}

func newEventReader(r io.Reader) *eventReader {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 4<<10), maxEventBytes)
	s.Split(scanEventLine)
	return &eventReader{lines: s}
}

// scanEventLine splits at CR LF, LF or CR. A CR at the end of what came may have
// its LF still on the way: that one is then an empty line too many, which says
// nothing between blocks.
func scanEventLine(data []byte, atEOF bool) (advance int, token []byte, err error) {
	i := bytes.IndexAny(data, "\r\n")
	switch {
	case i < 0 && atEOF && len(data) > 0:
		return len(data), nil, nil // a torn line is none
	case i < 0:
		return 0, nil, nil
	case data[i] == '\r' && i+1 < len(data) && data[i+1] == '\n':
		return i + 2, data[:i:i], nil
	}
	return i + 1, data[:i:i], nil
}

// next returns the next block that says anything. What broke off in the middle
// of a block is dropped.
func (r *eventReader) next() (message, error) {
	var m message
	var data strings.Builder
	said, has := false, false
	for r.lines.Scan() {
		line := r.lines.Text()
		if line == "" {
			if !said {
				continue
			}
			m.data = data.String()
			return m, nil
		}
		said = true
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			if !strings.ContainsRune(value, 0) {
				m.id = value
			}
		case "event":
			m.event = value
		case "data":
			if has {
				data.WriteByte('\n')
			}
			if has = true; data.Len()+len(value) > maxEventBytes {
				return message{}, fmt.Errorf("an event above %d bytes", maxEventBytes)
			}
			data.WriteString(value)
		}
	}
	if err := r.lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return message{}, fmt.Errorf("a line above %d bytes", maxEventBytes)
		}
		return message{}, err
	}
	return message{}, io.EOF
}
