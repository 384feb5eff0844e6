package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// pageCheck walks the trees of one bbolt file.
type pageCheck struct {
	file io.ReaderAt
	meta boltMeta
	used map[uint64]uint64 // a bit for each page that is in use, 64 in a word: what is not used costs nothing
	buf  []byte            // of the page being read
	// skipLeaves leaves out the leaves of a tree but its first and last: a large
	// file is read in the background later.
	skipLeaves bool
	visit      func(bucket, key, value []byte) error // nil: nothing to do
}

// checkBolt checks a bbolt file, hands every pair to visit, which must not keep
// the slices, and returns the names of the buckets. Nobody may write meanwhile.
func checkBolt(path string, skipLeaves bool, visit func(bucket, key, value []byte) error) (buckets []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return checkPages(f, info.Size(), skipLeaves, visit)
}

func checkPages(f io.ReaderAt, size int64, skipLeaves bool, visit func(bucket, key, value []byte) error) (buckets []string, err error) {
	meta, err := readMetas(f, size)
	if err != nil {
		return nil, err
	}
	c := &pageCheck{file: f, meta: meta, used: map[uint64]uint64{}, skipLeaves: skipLeaves, visit: visit}
	if buckets, err = c.root(); err != nil {
		return nil, err
	}
	return buckets, c.freelist()
}

// root walks the tree of buckets and each of them. The stores here have buckets
// at the top and nothing but pairs in them.
func (c *pageCheck) root() (names []string, err error) {
	var values [][]byte
	whole := *c // the names are few: this tree is always read whole
	whole.skipLeaves = false
	err = whole.tree(c.meta.root, span{}, 0, true, func(e element) error {
		if e.flags != elementBucket || len(names) == maxBucketNames {
			return fmt.Errorf("%q is no bucket", e.key)
		}
		names, values = append(names, string(e.key)), append(values, bytes.Clone(e.value))
		return nil
	})
	for i, name := range names {
		if err != nil {
			return nil, err
		}
		if err = c.bucket([]byte(name), values[i]); err != nil {
			err = fmt.Errorf("bucket %q: %w", name, err)
		}
	}
	return names, err
}

