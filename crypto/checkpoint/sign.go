package checkpoint

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

// SignLog signs a checkpoint as the log: the coordinator that leads, under the origin's name.
func SignLog(priv crypto.PrivateKey, c Checkpoint) Signature {
	return sign(priv, c.Origin.String(), c.Text())
}

// Cosign makes a cosignature/v1 (tlog-cosignature) at a time in Unix seconds: the statement that no larger tree of this
// log was seen by then, and that this one extends all that were. The key's name is its CoordinatorID.
func Cosign(priv crypto.PrivateKey, c Checkpoint, atS int64) Signature {
	key := crypto.PublicOf(priv)
	name := key.CoordinatorID()
	stamp := binary.BigEndian.AppendUint64(nil, uint64(max(atS, 0)))
	return Signature{Name: name, KeyID: keyID(name, typeCosignature, key), Bytes: append(stamp, ed25519.Sign(priv, cosigned(c, max(atS, 0)))...)}
}

// VerifyCosignature checks one cosignature of a checkpoint by a key and returns its time in Unix seconds.
func VerifyCosignature(c Checkpoint, s Signature, key crypto.PublicKey) (atS int64, err error) {
	if !s.by(key.CoordinatorID(), typeCosignature, key) {
		return 0, fmt.Errorf("signature under %.64q is no cosignature of %s", s.Name, key.CoordinatorID())
	}
	if len(s.Bytes) != 8+crypto.SignatureSize {
		return 0, fmt.Errorf("cosignature of %s: %d bytes, want %d", s.Name, len(s.Bytes), 8+crypto.SignatureSize)
	}
	stamp := binary.BigEndian.Uint64(s.Bytes)
	if stamp > math.MaxInt64 || !crypto.Verify(key, cosigned(c, int64(stamp)), s.Bytes[8:]) {
		return 0, fmt.Errorf("%w: cosignature of %s on size %d", ErrSignature, s.Name, c.Size)
	}
	return int64(stamp), nil
}

// ErrSignature is in the chain when a signature that names a known key is not that key's.
var ErrSignature = errors.New("invalid signature")

func cosigned(c Checkpoint, atS int64) []byte {
	return append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", atS), c.Text()...)
}

// LogKey returns the verifier key of a log whose signatures key makes, and CosignerKey that of key's cosignatures, for
// the tools of others.
func LogKey(o Origin, key crypto.PublicKey) string { return vkey(o.String(), typeEd25519, key) }

// CosignerKey is described at LogKey.
func CosignerKey(key crypto.PublicKey) string {
	return vkey(key.CoordinatorID(), typeCosignature, key)
}

// Note is a checkpoint with its signatures, none of them verified: use Set.Open for what is to be believed.
type Note struct {
	Checkpoint Checkpoint
	Signatures []Signature
}

// ParseNote reads a checkpoint's note and verifies nothing.
func ParseNote(msg []byte) (Note, error) {
	text, signatures, err := parseNote(msg)
	if err != nil {
		return Note{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	c, err := ParseText(text)
	if err != nil {
		return Note{}, err
	}
	return Note{Checkpoint: c, Signatures: signatures}, nil
}

// Encode returns the note's bytes: the log's signatures first, then cosignatures by name.
func (n Note) Encode() []byte {
	log := n.Checkpoint.Origin.String()
	rank := func(s Signature) string {
		if s.Name == log {
			return ""
		}
		return s.Name
	}
	sorted := slices.Clone(n.Signatures)
	slices.SortStableFunc(sorted, func(a, b Signature) int {
		switch ra, rb := rank(a), rank(b); {
		case ra < rb:
			return -1
		case ra > rb:
			return 1
		}
		return 0
	})
	return encodeNote(n.Checkpoint.Text(), sorted)
}
