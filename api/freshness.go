package api

import (
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// How fresh a read must be (query parameters "level" and "min_index"), and
// whether it has to wait for that.

// maxAhead is how far min_index may be ahead of the newest index that this
// node knows to be committed. A replica lags by the writes of seconds; what is
// a million entries ahead is no index that anybody was told.
const maxAhead = 1_000_000

// waits takes the call's freshness from its query and tells whether this
// replica may have to wait for it. What can never be satisfied is refused.
func (c *call) waits() (bool, error) {
	if c.r.URL.RawQuery == "" || !slices.Contains(c.route.query, "min_index") {
		return false, nil
	}
	var err error
	if c.fresh, err = c.readOptions(); err != nil {
		return false, err
	}
	if c.fresh.MinIndex == 0 {
		return c.fresh.Strong, nil
	}
	have, err := c.s.node.Read(c.ctx, ReadOptions{Always: c.route.always}, func(*fsm.State) {})
	if err != nil || c.fresh.MinIndex <= have {
		return c.fresh.Strong, err
	}
	if known := max(have, c.s.node.Status().CommitIndex); c.fresh.MinIndex > known+maxAhead {
		return false, invalid("min_index", fmt.Sprintf("%d is ahead of the log, which is at %d here: give an index that an answer told", c.fresh.MinIndex, known))
	}
	return true, nil
}

func (c *call) readOptions() (ReadOptions, error) {
	var o ReadOptions
	q := c.r.URL.Query()
	switch level := q.Get("level"); {
	case level == client.LevelStrong:
		o.Strong = true
	case q.Has("level") && level != client.LevelLocal:
		return o, invalid("level", fmt.Sprintf("%s is neither %s nor %s", quote(level), client.LevelLocal, client.LevelStrong))
	}
	var err error
	o.MinIndex, err = c.queryNumber("min_index", 0, 1<<63)
	return o, err
}

// read asks this replica, as fresh as the query wants it. A token that is not in force
// any more in the very state that would answer opens nothing: what it was let in by
// may have been older.
func (c *call) read(f func(*fsm.State)) error {
	ended := false
	err := c.readAt(c.fresh, func(state *fsm.State) {
		if t, known := state.Token(c.token.ID); known {
			_, in := state.TokenInForce(t.ID, state.ClockMs())
			ended = !in
		}
		if !ended {
			f(state)
		}
	})
	if err == nil && ended {
		return unauthorized("the token was used up, expired or was revoked")
	}
	return err
}

func (c *call) readAt(opts ReadOptions, f func(*fsm.State)) error {
	opts.Always = c.route.always
	index, err := c.s.node.Read(c.ctx, opts, f)
	if err != nil {
		return err
	}
	c.index = max(c.index, index)
	return nil
}
