package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

// nonceWindow remembers the nonces of admitted claims while their signed
// timestamp could still be accepted. Rows lie in buckets by timestamp, which
// are append-only and dropped whole: no timer per nonce, and a snapshot needs
// only the slice headers. One map finds a row by nonce whatever its timestamp,
// because a nonce used again under another timestamp is a replay too.
type nonceWindow struct {
	name    string
	limit   int
	buckets map[int64]*nonceBucket // by timestamp / NonceBucketMs
	order   []int64                // bucket numbers, ascending
	byNonce map[nonceKey]nonceRef
	byClaim map[ClaimTag]nonceRef // claim ids chosen by callers
}

// nonceKey is 16 bytes of SHA-256 over (key, nonce). The key is part of it, so
// whoever searches collisions can only collide with its own nonces, and a
// second preimage of 128 bits is out of reach.
type nonceKey [16]byte

type nonceRef struct {
	bucket int64
	pos    uint32
}

type nonceBucket struct {
	rows []nonceRow
	sum  Digest
}

// nonceRow is an admitted claim: enough to give its first answer again.
type nonceRow struct {
	key     nonceKey
	tag     ClaimTag
	claim   ClaimTag // zero when the server made the claim id
	index   uint64
	clockMs int64
}

const nonceRowBytes = 8 + 16 + 16 + 16 + 8 + 8

func newNonceWindow(name string, limit int) *nonceWindow {
	return &nonceWindow{
		name:    name,
		limit:   limit,
		buckets: map[int64]*nonceBucket{},
		byNonce: map[nonceKey]nonceRef{},
		byClaim: map[ClaimTag]nonceRef{},
	}
}

func nonceKeyOf(key KeyRef, nonce string) nonceKey {
	buf := make([]byte, 0, 192)
	buf = append(buf, "edgecoder nonce v1\n"...)
	buf = append(buf, key[:]...)
	buf = append(buf, nonce...)
	h := crypto.Sum(buf)
	return nonceKey(h[:16])
}

// NewMessageClaimTag hashes what makes two claims of HTTP message signatures the
// same: the asking token, the claim id, and all that was signed.
func NewMessageClaimTag(tokenID, claimID string, signatureBase []byte) ClaimTag {
	base := crypto.Sum(signatureBase)
	return tagOf("edgecoder claim tag v2\n", tokenID, claimID, string(base[:]))
}

// NewClaimTag hashes what makes two claims in the five headers the same: the
// asking token, the claim id, and the signed request apart from its nonce.
func NewClaimTag(tokenID, claimID, method, path string, body crypto.Hash, timestampMs int64) ClaimTag {
	return tagOf("edgecoder claim tag v1\n", tokenID, claimID, method, path, string(body[:]),
		string(binary.BigEndian.AppendUint64(nil, uint64(timestampMs))))
}

// NewClaimID hashes a caller's claim id under its token.
func NewClaimID(tokenID, claimID string) ClaimTag {
	return tagOf("edgecoder claim id v1\n", tokenID, claimID)
}

func tagOf(label string, parts ...string) ClaimTag {
	buf := append(make([]byte, 0, 256), label...)
	for _, p := range parts {
		buf = binary.AppendUvarint(buf, uint64(len(p)))
		buf = append(buf, p...)
	}
	h := crypto.Sum(buf)
	return ClaimTag(h[:16])
}

func bucketOf(timestampMs int64) int64 { return timestampMs / NonceBucketMs }

func (w *nonceWindow) find(key nonceKey) (nonceRow, bool) {
	ref, ok := w.byNonce[key]
	if !ok {
		return nonceRow{}, false
	}
	return w.buckets[ref.bucket].rows[ref.pos], true
}

// claimTaken tells whether the claim id stands for another nonce already.
func (w *nonceWindow) claimTaken(claim ClaimTag, key nonceKey) bool {
	if claim == (ClaimTag{}) {
		return false
	}
	ref, ok := w.byClaim[claim]
	return ok && w.buckets[ref.bucket].rows[ref.pos].key != key
}

func (w *nonceWindow) full() bool { return len(w.byNonce) >= w.limit }

func (w *nonceWindow) insert(timestampMs int64, row nonceRow) {
	w.insertAt(bucketOf(timestampMs), row)
}

func (w *nonceWindow) insertAt(number int64, row nonceRow) {
	b := w.buckets[number]
	if b == nil {
		b = &nonceBucket{}
		w.buckets[number] = b
		at, _ := slices.BinarySearch(w.order, number)
		w.order = slices.Insert(w.order, at, number)
	}
	ref := nonceRef{bucket: number, pos: uint32(len(b.rows))}
	b.rows = append(b.rows, row)
	b.sum.add(sumElement(w.label(), row.encode(number)))
	w.byNonce[row.key] = ref
	if row.claim != (ClaimTag{}) {
		w.byClaim[row.claim] = ref
	}
}

