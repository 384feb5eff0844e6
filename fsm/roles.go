package fsm

import (
	"maps"
	"slices"
)

// Role names a set of capabilities; roles are not a ladder (CONTRACT.md).
type Role string

// The roles a token can have.
const (
	RoleCoordinator Role = "coordinator" // joins as a voter
	RoleObserver    Role = "observer"    // joins as a non-voter for ever
	RoleEdge        Role = "edge"
	RoleAgent       Role = "agent"
	RoleMesh        Role = "mesh"
	RoleVerifier    Role = "verifier"
	RoleViewer      Role = "viewer"
	RoleOperator    Role = "operator"
	RoleAdmin       Role = "admin"
)

// Capability is one thing that a token may do.
type Capability uint32

// The capabilities, rows of the matrix in CONTRACT.md.
const (
	CapAdmit        Capability = 1 << iota // ask admissions
	CapReadTrust                           // blacklist, checkpoints, proofs, chain, keys, agents' public data
	CapReadStatus                          // status
	CapReadLedger                          // ledger export
	CapReadOps                             // status, members, policy, audit, ledger
	CapOperate                             // ban, lift, approve, suspend, rotate agent keys, accept manifests
	CapAdmin                               // tokens, policy, trust, peers, restore, issuance, revoke
	CapJoinVoter                           // join as a coordinator
	CapJoinObserver                        // join as an observer
	CapJoinEdge                            // join as an edge
	CapEnroll                              // enrol an agent
	CapTransfer                            // move credits; of which accounts is asked where they are
)

var capabilities = map[Role]Capability{
	RoleCoordinator: CapJoinVoter,
	RoleObserver:    CapJoinObserver,
	RoleEdge:        CapJoinEdge,
	RoleAgent:       CapEnroll,
	RoleEdgeMember:  CapAdmit | CapReadTrust | CapReadStatus,
	RoleMesh:        CapReadTrust | CapReadLedger,
	RoleVerifier:    CapAdmit | CapReadTrust | CapTransfer,
	RoleViewer:      CapReadTrust | CapReadStatus | CapReadLedger | CapReadOps,
	RoleOperator:    CapAdmit | CapReadTrust | CapReadStatus | CapReadLedger | CapReadOps | CapTransfer | CapOperate,
	RoleAdmin:       CapAdmit | CapReadTrust | CapReadStatus | CapReadLedger | CapReadOps | CapTransfer | CapOperate | CapAdmin,
}

// Roles returns all roles that tokens are made of, in the order of their names.
func Roles() []Role {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(capabilities)), func(r Role) bool { return !r.Known() })
}

// Known tells whether r is a role that tokens are made of.
func (r Role) Known() bool { _, ok := capabilities[r]; return ok && r != RoleEdgeMember }

// Can tells whether r has every capability in c.
func (r Role) Can(c Capability) bool { return capabilities[r]&c == c }

// SingleUse tells whether tokens of the role open only join or enrolment and
// are used once by default.
func (r Role) SingleUse() bool {
	return r == RoleCoordinator || r == RoleObserver || r == RoleEdge || r == RoleAgent
}
