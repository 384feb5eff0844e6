package api

import (
	"fmt"
	"net/http"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// maxLiftTries bounds how often a lift follows a ban that changes under it.
const maxLiftTries = 3

// lift answers DELETE /v1/blacklist/agents/{agent}: a record that supersedes
// the ban in force (DESIGN.md "Blacklist"). Its times are the leader's.
func (s *Server) lift(c *call) error {
	var req client.LiftRequest
	if err := c.decode(&req); err != nil {
		return err
	}
	who := actorName(c.token)
	event := crypto.BlacklistEvent{AgentID: c.args[0], ReasonCode: crypto.ReasonManualReview, Reason: req.Reason,
		ReporterID: who, ReportedBy: who}
	var err error
	if event.EventID, err = crypto.NewUUID(s.cfg.Rand); err != nil {
		return err
	}
	res, err := c.superseding(event)
	if err != nil {
		return err
	}
	if !res.OK() {
		return refusal(res)
	}
	return c.replyChange(http.StatusOK, res)
}

// superseding proposes the lift against the ban that this replica sees. When
// another is in force, or none is seen here, the state's answer tells: Apply
// also knows a lift that was done under the same idempotency key.
func (c *call) superseding(event crypto.BlacklistEvent) (res fsm.Result, err error) {
	for try := range maxLiftTries {
		var ban fsm.Ban
		err := c.readAt(ReadOptions{Strong: try > 0}, func(state *fsm.State) { ban, _ = state.Ban(event.AgentID, state.ClockMs()) })
		if err != nil {
			return res, err
		}
		event.EvidenceHashSHA256 = ban.EventHash.String()
		if err := checkEvent(event); err != nil {
			return res, err
		}
		res, err = c.decideOnce(fsm.BlacklistAppend{Event: event, Lift: true})
		if err != nil || res.Code != fsm.CodeStale {
			return res, err
		}
	}
	return res, &client.Error{Code: client.CodeUnavailable, Reason: "stale",
		Detail: fmt.Sprintf("the ban on %s changed %d times while it was being lifted: look at it and ask again", quote(event.AgentID), maxLiftTries)}
}
