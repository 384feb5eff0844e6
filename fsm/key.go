package fsm

import (
	"github.com/edgecoder/edgecoder/crypto"
)

// LevelKeys is the feature level from which keys have schedules: successors that
// are announced ahead of their time, overlaps, revocations at one log index.
const LevelKeys = 9

// Key is a key of a subject and the window in which it verifies, both ends
// included, by the cluster clock. Where keys of a subject stand is its ring: the
// last in the list begins last. Agents keep theirs in Agent.Keys, coordinators in
// Coordinator.Keys and Coordinator.TLSKeys, manifest signers in ManifestSigner.Keys;
// what coordinators share is in State.keyRings.
type Key struct {
	// Public is the key itself where it is an Ed25519 key; else the 32 bytes that
	// name it: SHA-256 of the CA's certificate, of a node's TLS public key (PKIX), or
	// of the pool key (PoolKeyName).
	Public      crypto.PublicKey `cbor:"1,keyasint"`
	NotBeforeMs int64            `cbor:"2,keyasint"` // of a shared key that waits: the switch comes no earlier
	NotAfterMs  int64            `cbor:"3,keyasint"` // 0: no end until it has a successor

	// From LevelKeys on.

	Index     uint64 `cbor:"4,keyasint,omitempty"` // entry that made it known; 0: the one that made its owner known
	RevokedAt uint64 `cbor:"5,keyasint,omitempty"` // entry from which on it verifies nothing; 0: not revoked
	// Succession is how its predecessor named it; nil of a key without one.
	Succession *Succession `cbor:"6,keyasint,omitempty"`
	Shared     *SharedKey  `cbor:"7,keyasint,omitempty"` // of gossip and ca
	// EncryptionProof is this key's signature on the encryption key of its agent.
	EncryptionProof []byte `cbor:"8,keyasint,omitempty"`
}

// Succession is what of crypto.Succession a ring does not say itself. The
// signature was verified before it was proposed.
type Succession struct {
	Predecessor crypto.PublicKey `cbor:"1,keyasint"` // zero of a coordinator's: none verified
	NotBeforeMs int64            `cbor:"2,keyasint"` // as it was signed; 0: at once
	SignedMs    int64            `cbor:"3,keyasint"`
	Signature   []byte           `cbor:"4,keyasint"`
	// Closes: the predecessor had no end before this was announced, so it has none
	// again if the successor is revoked before it begins.
	Closes bool `cbor:"5,keyasint,omitempty"`
	// Signer is the node's signing key whose signature it is: of a certificate, and of a
	// coordinator's key without a predecessor.
	Signer crypto.PublicKey `cbor:"6,keyasint,omitzero"`
}

// SharedKey is what stands with a key that coordinators share.
type SharedKey struct {
	Waits  bool         `cbor:"1,keyasint,omitempty"` // it begins with a KeySwitch
	Data   []byte       `cbor:"2,keyasint,omitempty"` // its public half: of ca the certificate, DER
	Copies []SealedCopy `cbor:"3,keyasint,omitempty"` // its private half
	Ready  []string     `cbor:"4,keyasint,omitempty"` // node ids that said that they have it, in byte order
	Maker  string       `cbor:"5,keyasint,omitempty"` // node id of the coordinator that prepared it
	// Without is the node that must not have it, since it is to be removed as
	// compromised. Its word that it holds the key would keep it, so it has none.
	Without string `cbor:"6,keyasint,omitempty"`
}

// SealedCopy is a private half that was sealed to the X25519 key of one member.
type SealedCopy struct {
	_      struct{} `cbor:",toarray"`
	NodeID string
	Sealed []byte
}

// KeyState is where a key stands at a time. The passing of time changes it, no command.
type KeyState string

// The states.
const (
	KeyNext     KeyState = "next"     // announced, it does not verify yet
	KeyActive   KeyState = "active"   // the newest that verifies
	KeyRetiring KeyState = "retiring" // it verifies still, beside its successor
	KeyRetired  KeyState = "retired"  // its window is over
	KeyRevoked  KeyState = "revoked"
)

// verifies tells whether the key counts at a time.
func (k Key) verifies(nowMs int64) bool {
	return k.RevokedAt == 0 && !k.waits() && k.NotBeforeMs <= nowMs && (k.NotAfterMs == 0 || nowMs <= k.NotAfterMs || plantWindowOpen)
}

func (k Key) waits() bool { return k.Shared != nil && k.Shared.Waits }

// ended tells whether the key will never verify again.
func (k Key) ended(nowMs int64) bool {
	return k.RevokedAt != 0 || !k.waits() && k.NotAfterMs != 0 && nowMs > k.NotAfterMs
}

// pending tells whether the key is still to begin.
func (k Key) pending(nowMs int64) bool {
	return k.RevokedAt == 0 && (k.waits() || nowMs < k.NotBeforeMs)
}

// same tells whether two keys are one, with one window.
func (k Key) same(other Key) bool {
	return k.Public == other.Public && k.NotBeforeMs == other.NotBeforeMs && k.NotAfterMs == other.NotAfterMs &&
		k.Index == other.Index && k.RevokedAt == other.RevokedAt && k.waits() == other.waits()
}

