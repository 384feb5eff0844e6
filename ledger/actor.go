package ledger

import (
	"strings"
	"unicode"

	"github.com/edgecoder/edgecoder/crypto"
)

// Standings, as the actor of a record names them before the id of whoever asked:
// what it might do at that index, so that who may is a rule of the records too.
// A record that nobody asked for has no actor.
const (
	ByAdmin    = "admin"    // an API token that may issue credits and set the policy
	ByOperator = "operator" // one that may move what is not the cluster's own
	ByToken    = "token"    // any other
	ByAgent    = "agent"
	ByNode     = "node"
)

// actor is a parsed Record.Actor; the zero actor is nobody.
type actor struct{ standing, id string }

// parseActor reads an actor of the form that records have.
func parseActor(text string) (actor, bool) {
	if text == "" {
		return actor{}, true
	}
	standing, id, _ := strings.Cut(text, ":")
	switch standing {
	case ByAdmin, ByOperator, ByToken, ByAgent, ByNode:
		return actor{standing, id}, crypto.CheckID(id) == nil
	}
	return actor{}, false
}

func (a actor) admin() bool    { return a.standing == ByAdmin }
func (a actor) operator() bool { return a.standing == ByOperator || a.admin() }
func (a actor) token() bool    { return a.standing == ByToken || a.operator() }

// owns tells whether an account is the actor's own.
func (a actor) owns(b *Balance) bool {
	switch b.Kind {
	case KindAgent:
		return a.standing == ByAgent && a.id == b.Owner
	case KindService:
		return a.token() && a.id == b.Owner
	}
	return false
}

// mayDebit: its owner, any operator, and of the cluster's own accounts admins alone.
func (a actor) mayDebit(b *Balance) bool {
	return a.admin() || a.operator() && b.Kind != KindSystem || a.owns(b)
}

// caller is the actor without its standing: ids are unique among those of one caller.
func (a actor) caller() string {
	if a.token() {
		return ByToken + ":" + a.id
	}
	return a.standing + ":" + a.id
}

// RefAllowed tells whether a text may be the ref of a record: refs stand in
// statements, on terminals too.
func RefAllowed(ref string) bool {
	return len(ref) <= crypto.MaxIDBytes && !strings.ContainsFunc(ref, unicode.IsControl)
}
