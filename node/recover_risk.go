package node

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// RecoveryRisk is what a recovery may bring back, when the copy that it goes on
// from may lack acknowledged records: what nobody here knows to be revoked or
// banned is good again. A person must go through it.
type RecoveryRisk struct {
	Tokens       []RiskyToken `json:"tokens"`        // of admins and operators, in force in this copy: each may have been revoked since
	OtherTokens  int          `json:"other_tokens"`  // likewise, of services
	BansInForce  int          `json:"bans_in_force"` // here; later ones, and lifts, may be lost
	ActiveAgents int          `json:"active_agents"` // here; some may have been suspended, revoked or given other keys since
	Known        []CopyLoss   `json:"known"`         // what newer copies that are left aside say of that
}

// RiskyToken is a token that is in force once more.
type RiskyToken struct {
	ID        string `json:"token_id"`
	Role      string `json:"role"`
	Label     string `json:"label"`
	CreatedMs int64  `json:"created_ms"`
	ExpiresMs int64  `json:"expires_ms"` // 0: never
}

// CopyLoss is what one copy holds that the chosen one lacks. Lists hold at most
// client.MaxPlanRows rows; the counts beside are exact.
type CopyLoss struct {
	Name          string               `json:"name"`
	DataDir       string               `json:"data_dir"`
	TokensRevoked []string             `json:"tokens_revoked"` // ids: revoked there, in force here
	BansLost      int                  `json:"bans_lost"`
	BansLostList  []client.Ban         `json:"bans_lost_list"`
	BansBack      int                  `json:"bans_back"`
	AgentsLost    int                  `json:"agents_lost"`
	AgentsLostIDs []string             `json:"agents_lost_ids"`
	AgentsChanged int                  `json:"agents_changed"`
	AgentsList    []client.AgentChange `json:"agents_changed_list"`
}

// riskOf tells what going on from a copy may bring back.
func riskOf(chosen *candidate, all []*candidate) *RecoveryRisk {
	s := chosen.state
	now := s.ClockMs()
	out := &RecoveryRisk{Tokens: []RiskyToken{}, Known: []CopyLoss{}, BansInForce: len(s.Bans("", fsm.MaxBans, now))}
	for _, t := range s.Tokens() {
		switch _, in := s.TokenInForce(t.ID, now); {
		case !in || t.Role.SingleUse(): // those end with any recovery
		case t.Role == fsm.RoleAdmin || t.Role == fsm.RoleOperator:
			out.Tokens = append(out.Tokens, RiskyToken{ID: t.ID, Role: string(t.Role), Label: t.Label, CreatedMs: t.CreatedMs, ExpiresMs: t.ExpiresMs})
		default:
			out.OtherTokens++
		}
	}
	for _, a := range s.Agents("", fsm.MaxAgents) {
		if a.State == fsm.AgentActive {
			out.ActiveAgents++
		}
	}
	for _, c := range all {
		if c != chosen && c.state != nil && c.Retired == nil && (c.newerThan(&chosen.SurvivingCopy) || chosen.forked(c)) {
			out.Known = append(out.Known, lossIn(s, c))
		}
	}
	return out
}

func lossIn(chosen *fsm.State, c *candidate) CopyLoss {
	u := fsm.Compare(chosen, c.state)
	out := CopyLoss{Name: c.label(), DataDir: c.DataDir, TokensRevoked: []string{},
		BansLost: len(u.BansLost), BansLostList: rowsOf(u.BansLost, banRow), BansBack: len(u.BansBack),
		AgentsLost: len(u.AgentsLost), AgentsLostIDs: rowsOf(u.AgentsLost, func(a fsm.Agent) string { return a.ID }),
		AgentsChanged: len(u.AgentsOther), AgentsList: rowsOf(u.AgentsOther, func(a fsm.Agent) client.AgentChange { return changeOf(chosen.Agent, a) })}
	for _, t := range c.state.Tokens() {
		if _, in := chosen.TokenInForce(t.ID, c.state.ClockMs()); in && t.RevokedMs != 0 {
			out.TokensRevoked = append(out.TokensRevoked, t.ID)
		}
	}
	return out
}

// newAdmin makes the token that replaces all others. Its text is in the key file
// before anything is decided, as that of a new cluster is, and the next start
// shows it: so no crash loses it.
func (r *Recovery) newAdmin(c *candidate) (*fsm.TokenCreate, error) {
	if !r.o.RevokeTokens {
		return nil, nil
	}
	id, err := loadIdentity(c.DataDir, c.passphrase)
	if err != nil || id == nil {
		return nil, errors.Join(err, fmt.Errorf("%s cannot be read any more", fileKeys))
	}
	t, err := crypto.NewTokenText(rand.Reader, id.ClusterID, string(fsm.RoleAdmin), "")
	if err != nil {
		return nil, err
	}
	id.AdminToken = t.String()
	return &fsm.TokenCreate{ID: t.ID, Hash: t.Hash(), Role: fsm.RoleAdmin, Uses: -1, Label: "recover"}, id.save(c.DataDir, c.passphrase)
}

// waitingAdmin returns the id of the admin token that the next start shows, "" if
// there is none.
func (c *candidate) waitingAdmin(s *fsm.State) (string, error) {
	id, err := loadIdentity(c.DataDir, c.passphrase)
	if err != nil || id == nil || id.AdminToken == "" {
		return "", err
	}
	t, err := crypto.ParseTokenText(id.AdminToken)
	if err != nil {
		return "", err
	}
	if stored, ok := s.Token(t.ID); !ok || !stored.Hash.Equal(t.Hash()) {
		return "", nil
	}
	return t.ID, nil
}
