package api

import (
	"encoding/base64"
	"net/http"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// wireAgent shows an agent with the key that is active at a time, or with why there
// is none.
func wireAgent(a fsm.Agent, nowMs int64) client.Agent {
	out := client.Agent{AgentID: a.ID, State: string(a.State), EnrolledMs: a.EnrolledMs, UpdatedMs: a.UpdatedMs}
	if key, ok := a.Keys.Active(nowMs); ok {
		out.KeyID, out.PublicKey = key.Public.KeyID(), key.Public.PEM()
	} else if newest := len(a.Keys) - 1; newest >= 0 {
		out.KeyState = string(a.Keys.StateOf(newest, nowMs))
	}
	if len(a.EncryptionKey) > 0 {
		out.EncryptionKey = base64.StdEncoding.EncodeToString(a.EncryptionKey)
	}
	if proof := a.EncryptionProofAt(nowMs); len(proof) > 0 {
		out.EncryptionProof = base64.StdEncoding.EncodeToString(proof)
	}
	return out
}

// agents answers GET /v1/agents.
func (s *Server) agents(c *call) error {
	limit, err := c.pageLimit()
	if err != nil {
		return err
	}
	after := c.r.URL.Query().Get("after")
	var page []fsm.Agent
	var now int64
	if err := c.read(func(state *fsm.State) { page, now = state.Agents(after, limit+1), state.ClockMs() }); err != nil {
		return err
	}
	out := client.Agents{Agents: make([]client.Agent, 0, len(page))}
	if len(page) > limit {
		page = page[:limit]
		out.Next = page[limit-1].ID
	}
	for _, a := range page {
		out.Agents = append(out.Agents, wireAgent(a, now))
	}
	return c.reply(http.StatusOK, out)
}

// agent answers GET /v1/agents/{id}.
func (s *Server) agent(c *call) error {
	var a fsm.Agent
	var now int64
	found := false
	if err := c.read(func(state *fsm.State) { a, found = state.Agent(c.args[0]); now = state.ClockMs() }); err != nil {
		return err
	}
	if !found {
		return &client.Error{Code: client.CodeNotFound, Detail: "there is no agent " + quote(c.args[0])}
	}
	return c.reply(http.StatusOK, wireAgent(a, now))
}

// setAgentState answers POST /v1/agents/{id}/approve, suspend and revoke.
func (s *Server) setAgentState(to fsm.AgentState) func(*call) error {
	return func(c *call) error {
		if err := c.noBody(); err != nil {
			return err
		}
		res, err := c.propose(fsm.AgentSetState{AgentID: c.args[0], State: to})
		if err != nil {
			return err
		}
		return c.replyAgent(http.StatusOK, res)
	}
}

// agentChanged is the answer to a change when the replica cannot show the
// agent: the change was made, and that is the news.
type agentChanged struct {
	AgentID  string `json:"agent_id"`
	Index    uint64 `json:"index"`
	Repeated bool   `json:"repeated,omitempty"`
}

// replyAgent shows the agent as it is after a change.
func (c *call) replyAgent(status int, res fsm.Result) error {
	var a fsm.Agent
	var now int64
	found := false
	err := c.readAt(ReadOptions{MinIndex: res.Index}, func(state *fsm.State) { a, found = state.Agent(res.ID); now = state.ClockMs() })
	if err != nil || !found {
		return c.reply(status, agentChanged{AgentID: res.ID, Index: res.Index, Repeated: res.Repeated})
	}
	out := wireAgent(a, now)
	out.Index, out.Repeated = res.Index, res.Repeated
	return c.reply(status, out)
}
