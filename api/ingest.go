package api

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// The mesh routes of WIRE.md 8.3, for what they may still mean here: members join
// by token and the log is the only truth, so nothing that arrives by them grants
// or changes anything. A sender is told so in words that it knows.

// Bounds on messages of the mesh. Future times and long lives would let a message
// come again after it was forgotten (WEAKNESSES H14).
const (
	maxMeshTTL      = 60 * time.Second // the longest that WIRE.md 8.1 has
	maxMeshSkew     = 30 * time.Second
	maxMeshSeen     = 5_000 // ids remembered, as WIRE.md 8.1
	meshPerWindow   = 50    // messages of one sender (WIRE.md 4)
	meshWindow      = 10 * time.Second
	maxMeshSenders  = 10_000 // counted in one window; more are refused until the next
	maxMeshIDBytes  = 64
	meshUnknownType = "unknown_message_type"
)

// meshSkips are the types of messages and why nothing is done with each.
var meshSkips = map[string]string{
	"peer_announce": "", "ordering_snapshot": "", "queue_summary": "",
	"task_offer": "no_agents", "task_claim": "not_served_here", "result_announce": "not_served_here",
	"capability_summary": "not_served_here", "capability_announce": "not_served_here",
	"peer_exchange":     "membership_by_join_token",
	"issuance_proposal": "not_served_here", "issuance_vote": "not_served_here",
	"issuance_commit": "not_served_here", "issuance_checkpoint": "not_served_here",
	"blacklist_update": "",
}

// meshSeen remembers messages for a while. Only messages whose sender is proved
// get in, so nobody fills it in another's name (WEAKNESSES C5).
type meshSeen struct {
	mu     sync.Mutex
	ids    map[string]bool
	order  []string // of ids, oldest first
	window int64
	counts map[string]int // of senders in this window
}

func newMeshSeen() *meshSeen { return &meshSeen{ids: map[string]bool{}, counts: map[string]int{}} }

func (m *meshSeen) has(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ids[id]
}

// enter counts a message of a proved sender and remembers its id.
func (m *meshSeen) enter(sender, id string, now time.Time) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if window := now.UnixNano() / int64(meshWindow); window != m.window {
		m.window = window
		clear(m.counts)
	}
	_, counted := m.counts[sender]
	switch {
	case m.ids[id]:
		return "duplicate_message"
	case m.counts[sender] >= meshPerWindow, !counted && len(m.counts) >= maxMeshSenders:
		return "peer_rate_limited"
	}
	m.counts[sender]++
	if len(m.order) >= maxMeshSeen {
		delete(m.ids, m.order[0])
		m.order = m.order[1:]
	}
	m.ids[id], m.order = true, append(m.order, id)
	return ""
}

// registerPeer answers POST /mesh/register-peer. A coordinator that the cluster
// knows is told that it is known; others hear how one becomes a member.
func (s *Server) registerPeer(c *call) error {
	var req client.RegisterPeerRequest
	if err := decodeLenient(c.body, &req); err != nil {
		return err
	}
	c.subject = req.PeerID
	pub, err := checkPeer(&req)
	if err != nil {
		return err
	}
	known, count := false, int64(0)
	mine := false
	err = c.readAt(ReadOptions{}, func(state *fsm.State) {
		for _, k := range state.SigningKeys() {
			if k.RetiredAt == 0 {
				count++
			}
			if k.Public.CoordinatorID() == req.PeerID {
				known, mine = true, k.Public == pub
			}
		}
	})
	switch {
	case err != nil:
		return err
	case known && !mine:
		return fault(client.CodeConflict, "peer_key_mismatch", "", "this peer is known under another key, and its id is the hash of that key")
	case !known && (req.Role == "" || req.Role == "coordinator"):
		return fault(client.CodeForbidden, "coordinator_not_activated", "membership_by_join_token", "coordinators join with a join token: edgecoder token create --role coordinator")
	}
	return c.reply(http.StatusOK, client.PeerRegistered{OK: true, PeerCount: count})
}

func checkPeer(req *client.RegisterPeerRequest) (crypto.PublicKey, error) {
	if err := crypto.CheckID(req.PeerID); err != nil {
		return crypto.PublicKey{}, invalid("peerId", err.Error())
	}
	pub, err := crypto.ParsePublicKeyPEM(req.PublicKeyPEM)
	if err != nil {
		return pub, invalid("publicKeyPem", err.Error())
	}
	if u, err := url.Parse(req.CoordinatorURL); err != nil || u.Scheme == "" || u.Host == "" || len(req.CoordinatorURL) > crypto.MaxPathBytes {
		return pub, invalid("coordinatorUrl", "want an absolute URL")
	}
	if req.NetworkMode != "public_mesh" && req.NetworkMode != "enterprise_overlay" {
		return pub, invalid("networkMode", "want public_mesh or enterprise_overlay")
	}
	if req.Role != "" && !slices.Contains([]string{"coordinator", "agent", "phone"}, req.Role) {
		return pub, invalid("role", "want coordinator, agent or phone")
	}
	return pub, nil
}

