package judge

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"unicode/utf8"
)

// This file reads a record as the comment of package ledger describes it and
// shares no code with it: what is hashed is what is judged.

// recordLabel begins what is hashed of a record.
const recordLabel = "edgecoder ledger record v1\n"

// Kinds of records that the model knows. Others are of contributions and epochs,
// which the traffic does not make.
const (
	recordAccount  = 2
	recordTransfer = 3
	recordHold     = 4
	recordPost     = 5
	recordVoid     = 6
	recordExpire   = 7
)

// ledgerRecord is one record. Which members mean something depends on the kind.
type ledgerRecord struct {
	seq, index uint64
	atMs       int64
	kind       uint64
	prev, hash string // hex

	id, hold      string // UUID
	debit, credit string
	amount        int64
	debitBalance  int64
	creditBalance int64
	debitHeld     int64
	expiresMs     int64
	floor         int64 // of an account, whose id is in debit
}

// parseRecord reads a record and verifies its hash.
func parseRecord(text string) (r ledgerRecord, err error) {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return r, err
	}
	d := &decoder{in: data}
	r.read(d)
	body := data[:len(data)-len(d.in)]
	hash := d.bytes(sha256.Size)
	if d.err == nil && len(d.in) > 0 {
		d.fail("something stands behind the hash")
	}
	if d.err != nil {
		return r, d.err
	}
	if sum := sha256.Sum256(append([]byte(recordLabel), body...)); !bytes.Equal(sum[:], hash) {
		return r, fmt.Errorf("it hashes to %x, it says %x", sum, hash)
	}
	r.hash = hex.EncodeToString(hash)
	return r, nil
}

// commonMembers are seq, index, at_ms, kind, prev and actor.
const commonMembers = 6

// members is how many each kind adds.
var members = map[uint64]uint64{recordAccount: 5, recordTransfer: 7, recordHold: 7, recordPost: 9, recordVoid: 5, recordExpire: 3}

func (r *ledgerRecord) read(d *decoder) {
	n := d.head(4)
	r.seq, r.index, r.atMs, r.kind = uint64(d.number()), uint64(d.number()), d.number(), uint64(d.number())
	r.prev = hex.EncodeToString(d.bytes(sha256.Size))
	d.skip() // the actor
	own, known := members[r.kind]
	if known && n != commonMembers+own || n < commonMembers {
		d.fail("a record of kind %d with %d members", r.kind, n)
	}
	if !known {
		for left := n - commonMembers; left > 0 && d.err == nil; left-- {
			d.skip()
		}
		return
	}
	r.readMoney(d)
}

func (r *ledgerRecord) readMoney(d *decoder) {
	switch r.kind {
	case recordAccount: // id, kind, owner, floor, frozen
		r.debit = d.text()
		d.skip()
		d.skip()
		r.floor = d.number()
		d.skip()
		return
	case recordExpire:
		r.hold, r.debit, r.debitHeld = d.uuid(), d.text(), d.number()
		return
	}
	r.id = d.uuid()
	d.skip() // the ref
	switch r.kind {
	case recordTransfer:
		r.debit, r.credit, r.amount = d.text(), d.text(), d.number()
		r.debitBalance, r.creditBalance = d.number(), d.number()
	case recordHold:
		r.debit, r.credit, r.amount = d.text(), d.text(), d.number()
		r.expiresMs, r.debitHeld = d.number(), d.number()
	case recordPost:
		r.hold, r.debit, r.credit, r.amount = d.uuid(), d.text(), d.text(), d.number()
		r.debitBalance, r.debitHeld, r.creditBalance = d.number(), d.number(), d.number()
	case recordVoid:
		r.hold, r.debit, r.debitHeld = d.uuid(), d.text(), d.number()
	}
}

// decoder reads the deterministic CBOR of records: integers, texts, byte strings,
// and arrays of them. After the first error it reads nothing.
type decoder struct {
	in  []byte
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

// any reads the head of an item: its major type and its argument.
func (d *decoder) any() (major byte, n uint64) {
	if d.err != nil {
		return 0, 0
	}
	if len(d.in) == 0 {
		d.fail("it ends too early")
		return 0, 0
	}
	major, short := d.in[0]>>5, d.in[0]&31
	d.in = d.in[1:]
	if short < 24 {
		return major, uint64(short)
	}
	size := 1 << (short - 24)
	if short > 27 || size > len(d.in) {
		d.fail("an item of an unknown length")
		return 0, 0
	}
	for _, b := range d.in[:size] {
		n = n<<8 | uint64(b)
	}
	d.in = d.in[size:]
	return major, n
}

func (d *decoder) head(want byte) uint64 {
	major, n := d.any()
	if d.err == nil && major != want {
		d.fail("an item of type %d where %d belongs", major, want)
	}
	return n
}

func (d *decoder) number() int64 {
	major, n := d.any()
	switch {
	case major > 1 || n > 1<<62:
		d.fail("an integer that is none")
	case major == 1:
		return -1 - int64(n)
	}
	return int64(n)
}

func (d *decoder) take(n uint64) []byte {
	if d.err == nil && n > uint64(len(d.in)) {
		d.fail("it ends too early")
	}
	if d.err != nil {
		return nil
	}
	out := d.in[:n]
	d.in = d.in[n:]
	return out
}

func (d *decoder) bytes(size uint64) []byte {
	n := d.head(2)
	if d.err == nil && n != size {
		d.fail("%d bytes where %d belong", n, size)
	}
	return d.take(n)
}

func (d *decoder) text() string {
	out := d.take(d.head(3))
	if !utf8.Valid(out) {
		d.fail("a text that is no UTF-8")
	}
	return string(out)
}

func (d *decoder) uuid() string {
	b := d.bytes(16)
	if d.err != nil {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// skip passes over an item, and over what is in it.
func (d *decoder) skip() {
	for left := uint64(1); left > 0 && d.err == nil; left-- {
		major, n := d.any()
		switch major {
		case 2, 3:
			d.take(n)
		case 4:
			left += min(n, uint64(len(d.in)))
		case 0, 1, 7:
		default:
			d.fail("an item of type %d", major)
		}
	}
}
