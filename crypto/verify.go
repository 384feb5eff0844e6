package crypto

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"io"

	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// Verify checks an Ed25519 signature by the rule of crypto/ed25519 (RFC 8032 section 5.1.7 without the
// cofactor). Use it for statements that others verify again with their own tools. A signature of the wrong
// length is not valid.
func Verify(pub PublicKey, msg, sig []byte) bool {
	return len(sig) == SignatureSize && ed25519.Verify(pub[:], msg, sig)
}

// zip215 is the rule of the hot path: cofactored, as defined in ZIP 215, so that single and batch verification
// accept the very same signatures. Weak keys, which ZIP 215 would let pass, are refused by [NewVerifyKey].
var zip215 = &voi.Options{Verify: voi.VerifyOptionsZIP_215}

// VerifyKey is a public key expanded for many verifications. It costs about 1.5 KB and a few verifications to
// make, is then twice as fast as [Verify], never changes, and may be shared between goroutines.
type VerifyKey struct {
	public   PublicKey
	expanded *voi.ExpandedPublicKey
}

// NewVerifyKey checks the point of pub, see [CheckPublicKey], and expands it.
func NewVerifyKey(pub PublicKey) (*VerifyKey, error) {
	if err := CheckPublicKey(pub); err != nil {
		return nil, err
	}
	expanded, err := voi.NewExpandedPublicKey(pub[:])
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrWeakKey, pub, err)
	}
	return &VerifyKey{public: pub, expanded: expanded}, nil
}

// PublicKey returns the key as it was before expansion.
func (k *VerifyKey) PublicKey() PublicKey { return k.public }

// Verify checks one signature by the ZIP 215 rule. It answers as [VerifyBatch] does for the same item.
func (k *VerifyKey) Verify(msg, sig []byte) bool {
	return k != nil && k.expanded != nil && len(sig) == SignatureSize &&
		voi.VerifyExpandedWithOptions(k.expanded, msg, sig, zip215)
}

// BatchItem is one signature to check in [VerifyBatch].
type BatchItem struct {
	Key *VerifyKey
	Msg []byte
	Sig []byte
}

const (
	// batchMin is where a batch begins to be cheaper than single verifications; measured, see BenchmarkVerifyBatch.
	batchMin = 4
	// batchMax bounds one batch. A single bad signature makes its whole batch be checked again one by one, so
	// an attacker who buys one spoils at most this many; beyond it larger batches gain little.
	batchMax = 256
)

// VerifyBatch checks many signatures at once, by the same rule and with the same answers as
// [VerifyKey.Verify], one answer an item. rand must be unpredictable to whoever made the signatures
// (crypto/rand.Reader): the batch equation mixes the items with random factors, 32 bytes a batch. Without
// rand, or when rand fails, every item is checked singly: slower, never wrong.
func VerifyBatch(items []BatchItem, rand io.Reader) []bool {
	valid := make([]bool, len(items))
	for start := 0; start < len(items); {
		n := batchLength(len(items) - start)
		verifyOneBatch(valid[start:start+n], items[start:start+n], rand)
		start += n
	}
	return valid
}

// batchLength cuts what is left into equal parts of at most batchMax, so that no small rest is left over.
func batchLength(left int) int {
	parts := (left + batchMax - 1) / batchMax
	return (left + parts - 1) / parts
}

func verifyOneBatch(valid []bool, items []BatchItem, rand io.Reader) {
	var seed [32]byte
	if len(items) < batchMin || rand == nil || !wellFormed(items) {
		verifySingly(valid, items)
		return
	}
	if _, err := io.ReadFull(rand, seed[:]); err != nil {
		verifySingly(valid, items)
		return
	}
	batch := voi.NewBatchVerifierWithCapacity(len(items))
	for _, item := range items {
		batch.AddExpandedWithOptions(item.Key.expanded, item.Msg, item.Sig, zip215)
	}
	// voi asks rand for 32 bytes and panics on a short read, hence the seed that was already read. When the
	// batch does not hold, Verify checks each item singly with the points it has already decoded.
	_, answers := batch.Verify(bytes.NewReader(seed[:]))
	copy(valid, answers)
}

func wellFormed(items []BatchItem) bool {
	for _, item := range items {
		if item.Key == nil || item.Key.expanded == nil || len(item.Sig) != SignatureSize {
			return false
		}
	}
	return true
}

func verifySingly(valid []bool, items []BatchItem) {
	for i, item := range items {
		valid[i] = item.Key.Verify(item.Msg, item.Sig)
	}
}
