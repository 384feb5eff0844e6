package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/bits"

	"go.etcd.io/bbolt"
)

// bbolt checks a file while it opens it, through a memory map and in a goroutine
// of its own: a page that says nonsense ends the process, and nobody can say
// which file it was. So the file is read here first, as plain bytes, and held
// against more than bbolt asks for: bbolt writes a page in one piece, elements
// first, then their keys and values without gaps, then zeros. A page whose
// count, sizes or positions are wrong does not look like that.
//
// The layout is bbolt's format 2, in the byte order of the machine.
const (
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	noFreelist     = ^uint64(0)
	pageHeader     = 16 // id 8, flags 2, count 2, overflow 4
	elementSize    = 16 // of branch and leaf pages
	bucketHeader   = 16 // root page 8, sequence 8
	metaSize       = 64 // up to the checksum in a meta page: 56 bytes and the sum
	flagBranch     = 1
	flagLeaf       = 2
	flagMeta       = 4
	flagFreelist   = 16
	elementBucket  = 1
	maxTreeDepth   = 64
	minPage        = 1 << 10
	maxPage        = 1 << 24
	maxBucketNames = 64
	// maxRun bounds a page with its overflow. bbolt keeps up to four values in a
	// page that is too small for them, and none is larger than a command of 4 MiB.
	maxRun = 64 << 20
)

var native = binary.NativeEndian

// boltMeta is a meta page.
type boltMeta struct {
	pageSize             int
	root, freelist, high uint64 // pages; high is the first that is not in use
	txid                 uint64
}

// readMetas checks both meta pages and returns the newer one. A normal crash
// leaves both sound: each fits one sector, and only one is written at a time.
// Falling back to the older one would use pages that may be overwritten.
func readMetas(f io.ReaderAt, size int64) (boltMeta, error) {
	if size == 0 {
		return boltMeta{}, errors.New("the file is empty")
	}
	first, err := readMeta(f, 0, 0)
	if err != nil {
		return boltMeta{}, fmt.Errorf("meta page 0: %w", err)
	}
	second, err := readMeta(f, 1, int64(first.pageSize))
	if err != nil {
		return boltMeta{}, fmt.Errorf("meta page 1: %w", err)
	}
	if first.pageSize != second.pageSize {
		return boltMeta{}, fmt.Errorf("page sizes %d and %d", first.pageSize, second.pageSize)
	}
	m := first
	if second.txid > first.txid {
		m = second
	}
	if m.high < 4 || m.high > uint64(size/int64(m.pageSize)) {
		return m, fmt.Errorf("%d bytes, its %d pages of %d take more: the file is cut off", size, m.high, m.pageSize)
	}
	return m, nil
}

func readMeta(f io.ReaderAt, id uint64, at int64) (boltMeta, error) {
	var page [pageHeader + metaSize]byte
	if _, err := f.ReadAt(page[:], at); err != nil {
		return boltMeta{}, fmt.Errorf("the file is cut off: %w", err)
	}
	b := page[pageHeader:]
	sum := fnv.New64a()
	sum.Write(b[:metaSize-8])
	m := boltMeta{pageSize: int(native.Uint32(b[8:])), root: native.Uint64(b[16:]), freelist: native.Uint64(b[32:]),
		high: native.Uint64(b[40:]), txid: native.Uint64(b[48:])}
	switch {
	case native.Uint32(b) != boltMagic:
		return m, errors.New("no bbolt file")
	case native.Uint32(b[4:]) != boltVersion:
		return m, fmt.Errorf("bbolt format %d", native.Uint32(b[4:]))
	case native.Uint64(b[metaSize-8:]) != sum.Sum64():
		return m, errSum
	case native.Uint64(page[:]) != id || native.Uint16(page[8:]) != flagMeta || m.txid%2 != id:
		return m, errors.New("it is not where it belongs")
	case m.pageSize < minPage || m.pageSize > maxPage || bits.OnesCount(uint(m.pageSize)) != 1:
		return m, fmt.Errorf("pages of %d bytes", m.pageSize)
	}
	return m, nil
}

// boltPage is a page with its overflow, as read.
type boltPage struct {
	id    uint64
	flags uint16
	count int
	data  []byte // with the header
}

