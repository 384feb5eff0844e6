package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// GET /v1/events: a stream of what was committed, read from the history on
// disk. A subscriber has no queue: it holds one page and its place, so a slow
// one costs nothing but its connection, is cut off by the write deadline, and
// goes on from its last id at any node.
const (
	// eventPage records of each stream are read at a time: 1 MiB of the largest.
	eventPage = 64
	// eventPause is between two looks at a log that moves all the time: a
	// subscriber costs twenty looks a second at most.
	eventPause = 50 * time.Millisecond
	// eventLook is how often a subscriber looks at the least: whether its token is
	// still good, and whether this node still serves.
	eventLook = time.Second
	// eventBeat is the longest silence, so that callers notice a dead connection.
	eventBeat = 10 * time.Second
	// eventWrite is how long a reader may take for a page.
	eventWrite = 10 * time.Second
)

// errEnded ends a stream without a word: the caller asks again and then hears
// why it gets none.
var errEnded = errors.New("the stream of events ended")

// subscriber is one stream of events.
type subscriber struct {
	c     *call
	out   *eventWriter
	want  eventFilter
	ops   bool // its role reads administrative actions
	at    place
	epoch uint64 // of the history that at belongs to
	told  mark   // the last id that was sent
}

// horizon is what this replica has of the history.
type horizon struct {
	epoch uint64
	size  [len(eventStreams)]uint64
}

// events answers GET /v1/events.
func (s *Server) events(c *call) error {
	if c.r.Method != http.MethodGet {
		return &methodError{allow: http.MethodGet} // HEAD would get nothing, for ever
	}
	after := c.r.URL.Query().Get("last_event_id")
	if values := c.r.Header.Values(client.HeaderLastEventID); len(values) > 0 {
		after = values[0] // what resumes a stream is newer than the URL that began it
	}
	want, err := parseTypes(c.r.URL.Query().Get("types"), c.token.Role)
	if err != nil {
		return err
	}
	sub := &subscriber{c: c, want: want, ops: c.token.Role.Can(fsm.CapReadOps)}
	if err := sub.begin(after); err != nil {
		return err
	}
	c.ctx = c.r.Context() // it lasts as long as its caller likes
	if sub.out, err = c.eventWriter(); err != nil {
		return err
	}
	err = sub.follow(s.closing)
	if errors.Is(err, errEnded) || c.ctx.Err() != nil {
		return nil
	}
	s.cfg.Log.Warn("a stream of events ended", "request_id", c.requestID, "error", err)
	return nil
}

// look returns what this replica has, and an error once this caller may not
// hear of it any more.
func (sub *subscriber) look(strong bool) (h horizon, err error) {
	c := sub.c
	if err := c.s.node.Serving(); err != nil {
		return h, err
	}
	inForce := false
	index, err := c.s.node.Read(c.ctx, ReadOptions{Strong: strong}, func(s *fsm.State) {
		meta := s.Meta()
		h.epoch, h.size = meta.Epoch, [...]uint64{meta.ChainSize, meta.AdminSize}
		_, inForce = s.TokenInForce(c.token.ID, s.ClockMs())
	})
	if err != nil {
		return h, err
	}
	if !inForce {
		return h, unauthorized("the token has expired or was revoked")
	}
	c.index = max(c.index, index)
	return h, nil
}

// begin finds the place to begin from. What this replica does not have yet is
// asked of the whole cluster before it is called lost.
func (sub *subscriber) begin(after string) error {
	h, err := sub.look(false)
	if err != nil {
		return err
	}
	if after == "" || after == client.EventStart {
		seen := h.size
		if after == client.EventStart {
			seen = [len(eventStreams)]uint64{}
		}
		sub.epoch = h.epoch
		if sub.at, err = sub.placeOf(seen); err != nil {
			return err
		}
		now, err := sub.look(false)
		if err == nil && now.epoch != h.epoch {
			err = &client.Error{Code: client.CodeUnavailable, RetryAfter: time.Second, Detail: "a recovery replaced the history just now: ask again"}
		}
		return err
	}
	m, err := parseMark(after)
	if err != nil {
		return err
	}
	if !h.has(m) {
		if h, err = sub.look(true); err != nil {
			return err
		}
	}
	if !h.has(m) {
		return lostPast()
	}
	sub.epoch = h.epoch
	if sub.at, err = sub.placeOf(m.seen); err != nil {
		return err
	}
	if sub.at.mark(m.epoch) != m {
		return lostPast()
	}
	sub.told = m
	return nil
}

func (h horizon) has(m mark) bool {
	for i, n := range m.seen {
		if n > h.size[i] {
			return false
		}
	}
	return m.epoch <= h.epoch
}

// lostPast refuses an id of a future that a recovery gave up.
func lostPast() error {
	return &client.Error{Code: client.CodeConflict, Field: "last_event_id", Reason: client.ReasonReset,
		Detail: "the history of this cluster does not hold that event: a restore or recovery went back before it. Read the state anew, and ask without an id, or with " +
			client.EventStart + " for all events from the beginning"}
}

// placeOf returns the place behind the given records, which this replica has.
func (sub *subscriber) placeOf(seen [len(eventStreams)]uint64) (p place, err error) {
	p.seen = seen
	for i, seq := range seen {
		if seq == 0 {
			continue
		}
		records, err := sub.records(i, seq, 1)
		if err != nil {
			return p, err
		}
		p.sums[i] = recordSum(records[0])
	}
	return p, nil
}

