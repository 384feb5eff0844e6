package api

import (
	"encoding/json"
	"net/http"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// maxHeartbeatBans bounds the list of banned agents in a heartbeat's answer: with
// ids of 20 bytes some 50 KiB, every 1.2 s to each worker. What a list leaves out
// is still refused by the cluster; the list only spares agents the asking.
const maxHeartbeatBans = 2_000

// heartbeat answers POST /heartbeat (WIRE.md 7.3).
func (s *Server) heartbeat(c *call) error {
	id, code, err := c.letIn()
	if err != nil {
		return err
	}
	if code == fsm.CodeBlacklisted {
		c.verdict = client.VerdictBlacklisted
		reason, version, err := c.banReason(id)
		if err != nil {
			return err
		}
		return c.reply(http.StatusOK, client.HeartbeatBanned{Blacklisted: true, Reason: reason, BlacklistVersion: version})
	}
	bans, err := c.heartbeatBans()
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, client.Heartbeat{OK: true, Policy: workerPolicy, Blacklist: bans,
		TunnelInvites: []json.RawMessage{}, TunnelCloseNotices: []json.RawMessage{}, DirectWorkOffers: []json.RawMessage{}})
}

// pull answers POST /pull (WIRE.md 7.4) as a coordinator without work does.
func (s *Server) pull(c *call) error {
	id, code, err := c.letIn()
	if err != nil {
		return err
	}
	out := client.Pulled{}
	if code == fsm.CodeBlacklisted {
		out.Blocked, c.verdict = true, client.VerdictBlacklisted
		if out.Reason, _, err = c.banReason(id); err != nil {
			return err
		}
	}
	return c.reply(http.StatusOK, out)
}

// letIn decides what an agent asks for itself: once in the whole cluster if it is
// signed. The code is ok or agent_blacklisted; the rest are errors.
func (c *call) letIn() (agentID string, code fsm.Code, err error) {
	var req client.AgentCall
	if err := decodeLenient(c.body, &req); err != nil {
		return "", "", err
	}
	c.subject = req.AgentID
	if req.AgentID == "" {
		return "", "", invalid("agentId", "is required")
	}
	get, isSigned := c.selfHeaders()
	if !isSigned {
		code, err = c.letInUnsigned(req.AgentID)
		return req.AgentID, code, err
	}
	signed, err := c.signedSelf(get, req.AgentID)
	if err != nil {
		return "", "", err
	}
	k, err := c.sureOfSelf(&signed)
	switch {
	case err != nil:
		return "", "", err
	case !k.enrolled:
		return "", "", notRegistered()
	case k.key.IsZero():
		return "", "", k.refusal(fsm.CodeInvalidSignature, &signed)
	case k.code != fsm.CodeOK && k.code != fsm.CodeBlacklisted: // as a read point has it: the log would say the same
		return "", "", k.refusal(k.code, &signed)
	}
	if err := c.pay(&k); err != nil {
		return "", "", err
	}
	res, err := c.admitSelf(&signed)
	switch {
	case err != nil:
		return "", "", err
	case res.Code == fsm.CodeOK, res.Code == fsm.CodeBlacklisted:
		c.vouch()
		return req.AgentID, res.Code, nil
	}
	k.clockMs, k.retryAfterMs = res.ClockMs, res.RetryAfterMs
	return "", "", k.refusal(res.Code, &signed)
}

func (c *call) letInUnsigned(agentID string) (fsm.Code, error) {
	text, _ := header(c.r.Header, client.HeaderMeshToken)
	if text == "" {
		return "", unauthorized("sign the request, or show the token that stands for this agent")
	}
	if err := c.knownAsExcused(agentID); err != nil {
		return "", err
	}
	code, err := c.unsignedSelf(agentID, text)
	switch {
	case err != nil:
		return "", err
	case code == fsm.CodeAgentNotActive:
		return "", notActivated("node_inactive", "the agent is enrolled and not active")
	}
	return code, c.spend(agentID)
}

// heartbeatBans lists the bans in force, as the answer's index has them.
func (c *call) heartbeatBans() (out client.HeartbeatBans, err error) {
	out.Agents = []string{}
	err = c.readAt(ReadOptions{MinIndex: c.index}, func(state *fsm.State) {
		_, out.Version = state.Chain()
		for _, b := range state.Bans("", maxHeartbeatBans+1, state.ClockMs()) {
			out.Agents = append(out.Agents, b.AgentID)
		}
	})
	if len(out.Agents) > maxHeartbeatBans {
		out.Agents, out.Truncated = out.Agents[:maxHeartbeatBans], true
	}
	return out, err
}
