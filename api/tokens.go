package api

import (
	"fmt"
	"net/http"
	"sort"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// Defaults of tokens by kind (CONTRACT.md "Defaults"): what only opens the door
// is short-lived and used once, what is used daily lasts a quarter.
const (
	doorTTL     = 24 * time.Hour
	doorUses    = 1
	accessTTL   = 90 * 24 * time.Hour
	maxDoorUses = 1_000_000
)

// createToken answers POST /v1/tokens. The text of the token is in this answer
// and nowhere else: the cluster keeps its hash.
func (s *Server) createToken(c *call) error {
	var req client.TokenRequest
	if err := c.decode(&req); err != nil {
		return err
	}
	role := fsm.Role(req.Role)
	ttl, uses, err := tokenTerms(role, req)
	if err != nil {
		return err
	}
	text, err := s.newTokenText(role)
	if err == nil && role == fsm.RoleEdge {
		err = c.pinCosigners(&text)
	}
	if err != nil {
		return err
	}
	create := fsm.TokenCreate{ID: text.ID, Hash: text.Hash(), Role: role, Uses: uses, Label: req.Label}
	var join string
	err = c.readAt(ReadOptions{}, func(state *fsm.State) {
		create.ExpiresMs = state.ClockMs() + ttl.Milliseconds()
		join = joinCommand(role, text.String(), state.Coordinators())
	})
	if err != nil {
		return err
	}
	c.tellToken(create)
	res, err := c.propose(create)
	if err != nil {
		return err
	}
	if res.Repeated {
		return c.reply(http.StatusCreated, repeatedToken{ID: res.ID, Index: res.Index, Repeated: true})
	}
	return c.reply(http.StatusCreated, client.Token{
		ID: text.ID, Token: text.String(), Role: req.Role, Label: req.Label, State: "active", UsesLeft: uses,
		CreatedMs: res.ClockMs, ExpiresMs: create.ExpiresMs, Index: res.Index, JoinCommand: join,
	})
}

// repeatedToken answers a repeated creation: the secret was told once.
type repeatedToken struct {
	ID       string `json:"id"`
	Index    uint64 `json:"index"`
	Repeated bool   `json:"repeated"`
}

// newTokenText makes a token; those that open the door pin the CA, for their
// holder has nothing else to know the cluster by.
func (s *Server) newTokenText(role fsm.Role) (crypto.TokenText, error) {
	pin := ""
	if role.SingleUse() {
		pin = s.cfg.CAPin()
	}
	return crypto.NewTokenText(s.cfg.Rand, s.cfg.ClusterID, string(role), pin)
}

// pinCosigners has a token tell an edge whom to believe. Below the level of edges it is refused when it is proposed.
func (c *call) pinCosigners(text *crypto.TokenText) error {
	var level uint32
	err := c.readAt(ReadOptions{}, func(state *fsm.State) {
		level = state.Meta().Level
		if v, ok := state.CosignerSet(); ok {
			text.Set, text.SetHash = v.Version, v.Signed(state.Meta().ClusterID).Hash()
		}
	})
	if err == nil && text.Set == 0 && level >= fsm.LevelCheckpoints {
		err = &client.Error{Code: client.CodeUnavailable, Reason: "no_cosigners", RetryAfter: time.Second,
			Detail: "the coordinators have not agreed yet on who cosigns checkpoints: an edge would have nobody to trust"}
	}
	return err
}

func tokenTerms(role fsm.Role, req client.TokenRequest) (ttl time.Duration, uses int64, err error) {
	if !role.Known() {
		return 0, 0, invalid("role", quote(req.Role)+" is not one of coordinator, observer, edge, agent, viewer, verifier, operator, admin, mesh")
	}
	if err := checkLabel(req.Label); err != nil {
		return 0, 0, err
	}
	if ttl, err = tokenTTL(role, req); err != nil {
		return 0, 0, err
	}
	uses, err = tokenUses(role, req.Uses)
	return ttl, uses, err
}

func checkLabel(label string) error {
	if len(label) > fsm.MaxLabelBytes || !utf8.ValidString(label) {
		return invalid("label", fmt.Sprintf("at most %d bytes", fsm.MaxLabelBytes))
	}
	for _, r := range label {
		if unicode.IsControl(r) {
			return invalid("label", "control characters are refused")
		}
	}
	return nil
}

func tokenTTL(role fsm.Role, req client.TokenRequest) (time.Duration, error) {
	if req.TTL != "" && req.TTLMs != 0 {
		return 0, invalid("ttl", "give ttl or ttl_ms, not both")
	}
	if req.TTL != "" {
		ttl, err := time.ParseDuration(req.TTL)
		if err != nil {
			return 0, invalid("ttl", quote(req.TTL)+" is no duration: write 24h or 90m")
		}
		return ttl, checkTTL("ttl", ttl.Milliseconds())
	}
	if req.TTLMs != 0 {
		return time.Duration(req.TTLMs) * time.Millisecond, checkTTL("ttl_ms", req.TTLMs)
	}
	if role.SingleUse() {
		return doorTTL, nil
	}
	return accessTTL, nil
}

func checkTTL(field string, ms int64) error {
	if ms < time.Second.Milliseconds() || ms > fsm.MaxTokenTTLMs {
		return invalid(field, "a token lives from one second to ten years")
	}
	return nil
}

// tokenUses refuses a count on tokens whose uses nobody counts.
func tokenUses(role fsm.Role, uses int64) (int64, error) {
	switch {
	case uses < -1 || uses > maxDoorUses:
		return 0, invalid("uses", fmt.Sprintf("give 1 to %d, or -1 for unlimited", maxDoorUses))
	case !role.SingleUse() && uses > 0:
		return 0, invalid("uses", fmt.Sprintf("a token of role %s is an API token: it is shown with every request and nobody counts its uses, so a count would be an empty promise; leave uses out (or give -1) and bound it by ttl", role))
	case !role.SingleUse():
		return -1, nil
	case uses == 0:
		return doorUses, nil
	}
	return uses, nil
}

// tokens answers GET /v1/tokens.
func (s *Server) tokens(c *call) error {
	limit, err := c.pageLimit()
	if err != nil {
		return err
	}
	after := c.r.URL.Query().Get("after")
	out := client.Tokens{Tokens: []client.Token{}}
	err = c.read(func(state *fsm.State) {
		all, now := state.Tokens(), state.ClockMs()
		all = all[sort.Search(len(all), func(i int) bool { return all[i].ID > after }):]
		if len(all) > limit {
			all = all[:limit]
			out.Next = all[limit-1].ID
		}
		for _, t := range all {
			out.Tokens = append(out.Tokens, client.Token{
				ID: t.ID, Role: string(t.Role), Label: t.Label, State: t.State(now),
				UsesLeft: t.UsesLeft, CreatedMs: t.CreatedMs, ExpiresMs: t.ExpiresMs, Through: t.Through,
			})
		}
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, out)
}

// revokeToken answers DELETE /v1/tokens/{id}.
func (s *Server) revokeToken(c *call) error {
	if err := c.noBody(); err != nil {
		return err
	}
	res, err := c.propose(fsm.TokenRevoke{ID: c.args[0]})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, client.TokenRevoked{ID: res.ID, Index: res.Index, Repeated: res.Repeated})
}
