package api

import (
	"cmp"

	"github.com/edgecoder/edgecoder/client"
)

// Events of what existing agents and peers ask (WIRE.md 7, 8). Their answers have
// words of their own, and one status stands for a forgery, a replay and a wrong
// clock alike; the log tells them apart.

// wireEvents says what a refusal in the words of WIRE.md is, besides those that
// admissions share (denied).
var wireEvents = map[string]kept{
	"body_mismatch":                     {"invalid_signature", auditHigh},
	"agent_id_mismatch":                 {"invalid_signature", auditHigh},
	"key_not_current":                   {"agent_trust_violation", auditHigh},
	"key_change_needs_current_key":      {"agent_trust_violation", auditHigh}, // somebody wants an id that is another's
	"key_proof_required":                {"agent_trust_violation", auditHigh},
	"binding_conflict":                  {"agent_trust_violation", auditHigh},
	"node_inactive":                     {"agent_trust_violation", auditHigh},
	"node_pending_coordinator_approval": {"access_denied", auditWarn},
	"registration_token_required":       {"access_denied", auditWarn},
	"registration_token_invalid":        {"failed_auth", auditWarn},
	"agent_not_registered":              {"failed_auth", auditWarn},
	"peer_unknown":                      {"failed_auth", auditWarn},
	"peer_key_mismatch":                 {"agent_trust_violation", auditHigh},
	"membership_by_join_token":          {"access_denied", auditWarn},
	"duplicate_message":                 {"replay_attempt", auditHigh},
	"message_expired":                   {"replay_attempt", auditWarn},
	"message_from_the_future":           {"replay_attempt", auditWarn},
	"peer_rate_limited":                 {"auth_rate_limit_hit", auditHigh},
	"blacklist_chain_authoritative":     {"access_denied", auditWarn},
}

// refusedFields are fields of a request whose refusal is an event of its own:
// signatures that did not verify.
var refusedFields = map[string]kept{
	"signatures":          {"manifest_signature_failure", auditCritical},
	"reporter_signature":  {"invalid_signature", auditHigh},
	"reporter_public_key": {"invalid_signature", auditHigh},
	"proof":               {"invalid_signature", auditHigh},
	"encryption_proof":    {"invalid_signature", auditHigh},
}

// verdict returns the word that tells what a refusal was, never a text that
// somebody wrote: that of a ban is its operator's.
func (f *wireFault) verdict() string {
	switch body := f.body.(type) {
	case wireError:
		if body.Error == client.VerdictBlacklisted {
			return body.Error
		}
		return cmp.Or(body.Reason, body.Error)
	case client.MeshIngested:
		return body.Error
	}
	return ""
}

// wireEvent returns what the call was refused for.
func (c *call) wireEvent() (kept, bool) {
	if c.verdict == "" {
		what, ok := refusedFields[c.field]
		return what, ok && c.code == client.CodeInvalid
	}
	if what, ok := wireEvents[c.verdict]; ok {
		return what, true
	}
	what, ok := denied[c.verdict]
	return what, ok
}