// readHeader reads the first page of page id, and says how many there are.
func (c *pageCheck) readHeader(id uint64) (p boltPage, pages uint64, err error) {
	if id < 2 || id >= c.meta.high {
		return p, 0, fmt.Errorf("page %d of %d", id, c.meta.high)
	}
	size := c.meta.pageSize
	c.buf = grown(c.buf, size)
	if _, err := c.file.ReadAt(c.buf[:size], int64(id)*int64(size)); err != nil {
		return p, 0, fmt.Errorf("page %d: %w", id, err)
	}
	p = boltPage{id: native.Uint64(c.buf), flags: native.Uint16(c.buf[8:]), count: int(native.Uint16(c.buf[10:])), data: c.buf[:size]}
	pages = uint64(native.Uint32(c.buf[12:])) + 1
	if p.id != id || pages > c.meta.high-id {
		return p, 0, fmt.Errorf("page %d says it is page %d, %d pages long", id, p.id, pages)
	}
	return p, pages, nil
}

// readPage reads page id and what overflows it. The length is the file's word,
// and a file with holes costs nothing: it is not believed beyond maxRun.
func (c *pageCheck) readPage(id uint64) (boltPage, error) {
	p, pages, err := c.readHeader(id)
	if err != nil {
		return p, err
	}
	size := c.meta.pageSize
	if pages > 1 {
		if pages > uint64(max(maxRun/size, 1)) {
			return p, fmt.Errorf("page %d says it is %d pages of %d bytes long, nothing here takes more than %d bytes", id, pages, size, maxRun)
		}
		c.buf = grown(c.buf, int(pages)*size)
		if _, err := c.file.ReadAt(c.buf[size:int(pages)*size], int64(id+1)*int64(size)); err != nil {
			return p, fmt.Errorf("page %d: %w", id, err)
		}
	}
	p.data = c.buf[:int(pages)*size]
	return p, c.claimRun(id, pages)
}

func (c *pageCheck) claimRun(id, pages uint64) error {
	for i := range pages {
		if !c.claim(id + i) {
			return fmt.Errorf("page %d is used twice", id+i)
		}
	}
	return nil
}

// claim marks a page as in use; false when it is already.
func (c *pageCheck) claim(id uint64) bool {
	word, bit := id/64, uint64(1)<<(id%64)
	if c.used[word]&bit != 0 {
		return false
	}
	c.used[word] |= bit
	return true
}

func grown(b []byte, n int) []byte {
	if cap(b) < n {
		return append(make([]byte, 0, n), b...)[:n]
	}
	return b[:n]
}

// element is one entry of a branch or leaf page.
type element struct {
	key, value []byte
	child      uint64 // of a branch
	flags      uint32 // of a leaf
}

// elements takes a page apart and checks that it is laid out as bbolt does it,
// to the last byte.
func (p boltPage) elements() ([]element, error) {
	off := pageHeader + p.count*elementSize
	if off > len(p.data) {
		return nil, fmt.Errorf("page %d: %d elements do not fit", p.id, p.count)
	}
	out := make([]element, p.count)
	for i := range out {
		at := pageHeader + i*elementSize
		b := p.data[at:]
		var pos, ksize, vsize uint32
		if p.flags == flagBranch {
			pos, ksize, out[i].child = native.Uint32(b), native.Uint32(b[4:]), native.Uint64(b[8:])
		} else {
			out[i].flags, pos, ksize, vsize = native.Uint32(b), native.Uint32(b[4:]), native.Uint32(b[8:]), native.Uint32(b[12:])
		}
		end := int64(off) + int64(ksize) + int64(vsize)
		if int(pos) != off-at || ksize == 0 || ksize > bbolt.MaxKeySize || end > int64(len(p.data)) {
			return nil, fmt.Errorf("page %d: element %d is not where it belongs", p.id, i)
		}
		out[i].key = p.data[off : off+int(ksize)]
		out[i].value = p.data[off+int(ksize) : end]
		off = int(end)
	}
	if !zero(p.data[off:]) {
		return nil, fmt.Errorf("page %d: something stands behind its %d elements", p.id, p.count)
	}
	return out, nil
}

func zero(b []byte) bool {
	for len(b) >= 8 {
		if native.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}