// ingest answers POST /mesh/ingest.
func (s *Server) ingest(c *call) error {
	var m client.MeshMessage
	if err := decodeLenient(c.body, &m); err != nil {
		return err
	}
	c.subject = m.FromPeerID
	signed, err := checkMessage(&m)
	if err != nil {
		return err
	}
	if err := c.refuseMessage(&m, signed); err != nil {
		return err
	}
	out := client.MeshIngested{OK: true, Skipped: meshSkips[m.Type]}
	switch m.Type {
	case "peer_exchange":
		out.Added = new(int64)
	case "blacklist_update":
		return meshRefusal(client.CodeConflict, http.StatusConflict, "blacklist_chain_authoritative",
			"bans of this cluster are made by POST /v1/blacklist or /security/blacklist, and read from its one chain")
	}
	return c.reply(http.StatusOK, out)
}

// checkMessage holds a message to its form and returns what its sender signed.
func checkMessage(m *client.MeshMessage) ([]byte, error) {
	if m.ID == "" || len(m.ID) > maxMeshIDBytes {
		return nil, invalid("id", "want 1 to "+strconv.Itoa(maxMeshIDBytes)+" bytes")
	}
	if _, known := meshSkips[m.Type]; !known {
		return nil, meshRefusal(client.CodeInvalid, http.StatusBadRequest, meshUnknownType, "the type is none of WIRE 8.2")
	}
	if err := crypto.CheckID(m.FromPeerID); err != nil {
		return nil, invalid("fromPeerId", err.Error())
	}
	if m.IssuedAtMs < 0 || m.IssuedAtMs > fsm.MaxTimeMs || m.TTLMs < 1 || m.TTLMs > maxMeshTTL.Milliseconds() {
		return nil, invalid("ttlMs", "want a time in Unix milliseconds and a life of up to "+maxMeshTTL.String())
	}
	payload, err := crypto.CanonicalJSON(m.Payload)
	if err != nil || len(payload) == 0 || payload[0] != '{' {
		return nil, invalid("payload", "want an object")
	}
	text := append([]byte(`{"id":`), crypto.AppendJSONString(nil, m.ID)...)
	text = crypto.AppendJSONString(append(text, `,"type":`...), m.Type)
	text = crypto.AppendJSONString(append(text, `,"fromPeerId":`...), m.FromPeerID)
	text = strconv.AppendInt(append(text, `,"issuedAtMs":`...), m.IssuedAtMs, 10)
	text = strconv.AppendInt(append(text, `,"ttlMs":`...), m.TTLMs, 10)
	return append(append(append(text, `,"payload":`...), payload...), '}'), nil
}

// refuseMessage asks in this order: who is it, is it theirs, when is it from, was
// it here before. Nothing is counted or remembered until the sender is proved.
func (c *call) refuseMessage(m *client.MeshMessage, signed []byte) error {
	key, found, clockMs, err := c.meshSender(m.FromPeerID)
	if err != nil {
		return err
	}
	if !found {
		return meshRefusal(client.CodeNotFound, http.StatusNotFound, "peer_unknown", "the sender is no coordinator and no active agent of this cluster")
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(m.Signature)
	fault := ""
	switch {
	case err != nil || len(sig) != crypto.SignatureSize || !crypto.Verify(key, signed, sig):
		fault = "invalid_signature"
	case c.s.relayed.has(m.ID):
		fault = "duplicate_message"
	case clockMs > m.IssuedAtMs+m.TTLMs:
		fault = "message_expired"
	case m.IssuedAtMs > clockMs+maxMeshSkew.Milliseconds():
		fault = "message_from_the_future"
	default:
		fault = c.s.relayed.enter(m.FromPeerID, m.ID, c.s.cfg.Now())
	}
	switch fault {
	case "":
		return nil
	case "peer_rate_limited":
		return meshRefusal(client.CodeRateLimited, http.StatusTooManyRequests, fault, "")
	}
	return meshRefusal(client.CodeInvalid, http.StatusBadRequest, fault, "")
}

// meshSender finds the key of a coordinator that signs, or of an active agent.
func (c *call) meshSender(id string) (key crypto.PublicKey, found bool, clockMs int64, err error) {
	err = c.readAt(ReadOptions{}, func(state *fsm.State) {
		clockMs = state.ClockMs()
		for _, k := range state.SigningKeys() {
			if k.RetiredAt == 0 && k.Public.CoordinatorID() == id {
				key, found = k.Public, true
			}
		}
		if a, ok := state.Agent(id); !found && ok && state.Stands(id, clockMs) == fsm.CodeOK {
			key, found = a.Key(), true
		}
	})
	return key, found, clockMs, err
}

// meshRefusal is a refusal in the shape of WIRE.md 8.3.
func meshRefusal(code string, status int, text, detail string) *wireFault {
	return &wireFault{cause: &client.Error{Code: code, Detail: text}, status: status, body: client.MeshIngested{StatusCode: status, Error: text, Detail: detail}}
}
