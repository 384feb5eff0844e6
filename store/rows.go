package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strconv"

	"go.etcd.io/bbolt"

	"github.com/edgecoder/edgecoder/durable"
	"github.com/edgecoder/edgecoder/fsm"
)

// history.db has a bucket for each stream, from the big-endian sequence number
// to a row: CRC-32C, log index, bytes of the stream's frames up to and with this
// record, data. Beside it may be the stream's tree (tree.go). The bucket "meta" has one value, the head: what the streams
// should add up to, so that a lost tail is seen.
const (
	rowHeader     = 4 + 8 + 8
	headFormat    = 1
	streamPrefix  = "stream/"
	historyFill   = 0.95 // rows are only ever added at the end
	streamHead    = 1 + 8 + 8
	headFixedSize = 4 + 1 + 8 + 8 + 1
)

var (
	bucketMeta = []byte("meta")
	keyHead    = []byte("head")
)

func bucketOf(s fsm.Stream) []byte { return strconv.AppendUint([]byte(streamPrefix), uint64(s), 10) }

func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// row is a record and the frame bytes of its stream up to and with it.
type row struct {
	fsm.Record
	sum int64
}

func (r row) encode() []byte { return r.append(make([]byte, 0, r.size())) }

func (r *row) size() int { return rowHeader + len(r.Data) }

func (r *row) append(dst []byte) []byte {
	from := len(dst)
	dst = append(dst, make([]byte, rowHeader)...)
	b := append(dst, r.Data...)[from:]
	binary.BigEndian.PutUint64(b[4:], r.Index)
	binary.BigEndian.PutUint64(b[12:], uint64(r.sum))
	binary.BigEndian.PutUint32(b, rowSum(r.Stream, r.Seq, b))
	return b
}

func rowSum(s fsm.Stream, seq uint64, b []byte) uint32 {
	var head [9]byte
	head[0] = byte(s)
	binary.BigEndian.PutUint64(head[1:], seq)
	return crc32.Update(shortSum(head[:]), castagnoli, b[4:])
}

// shortSum is crc32.Checksum of a few bytes, which stay on the stack.
func shortSum(b []byte) uint32 {
	crc := ^uint32(0)
	for _, c := range b {
		crc = castagnoli[byte(crc)^c] ^ crc>>8
	}
	return ^crc
}

// decodeRow checks a row. Its data is part of value.
func decodeRow(s fsm.Stream, seq uint64, value []byte) (row, error) {
	if len(value) < rowHeader {
		return row{}, fmt.Errorf("stream %d: record %d is not there", s, seq)
	}
	if binary.BigEndian.Uint32(value) != rowSum(s, seq, value) {
		return row{}, fmt.Errorf("stream %d: record %d: %w", s, seq, errSum)
	}
	r := row{Record: fsm.Record{Stream: s, Seq: seq, Index: binary.BigEndian.Uint64(value[4:])}, sum: int64(binary.BigEndian.Uint64(value[12:]))}
	r.Data = value[rowHeader:len(value):len(value)]
	return r, nil
}

// tail is the end of a stream.
type tail struct {
	seq uint64 // of the newest record
	sum int64  // bytes of all frames
}

// head is what the file's meta bucket holds.
type head struct {
	epoch uint64
	// base is the epoch in which this file was begun. Snapshots of an epoch before
	// it belong to another file.
	base  uint64
	tails map[fsm.Stream]tail
}

func newHead() head { return head{tails: map[fsm.Stream]tail{}} }

func (h head) clone() head { h.tails = maps.Clone(h.tails); return h }

func (h head) totals() fsm.Totals {
	t := fsm.Totals{}
	for s, end := range h.tails {
		if end.seq > 0 {
			t[s] = end.seq
		}
	}
	return t
}

func (h head) encode() []byte {
	b := append(make([]byte, 4, headFixedSize+len(h.tails)*streamHead), headFormat)
	b = binary.BigEndian.AppendUint64(b, h.epoch)
	b = binary.BigEndian.AppendUint64(b, h.base)
	b = append(b, byte(len(h.tails)))
	for _, s := range slices.Sorted(maps.Keys(h.tails)) {
		b = binary.BigEndian.AppendUint64(append(b, byte(s)), h.tails[s].seq)
		b = binary.BigEndian.AppendUint64(b, uint64(h.tails[s].sum))
	}
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b
}

