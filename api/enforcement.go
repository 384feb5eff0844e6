package api

import (
	"fmt"
	"net/http"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

// Enforcers tells who acts on the blacklist.
type Enforcers interface {
	// Enforcement tells who enforces the chain up to a size, 0: what this replica has. The channel is closed once another look may
	// find more.
	Enforcement(size uint64) (client.Enforcement, <-chan struct{})
}

// enforcementPause is between two looks while members move: a thousand edges report within a moment, and each look passes over all.
const enforcementPause = 20 * time.Millisecond

// enforcement answers GET /v1/blacklist/enforcement.
func (s *Server) enforcement(c *call) error {
	size, err := c.queryNumber("size", 0, checkpoint.MaxSize)
	if err != nil {
		return err
	}
	wait, err := c.queryNumber("wait_ms", 0, uint64(client.MaxEnforcementWait.Milliseconds()))
	if err != nil {
		return err
	}
	need := c.r.URL.Query().Get("need")
	switch need {
	case client.EnforcedQuorum, client.EnforcedAll:
	case "":
		wait = 0
	default:
		return invalid("need", fmt.Sprintf("%s: want %s or %s", quote(need), client.EnforcedQuorum, client.EnforcedAll))
	}
	if err := s.node.Serving(); err != nil {
		return err
	}
	out := s.waitEnforced(c, size, need, time.Duration(wait)*time.Millisecond)
	return c.reply(http.StatusOK, out)
}

// waitEnforced looks until the members meet what is needed, or the time is over.
func (s *Server) waitEnforced(c *call, size uint64, need string, wait time.Duration) client.Enforcement {
	end := time.NewTimer(wait)
	defer end.Stop()
	for {
		out, moved := s.node.Enforcement(size)
		if wait == 0 || out.Meets(need) {
			return out
		}
		size = out.Size
		select {
		case <-moved:
			time.Sleep(enforcementPause)
		case <-end.C:
			return out
		case <-c.ctx.Done():
			return out
		case <-s.closing:
			return out
		}
	}
}
