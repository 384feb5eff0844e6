package keyfile

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

const (
	magic      = "edgekey\n"
	version1   = 1
	kdfPBKDF2  = 1
	saltBytes  = 32
	nonceBytes = 12
	tagBytes   = 16

	fixedBytes = len(magic) + 1 + 1 + 4 + saltBytes + nonceBytes + 1 // before the purpose
	overhead   = tagBytes + sha256.Size                              // behind the ciphertext
)

// Header is what a key file says about itself without a passphrase. Only the tag proves it, so it is a hint until
// the file was opened.
type Header struct {
	Purpose    string
	Iterations int
	Salt       [saltBytes]byte
	nonce      [nonceBytes]byte
}

// Inspect reads and checks the header, and the checksum of the whole file. Errors are [ErrDamaged] and [ErrParams].
func Inspect(file []byte) (Header, error) {
	if err := checkIntact(file); err != nil {
		return Header{}, err
	}
	version, kdf := file[len(magic)], file[len(magic)+1]
	if version != version1 || kdf != kdfPBKDF2 {
		return Header{}, fmt.Errorf("%w: version %d with derivation %d is unknown to this program", ErrParams, version, kdf)
	}
	var h Header
	rest := file[len(magic)+2:]
	iterations := binary.BigEndian.Uint32(rest)
	rest = rest[4:]
	rest = rest[copy(h.Salt[:], rest):]
	rest = rest[copy(h.nonce[:], rest):]
	purposeLen := int(rest[0])
	rest = rest[1:]
	if len(rest) < purposeLen+overhead {
		return Header{}, fmt.Errorf("%w: %d bytes are too few", ErrDamaged, len(file))
	}
	h.Purpose = string(rest[:purposeLen])
	h.Iterations = int(min(iterations, MaxIterations+1)) // so that a 32-bit int holds it
	if err := h.check(); err != nil {
		return Header{}, fmt.Errorf("%w: %w", ErrParams, err)
	}
	return h, nil
}

// checkIntact asks what can be asked of any version: length, magic and checksum.
func checkIntact(file []byte) error {
	if len(file) < fixedBytes+overhead || len(file) > MaxFileBytes {
		return fmt.Errorf("%w: %d bytes", ErrDamaged, len(file))
	}
	if string(file[:len(magic)]) != magic {
		return fmt.Errorf("%w: it does not begin like one", ErrDamaged)
	}
	body, stored := file[:len(file)-sha256.Size], file[len(file)-sha256.Size:]
	if sha256.Sum256(body) != [sha256.Size]byte(stored) {
		return fmt.Errorf("%w: checksum does not match, restore it from a backup", ErrDamaged)
	}
	return nil
}

// check holds the bounds that sealing and opening share.
func (h *Header) check() error {
	if h.Iterations < MinIterations || h.Iterations > MaxIterations {
		return fmt.Errorf("iterations outside of %d to %d", MinIterations, MaxIterations)
	}
	if h.Purpose == "" || len(h.Purpose) > MaxPurposeBytes {
		return fmt.Errorf("purpose of %d bytes, want 1 to %d", len(h.Purpose), MaxPurposeBytes)
	}
	for i := range len(h.Purpose) {
		if h.Purpose[i] < ' ' || h.Purpose[i] > '~' {
			return fmt.Errorf("purpose %q is not printable ASCII", h.Purpose)
		}
	}
	return nil
}

// size is the length of the encoded header.
func (h *Header) size() int { return fixedBytes + len(h.Purpose) }

// append encodes the header.
func (h *Header) append(dst []byte) []byte {
	dst = append(dst, magic...)
	dst = append(dst, version1, kdfPBKDF2)
	dst = binary.BigEndian.AppendUint32(dst, uint32(h.Iterations))
	dst = append(dst, h.Salt[:]...)
	dst = append(dst, h.nonce[:]...)
	dst = append(dst, byte(len(h.Purpose)))
	return append(dst, h.Purpose...)
}
