package cosign

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
)

// maxEvidence bounds the pairs of heads kept as evidence of one kind: each is enough.
const maxEvidence = 64

// ErrCrowded: there is no room for more evidence of this kind. What is kept stays.
var ErrCrowded = errors.New("no room for more evidence of forks")

// Evidence is a fork and what shows it.
type Evidence struct {
	*Fork
	By    crypto.PublicKey // of the coordinator on whose word alone it rests; zero when a signature or this node's own records show it
	Here  []byte           // note that vouches for Mine; empty: the newest final checkpoint that this node keeps
	There []byte           // note that told of Theirs; may be empty
}

// name begins the names of evidence of the same kind: words have one file a coordinator.
func (e Evidence) name() string {
	if e.By.IsZero() {
		return "fork"
	}
	return "word"
}

// KeepEvidence writes both heads of a fork beside each other, with the notes that vouch for them, and returns the file, and whether it is new. There is one for
// each pair: what was found first stays. A coordinator's word alone has one place of its own, whatever it says, so that no liar takes the room of what was
// signed, or of another's word. ErrCrowded: the pair is not kept.
func (k *Keeper) KeepEvidence(e Evidence) (file string, fresh bool, err error) {
	mine := fmt.Sprintf("%s-", k.path(e.name()))
	most := maxEvidence
	if !e.By.IsZero() {
		mine += e.By.CoordinatorID() + "-"
		most = 1
	}
	path := fmt.Sprintf("%s%d-%.8s-%.8s", mine, e.Theirs.Size, e.Mine.Root, e.Theirs.Root)
	k.evidence.Lock()
	defer k.evidence.Unlock()
	if _, err := os.Lstat(path); err == nil {
		return path, false, nil
	}
	if err := k.roomFor(mine, most); err != nil {
		return "", false, err
	}
	if !e.By.IsZero() { // of all coordinators that there ever were
		if err := k.roomFor(k.path(e.name()), maxEvidence); err != nil {
			return "", false, err
		}
	}
	return path, true, keyfile.WriteAtomic(path, k.evidenceText(e))
}

func (k *Keeper) roomFor(begin string, most int) error {
	found, err := filepath.Glob(begin + "*")
	if err == nil && len(found) >= most {
		err = fmt.Errorf("%w: %d are kept", ErrCrowded, len(found))
	}
	return err
}

func (k *Keeper) evidenceText(e Evidence) []byte {
	here := e.Here
	if len(here) == 0 {
		k.kept.Lock()
		here = k.note
		k.kept.Unlock()
	}
	text := fmt.Appendf(nil, "%s\n\nhere:\n%s\nthere:\n%s", e.What, e.Mine.Text(), e.Theirs.Text())
	if len(here) > 0 {
		text = fmt.Appendf(text, "\nsigned here:\n%s", here)
	}
	if len(e.There) > 0 {
		text = fmt.Appendf(text, "\nas told:\n%s", e.There)
	}
	return text
}