func decodeHead(b []byte) (head, error) {
	h := newHead()
	if len(b) < headFixedSize || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return h, fmt.Errorf("head: %w", errSum)
	}
	if b[4] != headFormat {
		return h, fmt.Errorf("format %d, this binary reads %d: upgrade it", b[4], headFormat)
	}
	h.epoch, h.base = binary.BigEndian.Uint64(b[5:]), binary.BigEndian.Uint64(b[13:])
	n, rest := int(b[21]), b[headFixedSize:]
	if len(rest) != n*streamHead {
		return h, errors.New("head: wrong length")
	}
	for ; len(rest) > 0; rest = rest[streamHead:] {
		h.tails[fsm.Stream(rest[0])] = tail{binary.BigEndian.Uint64(rest[1:]), int64(binary.BigEndian.Uint64(rest[9:]))}
	}
	return h, nil
}

// historyOptions: the list of free pages is written with each batch. It stays
// short, because rows are never deleted, and a large file opens at once.
func historyOptions() *bbolt.Options {
	return &bbolt.Options{FreelistType: bbolt.FreelistMapType, Timeout: lockWait}
}

// write adds rows and the head that they lead to in one transaction. Writing
// the same again changes nothing.
func writeRows(db *bbolt.DB, rows []row, h head) error {
	err := db.Update(func(tx *bbolt.Tx) error {
		var b *bbolt.Bucket
		var of fsm.Stream
		var mem slab
		for i := range rows {
			r := &rows[i]
			if b == nil || of != r.Stream {
				var err error
				if b, err = tx.CreateBucketIfNotExists(bucketOf(r.Stream)); err != nil {
					return err
				}
				b.FillPercent, of = historyFill, r.Stream
			}
			if err := b.Put(binary.BigEndian.AppendUint64(mem.room(8), r.Seq), r.append(mem.room(r.size()))); err != nil {
				return err
			}
		}
		for s := range h.tails {
			if err := growTree(tx, s, rows); err != nil {
				return err
			}
		}
		m, err := tx.CreateBucketIfNotExists(bucketMeta)
		if err != nil {
			return err
		}
		return m.Put(keyHead, h.encode())
	})
	if err == nil && !db.NoSync {
		durable.Note(db.Path())
	}
	return err
}

// syncBolt makes durable what was written to a file that does not sync by itself.
func syncBolt(db *bbolt.DB) error {
	if err := db.Sync(); err != nil {
		return err
	}
	durable.Note(db.Path())
	return nil
}

// readHead reads the head of an open file.
func readHead(db *bbolt.DB) (h head, err error) {
	err = safely(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			m := tx.Bucket(bucketMeta)
			if m == nil {
				return errors.New("it has no head")
			}
			h, err = decodeHead(m.Get(keyHead))
			return err
		})
	})
	return h, err
}

// readRows reads rows from seq from to to, both included, and stops early once
// they take more than maxBytes. The data is copied.
func readRows(db *bbolt.DB, s fsm.Stream, from, to uint64, maxBytes int) (rows []row, err error) {
	err = safely(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketOf(s))
			if b == nil {
				return fmt.Errorf("stream %d: it is not there", s)
			}
			rows = make([]row, 0, to-from+1)
			var mem slab
			cursor := b.Cursor()
			k, v := cursor.Seek(seqKey(from))
			for seq := from; seq <= to && maxBytes >= 0; seq++ {
				if len(k) != 8 || binary.BigEndian.Uint64(k) != seq {
					return fmt.Errorf("stream %d: record %d is not there", s, seq)
				}
				r, err := decodeRow(s, seq, v)
				if err != nil {
					return err
				}
				r.Data = append(mem.room(len(r.Data)), r.Data...)
				rows = append(rows, r)
				maxBytes -= len(v)
				k, v = cursor.Next()
			}
			return nil
		})
	})
	return rows, damaged(fileHistory, err)
}
