package api

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// maxCursor bounds the cursor of GET /v1/audit/events: some 60 bytes for each
// of the 64 nodes that a cluster may have, and more.
const maxCursor = 8 << 10

// auditEvents answers GET /v1/audit/events.
func (s *Server) auditEvents(c *call) error {
	q := client.AuditQuery{}
	limit, err := c.pageLimit()
	if err != nil {
		return err
	}
	since, err := c.queryNumber("since_ms", 0, 1<<62)
	if err != nil {
		return err
	}
	q.Limit, q.SinceMs = limit, int64(since)
	if err := c.auditFilter(&q); err != nil {
		return err
	}
	out, err := s.node.AuditEvents(c.ctx, q)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, out)
}

func (c *call) auditFilter(q *client.AuditQuery) error {
	given := c.r.URL.Query()
	for _, f := range []struct {
		name string
		to   *string
	}{{"type", &q.Type}, {"actor", &q.Actor}} {
		if !given.Has(f.name) {
			continue
		}
		if *f.to = given.Get(f.name); crypto.CheckID(*f.to) != nil {
			return invalid(f.name, crypto.CheckID(*f.to).Error())
		}
	}
	if q.Level = given.Get("level"); given.Has("level") && !slices.Contains([]string{auditInfo, auditWarn, auditHigh, auditCritical}, q.Level) {
		return invalid("level", quote(q.Level)+" is none of INFO, WARN, HIGH, CRITICAL")
	}
	if q.Cursor = given.Get("cursor"); len(q.Cursor) > maxCursor {
		return invalid("cursor", fmt.Sprintf("at most %d bytes: give next of an earlier answer", maxCursor))
	}
	return nil
}

// auditHeads answers GET /v1/audit/heads.
func (s *Server) auditHeads(c *call) error {
	return c.reply(http.StatusOK, s.node.AuditHeads(c.ctx))
}
