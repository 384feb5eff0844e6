package node

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

// TestCosignerWithAClockOfItsOwn: who has another time than a majority vouches for none, until its clock is set.
func TestCosignerWithAClockOfItsOwn(t *testing.T) {
	t.Parallel()
	var clocks [3]atomic.Int64
	c := &trio{t: t, adjust: func(i int, cfg *Config) { cfg.Now = shifted(&clocks[i]) }}
	t.Cleanup(c.stopAll)
	c.grow(3)
	c.ban(0, "agent-1")
	c.allHave(1, 3)
	lead := c.leader()
	at := (lead + 1) % 3
	good, _, _ := c.newestCheckpoint(lead)
	key := c.nodes[lead].id.signingKey()
	note := checkpoint.Note{Checkpoint: good.Checkpoint, Signatures: []checkpoint.Signature{checkpoint.SignLog(key, good.Checkpoint)}}
	ask := func() cosignReply {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		r, _ := c.nodes[at].serveCosign(ctx, c.nodes[lead].id.NodeID, cosignRequest{Note: note.Encode()}) // a leader that is not sure of itself is asked again
		return r
	}
	c.eventually("it signs", func() bool { return len(ask().Bytes) > 0 })
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		clocks[at].Store(int64(off))
		if r := ask(); len(r.Bytes) > 0 || r.Refused != "" && (r.Refused != refusedLater || !strings.Contains(r.Detail, "wall clock")) {
			t.Errorf("with a clock that is off by %s: %+v", off, r)
		}
		clocks[at].Store(0)
		c.eventually("it signs again", func() bool { return len(ask().Bytes) > 0 })
	}
}
