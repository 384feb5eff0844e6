package cosign

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
)

// maxPromises bounds the epochs whose last head is remembered: a restore that is taken back leads to the epoch before,
// and sixteen recoveries in a row that are all taken back have never been.
const maxPromises = 16

// promises are the largest heads that were cosigned, one for each origin, newest epoch last. In the file each is its
// checkpoint's text, with an empty line between.
type promises []checkpoint.Checkpoint

func readPromises(path string) (promises, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out promises
	parts := bytes.Split(text, []byte("\n\n"))
	for i, part := range parts {
		if i < len(parts)-1 {
			part = append(bytes.Clone(part), '\n')
		}
		c, err := checkpoint.ParseText(part)
		if err != nil || len(out) == maxPromises {
			return nil, fmt.Errorf("%s, what this node cosigned, is damaged (%w): without it the node could sign a second history; let it join anew with an empty data directory", path, err)
		}
		out = append(out, c)
	}
	return out, nil
}

func (p promises) of(o checkpoint.Origin) (checkpoint.Checkpoint, bool) {
	i := slices.IndexFunc(p, func(c checkpoint.Checkpoint) bool { return c.Origin == o })
	if i < 0 {
		return checkpoint.Checkpoint{}, false
	}
	return p[i], true
}

// with returns the promises with one made, the newest epochs of them.
func (p promises) with(c checkpoint.Checkpoint) promises {
	out := promises{}
	for _, old := range p {
		if old.Origin != c.Origin {
			out = append(out, old)
		}
	}
	out = append(out, c)
	slices.SortStableFunc(out, func(a, b checkpoint.Checkpoint) int {
		switch {
		case a.Origin.Epoch < b.Origin.Epoch:
			return -1
		case a.Origin.Epoch > b.Origin.Epoch:
			return 1
		}
		return 0
	})
	return out[max(0, len(out)-maxPromises):]
}

// write makes the promises durable.
func (p promises) write(path string) error {
	var parts [][]byte
	for _, c := range p {
		parts = append(parts, c.Text())
	}
	return keyfile.WriteAtomic(path, bytes.Join(parts, []byte("\n")))
}
