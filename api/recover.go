package api

import (
	"net/http"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// clocks answers GET /v1/recover/clock.
func (s *Server) clocks(c *call) error {
	if err := c.read(func(*fsm.State) {}); err != nil { // as fresh as asked
		return err
	}
	return c.reply(http.StatusOK, s.node.Clocks())
}

// recoverClock answers POST /v1/recover/clock. The leader adds the voters' wall
// clocks: nobody else could know them at the moment of the stamp.
func (s *Server) recoverClock(c *call) error {
	var body client.ClockRecovery
	if c.body != "" {
		if err := c.decode(&body); err != nil {
			return err
		}
	}
	res, err := c.propose(fsm.ClockRecover{Reason: body.Reason})
	if err != nil {
		return err
	}
	out := client.ClockRecovered{Index: res.Index, Repeated: res.Repeated}
	err = c.readAt(ReadOptions{MinIndex: res.Index}, func(state *fsm.State) {
		out.Epoch, out.ClockMs, out.AdmissionsFromMs = state.Meta().Epoch, state.ClockMs(), state.Recovering()
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, out)
}
