package checkpoint

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
)

// SignedSet is a set and the signatures on it.
type SignedSet struct {
	Set
	Signatures []Signature
}

// ErrNewRoot is in the chain when a set begins a line of its own: a recovery lost the majority of the one before. What
// it says must be confirmed with the operators and pinned anew.
var ErrNewRoot = errors.New("a set that none before vouches for")

// Sign signs a set, as a member of the version before, or of this one if it is a root.
func (s Set) Sign(priv crypto.PrivateKey) Signature {
	return sign(priv, crypto.PublicOf(priv).CoordinatorID(), s.Text())
}

// Encode returns the note.
func (s SignedSet) Encode() []byte { return encodeNote(s.Text(), s.Signatures) }

// ParseSet reads a set's note and verifies nothing.
func ParseSet(msg []byte) (SignedSet, error) {
	text, signatures, err := parseNote(msg)
	if err != nil {
		return SignedSet{}, fmt.Errorf("%w: %w", ErrSet, err)
	}
	set, err := ParseSetText(text)
	if err != nil {
		return SignedSet{}, err
	}
	return SignedSet{Set: set, Signatures: signatures}, nil
}

// VerifyRoot checks that a root is signed by a majority of its own cosigners, so that it names nobody who does not
// know. It says nothing of whom to trust.
func (s SignedSet) VerifyRoot() error {
	if !s.Root() {
		return fmt.Errorf("%w: version %d is no root, follow it from the version before", ErrSet, s.Version)
	}
	return s.signedBy(s.Set)
}

// Verify checks that next is the version after s and that a majority of s vouches for it.
func (s Set) Verify(next SignedSet) error {
	switch {
	case next.ClusterID != s.ClusterID:
		return fmt.Errorf("%w: of cluster %s, want %s", ErrSet, next.ClusterID, s.ClusterID)
	case next.Root() && next.Version > s.Version: // those between are not kept
		return fmt.Errorf("%w: version %d of epoch %d: %w", ErrSet, next.Version, next.Epoch, ErrNewRoot)
	case next.Version != s.Version+1:
		return fmt.Errorf("%w: version %d does not follow %d", ErrSet, next.Version, s.Version)
	case next.Epoch < s.Epoch:
		return fmt.Errorf("%w: version %d is of epoch %d, the one before of %d", ErrSet, next.Version, next.Epoch, s.Epoch)
	case next.Previous != s.Hash():
		return fmt.Errorf("%w: version %d follows %s, version %d here is %s: two histories of who cosigns", ErrSet, next.Version, next.Previous, s.Version, s.Hash())
	}
	return next.signedBy(s)
}

// Follow verifies one version after the other, and returns the newest. Those up to s are passed over.
func (s Set) Follow(sets []SignedSet) (Set, error) {
	for _, next := range sets {
		if next.Version <= s.Version {
			continue
		}
		if err := s.Verify(next); err != nil {
			return s, err
		}
		s = next.Set
	}
	return s, nil
}

// VerifySignature checks one signature on the set by a key.
func (s Set) VerifySignature(line Signature, key crypto.PublicKey) error {
	if !line.by(key.CoordinatorID(), typeEd25519, key) || !crypto.Verify(key, s.Text(), line.Bytes) {
		return fmt.Errorf("%w: cosigner set version %d by %.64q", ErrSignature, s.Version, line.Name)
	}
	return nil
}

func (s SignedSet) signedBy(trusted Set) error {
	signed := map[crypto.PublicKey]bool{}
	for _, line := range s.Signatures {
		for _, key := range trusted.Cosigners {
			if !line.by(key.CoordinatorID(), typeEd25519, key) {
				continue
			}
			if err := s.VerifySignature(line, key); err != nil {
				return err
			}
			signed[key] = true
		}
	}
	if len(signed) < trusted.Majority() {
		return fmt.Errorf("%w: version %d is signed by %d of the %d cosigners of version %d, %d are needed",
			ErrSet, s.Version, len(signed), len(trusted.Cosigners), trusted.Version, trusted.Majority())
	}
	return nil
}

// vkeyBytes returns type and key of the verifier key of a cosigner.
func vkeyBytes(text string) ([]byte, error) {
	parts := strings.Split(text, "+")
	if len(parts) < 3 {
		return nil, errors.New("want <name>+<id>+<key>")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.Join(parts[2:], "+")) // base64 has plus signs too
	if err != nil || len(raw) != 1+crypto.PublicKeySize || raw[0] != typeCosignature {
		return nil, errors.New("no Ed25519 key of cosignatures")
	}
	return raw, nil
}
