package api

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// The routes of WIRE.md that existing clients speak.

// identity answers GET /identity.
func (s *Server) identity(c *call) error { return c.reply(http.StatusOK, s.node.Identity()) }

// meshPeers answers GET /mesh/peers: every key that signs or ever signed the
// chain, so that an existing verifier finds the key of each event.
func (s *Server) meshPeers(c *call) error {
	mode := s.node.Identity().NetworkMode
	out := client.MeshPeers{Peers: []client.MeshPeer{}}
	err := c.readAt(ReadOptions{}, func(state *fsm.State) {
		for _, k := range state.SigningKeys() {
			p := client.MeshPeer{PeerID: k.Public.CoordinatorID(), PublicKeyPEM: k.Public.PEM(),
				CoordinatorURL: coordinatorURL(k.API), NetworkMode: mode, Role: "coordinator", Status: "active"}
			if k.RetiredAt != 0 {
				p.Status = "retired"
			}
			out.Peers = append(out.Peers, p)
		}
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, out)
}

// coordinatorURL is the URL of a recorded API address, "" if there is none.
func coordinatorURL(api string) string {
	if api == "" || strings.Contains(api, "://") {
		return api
	}
	return "https://" + api
}

// meshBan answers POST /security/blacklist. Its timestampMs is an addition to
// the protocol: the reporter signs a time, and without it no signature can
// verify (WIRE.md 9.2).
func (s *Server) meshBan(c *call) error {
	req := client.MeshBanRequest{ReportedBy: "policy-engine", ReporterID: "policy-engine"}
	if err := decodeLenient(c.body, &req); err != nil {
		return err
	}
	event := crypto.BlacklistEvent{
		AgentID: req.AgentID, ReasonCode: req.ReasonCode, Reason: req.Reason, EvidenceHashSHA256: req.EvidenceHashSHA256,
		ReporterID: req.ReporterID, ReporterPublicKeyPEM: req.ReporterPublicKeyPEM, ReporterSignature: req.ReporterSignature,
		EvidenceRef: req.EvidenceRef, ReportedBy: req.ReportedBy, TimestampMs: req.TimestampMs,
	}
	if req.ExpiresInMs != nil {
		expires, err := c.expiryIn(*req.ExpiresInMs)
		if err != nil {
			return err
		}
		event.ExpiresAtMs = &expires
	}
	res, err := c.appendBan(event)
	if err != nil {
		return err
	}
	out := client.MeshBanned{OK: true}
	if res.Chain != nil {
		out.Record, out.Version, out.ChainHead = res.Chain.Event, res.Chain.Size, res.Chain.Head
	}
	return c.reply(http.StatusOK, out)
}

// maxExpiryMs keeps sums of times far from overflow: a century.
const maxExpiryMs = 100 * 365 * 24 * 3_600_000

func (c *call) expiryIn(ms int64) (int64, error) {
	if ms < 1 || ms > maxExpiryMs {
		return 0, invalid("expiresInMs", "want a positive number of milliseconds, at most a century")
	}
	var now int64
	err := c.readAt(ReadOptions{}, func(state *fsm.State) { now = state.ClockMs() })
	return now + ms, err
}

// meshBlacklist answers GET /security/blacklist. The bans are named in one
// look at the state; their records, which never change, are streamed after it.
func (s *Server) meshBlacklist(c *call) error {
	var version uint64
	var head string
	var seqs []uint64
	err := c.readAt(ReadOptions{}, func(state *fsm.State) {
		head, version = state.Chain()
		for _, b := range state.Bans("", fsm.MaxBans, state.ClockMs()) {
			seqs = append(seqs, b.Seq)
		}
	})
	if err != nil {
		return err
	}
	out, err := c.stream(`{"version":` + jsonText(version) + `,"records":[`)
	if err != nil {
		return err
	}
	for _, seq := range seqs {
		records, err := s.chain(seq, 1)
		if err != nil {
			return err
		}
		if err := out.element(records[0].Data); err != nil {
			return err
		}
	}
	return out.end(`],"lastEventHash":` + jsonText(head) + "}\n")
}

// auditPage is how many events of the chain are in memory at once.
const auditPage = 256

// meshAudit answers GET /security/blacklist/audit: the whole chain up to the
// head of one look at the state, page by page.
func (s *Server) meshAudit(c *call) error {
	var size uint64
	var head string
	if err := c.readAt(ReadOptions{}, func(state *fsm.State) { head, size = state.Chain() }); err != nil {
		return err
	}
	out, err := c.stream(`{"version":` + jsonText(size) + `,"chainHead":` + jsonText(head) + `,"events":[`)
	if err != nil {
		return err
	}
	for from := uint64(1); from <= size; from += auditPage {
		records, err := s.chain(from, int(min(auditPage, size-from+1)))
		if err != nil {
			return err
		}
		for _, r := range records {
			if err := out.element(r.Data); err != nil {
				return err
			}
		}
	}
	return out.end("]}\n")
}

func jsonText(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and integers always encode
	}
	return string(text)
}
