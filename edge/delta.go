package edge

import (
	"net/http"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// The list as changes behind a cursor, as coordinators serve it (client.BlacklistDelta): for services that hold a list of their own. An edge keeps hashes of
// agents' ids, and only the last events whole, so it tells what came lately and asks a coordinator for the rest.

// maxDelta bounds the events that one answer tells of, as at the coordinators.
const maxDelta = 1000

// Delta tells what changed behind a cursor, as far as this edge verified it; false: it does not know the place, or not all that came after it.
func (s *Syncer) Delta(from client.DeltaCursor) (out client.BlacklistDelta, known bool) {
	head := s.status.Load().Position.Head
	if from.Epoch != head.Epoch || from.Seq > head.Size {
		return out, false
	}
	if from.Seq == head.Size {
		return from.Page(nil), from == client.CursorAt(head.Epoch, head.Size, head.Chain)
	}
	epoch, records := s.recent.page(from.Seq+1, int(min(head.Size-from.Seq, maxDelta)))
	if epoch != head.Epoch || len(records) == 0 {
		return out, false
	}
	events := make([]crypto.BlacklistEvent, len(records))
	for i, r := range records {
		e, err := crypto.ParseBlacklistEvent(r)
		if err != nil {
			return out, false // which was parsed before it was kept
		}
		events[i] = e
	}
	if from != client.CursorAt(head.Epoch, from.Seq, events[0].PrevEventHash) {
		return out, false
	}
	out = from.Page(events)
	out.More = from.Seq+uint64(len(events)) < head.Size
	return out, true
}

// delta answers GET /v1/blacklist/delta. Who mirrors the list cannot see how old it is, so an edge whose word is not fresh leaves it to the coordinators, in both modes. Only over a
// unix socket: it is the whole list, by this edge's credential, and a port of loopback cannot tell who asks.
func (s *Server) delta(r *http.Request) (any, error) {
	if !isUnix(r) {
		return nil, &client.Error{Code: client.CodeForbidden, Detail: "an edge tells the list over a unix socket alone: start it with --listen unix:PATH, or ask a coordinator with a token"}
	}
	text := r.URL.Query().Get("cursor")
	if text != "" {
		from, err := client.ParseCursor(text)
		if err != nil {
			return nil, err
		}
		if s.Judge.fresh() {
			if out, known := s.Judge.Sync.Delta(from); known {
				return out, nil
			}
		}
	}
	return forward(s, s.deltas, func() (client.BlacklistDelta, error) { return s.Coordinators.BlacklistDelta(r.Context(), text) })
}
