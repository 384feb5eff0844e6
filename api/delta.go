package api

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// The blacklist as changes: who is banned and who is not any more since a cursor, for services that hold a list of their own.

// maxDelta bounds the events that one answer tells of.
const maxDelta = 1000

// deltaCursor is a place in the chain as it travels: "1-EPOCH-SEQ-CHECK". The check is of the event there, which holds the hash of the one before, so equal
// cursors mean equal pasts.
type deltaCursor struct {
	epoch, seq uint64
	check      [8]byte
}

// maxDeltaCursor bounds the text of a cursor: two numbers of 64 bits and the check.
const maxDeltaCursor = 64

// cursorAt is behind an event whose hash is given; at 0 it is crypto.BlacklistGenesis.
func cursorAt(epoch, seq uint64, hash string) deltaCursor {
	sum := crypto.Sum([]byte("edgecoder delta cursor v1\n" + hash))
	return deltaCursor{epoch: epoch, seq: seq, check: [8]byte(sum[:8])}
}

// String implements fmt.Stringer.
func (d deltaCursor) String() string { return fmt.Sprintf("1-%d-%d-%x", d.epoch, d.seq, d.check) }

func parseCursor(text string) (d deltaCursor, err error) {
	bad := invalid("cursor", quote(text)+" is no cursor: give one as it came, or none to begin with an empty list")
	parts := strings.Split(text, "-")
	if len(text) > maxDeltaCursor || len(parts) != 4 || parts[0] != "1" {
		return d, bad
	}
	for i, n := range []*uint64{&d.epoch, &d.seq} {
		if *n, err = strconv.ParseUint(parts[i+1], 10, 62); err != nil {
			return d, bad
		}
	}
	check, err := hex.DecodeString(parts[3])
	if err != nil || len(check) != len(d.check) {
		return d, bad
	}
	copy(d.check[:], check)
	if d.String() != text {
		return d, bad // one place has one cursor
	}
	return d, nil
}

// delta answers GET /v1/blacklist/delta. A cursor that is not of this chain's past is answered like none, with a reset.
func (s *Server) delta(c *call) error {
	var from deltaCursor
	text := c.r.URL.Query().Get("cursor")
	if text != "" {
		var err error
		if from, err = parseCursor(text); err != nil {
			return err
		}
	}
	epoch, size, err := c.chainEnd(ReadOptions{})
	if err == nil && (from.epoch > epoch || from.epoch == epoch && from.seq > size) { // this replica may be behind the one that made the cursor
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
		from = cursorAt(epoch, 0, crypto.BlacklistGenesis)
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
func (s *Server) pastHas(d deltaCursor, epoch, size uint64) (bool, error) {
	if d.epoch != epoch || d.seq > size {
		return false, nil
	}
	if d.seq == 0 {
		return d == cursorAt(epoch, 0, crypto.BlacklistGenesis), nil
	}
	records, err := s.chain(d.seq, 1)
	if err != nil {
		return false, err
	}
	e, err := crypto.ParseBlacklistEvent(records[0].Data)
	if err != nil {
		return false, fmt.Errorf("blacklist history, record %d: %w", d.seq, err)
	}
	return d == cursorAt(epoch, d.seq, e.EventHash), nil
}

// deltaFrom tells of one page of events behind a cursor, of each agent the last.
func (s *Server) deltaFrom(from deltaCursor, size uint64) (client.BlacklistDelta, error) {
	out := client.BlacklistDelta{Cursor: from.String()}
	var records []fsm.Record
	if n := int(min(size-from.seq, maxDelta)); n > 0 {
		var err error
		if records, err = s.chain(from.seq+1, n); err != nil {
			return out, err
		}
	}
	last := map[string]uint64{}
	events := make([]crypto.BlacklistEvent, len(records))
	for i, r := range records {
		e, err := crypto.ParseBlacklistEvent(r.Data)
		if err != nil {
			return out, fmt.Errorf("blacklist history, record %d: %w", r.Seq, err)
		}
		events[i], last[e.AgentID] = e, r.Seq
		out.Cursor = cursorAt(from.epoch, r.Seq, e.EventHash).String()
	}
	out.New, out.Deleted = []client.Ban{}, []string{}
	for i, r := range records {
		if last[events[i].AgentID] == r.Seq {
			addChange(&out, r.Seq, &events[i])
		}
	}
	out.More = from.seq+uint64(len(records)) < size
	return out, nil
}

// addChange adds what an event does to the list. An event that ended when it began is a lift.
func addChange(to *client.BlacklistDelta, seq uint64, e *crypto.BlacklistEvent) {
	if e.EndsBeforeItBegins() {
		to.Deleted = append(to.Deleted, e.AgentID)
		return
	}
	ban := client.Ban{AgentID: e.AgentID, EventID: e.EventID, EventHash: e.EventHash, Seq: seq, ReasonCode: e.ReasonCode, TimestampMs: e.TimestampMs}
	if e.ExpiresAtMs != nil {
		ban.ExpiresAtMs = *e.ExpiresAtMs
	}
	to.New = append(to.New, ban)
}

// deltaOf is what one event changes, as the stream of events tells it.
func deltaOf(epoch, seq uint64, e *crypto.BlacklistEvent) *client.BlacklistDelta {
	out := &client.BlacklistDelta{New: []client.Ban{}, Deleted: []string{}, Cursor: cursorAt(epoch, seq, e.EventHash).String()}
	addChange(out, seq, e)
	return out
}
