package cmd

import (
	"fmt"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/node"
)

// drawRisk shows what may come back when acknowledged records may be lost: what is
// known of it first.
func drawRisk(t *table, risk *node.RecoveryRisk, revoked bool) {
	if risk == nil {
		return
	}
	for _, c := range risk.Known {
		t.row("known to be lost", "what "+c.Name+" holds in "+c.DataDir)
		list(t, "revoked tokens that are back", len(c.TokensRevoked), c.TokensRevoked, func(id string) string { return id })
		list(t, "bans that are lost", c.BansLost, c.BansLostList, func(b client.Ban) string {
			return fmt.Sprintf("%s  %s  event %s", b.AgentID, b.ReasonCode, b.EventID)
		})
		t.row("lifted bans that are back", number(c.BansBack))
		list(t, "agents that change", c.AgentsChanged, c.AgentsList, agentChangeText)
		list(t, "agents that are lost", c.AgentsLost, c.AgentsLostIDs, func(id string) string { return id })
	}
	if !revoked {
		drawRiskyTokens(t, risk)
	}
	t.row("bans", number(risk.BansInForce)+" are in force in this copy; later ones may be lost, and lifted ones be back: ban again")
	t.row("agents", number(risk.ActiveAgents)+" are active in this copy; some may have been suspended, revoked or given other keys since: look through them")
}

func drawRiskyTokens(t *table, risk *node.RecoveryRisk) {
	t.row("in force again", "these tokens; any may have been revoked since this copy: revoke what you do not know, or give --revoke-tokens")
	for _, k := range risk.Tokens {
		t.row("", fmt.Sprintf("%s  %s  made %s  %s", k.ID, k.Role, t.when(k.CreatedMs), orDash(k.Label)))
	}
	t.row("", fmt.Sprintf("and %d of services", risk.OtherTokens))
}

// tokenSteps tells what there is to do about tokens.
func tokenSteps(done node.RecoveryDone, revoke bool) []string {
	switch {
	case done.AdminToken != "":
		return []string{"the new admin token is " + done.AdminToken + ": the first start of the server shows its text, once (or writes it where --admin-token-out says); make the others anew with it"}
	case revoke:
		return []string{"no token was revoked: this recovery was decided before --revoke-tokens was said. Revoke them with `edgecoder token revoke`"}
	case done.Risk != nil:
		return []string{fmt.Sprintf("go through the %d tokens of admins and operators above, and %d of services: one that was revoked and is lost with its revocation lets its thief in again (`edgecoder token revoke ID`); then through bans and agents",
			len(done.Risk.Tokens), done.Risk.OtherTokens)}
	}
	return nil
}