// dropBefore drops every bucket that lies wholly below oldestMs, and returns
// the highest timestamp it covered, or 0. From then on that is the floor.
func (w *nonceWindow) dropBefore(oldestMs int64) int64 {
	var floor int64
	for len(w.order) > 0 {
		number := w.order[0]
		top := number*NonceBucketMs + NonceBucketMs - 1
		if top >= oldestMs {
			break
		}
		w.drop(number)
		w.order = w.order[1:]
		floor = top
	}
	return floor
}

// dropAfter drops every bucket above one.
func (w *nonceWindow) dropAfter(last int64) {
	for n := len(w.order); n > 0 && w.order[n-1] > last; n-- {
		w.drop(w.order[n-1])
		w.order = w.order[:n-1]
	}
}

// drop forgets the rows of a bucket; its number is for the caller to take away.
func (w *nonceWindow) drop(number int64) {
	for _, row := range w.buckets[number].rows {
		delete(w.byNonce, row.key)
		delete(w.byClaim, row.claim)
	}
	delete(w.buckets, number)
}

// top is the highest timestamp that a nonce here may have, 0 without any.
func (w *nonceWindow) top() int64 {
	if len(w.order) == 0 {
		return 0
	}
	return w.order[len(w.order)-1]*NonceBucketMs + NonceBucketMs - 1
}

func (r nonceRow) encode(bucket int64) []byte {
	out := binary.BigEndian.AppendUint64(make([]byte, 0, nonceRowBytes), uint64(bucket))
	out = append(out, r.key[:]...)
	out = append(out, r.tag[:]...)
	out = append(out, r.claim[:]...)
	out = binary.BigEndian.AppendUint64(out, r.index)
	return binary.BigEndian.AppendUint64(out, uint64(r.clockMs))
}

func (w *nonceWindow) label() string    { return w.name }
func (w *nonceWindow) numbers() []int64 { return w.order }
func (w *nonceWindow) size() int        { return len(w.byNonce) }

func (w *nonceWindow) digest() Digest {
	var sum Digest
	for _, b := range w.buckets {
		sum.add(b.sum)
	}
	return sum
}

func (w *nonceWindow) recompute() Digest {
	var sum Digest
	for number, b := range w.buckets {
		for _, row := range b.rows {
			sum.add(sumElement(w.label(), row.encode(number)))
		}
	}
	return sum
}

func (w *nonceWindow) load(data []byte) error {
	number, row, ok := decodeNonceRow(data)
	if !ok {
		return fmt.Errorf("nonce row of %d bytes, want %d", len(data), nonceRowBytes)
	}
	if _, twice := w.byNonce[row.key]; twice {
		return errors.New("nonce or id twice")
	}
	if w.claimTaken(row.claim, row.key) {
		return errors.New("claim id twice")
	}
	if w.full() {
		return fmt.Errorf("more than %d rows", w.limit)
	}
	// Bucket after bucket, as freeze writes them: in any other order each one
	// would have to be put in its place among all.
	if n := len(w.order); number < 0 || n > 0 && number < w.order[n-1] {
		return fmt.Errorf("bucket %d out of order", number)
	}
	w.insertAt(number, row)
	return nil
}

func decodeNonceRow(data []byte) (number int64, row nonceRow, ok bool) {
	if len(data) != nonceRowBytes {
		return 0, row, false
	}
	number = int64(binary.BigEndian.Uint64(data))
	data = data[8:]
	data = data[copy(row.key[:], data):]
	data = data[copy(row.tag[:], data):]
	data = data[copy(row.claim[:], data):]
	row.index = binary.BigEndian.Uint64(data)
	row.clockMs = int64(binary.BigEndian.Uint64(data[8:]))
	return number, row, true
}

// frozenNonces holds slice headers: rows below each length never change.
type frozenNonces struct {
	order  []int64
	rowsOf [][]nonceRow
	n      int
}

func (w *nonceWindow) freeze() frozen {
	f := frozenNonces{order: slices.Clone(w.order), n: len(w.byNonce)}
	for _, number := range w.order {
		f.rowsOf = append(f.rowsOf, w.buckets[number].rows)
	}
	return f
}

func (f frozenNonces) count() int { return f.n }

func (f frozenNonces) rows() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for i, number := range f.order {
			for _, row := range f.rowsOf[i] {
				if !yield(row.encode(number), nil) {
					return
				}
			}
		}
	}
}
