package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// A seal is a CRC-32C, a version and a tag behind what it protects.
const (
	sealSize    = 6
	sealVersion = 1
	sealTag     = 0xEC // no text ends in it
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// keyVote is where raft keeps for whom it voted.
const keyVote = "LastVoteCand"

// errSum is what a checksum that does not match is called.
var errSum = errors.New("the checksum does not match")

func appendSeal(to []byte, sum uint32) []byte {
	return append(binary.BigEndian.AppendUint32(to, sum), sealVersion, sealTag)
}

// cutSeal takes a seal off; ok is false when there is none.
func cutSeal(sealed []byte) (body []byte, sum uint32, ok bool) {
	n := len(sealed) - sealSize
	if n < 0 || sealed[n+4] != sealVersion || sealed[n+5] != sealTag {
		return nil, 0, false
	}
	return sealed[:n:n], binary.BigEndian.Uint32(sealed[n:]), true
}

// pairSum is the checksum of a value under a key.
func pairSum(key, value []byte) uint32 {
	sum := crc32.Update(0, castagnoli, binary.BigEndian.AppendUint32(nil, uint32(len(key))))
	return crc32.Update(crc32.Update(sum, castagnoli, key), castagnoli, value)
}

// openPair returns the value of a stable key. Older versions wrote values
// without a seal: numbers of eight bytes, and the vote as printable text.
// Neither can come from one damaged byte of a sealed value, which is longer than
// a number and has two bytes that no text has.
func openPair(key, sealed []byte) ([]byte, error) {
	value, sum, ok := cutSeal(sealed)
	if ok && sum == pairSum(key, value) {
		return value, nil
	}
	if vote := string(key) == keyVote; vote && len(sealed) > 0 && bytes.IndexFunc(sealed, unprintable) < 0 || !vote && len(sealed) == 8 {
		return sealed, nil
	}
	return nil, errSum
}

func unprintable(r rune) bool { return r < 0x20 || r > 0x7e }
