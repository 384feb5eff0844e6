package fsm

import (
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

// field is what apply, snapshot, restore and digest share: everything in
// State is one, so adding a field reaches all four (State.fields).
type field interface {
	label() string
	digest() Digest        // kept as the field changes
	recompute() Digest     // from the contents alone
	freeze() frozen        // cheap and immutable: rows may be read while the field changes
	load(row []byte) error // adds one row of a snapshot
	size() int
}

// frozen yields the canonical encoding of each row, in a fixed order.
type frozen interface {
	rows() iter.Seq2[[]byte, error]
	count() int
}

// table is a keyed collection whose rows are values: they are replaced, never
// changed in place, so a shallow copy of the map is a consistent snapshot.
type table[V any] struct {
	name string
	cap  int
	m    map[string]V
	sum  Digest
}

type tableRow[V any] struct {
	_     struct{} `cbor:",toarray"`
	Key   []byte
	Value V
}

func newTable[V any](name string, limit int) *table[V] {
	return &table[V]{name: name, cap: limit, m: map[string]V{}}
}

func (t *table[V]) row(key string, v V) []byte {
	data, err := Encode(tableRow[V]{Key: []byte(key), Value: v})
	if err != nil {
		panic(fmt.Sprintf("fsm: table %s: encode %q: %v", t.name, key, err)) // our own plain types always encode
	}
	return data
}

func (t *table[V]) get(key string) (V, bool) { v, ok := t.m[key]; return v, ok }

// full tells whether a new key would pass the cap. Callers ask before put.
func (t *table[V]) full() bool { return len(t.m) >= t.cap }

func (t *table[V]) put(key string, v V) {
	t.remove(key)
	t.m[key] = v
	t.sum.add(sumElement(t.name, t.row(key, v)))
}

func (t *table[V]) remove(key string) {
	if old, ok := t.m[key]; ok {
		t.sum.sub(sumElement(t.name, t.row(key, old)))
		delete(t.m, key)
	}
}

// sortedKeys returns the keys in byte order; for listings and snapshots.
func (t *table[V]) sortedKeys() []string { return slices.Sorted(maps.Keys(t.m)) }

func (t *table[V]) label() string  { return t.name }
func (t *table[V]) size() int      { return len(t.m) }
func (t *table[V]) digest() Digest { return t.sum }

func (t *table[V]) recompute() Digest {
	var sum Digest
	for k, v := range t.m {
		sum.add(sumElement(t.name, t.row(k, v)))
	}
	return sum
}

func (t *table[V]) load(row []byte) error {
	var r tableRow[V]
	if err := Decode(row, &r); err != nil {
		return err
	}
	if _, twice := t.m[string(r.Key)]; twice {
		return fmt.Errorf("key %q twice", r.Key)
	}
	if t.full() {
		return fmt.Errorf("more than %d rows", t.cap)
	}
	t.put(string(r.Key), r.Value)
	return nil
}

func (t *table[V]) freeze() frozen {
	return &table[V]{name: t.name, cap: t.cap, m: maps.Clone(t.m)}
}

func (t *table[V]) count() int { return len(t.m) }

func (t *table[V]) rows() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, k := range t.sortedKeys() {
			if !yield(t.row(k, t.m[k]), nil) {
				return
			}
		}
	}
}

// cell is a single value; it is replaced as a whole through set.
type cell[T any] struct {
	name string
	v    T
}

func newCell[T any](name string, v T) *cell[T] { return &cell[T]{name: name, v: v} }

func (c *cell[T]) encode() []byte {
	data, err := Encode(c.v)
	if err != nil {
		panic(fmt.Sprintf("fsm: cell %s: encode: %v", c.name, err)) // our own plain types always encode
	}
	return data
}

func (c *cell[T]) label() string     { return c.name }
func (c *cell[T]) size() int         { return 1 }
func (c *cell[T]) recompute() Digest { return sumElement(c.name, c.encode()) }

// digest hashes the value when asked: cells change with every command but are
// compared only at marks.
func (c *cell[T]) digest() Digest { return c.recompute() }

func (c *cell[T]) load(row []byte) error {
	var v T
	if err := Decode(row, &v); err != nil {
		return err
	}
	c.v = v
	return nil
}

func (c *cell[T]) freeze() frozen { return frozenRows{c.encode()} }

// frozenRows is a frozen field that was small enough to encode at once.
type frozenRows []cbor.RawMessage

func (f frozenRows) count() int { return len(f) }

func (f frozenRows) rows() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, r := range f {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// values returns all rows in key order.
func (t *table[V]) values() []V {
	out := make([]V, 0, len(t.m))
	for _, k := range t.sortedKeys() {
		out = append(out, t.m[k])
	}
	return out
}

// page returns up to limit rows with keys after the given one, in key order.
func (t *table[V]) page(after string, limit int) []V {
	return t.pageWhere(after, limit, func(V) bool { return true })
}

func (t *table[V]) pageWhere(after string, limit int, keep func(V) bool) []V {
	keys := make([]string, 0, len(t.m))
	for k, v := range t.m {
		if k > after && keep(v) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	out := make([]V, 0, min(limit, len(keys)))
	for _, k := range keys[:min(limit, len(keys))] {
		out = append(out, t.m[k])
	}
	return out
}
