package api

import (
	"fmt"
	"slices"
	"strings"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// actionTypes maps the beginnings of actions in the history to types of events.
var actionTypes = []struct{ prefix, kind string }{
	{"agent_rekey", client.EventKey}, // before what it begins with
	{"agent_", client.EventAgent},
	{"token_", client.EventToken},
	{"policy_", client.EventPolicy},
	{"coordinator_", client.EventMembership},
	{"manifest_", client.EventManifest},
	{"key_", client.EventKey},
	{"genesis", client.EventRecovery},
	{"recover", client.EventRecovery},
	{"restore", client.EventRecovery},
}

func typeOfAction(action string) string {
	for _, t := range actionTypes {
		if strings.HasPrefix(action, t.prefix) {
			return t.kind
		}
	}
	return client.EventAdmin
}

// needOf is what a token must be able to do to hear of a type. Whoever may read
// the chain must know when its past was changed.
func needOf(kind string) fsm.Capability {
	switch kind {
	case client.EventBan, client.EventLift, client.EventRecovery:
		return fsm.CapReadTrust
	}
	return fsm.CapReadOps
}

// eventFilter says which types a subscriber hears of.
type eventFilter map[string]bool

// parseTypes reads the query parameter "types": a list with commas, or nothing
// for all that the role may read.
func parseTypes(text string, role fsm.Role) (eventFilter, error) {
	f := eventFilter{}
	if text == "" {
		for _, kind := range client.EventTypes() {
			f[kind] = role.Can(needOf(kind))
		}
		return f, nil
	}
	for kind := range strings.SplitSeq(text, ",") {
		if !slices.Contains(client.EventTypes(), kind) {
			return nil, invalid("types", fmt.Sprintf("%s is no type of events: %s", quote(kind), strings.Join(client.EventTypes(), ", ")))
		}
		if !role.Can(needOf(kind)) {
			return nil, forbidden(role)
		}
		f[kind] = true
	}
	return f, nil
}

// eventOf turns a record into an event; ok is false for one that says what
// another record of the same entry says already.
func eventOf(r fsm.Record, epoch uint64, ops bool) (e client.Event, ok bool, err error) {
	e.Index = r.Index
	if r.Stream == fsm.StreamBlacklist {
		chained, err := crypto.ParseBlacklistEvent(r.Data)
		if err != nil {
			return e, false, fmt.Errorf("blacklist history, record %d: %w", r.Seq, err)
		}
		e.Type, e.Action, e.Subject, e.AtMs = client.EventBan, "ban", chained.AgentID, chained.TimestampMs
		if chained.ExpiresAtMs != nil && *chained.ExpiresAtMs < chained.TimestampMs {
			e.Type, e.Action = client.EventLift, "lift"
		}
		e.Seq, e.Event, e.Delta = r.Seq, r.Data, deltaOf(epoch, r.Seq, &chained)
		return e, true, nil
	}
	var a fsm.AdminRecord
	if err := fsm.Decode(r.Data, &a); err != nil {
		return e, false, fmt.Errorf("history of actions, record %d: %w", r.Seq, err)
	}
	if a.Action == "ban" || a.Action == "lift" {
		return e, false, nil // the chain has the whole of it
	}
	e.Type, e.Action, e.AtMs = typeOfAction(a.Action), a.Action, a.AtMs
	if ops {
		e.Subject, e.Detail = a.Subject, a.Detail
		e.Actor = &client.EventActor{TokenID: a.Actor.TokenID, NodeID: a.Actor.NodeID, Via: a.Actor.Via}
	}
	return e, true, nil
}
