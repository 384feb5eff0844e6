package ledger

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/edgecoder/edgecoder/crypto"
)

// ID names a transfer, hold, post, void or report. It is a UUID (RFC 9562) whose
// first 48 bits are Unix milliseconds: version 7, made at random by whoever asks,
// or version 8, made from a time and a name (NamedID). Because an id carries its
// time, it need be remembered only while that time is recent: older ones are refused.
//
// Ids are those of one caller, and in reports those of one agent: nobody uses up
// another's. Only while a hold or report waits for its end is its id taken for all,
// for it is named by that alone: one that others could guess, of a NamedID, should
// have its maker in the name.
type ID [16]byte

const (
	uuidVersion7 = 7
	uuidVersion8 = 8
	// MaxNameBytes bounds the name that an id is made of.
	MaxNameBytes = 512
)

// TimeMs returns the time that the id carries, Unix milliseconds.
func (id ID) TimeMs() int64 {
	return int64(binary.BigEndian.Uint64(id[:8]) >> 16)
}

// Fault says why the id is none, or "".
func (id ID) Fault() string {
	if version := id[6] >> 4; version != uuidVersion7 && version != uuidVersion8 {
		return fmt.Sprintf("UUID version %d: want version 7, which carries its time, or 8 made of a time and a name", version)
	}
	if id[8]>>6 != 0b10 {
		return "the UUID is not of the variant of RFC 9562"
	}
	return ""
}

// String returns the id as a UUID is written, in lower case.
func (id ID) String() string {
	var text [36]byte
	hex.Encode(text[0:8], id[0:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:36], id[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}

// ParseID reads what String prints, and nothing else.
func ParseID(text string) (ID, error) {
	var id ID
	digits := make([]byte, 0, 32)
	for i := range len(text) {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			continue
		}
		digits = append(digits, text[i])
	}
	if len(text) != 36 {
		return ID{}, fmt.Errorf("an id is a UUID of 36 characters, not %d", len(text))
	}
	if _, err := hex.Decode(id[:], digits); err != nil || id.String() != text {
		return ID{}, fmt.Errorf("%.40q is no UUID in lower case", text)
	}
	if fault := id.Fault(); fault != "" {
		return ID{}, errors.New(fault)
	}
	return id, nil
}

// NamedID makes the id of something that has a time, Unix milliseconds, and a name
// of its own, unique at that time: an invoice number, a task id. Equal times and
// names make equal ids. The 74 bits behind the time are of a SHA-256: nobody finds
// a second name for an id.
func NamedID(timeMs int64, name string) (ID, error) {
	if timeMs < 0 || timeMs >= 1<<48 {
		return ID{}, fmt.Errorf("the time %d does not fit 48 bits of milliseconds", timeMs)
	}
	if name == "" || len(name) > MaxNameBytes {
		return ID{}, fmt.Errorf("a name of %d bytes, it has 1 to %d", len(name), MaxNameBytes)
	}
	sum := crypto.Sum(append([]byte("edgecoder ledger id v1\n"), name...))
	var id ID
	copy(id[6:], sum[:])
	return id.stamped(timeMs, uuidVersion8), nil
}

// NewID makes an id of version 7 of a time, Unix milliseconds below 2^48, and 74 of
// the random bits given.
func NewID(timeMs int64, random [10]byte) ID {
	var id ID
	copy(id[6:], random[:])
	return id.stamped(timeMs, uuidVersion7)
}

// stamped sets time, version and variant.
func (id ID) stamped(timeMs int64, version byte) ID {
	stamp := uint64(timeMs)<<16 | uint64(id[6])<<8 | uint64(id[7])
	binary.BigEndian.PutUint64(id[:8], stamp)
	id[6] = id[6]&0x0f | version<<4
	id[8] = id[8]&0x3f | 0x80
	return id
}
