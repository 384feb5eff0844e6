package fsm

import (
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"

	"github.com/edgecoder/edgecoder/crypto"
)

// Kind numbers a command's body. Numbers are part of the log and never reused.
type Kind uint16

// KindRestored is what an observer is told when a snapshot replaced the state;
// it is no command.
const KindRestored Kind = 0

// The kinds.
const (
	KindGenesis           Kind = 1
	KindTick              Kind = 2
	KindAdmitBatch        Kind = 3
	KindTokenCreate       Kind = 4
	KindTokenRevoke       Kind = 5
	KindAgentEnroll       Kind = 6
	KindAgentSetState     Kind = 7
	KindPolicySet         Kind = 8
	KindBlacklistAppend   Kind = 9
	KindCoordinatorJoin   Kind = 10
	KindCoordinatorUpdate Kind = 11
	KindCoordinatorRemove Kind = 12
	KindClockRecover      Kind = 13 // from LevelRecovery on
	KindRestoreBegin      Kind = 14 // from LevelRecovery on
	KindManifestTrustSet  Kind = 15 // from LevelProfiles on
	KindManifestAccept    Kind = 16 // from LevelProfiles on
	KindManifestRevoke    Kind = 17 // from LevelClients on
	KindAgentRekey        Kind = 18 // from LevelClients on
	KindLevelRaise        Kind = 19 // from LevelUpgrades on, which it raises to

	KindCoordinatorCleanUp Kind = 20 // from LevelUpgrades on

	KindLedgerPolicySet  Kind = 21 // this and what follows from LevelLedger on
	KindLedgerAccountSet Kind = 22
	KindLedgerBatch      Kind = 23
	KindLedgerReports    Kind = 24
	KindLedgerConfirm    Kind = 25
	KindLedgerEpochClose Kind = 26
	KindCosignerSetPut   Kind = 27 // this and what follows from LevelCheckpoints on
	KindEdgeJoin         Kind = 28
	KindKeyScheduleSet   Kind = 29 // this and what follows from LevelKeys on
	KindKeyPrepare       Kind = 30
	KindKeyReady         Kind = 31
	KindKeySwitch        Kind = 32
	KindKeyRotate        Kind = 33
	KindKeyRevoke        Kind = 34
	KindKeyRecover       Kind = 35
)

// commandVersion is the version of the envelope; a body changes by new
// optional members or a new Kind under a higher feature level.
const commandVersion = 1

// Command is one entry of the log. It carries all that Apply needs: the leader
// stamps AtMs; ids, randomness and verified signatures were settled before.
type Command struct {
	Version uint8           `cbor:"1,keyasint"`
	Kind    Kind            `cbor:"2,keyasint"`
	AtMs    int64           `cbor:"3,keyasint"` // leader's wall clock, Unix milliseconds; 0 until stamped
	Actor   Actor           `cbor:"4,keyasint"`
	Idem    *Idempotency    `cbor:"5,keyasint,omitempty"`
	Body    cbor.RawMessage `cbor:"6,keyasint"`
	// Term is raft's term of the entry, set by Machine and never encoded; 0 when
	// unknown. No tick may speak for a later one.
	Term uint64 `cbor:"-"`
}

// Idempotency makes a mutation happen once: Key is the hash of (principal,
// method, path, key), Body the hash of the request body.
type Idempotency struct {
	_    struct{} `cbor:",toarray"`
	Key  crypto.Hash
	Body crypto.Hash
}

// Genesis starts a cluster; it is refused in any state but the empty one.
type Genesis struct {
	ClusterID   string      `cbor:"1,keyasint"`
	CACert      []byte      `cbor:"2,keyasint"` // DER
	AdminToken  TokenCreate `cbor:"3,keyasint"`
	Coordinator Coordinator `cbor:"4,keyasint"`
	Level       uint32      `cbor:"5,keyasint"` // feature level the cluster starts at
}

// Tick moves the state's clock. The first of a term carries the wall times of
// a majority and may move it further than MaxAheadMs; Mark fixes the digest.
type Tick struct {
	Term   uint64      `cbor:"1,keyasint"`
	Voters int         `cbor:"2,keyasint,omitempty"` // size of the voter set, with Walls
	Walls  []VoterWall `cbor:"3,keyasint,omitempty"`
	Mark   bool        `cbor:"4,keyasint,omitempty"`
	Round  *Round      `cbor:"5,keyasint,omitempty"` // from LevelRecovery on
	// Heads tells where the audit logs of members end; from LevelClients on.
	Heads []AuditReport `cbor:"6,keyasint,omitempty"`
}

