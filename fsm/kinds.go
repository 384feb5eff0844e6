package fsm

import (
	"fmt"
	"reflect"
)

// tenants is the one list of what a command can be: a kind, the body it
// carries, and who applies it. Ticks move the clock and are applied before
// anybody else is asked.
var tenants = map[Kind]tenant{
	KindGenesis:           tenantOf((*State).applyGenesis),
	KindTick:              tenantOf[Tick](nil),
	KindAdmitBatch:        tenantOf((*State).applyAdmitBatch),
	KindTokenCreate:       tenantOf((*State).applyTokenCreate),
	KindTokenRevoke:       tenantOf((*State).applyTokenRevoke),
	KindAgentEnroll:       tenantOf((*State).applyAgentEnroll),
	KindAgentSetState:     tenantOf((*State).applyAgentSetState),
	KindPolicySet:         tenantOf((*State).applyPolicySet),
	KindBlacklistAppend:   tenantOf((*State).applyBlacklistAppend),
	KindCoordinatorJoin:   tenantOf((*State).applyCoordinatorJoin),
	KindCoordinatorUpdate: tenantOf((*State).applyCoordinatorUpdate),
	KindCoordinatorRemove: tenantOf((*State).applyCoordinatorRemove),
	KindClockRecover:      tenantOf((*State).applyClockRecover),
	KindRestoreBegin:      tenantOf((*State).applyRestoreBegin),
	KindManifestTrustSet:  tenantOf((*State).applyManifestTrustSet),
	KindManifestAccept:    tenantOf((*State).applyManifestAccept),
	KindManifestRevoke:    tenantOf((*State).applyManifestRevoke),
	KindAgentRekey:        tenantOf((*State).applyAgentRekey),
	KindLevelRaise:        tenantOf((*State).applyLevelRaise),

	KindCoordinatorCleanUp: tenantOf((*State).applyCoordinatorCleanUp),

	KindLedgerPolicySet:  tenantOf((*State).applyLedgerPolicySet),
	KindLedgerAccountSet: tenantOf((*State).applyLedgerAccountSet),
	KindLedgerBatch:      tenantOf((*State).applyLedgerBatch),
	KindLedgerReports:    tenantOf((*State).applyLedgerReports),
	KindLedgerConfirm:    tenantOf((*State).applyLedgerConfirm),
	KindLedgerEpochClose: tenantOf((*State).applyLedgerEpochClose),
	KindCosignerSetPut:   tenantOf((*State).applyCosignerSetPut),
	KindEdgeJoin:         tenantOf((*State).applyEdgeJoin),
	KindKeyScheduleSet:   tenantOf((*State).applyKeyScheduleSet),
	KindKeyPrepare:       tenantOf((*State).applyKeyPrepare),
	KindKeyReady:         tenantOf((*State).applyKeyReady),
	KindKeySwitch:        tenantOf((*State).applyKeySwitch),
	KindKeyRotate:        tenantOf((*State).applyKeyRotate),
	KindKeyRevoke:        tenantOf((*State).applyKeyRevoke),
	KindKeyRecover:       tenantOf((*State).applyKeyRecover),
}

// Level returns the feature level from which a cluster's log may carry a kind:
// below it a server may not know the kind, and would have to stop.
func (k Kind) Level() uint32 {
	switch k {
	case KindClockRecover, KindRestoreBegin:
		return LevelRecovery
	case KindManifestTrustSet, KindManifestAccept:
		return LevelProfiles
	case KindManifestRevoke, KindAgentRekey:
		return LevelClients
	case KindCoordinatorCleanUp:
		return LevelUpgrades
	case KindLedgerPolicySet, KindLedgerAccountSet, KindLedgerBatch, KindLedgerReports, KindLedgerConfirm, KindLedgerEpochClose:
		return LevelLedger
	case KindCosignerSetPut, KindEdgeJoin:
		return LevelCheckpoints
	case KindKeyScheduleSet, KindKeyPrepare, KindKeyReady, KindKeySwitch, KindKeyRotate, KindKeyRevoke, KindKeyRecover:
		return LevelKeys
	}
	return 0
}

// answersEach tells whether a command of the kind has an answer for each of many.
func (k Kind) answersEach() bool {
	switch k {
	case KindAdmitBatch, KindLedgerBatch, KindLedgerReports, KindLedgerConfirm:
		return true
	}
	return false
}

// kindsByType finds the kind of a body.
var kindsByType = func() map[reflect.Type]Kind {
	out := map[reflect.Type]Kind{}
	for kind, t := range tenants {
		out[t.body] = kind
	}
	return out
}()

type tenant struct {
	body   reflect.Type
	decode func(Command) (any, error)
	// apply checks everything before it changes anything.
	apply func(*State, *change, any) Result
}

func tenantOf[T any](apply func(*State, *change, T) Result) tenant {
	return tenant{
		body:   reflect.TypeFor[T](),
		decode: func(cmd Command) (any, error) { return BodyOf[T](cmd) },
		apply:  func(s *State, c *change, body any) Result { return apply(s, c, body.(T)) },
	}
}

func decodeBody(cmd Command) (any, error) {
	t, known := tenants[cmd.Kind]
	if !known {
		return nil, fmt.Errorf("%w: unknown kind %d: %w", ErrCommand, cmd.Kind, ErrLevel)
	}
	body, err := t.decode(cmd)
	if err == nil {
		err = checkBodyLevel(body)
	}
	return body, err
}

// checkBodyLevel refuses what brings the cluster to a level that this binary
// does not know: it could not say what the command means there.
func checkBodyLevel(body any) error {
	switch b := body.(type) {
	case Genesis:
		return checkLevel(b.Level, b.Coordinator.Version)
	case LevelRaise:
		return checkLevel(b.To, b.Version)
	}
	return nil
}

// BodyOf decodes the body of a command that a node received from another, so
// that the leader can complete it (link a blacklist event).
func BodyOf[T any](cmd Command) (T, error) {
	var body T
	if err := Decode(cmd.Body, &body); err != nil {
		return body, fmt.Errorf("%w: %T: %v", ErrCommand, body, err)
	}
	return body, nil
}
