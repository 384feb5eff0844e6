package api

import (
	"fmt"
	"net/http"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// maxPageBytes ends a page of events early: an event may have 16 KiB.
const maxPageBytes = 1 << 20

func wireBan(b fsm.Ban) client.Ban {
	return client.Ban{AgentID: b.AgentID, EventID: b.EventID, EventHash: b.EventHash.String(), Seq: b.Seq,
		ReasonCode: b.ReasonCode, TimestampMs: b.TimestampMs, ExpiresAtMs: b.ExpiresMs}
}

// bans answers GET /v1/blacklist: bans in force at the cluster clock.
func (s *Server) bans(c *call) error {
	limit, err := c.pageLimit()
	if err != nil {
		return err
	}
	after := c.r.URL.Query().Get("after")
	var page []fsm.Ban
	out := client.Bans{Bans: []client.Ban{}}
	err = c.read(func(state *fsm.State) {
		page = state.Bans(after, limit+1, state.ClockMs())
		out.ChainHead, out.Size = state.Chain()
	})
	if err != nil {
		return err
	}
	if len(page) > limit {
		page = page[:limit]
		out.Next = page[limit-1].AgentID
	}
	for _, b := range page {
		out.Bans = append(out.Bans, wireBan(b))
	}
	return c.reply(http.StatusOK, out)
}

// banOn answers GET /v1/blacklist/agents/{agent}.
func (s *Server) banOn(c *call) error {
	var ban fsm.Ban
	found := false
	err := c.read(func(state *fsm.State) { ban, found = state.Ban(c.args[0], state.ClockMs()) })
	if err != nil {
		return err
	}
	if !found {
		return &client.Error{Code: client.CodeNotFound, Detail: "no ban is in force on " + quote(c.args[0])}
	}
	records, err := s.chain(ban.Seq, 1)
	if err != nil {
		return err
	}
	out := wireBan(ban)
	out.Event = records[0].Data
	return c.reply(http.StatusOK, out)
}

// chainEvents answers GET /v1/blacklist/events.
func (s *Server) chainEvents(c *call) error {
	limit, err := c.pageLimit()
	if err != nil {
		return err
	}
	from, err := c.queryNumber("from", 1, 1<<62)
	if err != nil {
		return err
	}
	from = max(from, 1)
	out := client.ChainPage{Events: []client.ChainEvent{}}
	if err := c.read(func(state *fsm.State) { out.ChainHead, out.Size = state.Chain() }); err != nil {
		return err
	}
	if from > out.Size {
		return c.reply(http.StatusOK, out)
	}
	records, err := s.chain(from, int(min(uint64(limit), out.Size-from+1)))
	if err != nil {
		return err
	}
	size := 0
	for _, r := range records {
		if size += len(r.Data); size > maxPageBytes && len(out.Events) > 0 {
			break
		}
		out.Events = append(out.Events, client.ChainEvent{Seq: r.Seq, Event: r.Data})
	}
	if next := from + uint64(len(out.Events)); next <= out.Size {
		out.Next = next
	}
	return c.reply(http.StatusOK, out)
}

// chain returns n events of the chain from a seq that the state has. Fewer is
// a fault of this node, and never shown as the end of the chain.
func (s *Server) chain(from uint64, n int) ([]fsm.Record, error) {
	records, err := s.node.Records(fsm.StreamBlacklist, from, n)
	if err != nil {
		return nil, fmt.Errorf("read blacklist history from %d: %w", from, err)
	}
	if len(records) != n {
		return nil, fmt.Errorf("blacklist history has %d records from %d on, the state has %d", len(records), from, n)
	}
	for i, r := range records {
		if r.Seq != from+uint64(i) {
			return nil, fmt.Errorf("blacklist history: record %d where %d belongs", r.Seq, from+uint64(i))
		}
	}
	return records, nil
}