// VoterWall is a voter's wall clock as the leader estimates it at AtMs.
type VoterWall struct {
	_      struct{} `cbor:",toarray"`
	NodeID string
	WallMs int64
}

// AdmitBatch decides claims in order. Callers lists the ids of the API tokens
// that asked; each claim points into it. It encodes as the array of the two;
// from LevelProfiles on, if a claim has a profile or an expiry, as the array of
// three: the third has the pair of both for each claim.
type AdmitBatch struct {
	Callers []string
	Claims  []Claim
}

// Claim asks to use one signed request. Its signature was verified with the
// key KeyRef before it was proposed; all that depends on state is asked in Apply.
type Claim struct {
	_           struct{} `cbor:",toarray"`
	Caller      uint16
	AgentID     string
	Key         KeyRef
	TimestampMs int64
	Nonce       string
	Tag         ClaimTag
	ClaimID     ClaimTag // hash of (caller, claim id); zero when the server made the id
	// How it was signed stands in the batch, beside the claims of seven members
	// that logs are full of.
	Profile   crypto.Profile `cbor:"-"`
	ExpiresMs int64          `cbor:"-"` // end of the signature, Unix milliseconds; 0: it names none
	// Self says that the agent asks for itself: the caller of the claim is
	// SelfCaller. Apply takes it from there; whoever asks Check says it.
	Self bool `cbor:"-"`
}

// SelfCaller stands among the callers of a batch for agents that ask for
// themselves (from LevelClients on): no token has the empty id. Such a claim uses
// up its nonce as any other, and no place in the agent's rate window, which is
// for what services ask.
const SelfCaller = ""

// ClaimTag is 16 bytes of a SHA-256: long enough that nobody finds a second
// preimage, short because the window holds millions.
type ClaimTag [16]byte

// TokenCreate makes a token; only the hash of its text is ever replicated.
type TokenCreate struct {
	ID        string      `cbor:"1,keyasint"`
	Hash      crypto.Hash `cbor:"2,keyasint"`
	Role      Role        `cbor:"3,keyasint"`
	ExpiresMs int64       `cbor:"4,keyasint"` // 0: never
	Uses      int64       `cbor:"5,keyasint"` // -1: unlimited
	Label     string      `cbor:"6,keyasint,omitempty"`
}

// TokenRevoke ends a token at this index.
type TokenRevoke struct {
	ID string `cbor:"1,keyasint"`
}

// AgentEnroll binds an agent id to a key for the first time. The acting token
// is the enrolment token; its use is consumed with the binding, in one step.
type AgentEnroll struct {
	AgentID       string           `cbor:"1,keyasint"`
	PublicKey     crypto.PublicKey `cbor:"2,keyasint"`
	EncryptionKey []byte           `cbor:"3,keyasint,omitempty"` // raw X25519
	// EncryptionProof was verified before this was proposed: PublicKey's signature
	// on EncryptionKey (crypto.SignEncryptionKey). From LevelClients on.
	EncryptionProof []byte `cbor:"4,keyasint,omitempty"`
}

// AgentSetState approves (active), suspends or revokes an agent.
type AgentSetState struct {
	AgentID string     `cbor:"1,keyasint"`
	State   AgentState `cbor:"2,keyasint"`
}

// PolicySet replaces the policy if its version is still IfVersion.
type PolicySet struct {
	IfVersion uint64 `cbor:"1,keyasint"`
	Policy    Policy `cbor:"2,keyasint"`
}

// BlacklistAppend appends a ban or a lift. A proposal carries the event
// without its link; the leader links, signs and stamps it.
type BlacklistAppend struct {
	Event       crypto.BlacklistEvent `cbor:"1,keyasint"`
	ReporterKey *KeyRef               `cbor:"2,keyasint,omitempty"` // key the reporter's signature was verified with
	Lift        bool                  `cbor:"3,keyasint,omitempty"` // supersede the ban in force on Event.AgentID
}

// CoordinatorJoin enrols a coordinator or observer under a join token, which
// is the acting token. ReplaceID names the dead node that had the same name.
type CoordinatorJoin struct {
	Coordinator Coordinator `cbor:"1,keyasint"`
	ReplaceID   string      `cbor:"2,keyasint,omitempty"`
}

