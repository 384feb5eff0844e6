package api

import (
	"errors"
	"net/http"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

type healthReply struct {
	Status string `json:"status"`
}

// health answers GET /healthz: the process serves.
func (s *Server) health(c *call) error {
	return c.reply(http.StatusOK, healthReply{Status: "ok"})
}

// ready answers GET /readyz: leader known, caught up.
func (s *Server) ready(c *call) error {
	err := s.node.Ready()
	if e := (*client.Error)(nil); errors.As(err, &e) {
		return e
	}
	if err != nil {
		return &client.Error{Code: client.CodeUnavailable, Reason: "not_ready", Detail: err.Error()}
	}
	return c.reply(http.StatusOK, healthReply{Status: "ready"})
}

// status answers GET /v1/status. The node describes itself as it is once the
// replica is as fresh as was asked for.
func (s *Server) status(c *call) error {
	if err := c.read(func(*fsm.State) {}); err != nil {
		return err
	}
	st := s.node.Status()
	if st.Version == "" {
		st.Version = s.cfg.Version
	}
	st.Digests, st.Voters, st.NonVoters = orEmpty(st.Digests), orEmpty(st.Voters), orEmpty(st.NonVoters)
	c.index = max(c.index, st.AppliedIndex)
	return c.reply(http.StatusOK, st)
}

// members answers GET /v1/members.
func (s *Server) members(c *call) error {
	if err := c.read(func(*fsm.State) {}); err != nil {
		return err
	}
	return c.reply(http.StatusOK, client.Members{Members: orEmpty(s.node.Members())})
}

// orEmpty makes an absent list an empty one on the wire.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
