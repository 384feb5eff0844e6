package checkpoint

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
)

// MaxSize bounds a tree: what every JSON reader holds exactly, and far from where index arithmetic overflows.
const MaxSize = 1<<53 - 1

// ErrCheckpoint is in the chain of every refusal to read a checkpoint.
var ErrCheckpoint = errors.New("no checkpoint")

// Checkpoint is the head of a log's tree at a size.
type Checkpoint struct {
	Origin Origin
	Size   uint64
	Root   crypto.Hash
}

// Text returns the note text (tlog-checkpoint): origin, size, root, a line each, and no extension lines.
func (c Checkpoint) Text() []byte {
	var b bytes.Buffer
	b.WriteString(c.Origin.String() + "\n" + strconv.FormatUint(c.Size, 10) + "\n")
	b.WriteString(base64.StdEncoding.EncodeToString(c.Root[:]) + "\n")
	return b.Bytes()
}

// ParseText reads what Text writes. Extension lines are refused: cosigners say nothing of them.
func ParseText(text []byte) (Checkpoint, error) {
	c, err := parseText(text)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	return c, nil
}

func parseText(text []byte) (c Checkpoint, err error) {
	if len(text) > maxTextBytes {
		return c, fmt.Errorf("%d bytes, at most %d", len(text), maxTextBytes)
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) != 4 || lines[3] != "" {
		return c, fmt.Errorf("%d lines, want origin, size and root, each ended", len(lines)-1)
	}
	if c.Origin, err = ParseOrigin(lines[0]); err != nil {
		return c, err
	}
	if c.Size, err = parseSize(lines[1]); err != nil {
		return c, fmt.Errorf("size: %w", err)
	}
	if c.Root, err = parseHash(lines[2]); err != nil {
		return c, fmt.Errorf("root: %w", err)
	}
	if c.Size == 0 && c.Root != EmptyRoot {
		return c, errors.New("a tree of no records with a root that is not the empty tree's")
	}
	return c, nil
}

func parseSize(s string) (uint64, error) {
	n, err := parseDecimal(s)
	if err == nil && n > MaxSize {
		err = fmt.Errorf("%d is over %d", n, uint64(MaxSize))
	}
	return n, err
}

// parseHash reads the canonical base64 of 32 bytes.
func parseHash(s string) (crypto.Hash, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) != crypto.HashSize || base64.StdEncoding.EncodeToString(raw) != s {
		return crypto.Hash{}, fmt.Errorf("%.64q is no base64 of %d bytes", s, crypto.HashSize)
	}
	return crypto.Hash(raw), nil
}
