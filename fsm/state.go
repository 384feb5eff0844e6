// Package fsm is the replicated state machine: commands, the state they
// change, its digest and its snapshots. It is pure: no clock, randomness,
// files, sockets or goroutines; all that a decision needs is in the command.
package fsm

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

// State is the whole replicated truth. It is not safe for concurrent use:
// Machine guards it.
type State struct {
	meta          *cell[Meta]
	policy        *cell[Policy]
	marks         *cell[[]Mark]
	agents        *table[Agent]
	keyOwners     *table[string] // KeyRef bytes → subject; a key belongs to one subject for ever
	tokens        *table[Token]
	coordinators  *table[Coordinator]
	removed       *table[Removal]
	signingKeys   *table[SigningKey]
	bans          *table[Ban]
	idempotent    *table[Outcome]
	nonces        *nonceWindow
	windows       *rateWindows
	selves        *rateWindows          // of what agents ask for themselves
	divergent     *table[Divergence]    // replicas that differ; empty when all is well
	manifestTrust *table[ManifestTrust] // one row once it is set
	manifests     *table[Manifest]
	ledger        *ledgerState
	auditHeads    *table[AuditHead]   // of members, by node id
	cosignerSets  *table[CosignerSet] // by version
	keySchedules  *table[Schedule]    // by subject, or by kind of subject
	keyRequests   *table[KeyRequest]  // rotations that wait for their owner, by subject
	keyRings      *table[Ring]        // of what coordinators share, by subject

	// Indexes derived from the fields above, rebuilt by restore.
	expiries expiryIndex
	outcomes map[string]int    // rows of idempotent by the token that asked
	edges    map[string]string // ids of edges' tokens by node id

	newestSet uint64 // version of the cosigner set in force, 0 without one
}

// Meta is the state's own bookkeeping.
type Meta struct {
	Index        uint64 `cbor:"1,keyasint"` // last applied log index: travels inside the state it describes
	ClockMs      int64  `cbor:"2,keyasint"` // the cluster clock, never runs back
	NonceFloorMs int64  `cbor:"3,keyasint"` // claims at or below are refused, whatever the policy says
	TickTerm     uint64 `cbor:"4,keyasint"` // newest term whose first tick was applied
	ClusterID    string `cbor:"5,keyasint"`
	Epoch        uint64 `cbor:"6,keyasint"` // recovery epoch, 1 at bootstrap
	Level        uint32 `cbor:"7,keyasint"` // feature level
	CACert       []byte `cbor:"8,keyasint"` // DER of the cluster CA
	ChainHead    string `cbor:"9,keyasint"`
	ChainSize    uint64 `cbor:"10,keyasint"`
	AdminSize    uint64 `cbor:"11,keyasint"` // records in StreamAdmin
	// Closed are ranges of signed timestamps whose nonces a poisoned clock made
	// the state forget: claims from them are refused for ever.
	Closed []TimeRange `cbor:"12,keyasint,omitempty"`
	// Reserved is the epoch that the last restore which was begun may open; 0
	// when none was begun in this epoch.
	Reserved uint64 `cbor:"13,keyasint,omitempty"`
	// Skipped are ranges of timestamps that no admitted claim has, because the
	// clock jumped over them.
	Skipped []TimeRange `cbor:"15,keyasint,omitempty"`
	// Recovered is the epoch that the last Recover opened, 0 without one. The logs
	// of copies that differ in it are not two states of one log: one forked off.
	Recovered uint64 `cbor:"14,keyasint,omitempty"`
	// Recoveries are the random ids of the last recoveries, the newest last. Two
	// copies that were recovered apart may count to the same epoch; these differ.
	Recoveries []string `cbor:"16,keyasint,omitempty"`
	// LevelVersion is the version of the binary that proposed Level; empty for the
	// level that the cluster began with.
	LevelVersion string `cbor:"17,keyasint,omitempty"`
	// MostCoordinators is how many coordinators were members at one time, observers
	// apart: clean-ups leave all but one of them. From LevelUpgrades on.
	MostCoordinators int `cbor:"18,keyasint,omitempty"`
}

// IsPastOf tells whether a state came from this one, as far as recoveries tell:
// the other went through all recoveries that this one went through.
func (m Meta) IsPastOf(other Meta) bool {
	return m.Recovery() == "" || slices.Contains(other.Recoveries, m.Recovery())
}

// Recovery returns the id of the last recovery, "" without one.
func (m Meta) Recovery() string {
	if n := len(m.Recoveries); n > 0 {
		return m.Recoveries[n-1]
	}
	return ""
}

// Mark is the digest of the state just before the marking tick took effect.
type Mark struct {
	_      struct{} `cbor:",toarray"`
	Index  uint64
	Digest crypto.Hash
}