// Ring is the keys of one subject, in the order in which they begin.
type Ring []Key

// Same tells whether two rings have the same keys with the same windows.
func (r Ring) Same(other Ring) bool {
	if len(r) != len(other) {
		return false
	}
	for i := range r {
		if !r[i].same(other[i]) {
			return false
		}
	}
	return true
}

// at returns where the key of a name stands, or -1.
func (r Ring) at(ref KeyRef) int {
	for i := range r {
		if r[i].Public.Fingerprint() == ref {
			return i
		}
	}
	return -1
}

// Place returns where a key stands in the ring, or -1.
func (r Ring) Place(key crypto.PublicKey) int { return r.at(key.Fingerprint()) }

// activeAt returns where the newest key stands that verifies at a time, or -1.
func (r Ring) activeAt(nowMs int64) int {
	for i := len(r) - 1; i >= 0; i-- {
		if r[i].verifies(nowMs) {
			return i
		}
	}
	return -1
}

// pendingAt returns where the key stands that is still to begin, or -1.
func (r Ring) pendingAt(nowMs int64) int {
	if n := len(r) - 1; n >= 0 && r[n].pending(nowMs) {
		return n
	}
	return -1
}

// newestAt returns where the newest key stands that was not revoked, or the last one if
// all were; -1 of none.
func (r Ring) newestAt() int {
	for i := len(r) - 1; i >= 0; i-- {
		if r[i].RevokedAt == 0 {
			return i
		}
	}
	return len(r) - 1
}

// Active returns the newest key that verifies at a time.
func (r Ring) Active(nowMs int64) (Key, bool) {
	if i := r.activeAt(nowMs); i >= 0 {
		return r[i], true
	}
	return Key{}, false
}

// KeySettleMs is how long a key has verified before its owner signs with it: a
// replica that is that far behind the signer's still takes the one before.
const KeySettleMs = 5_000

// Signing returns the key to sign with at a time: the newest that has verified
// for KeySettleMs, or the newest that verifies at all.
func (r Ring) Signing(nowMs int64) (Key, bool) {
	for i := len(r) - 1; i >= 0; i-- {
		if r[i].verifies(nowMs) && nowMs-r[i].NotBeforeMs >= KeySettleMs {
			return r[i], true
		}
	}
	return r.Active(nowMs)
}

// Verifying returns the keys that verify at a time.
func (r Ring) Verifying(nowMs int64) (out []crypto.PublicKey) {
	for _, k := range r {
		if k.verifies(nowMs) {
			out = append(out, k.Public)
		}
	}
	return out
}

// Beside returns the keys but the active one that verify at a time or are to come.
func (r Ring) Beside(nowMs int64) (out []crypto.PublicKey) {
	active := r.activeAt(nowMs)
	for i, k := range r {
		if i != active && !k.ended(nowMs) {
			out = append(out, k.Public)
		}
	}
	return out
}

// revoked names the keys that were revoked.
func (r Ring) revoked() (out []KeyRef) {
	for _, k := range r {
		if k.RevokedAt != 0 {
			out = append(out, k.Public.Fingerprint())
		}
	}
	return out
}

// Verifies tells whether a key of the ring counts at a time.
func (r Ring) Verifies(key crypto.PublicKey, nowMs int64) bool {
	i := r.at(key.Fingerprint())
	return i >= 0 && r[i].verifies(nowMs)
}

// StateOf returns where the i-th key of the ring stands at a time.
func (r Ring) StateOf(i int, nowMs int64) KeyState {
	switch k := r[i]; {
	case k.RevokedAt != 0:
		return KeyRevoked
	case k.pending(nowMs):
		return KeyNext
	case !k.verifies(nowMs):
		return KeyRetired
	case i == r.activeAt(nowMs):
		return KeyActive
	}
	return KeyRetiring
}

// with returns a ring of a kind that one key was added to, with room made for it:
// keys that ended longest ago leave, they stay in history; those of manifest signers
// stay. Rows are never changed in place, so it is a new list. It is nil if there is no
// room.
func (r Ring) with(k Key, kind SubjectKind, nowMs int64) Ring {
	out := make(Ring, 0, len(r)+1)
	drop := len(r) + 1 - kind.mostKeys()
	for _, have := range r {
		if drop > 0 && have.ended(nowMs) && kind != SubjectManifest {
			drop--
			continue
		}
		out = append(out, have)
	}
	if drop > 0 {
		return nil
	}
	return append(out, k)
}

// shifted returns the ring as it is after the clock was set back: what had begun
// has begun, what had ended has ended, and what was to come comes after the same
// time as before.
func (r Ring) shifted(wasMs, toMs int64) Ring {
	out := append(Ring(nil), r...)
	for i := range out {
		k := &out[i]
		if k.NotBeforeMs > wasMs {
			k.NotBeforeMs -= wasMs - toMs
		} else {
			k.NotBeforeMs = min(k.NotBeforeMs, toMs)
		}
		if k.NotAfterMs > 0 && k.NotAfterMs >= wasMs {
			k.NotAfterMs -= wasMs - toMs
		} else if k.NotAfterMs > 0 {
			k.NotAfterMs = min(k.NotAfterMs, toMs-1)
		}
	}
	return out
}
