package fsm

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/ledger"
)

// idWindow remembers the ids of the ledger while their time is in the window. An id
// tells its own time, so each second has a map of its own: what leaves the window is
// dropped whole, however much it is. Ids are those of one caller: nobody takes
// another's, and how many each has is known.
type idWindow struct {
	limit   int
	n       int
	buckets map[int64]*idBucket // by time / NonceBucketMs
	order   []int64             // bucket numbers, ascending
	callers map[idCaller]int    // ids of each in the window
}

type idBucket struct {
	nonceBucket
	at      map[nonceKey]uint32 // places in rows
	callers map[idCaller]int
}

// idCaller begins the keys of all ids of a caller: half of a SHA-256's first 16
// bytes, so that who makes a name to share another's would search 2^64 of them.
type idCaller [8]byte

func idCallerOf(name string) idCaller {
	sum := crypto.Sum([]byte("edgecoder ledger caller v1\n" + name))
	return idCaller(sum[:8])
}

// key is that of an id: two of one caller with one key would have to be made so.
func (c idCaller) key(id ledger.ID) (key nonceKey) {
	var text [40]byte
	n := copy(text[:], "ledger id v1\n")
	n += copy(text[n:], c[:])
	n += copy(text[n:], id[:])
	sum := crypto.Sum(text[:n])
	copy(key[:8], c[:])
	copy(key[8:], sum[:8])
	return key
}

func newIDWindow(limit int) *idWindow {
	return &idWindow{limit: limit, buckets: map[int64]*idBucket{}, callers: map[idCaller]int{}}
}

func (w *idWindow) find(timeMs int64, key nonceKey) (nonceRow, bool) {
	b := w.buckets[bucketOf(timeMs)]
	if b == nil {
		return nonceRow{}, false
	}
	pos, ok := b.at[key]
	if !ok {
		return nonceRow{}, false
	}
	return b.rows[pos], true
}

// room tells whether a caller may use so many ids more. Nobody but operators takes
// more than its share, nor the tenth that is theirs.
func (w *idWindow) room(p *standing, more int) bool {
	share := MaxTokenIDs
	switch {
	case p.operator:
		return w.n+more <= w.limit
	case p.agentID != "":
		share = MaxAgentIDs
	}
	return w.n+more <= w.limit/10*9 && w.callers[p.ids]+more <= min(share, w.limit)
}

func (w *idWindow) insert(timeMs int64, row nonceRow) { w.insertAt(bucketOf(timeMs), row) }

func (w *idWindow) insertAt(number int64, row nonceRow) {
	b := w.buckets[number]
	if b == nil {
		b = &idBucket{at: map[nonceKey]uint32{}, callers: map[idCaller]int{}}
		w.buckets[number] = b
		at, _ := slices.BinarySearch(w.order, number)
		w.order = slices.Insert(w.order, at, number)
	}
	b.at[row.key] = uint32(len(b.rows))
	b.rows = append(b.rows, row)
	b.sum.add(sumElement(w.label(), row.encode(number)))
	by := idCaller(row.key[:8])
	b.callers[by]++
	w.callers[by]++
	w.n++
}

// dropBefore drops every bucket that lies wholly below oldestMs, and returns the
// highest time it covered, or 0. From then on that is the floor.
func (w *idWindow) dropBefore(oldestMs int64) (floor int64) {
	for len(w.order) > 0 {
		top := w.order[0]*NonceBucketMs + NonceBucketMs - 1
		if top >= oldestMs {
			break
		}
		w.drop(w.order[0])
		w.order = w.order[1:]
		floor = top
	}
	return floor
}

// dropAfter drops every bucket above one.
func (w *idWindow) dropAfter(last int64) {
	for n := len(w.order); n > 0 && w.order[n-1] > last; n-- {
		w.drop(w.order[n-1])
		w.order = w.order[:n-1]
	}
}

func (w *idWindow) drop(number int64) {
	b := w.buckets[number]
	for caller, n := range b.callers {
		if w.callers[caller] -= n; w.callers[caller] == 0 {
			delete(w.callers, caller)
		}
	}
	w.n -= len(b.rows)
	delete(w.buckets, number)
}

// top is the highest time that an id here may have, 0 without any.
func (w *idWindow) top() int64 {
	if len(w.order) == 0 {
		return 0
	}
	return w.order[len(w.order)-1]*NonceBucketMs + NonceBucketMs - 1
}

func (w *idWindow) label() string           { return "ledger_ids" }
func (w *idWindow) numbers() []int64        { return w.order }
func (w *idWindow) size() int               { return w.n }
func (w *idWindow) usage() (rows, most int) { return w.n, w.limit }

func (w *idWindow) digest() (sum Digest) {
	for _, b := range w.buckets {
		sum.add(b.sum)
	}
	return sum
}

func (w *idWindow) recompute() (sum Digest) {
	for number, b := range w.buckets {
		for _, row := range b.rows {
			sum.add(sumElement(w.label(), row.encode(number)))
		}
	}
	return sum
}

func (w *idWindow) load(data []byte) error {
	number, row, ok := decodeNonceRow(data)
	switch {
	case !ok:
		return fmt.Errorf("id row of %d bytes, want %d", len(data), nonceRowBytes)
	case row.claim != ClaimTag{}:
		return errors.New("an id with a claim")
	case w.n >= w.limit:
		return fmt.Errorf("more than %d rows", w.limit)
	}
	if n := len(w.order); number < 0 || n > 0 && number < w.order[n-1] {
		return fmt.Errorf("bucket %d out of order", number)
	}
	if b := w.buckets[number]; b != nil {
		if _, twice := b.at[row.key]; twice {
			return errors.New("id twice")
		}
	}
	w.insertAt(number, row)
	return nil
}

func (w *idWindow) freeze() frozen {
	f := frozenNonces{order: slices.Clone(w.order), n: w.n}
	for _, number := range w.order {
		f.rowsOf = append(f.rowsOf, w.buckets[number].rows)
	}
	return f
}

// each yields the rows with the numbers of their buckets.
func (w *idWindow) each() iter.Seq2[int64, nonceRow] {
	return func(yield func(int64, nonceRow) bool) {
		for _, number := range w.order {
			for _, row := range w.buckets[number].rows {
				if !yield(number, row) {
					return
				}
			}
		}
	}
}