// bucket walks one bucket: a small one stands in its entry, others have a tree.
func (c *pageCheck) bucket(name, value []byte) error {
	if len(value) < bucketHeader {
		return errors.New("its entry is too short")
	}
	each := func(e element) error {
		if e.flags != 0 {
			return fmt.Errorf("key %x: no pair", e.key)
		}
		if c.visit == nil {
			return nil
		}
		return c.visit(name, e.key, e.value)
	}
	if root := native.Uint64(value); root != 0 {
		if len(value) != bucketHeader {
			return errors.New("its entry is too long")
		}
		return c.tree(root, span{}, 0, true, each)
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader {
		return errors.New("its entry is too short")
	}
	p := boltPage{flags: native.Uint16(inline[8:]), count: int(native.Uint16(inline[10:])), data: inline}
	if native.Uint64(inline) != 0 || p.flags != flagLeaf || native.Uint32(inline[12:]) != 0 {
		return errors.New("its inline page is none")
	}
	elements, err := p.elements()
	if err != nil {
		return err
	}
	return eachPair(elements, span{}, each)
}

// span is the keys that a page may have: from (nil: any) up to but not to.
type span struct{ from, to []byte }

func (s span) has(key []byte) bool {
	return bytes.Compare(key, s.from) >= 0 && (s.to == nil || bytes.Compare(key, s.to) < 0)
}

// tree walks the page id and those below it. Only a root may be empty.
func (c *pageCheck) tree(id uint64, keys span, depth int, root bool, each func(element) error) error {
	if depth > maxTreeDepth {
		return fmt.Errorf("page %d: too deep", id)
	}
	p, err := c.readPage(id)
	if err != nil {
		return err
	}
	if p.flags != flagBranch && p.flags != flagLeaf || p.count == 0 && (!root || p.flags == flagBranch) {
		return fmt.Errorf("page %d of type %d with %d elements", id, p.flags, p.count)
	}
	elements, err := p.elements()
	if err != nil {
		return err
	}
	if p.flags == flagLeaf {
		return eachPair(elements, keys, each)
	}
	return c.branch(id, elements, keys, depth, each)
}

func (c *pageCheck) branch(id uint64, elements []element, keys span, depth int, each func(element) error) error {
	for i := range elements { // the page's buffer serves the next page, too
		elements[i].key = bytes.Clone(elements[i].key)
	}
	for i, e := range elements {
		if !keys.has(e.key) || i > 0 && bytes.Compare(elements[i-1].key, e.key) >= 0 {
			return fmt.Errorf("page %d: key %x is out of order", id, e.key)
		}
	}
	leaves := c.skipLeaves && c.isLeaf(elements[0].child) // all leaves are equally deep
	for i, e := range elements {
		below := span{from: e.key, to: keys.to}
		if i+1 < len(elements) {
			below.to = elements[i+1].key
		}
		if leaves && i > 0 && i+1 < len(elements) {
			if e.child < 2 || e.child >= c.meta.high || !c.claim(e.child) {
				return fmt.Errorf("page %d: child %d is none or used twice", id, e.child)
			}
			continue
		}
		if err := c.tree(e.child, below, depth+1, false, each); err != nil {
			return err
		}
	}
	return nil
}

// isLeaf looks at the type of a page and nothing else.
func (c *pageCheck) isLeaf(id uint64) bool {
	var header [pageHeader]byte
	if id >= c.meta.high {
		return false
	}
	_, err := c.file.ReadAt(header[:], int64(id)*int64(c.meta.pageSize))
	return err == nil && native.Uint16(header[8:]) == flagLeaf
}

func eachPair(elements []element, keys span, each func(element) error) error {
	for i, e := range elements {
		if !keys.has(e.key) || i > 0 && bytes.Compare(elements[i-1].key, e.key) >= 0 {
			return fmt.Errorf("key %x is out of order", e.key)
		}
		if e.flags&^elementBucket != 0 {
			return fmt.Errorf("key %x: unknown flags %x", e.key, e.flags)
		}
		if err := each(e); err != nil {
			return err
		}
	}
	return nil
}

// freelist checks the list of free pages, if the file has one: none of them may
// be in use, or the next write would go over what is there. The list is as long
// as the file has free pages, so it is read in pieces.
func (c *pageCheck) freelist() error {
	if c.meta.freelist == noFreelist {
		return nil
	}
	p, pages, err := c.readHeader(c.meta.freelist)
	if err != nil {
		return fmt.Errorf("free pages: %w", err)
	}
	size := uint64(c.meta.pageSize)
	from, n := uint64(pageHeader), uint64(p.count)
	if n == 0xFFFF { // then the first says how many
		from, n = from+8, native.Uint64(p.data[pageHeader:])
	}
	end := pages * size
	if p.flags != flagFreelist || n > (end-from)/8 {
		return fmt.Errorf("free pages: page %d of type %d with %d of them", p.id, p.flags, n)
	}
	// bbolt reserves the pages before it takes them from the list itself.
	if need := (from+n*8)/size + 1; pages > need+pages/64+8 {
		return fmt.Errorf("free pages: page %d is %d pages long for %d of them", p.id, pages, n)
	}
	if err := c.claimRun(p.id, pages); err != nil {
		return fmt.Errorf("free pages: %w", err)
	}
	in := bufio.NewReaderSize(io.NewSectionReader(c.file, int64(p.id*size+from), int64(end-from)), 1<<16)
	var word [8]byte
	for at := uint64(0); at < (end-from)/8; at++ {
		if _, err := io.ReadFull(in, word[:]); err != nil {
			return fmt.Errorf("free pages: %w", err)
		}
		id := native.Uint64(word[:])
		if at >= n {
			if id != 0 {
				return fmt.Errorf("free pages: something stands behind the %d of them", n)
			}
		} else if id < 2 || id >= c.meta.high || !c.claim(id) {
			return fmt.Errorf("free pages: page %d is none or in use", id)
		}
	}
	return nil
}
