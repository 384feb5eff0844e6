package node

import (
	"context"

	"github.com/edgecoder/edgecoder/client"
)

// unit is one node's batch waiting at the leader to go into an entry of the log.
type unit[Batch, Reply any] struct {
	batch Batch
	ctx   context.Context
	reply chan unitReply[Reply] // buffered: the batch loop never waits for a reader
}

type unitReply[Reply any] struct {
	reply Reply
	err   error
}

func newUnit[Batch, Reply any](ctx context.Context, batch Batch) *unit[Batch, Reply] {
	return &unit[Batch, Reply]{batch: batch, ctx: ctx, reply: make(chan unitReply[Reply], 1)}
}

// await waits for the answer while the term lasts and the caller waits. After that
// the outcome is unknown.
func (u *unit[Batch, Reply]) await(l *leadership, unknown *client.Error) (Reply, error) {
	select {
	case r := <-u.reply:
		return r.reply, r.err
	case <-l.over:
	case <-u.ctx.Done():
	}
	select {
	case r := <-u.reply: // it may have come at the same instant
		return r.reply, r.err
	default:
	}
	var none Reply
	return none, unknown
}

// fill returns the units that fit one entry and those that wait for the next;
// those whose callers are gone are left out. room takes a batch in, or tells that
// it does not fit any more.
func fill[Batch, Reply any](waiting []*unit[Batch, Reply], room func(*Batch) bool) (now, later []*unit[Batch, Reply]) {
	for i, u := range waiting {
		if u.ctx.Err() != nil {
			continue
		}
		if !room(&u.batch) {
			return now, waiting[i:]
		}
		now = append(now, u)
	}
	return now, nil
}

// maxUnits bounds what is looked at for one entry: more nodes than a cluster has.
const maxUnits = 256