// CoordinatorUpdate refreshes what a running coordinator says of itself.
type CoordinatorUpdate struct {
	ID      string `cbor:"1,keyasint"`
	API     string `cbor:"2,keyasint"`
	Raft    string `cbor:"3,keyasint"`
	Gossip  string `cbor:"4,keyasint"`
	Level   uint32 `cbor:"5,keyasint"` // highest feature level its binary supports
	Version string `cbor:"6,keyasint"`
}

// CoordinatorRemove removes a coordinator for ever: its id stays refused.
type CoordinatorRemove struct {
	ID          string `cbor:"1,keyasint"`
	Compromised bool   `cbor:"2,keyasint,omitempty"`
	// Next names the keys that come after those that a compromised node knows. The
	// leader, which made them, sets it; from LevelKeys on.
	Next []KeyRef `cbor:"3,keyasint,omitempty"`
}

// ErrCommand is wrapped by every refusal to decode a command.
var ErrCommand = errors.New("fsm: bad command")

var (
	encMode   = mustEnc()
	decMode   = mustDec(cbor.ExtraDecErrorUnknownField)
	replyMode = mustDec(cbor.ExtraDecErrorNone)
)

func mustEnc() cbor.EncMode {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	return m
}

func mustDec(extra cbor.ExtraDecErrorCond) cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: extra,
		MaxNestedLevels:   8,
		MaxArrayElements:  1 << 17,
		MaxMapPairs:       1 << 12,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}

// Encode returns the deterministic CBOR (RFC 8949 section 4.2.1) of a value
// of this package: what is logged, hashed and sent between nodes.
func Encode(v any) ([]byte, error) { return encMode.Marshal(v) }

// Decode parses strictly what Encode wrote: unknown members, duplicates,
// tags, indefinite lengths and trailing bytes are errors.
func Decode(data []byte, v any) error { return decMode.Unmarshal(data, v) }

// DecodeReply is Decode that passes over unknown members: what a server of a newer
// version tells of itself besides what was asked. Never for what is logged,
// hashed or kept.
func DecodeReply(data []byte, v any) error { return replyMode.Unmarshal(data, v) }

// New returns a command of the kind that body's type names, not yet stamped.
func New(actor Actor, body any) (Command, error) {
	kind, ok := kindsByType[reflect.TypeOf(body)]
	if !ok {
		return Command{}, fmt.Errorf("%w: no kind for %T", ErrCommand, body)
	}
	encode := func() ([]byte, error) { return Encode(body) }
	if m, ok := body.(cbor.Marshaler); ok {
		encode = m.MarshalCBOR // what Encode would copy: a batch is the largest body and the most frequent
	}
	raw, err := encode()
	if err != nil {
		return Command{}, fmt.Errorf("%w: encode %T: %v", ErrCommand, body, err)
	}
	return Command{Version: commandVersion, Kind: kind, Actor: actor, Body: raw}, nil
}

// EncodeCommand returns the log entry of c. It is the last gate before the log,
// so it refuses what DecodeCommand and Apply could not read back, such as text
// that is not UTF-8 or a map beyond the decoder's bounds: once committed, such
// an entry would stop every replica, at every restart.
func EncodeCommand(c Command) ([]byte, error) {
	if c.Version != commandVersion {
		return nil, fmt.Errorf("%w: envelope version %d, this binary writes %d", ErrCommand, c.Version, commandVersion)
	}
	if _, err := decodeBody(c); err != nil {
		return nil, err
	}
	if !utf8.ValidString(c.Actor.TokenID) || !utf8.ValidString(c.Actor.NodeID) || !utf8.ValidString(c.Actor.Via) {
		return nil, fmt.Errorf("%w: the actor is not valid UTF-8", ErrCommand)
	}
	data, err := Encode(c)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCommand, err)
	}
	if len(data) > MaxCommandBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrCommand, len(data), MaxCommandBytes)
	}
	return data, nil
}

// DecodeCommand parses a log entry. Every replica must refuse exactly the same
// bytes, so it is strict and depends on nothing but its input.
func DecodeCommand(data []byte) (Command, error) {
	if len(data) > MaxCommandBytes {
		return Command{}, fmt.Errorf("%w: %d bytes, at most %d", ErrCommand, len(data), MaxCommandBytes)
	}
	var c Command
	if err := Decode(data, &c); err != nil {
		return Command{}, fmt.Errorf("%w: %v", ErrCommand, err)
	}
	if c.Version != commandVersion {
		return Command{}, fmt.Errorf("%w: envelope version %d, this binary knows %d: %w", ErrCommand, c.Version, commandVersion, ErrLevel)
	}
	return c, nil
}
