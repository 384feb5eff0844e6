package edge

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/edgecoder/edgecoder/client"
)

// maxPageBytes ends a page of events early, as coordinators do.
const maxPageBytes = 1 << 20

// Pages serves what this edge verified to other members, under the paths of the coordinators' API. Who may ask is for the caller to see to.
func Pages(s *Syncer) http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("GET /v1/blacklist/checkpoint", func(w http.ResponseWriter, _ *http.Request) {
		note := s.Status().Position.Note
		if len(note) == 0 {
			writeError(w, &client.Error{Code: client.CodeUnavailable, Reason: client.AllowedUnknown, Detail: "this edge has no checkpoint yet"})
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(note)
	})
	routes.HandleFunc("GET /v1/blacklist/cosigners", func(w http.ResponseWriter, r *http.Request) {
		from, ok := number(w, r, "from")
		if !ok {
			return
		}
		page := client.CosignerSets{Sets: []client.CosignerSet{}}
		for i, note := range s.Cosigners(from) {
			page.Sets = append(page.Sets, client.CosignerSet{Version: from + uint64(i), Note: string(note)})
		}
		writeJSON(w, page)
	})
	routes.HandleFunc("GET /v1/blacklist/events", func(w http.ResponseWriter, r *http.Request) {
		from, ok := number(w, r, "from")
		limit, also := number(w, r, "limit")
		if !ok || !also {
			return
		}
		head := s.Status().Position.Head
		page := client.ChainPage{Size: head.Size, ChainHead: head.Chain, Events: []client.ChainEvent{}}
		bytes := 0
		for i, record := range s.Recent(from, int(min(limit, pageEvents))) {
			if bytes += len(record); bytes > maxPageBytes && i > 0 {
				break
			}
			page.Events = append(page.Events, client.ChainEvent{Seq: from + uint64(i), Event: record})
		}
		writeJSON(w, page)
	})
	routes.HandleFunc("GET /mesh/peers", func(w http.ResponseWriter, _ *http.Request) {
		out := client.MeshPeers{Peers: []client.MeshPeer{}}
		for _, key := range s.Status().Position.Keys {
			out.Peers = append(out.Peers, client.MeshPeer{PeerID: key.CoordinatorID(), PublicKeyPEM: key.PEM()})
		}
		writeJSON(w, out)
	})
	return routes
}

// number reads a query parameter, or answers that it is none.
func number(w http.ResponseWriter, r *http.Request, name string) (uint64, bool) {
	n, err := strconv.ParseUint(r.URL.Query().Get(name), 10, 53)
	if err != nil {
		writeError(w, &client.Error{Code: client.CodeInvalid, Field: name, Detail: fmt.Sprintf("%.40q is no number", r.URL.Query().Get(name))})
	}
	return n, err == nil
}

func writeJSON(w http.ResponseWriter, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		writeError(w, asError(err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(text, '\n')) // a client that is gone needs no answer
}