// NewState returns the state before genesis.
func NewState() *State {
	s := &State{
		meta:          newCell("meta", Meta{ChainHead: crypto.BlacklistGenesis}),
		policy:        newCell("policy", DefaultPolicy()),
		marks:         newCell("marks", []Mark(nil)),
		agents:        newTable[Agent]("agents", MaxAgents),
		keyOwners:     newTable[string]("key_owners", MaxKeyOwners),
		tokens:        newTable[Token]("tokens", MaxTokens),
		coordinators:  newTable[Coordinator]("coordinators", MaxCoordinators),
		removed:       newTable[Removal]("removed", MaxRemoved),
		signingKeys:   newTable[SigningKey]("signing_keys", MaxSigningKeys),
		bans:          newTable[Ban]("bans", MaxBans),
		idempotent:    newTable[Outcome]("idempotency", MaxIdempotency),
		nonces:        newNonceWindow("nonces", MaxNonces),
		windows:       newRateWindows(),
		selves:        newSelfWindows(),
		divergent:     newTable[Divergence]("divergent", MaxCoordinators+1),
		manifestTrust: newTable[ManifestTrust]("manifest_trust", 1),
		manifests:     newTable[Manifest]("manifests", MaxManifests),
		auditHeads:    newTable[AuditHead]("audit_heads", MaxCoordinators),
		ledger:        newLedgerState(),
		cosignerSets:  newTable[CosignerSet]("cosigner_sets", MaxCosignerSets),
		keySchedules:  newTable[Schedule]("key_schedules", MaxKeySchedules),
		keyRequests:   newTable[KeyRequest]("key_requests", MaxKeyRequests+maxOwnRequests),
		keyRings:      newTable[Ring]("key_rings", 2),
		outcomes:      map[string]int{},
		edges:         map[string]string{},
	}
	return s
}

// fields is the one list that snapshot, restore and digest walk, in the order
// of the snapshot. Without rows a field is no part of the digest, so replicas
// with and without a newer field agree until a feature level lets it be used.
func (s *State) fields() []field {
	return append([]field{
		s.meta, s.policy, s.marks, s.agents, s.keyOwners, s.tokens, s.coordinators,
		s.removed, s.signingKeys, s.bans, s.idempotent, s.nonces, s.windows, s.divergent,
		s.manifestTrust, s.manifests, s.auditHeads, s.selves, s.cosignerSets, s.keySchedules, s.keyRequests, s.keyRings,
	}, s.ledger.fields()...)
}

// newerFields are those that came after the first release. A snapshot leaves
// them out while they are empty: binaries that do not know them can read it, as
// they must while a cluster is upgraded server by server.
var newerFields = map[string]bool{"manifest_trust": true, "manifests": true, "audit_heads": true, "self_windows": true, "cosigner_sets": true,
	"key_schedules": true, "key_requests": true, "key_rings": true,
	"ledger_book": true, "ledger_accounts": true, "ledger_holds": true, "ledger_ids": true, "ledger_reports": true, "ledger_epochs": true, "ledger_weights": true}

// Digest returns the digest of the whole state, from the parts that each field
// keeps. It brings lazily kept parts up to date, so it is a write: within
// Machine.Read ask for Marks instead.
func (s *State) Digest() crypto.Hash { return s.digestBy(field.digest) }

// FullDigest computes the same from the contents alone; it must equal Digest.
func (s *State) FullDigest() crypto.Hash { return s.digestBy(field.recompute) }

func (s *State) digestBy(of func(field) Digest) crypto.Hash {
	h := sha256.New()
	for _, f := range s.fields() {
		if f.size() == 0 {
			continue // a field that a binary does not know yet and one that it keeps empty are the same
		}
		fmt.Fprintf(h, "%s %d\n", f.label(), f.size())
		h.Write(of(f).bytes())
	}
	return crypto.Hash(h.Sum(nil))
}

// FieldDigests names the digest of each field, to tell which tenant differs
// when two replicas do. Like Digest it is a write.
func (s *State) FieldDigests() map[string]string {
	out := map[string]string{}
	for _, f := range s.fields() {
		out[f.label()] = f.digest().String()
	}
	return out
}

// Index returns the log index that the state reflects.
func (s *State) Index() uint64 { return s.meta.v.Index }

// ClockMs returns the cluster clock, Unix milliseconds.
func (s *State) ClockMs() int64 { return s.meta.v.ClockMs }

// Meta returns the state's bookkeeping.
func (s *State) Meta() Meta { return s.meta.v }

// Marks returns the last digests, oldest first.
func (s *State) Marks() []Mark { return s.marks.v }

// Sizes returns how many rows each field holds, for metrics.
func (s *State) Sizes() map[string]int {
	out := map[string]int{}
	for _, f := range s.fields() {
		out[f.label()] = f.size()
	}
	return out
}
