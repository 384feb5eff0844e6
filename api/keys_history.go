package api

import (
	"fmt"
	"net/http"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// maxKeyLook is how many records one page of a key history looks at: the records of
// all subjects are one stream without an index, and most are of others. Some ten
// milliseconds; millions of records are a few hundred pages.
const maxKeyLook = 8192

// keyHistory answers GET /v1/keys/{subject}/history.
func (s *Server) keyHistory(c *call) error {
	of, err := c.keySubject()
	if err != nil {
		return err
	}
	limit, err := c.pageLimit()
	if err != nil {
		return err
	}
	from, err := c.queryNumber("from", 1, 1<<62)
	if err != nil {
		return err
	}
	out := client.KeyHistory{Subject: of.String(), Steps: []client.KeyStep{}}
	err = c.read(func(state *fsm.State) {
		meta := state.Meta()
		out.Epoch, out.Records = meta.Epoch, meta.AdminSize
	})
	if err != nil {
		return err
	}
	next, err := s.keySteps(c, &out, of, max(from, 1), limit)
	if err != nil {
		return err
	}
	if next <= out.Records {
		out.Next = next
	}
	return c.reply(http.StatusOK, out)
}

// keySteps adds the steps from a record on, and returns where to go on.
func (s *Server) keySteps(c *call, out *client.KeyHistory, of fsm.Subject, from uint64, limit int) (next uint64, err error) {
	end, size := min(out.Records, from+maxKeyLook-1), 0
	for from <= end {
		if err := c.r.Context().Err(); err != nil {
			return 0, err
		}
		records, err := s.node.Records(fsm.StreamAdmin, from, int(end-from+1))
		if err != nil {
			return 0, fmt.Errorf("read the history of actions from %d: %w", from, err)
		}
		if len(records) == 0 || records[0].Seq != from {
			return 0, fmt.Errorf("the history of actions has no record %d, the state has %d", from, out.Records)
		}
		for _, r := range records {
			step, ok, err := fsm.ReadKeyStep(of, r)
			if err != nil {
				return 0, err
			}
			if ok {
				if size += len(r.Data); len(out.Steps) == limit || size > maxPageBytes && len(out.Steps) > 0 {
					return r.Seq, nil
				}
				out.Steps = append(out.Steps, wireStep(step))
			}
			from = r.Seq + 1
		}
	}
	return from, nil
}

func wireStep(s fsm.KeyStep) client.KeyStep {
	out := client.KeyStep{Seq: s.Seq, Index: s.Index, AtMs: s.AtMs, Action: s.Action, Fields: s.Fields, Reason: s.Reason, Changed: s.Rung,
		Actor: client.EventActor{TokenID: s.Actor.TokenID, NodeID: s.Actor.NodeID, Via: s.Actor.Via}}
	for _, k := range s.Ring {
		out.Ring = append(out.Ring, client.KeyWindow{KeyID: k.KeyID, NotBeforeMs: k.NotBeforeMs, UntilMs: k.NotAfterMs, RevokedAt: k.RevokedAt, Waits: k.Waits})
	}
	return out
}