// records reads n records that this replica has; the history may give fewer, but
// never none.
func (sub *subscriber) records(stream int, from uint64, n int) ([]fsm.Record, error) {
	records, err := sub.c.s.node.Records(eventStreams[stream], from, n)
	if err != nil {
		return nil, err
	}
	if len(records) == 0 || records[0].Seq != from {
		return nil, fmt.Errorf("history stream %d has no record %d", eventStreams[stream], from)
	}
	return records, nil
}

// follow tells events until the caller leaves or may hear no more.
func (sub *subscriber) follow(closing <-chan struct{}) error {
	if err := sub.out.open(sub.at.mark(sub.epoch)); err != nil {
		return err
	}
	sub.told = sub.at.mark(sub.epoch)
	look := time.NewTicker(eventLook)
	defer look.Stop()
	for {
		_, moved := sub.c.s.node.Applied() // before the look, or a change in between would be missed
		more, err := sub.round()
		if err != nil {
			return err
		}
		if more {
			continue
		}
		select {
		case <-sub.c.ctx.Done():
			return errEnded
		case <-closing:
			return errEnded
		case <-look.C:
		case <-moved:
			if !rest(sub.c.ctx, closing) {
				return errEnded
			}
		}
	}
}

// rest waits for eventPause, and tells whether to go on.
func rest(ctx context.Context, closing <-chan struct{}) bool {
	t := time.NewTimer(eventPause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-closing:
	}
	return false
}

// round tells one page of what is new, and whether there is more.
func (sub *subscriber) round() (more bool, err error) {
	h, err := sub.look(false)
	if err != nil {
		return false, endOf(err)
	}
	if h.epoch != sub.epoch {
		if err := sub.enter(h); err != nil {
			return false, err
		}
	}
	page, more, err := sub.page(h)
	if err != nil {
		return false, endOf(err)
	}
	if len(page) > 0 {
		// A restore replaces the history: what was read since the look counts only
		// if none came in between.
		if now, err := sub.look(false); err != nil || now.epoch != h.epoch {
			return err == nil, endOf(err)
		}
	}
	for _, r := range page {
		if err := sub.tell(r); err != nil {
			return false, err
		}
	}
	if len(page) == 0 && time.Since(sub.out.last) < eventBeat {
		return more, nil
	}
	return more, sub.out.flush(sub.beat())
}

// beat is the id to send beside a heartbeat: what was passed over in silence
// needs not be read again.
func (sub *subscriber) beat() string {
	now := sub.at.mark(sub.epoch)
	if now == sub.told {
		return ""
	}
	sub.told = now
	return now.String()
}

// endOf makes what the API itself says an end without a word.
func endOf(err error) error {
	if e := (*client.Error)(nil); errors.As(err, &e) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return errEnded
	}
	return err
}

// enter goes on in another epoch if its history has this place, and else tells
// the caller that what it heard is not the cluster's past any more.
func (sub *subscriber) enter(h horizon) error {
	m := sub.at.mark(sub.epoch)
	if h.has(m) {
		at, err := sub.placeOf(m.seen)
		if err != nil {
			return endOf(err)
		}
		if now, err := sub.look(false); err != nil || now.epoch != h.epoch {
			return errEnded
		}
		if at.mark(m.epoch) == m {
			sub.epoch = h.epoch
			return nil
		}
	}
	e := (*client.Error)(nil)
	errors.As(lostPast(), &e)
	if err := sub.out.reset(client.Event{Type: client.EventReset, Action: client.EventReset, Epoch: h.epoch, Index: sub.c.index, Detail: e.Detail}); err != nil {
		return err
	}
	return errEnded
}

// streamed is a record of one of the streams.
type streamed struct {
	stream int
	fsm.Record
}

// page reads what comes next of both streams, in the order of the log.
func (sub *subscriber) page(h horizon) (page []streamed, more bool, err error) {
	var next [len(eventStreams)][]fsm.Record
	for i := range eventStreams {
		if left := h.size[i] - min(sub.at.seen[i], h.size[i]); left > 0 {
			if next[i], err = sub.records(i, sub.at.seen[i]+1, int(min(left, eventPage))); err != nil {
				return nil, false, err
			}
		}
	}
	at := sub.at.seen
	for {
		first := -1
		for i := range next {
			if len(next[i]) == 0 {
				if at[i] < h.size[i] {
					return page, true, nil // the next of this stream is not read yet, and may be the next of all
				}
				continue
			}
			if first < 0 || next[i][0].Index < next[first][0].Index {
				first = i
			}
		}
		if first < 0 {
			return page, false, nil
		}
		page = append(page, streamed{first, next[first][0]})
		at[first], next[first] = next[first][0].Seq, next[first][1:]
	}
}

// tell sends one record if the subscriber wants it, and passes it.
func (sub *subscriber) tell(r streamed) error {
	e, ok, err := eventOf(r.Record, sub.epoch, sub.ops)
	if err != nil {
		return err
	}
	sub.at = sub.at.passed(r.stream, r.Record)
	if !ok || !sub.want[e.Type] {
		return nil
	}
	e.Epoch, sub.told = sub.epoch, sub.at.mark(sub.epoch)
	return sub.out.event(sub.told.String(), e)
}
