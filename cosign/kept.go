package cosign

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
)

// Load takes the checkpoint that this node kept in an earlier life. One that the set does not vouch for any more is
// passed over: the next one is seconds away.
func (k *Keeper) Load(set checkpoint.Set, o checkpoint.Origin) error {
	k.kept.Lock()
	some := k.note != nil
	k.kept.Unlock()
	if some {
		return nil
	}
	note, err := os.ReadFile(k.path("checkpoint"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = k.adopt(note, set, o, false)
	return err
}

// Adopt takes a checkpoint that a majority of the set vouches for, if it is newer than what is kept: larger, or of the
// same size and fresher. One of the same size with another root, or that the records here contradict, is a *Fork.
func (k *Keeper) Adopt(note []byte, set checkpoint.Set, o checkpoint.Origin) (fresh bool, err error) {
	return k.adopt(note, set, o, true)
}

func (k *Keeper) adopt(note []byte, set checkpoint.Set, o checkpoint.Origin, write bool) (bool, error) {
	c, err := set.OpenFinal(note)
	if err != nil {
		return false, err
	}
	if c.Origin != o {
		return false, fmt.Errorf("%w: told of %s, this node has %s", ErrOrigin, c.Origin, o)
	}
	k.kept.Lock()
	defer k.kept.Unlock()
	same := k.note != nil && k.held.Origin == o
	switch {
	case k.shut:
		return false, ErrClosed
	case same && c.Size < k.held.Size:
		return false, nil // an older one: replayed, or merely late
	case same && c.Size == k.held.Size && c.Root != k.held.Root:
		return false, &Fork{Mine: k.held.Checkpoint, Theirs: c.Checkpoint, What: "two final checkpoints"}
	case same && c.Size == k.held.Size && !fresher(c, k.held):
		return false, nil
	}
	if err := k.agrees(c.Checkpoint, false, "a final checkpoint that the records here contradict"); err != nil {
		return false, err
	}
	if write {
		if err := keyfile.WriteAtomic(k.path("checkpoint"), note); err != nil {
			return false, err
		}
	}
	k.note, k.held, k.seen = note, c, k.log.TreeSize() >= c.Size
	return true, nil
}

// fresher: a later majority, or as late and more cosigners.
func fresher(a, b checkpoint.Opened) bool {
	if a.MajorityAtS() != b.MajorityAtS() {
		return a.MajorityAtS() > b.MajorityAtS()
	}
	return len(a.Cosignatures) > len(b.Cosignatures)
}

// Newest returns the newest final checkpoint of an origin and its note.
func (k *Keeper) Newest(o checkpoint.Origin) (note []byte, c checkpoint.Opened, ok bool) {
	k.kept.Lock()
	defer k.kept.Unlock()
	if k.note == nil || k.held.Origin != o {
		return nil, checkpoint.Opened{}, false
	}
	return k.note, k.held, true
}

// Confirm holds a checkpoint that came before its records did to them, once they are here.
func (k *Keeper) Confirm(o checkpoint.Origin) error {
	k.kept.Lock()
	defer k.kept.Unlock()
	if k.note == nil || k.held.Origin != o || k.seen || k.log.TreeSize() < k.held.Size {
		return nil
	}
	if err := k.agrees(k.held.Checkpoint, false, "records that a final checkpoint contradicts"); err != nil {
		return err
	}
	k.seen = true
	return nil
}
