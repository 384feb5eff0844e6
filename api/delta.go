package api

import (
	"fmt"
	"net/http"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// The blacklist as changes: who is banned and who is not any more since a cursor, for services that hold a list of their own.

// maxDelta bounds the events that one answer tells of.
const maxDelta = 1000

// delta answers GET /v1/blacklist/delta. A cursor that is not of this chain's past is answered like none, with a reset.
func (s *Server) delta(c *call) error {
	var from client.DeltaCursor
	text := c.r.URL.Query().Get("cursor")
	if text != "" {
		var err error
		if from, err = client.ParseCursor(text); err != nil {
			return err
		}
	}
	epoch, size, err := c.chainEnd(ReadOptions{})
	if err == nil && (from.Epoch > epoch || from.Epoch == epoch && from.Seq > size) { // this replica may be behind the one that made the cursor
		epoch, size, err = c.chainEnd(ReadOptions{Strong: true})
	}
	if err != nil {
		return err
	}
	known := false
	if text != "" {
		if known, err = s.pastHas(from, epoch, size); err != nil {
			return err
		}
	}
	if !known {
		from = client.CursorAt(epoch, 0, crypto.BlacklistGenesis)
	}
	out, err := s.deltaFrom(from, size)
	if err != nil {
		return err
	}
	out.Reset = !known
	if now, _, err := c.chainEnd(ReadOptions{}); err != nil || now != epoch {
		return &client.Error{Code: client.CodeUnavailable, RetryAfter: eventLook, Detail: "a recovery replaced the history just now: ask again"}
	}
	return c.reply(http.StatusOK, out)
}

func (c *call) chainEnd(opts ReadOptions) (epoch, size uint64, err error) {
	read := func(state *fsm.State) {
		epoch = state.Meta().Epoch
		_, size = state.Chain()
	}
	if opts.Strong {
		err = c.readAt(opts, read)
	} else {
		err = c.read(read)
	}
	return epoch, size, err
}

// pastHas tells whether the chain of an epoch and size leads through a cursor.
func (s *Server) pastHas(d client.DeltaCursor, epoch, size uint64) (bool, error) {
	if d.Epoch != epoch || d.Seq > size {
		return false, nil
	}
	if d.Seq == 0 {
		return d == client.CursorAt(epoch, 0, crypto.BlacklistGenesis), nil
	}
	records, err := s.chain(d.Seq, 1)
	if err != nil {
		return false, err
	}
	e, err := crypto.ParseBlacklistEvent(records[0].Data)
	if err != nil {
		return false, fmt.Errorf("blacklist history, record %d: %w", d.Seq, err)
	}
	return d == client.CursorAt(epoch, d.Seq, e.EventHash), nil
}

// deltaFrom tells of one page of events behind a cursor.
func (s *Server) deltaFrom(from client.DeltaCursor, size uint64) (out client.BlacklistDelta, err error) {
	var records []fsm.Record
	if n := int(min(size-from.Seq, maxDelta)); n > 0 {
		if records, err = s.chain(from.Seq+1, n); err != nil {
			return out, err
		}
	}
	events := make([]crypto.BlacklistEvent, len(records))
	for i, r := range records {
		if events[i], err = crypto.ParseBlacklistEvent(r.Data); err != nil {
			return out, fmt.Errorf("blacklist history, record %d: %w", r.Seq, err)
		}
	}
	out = from.Page(events)
	out.More = from.Seq+uint64(len(records)) < size
	return out, nil
}

// deltaOf is what one event changes, as the stream of events tells it.
func deltaOf(epoch, seq uint64, e *crypto.BlacklistEvent) *client.BlacklistDelta {
	out := client.CursorAt(epoch, seq-1, e.PrevEventHash).Page([]crypto.BlacklistEvent{*e})
	return &out
}
