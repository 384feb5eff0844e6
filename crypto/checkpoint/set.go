package checkpoint

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
)

// MaxCosigners bounds a set: no cluster has more coordinators, and their signatures fit into one note.
const MaxCosigners = 64

// SetTitle is the first line of a set's text.
const SetTitle = "edgecoder cosigner set v1"

// ErrSet is in the chain of every refusal of a cosigner set.
var ErrSet = errors.New("no cosigner set")

// Set is one version of who cosigns a cluster's checkpoints. Each version is signed by a majority of the one before, so
// whoever trusts any version can follow to the newest. A set without a previous hash is a root: the cluster's first, or
// one made after a recovery, or removals, that took the majority of the one before; who follows must be told to trust it.
type Set struct {
	ClusterID string
	Version   uint64             // from 1 on, without gaps
	Epoch     uint64             // recovery epoch in which it was made
	Previous  crypto.Hash        // of the text of the version before; zero of a root
	Cosigners []crypto.PublicKey // by name, each once
}

// NewSet returns a set with its cosigners in order.
func NewSet(clusterID string, version, epoch uint64, previous crypto.Hash, keys []crypto.PublicKey) (Set, error) {
	keys = slices.Clone(keys)
	slices.SortFunc(keys, func(a, b crypto.PublicKey) int { return strings.Compare(a.CoordinatorID(), b.CoordinatorID()) })
	s := Set{ClusterID: clusterID, Version: version, Epoch: epoch, Previous: previous, Cosigners: keys}
	return s, s.Check()
}

// Root tells whether no other set vouches for this one.
func (s Set) Root() bool { return s.Previous.IsZero() }

// Majority returns how many cosigners make a checkpoint final.
func (s Set) Majority() int { return len(s.Cosigners)/2 + 1 }

// Names tells who is in it, in order.
func (s Set) Names() []string {
	names := make([]string, len(s.Cosigners))
	for i, key := range s.Cosigners {
		names[i] = key.CoordinatorID()
	}
	return names
}

// Has tells whether a key is in the set.
func (s Set) Has(key crypto.PublicKey) bool { return slices.Contains(s.Cosigners, key) }

// Hash identifies this version: SHA-256 of its text.
func (s Set) Hash() crypto.Hash { return crypto.Sum(s.Text()) }

// Text returns what is signed: title, cluster, version, epoch, hash of the version before or "none", then each
// cosigner's verifier key, a line each.
func (s Set) Text() []byte {
	previous := "none"
	if !s.Root() {
		previous = s.Previous.String()
	}
	text := fmt.Appendf(nil, "%s\ncluster %s\nversion %d\nepoch %d\nprevious %s\n", SetTitle, s.ClusterID, s.Version, s.Epoch, previous)
	for _, key := range s.Cosigners {
		text = append(text, "cosigner "+CosignerKey(key)+"\n"...)
	}
	return text
}

// Check holds the set to its form: a version, cosigners in order, each once, with keys that honest signers have.
func (s Set) Check() error {
	switch {
	case checkName(s.ClusterID) != nil:
		return fmt.Errorf("%w: cluster id: %w", ErrSet, checkName(s.ClusterID))
	case s.Version == 0 || s.Version > MaxSize:
		return fmt.Errorf("%w: version %d", ErrSet, s.Version)
	case s.Version == 1 && !s.Root():
		return fmt.Errorf("%w: version 1 has none before it", ErrSet)
	case len(s.Cosigners) == 0 || len(s.Cosigners) > MaxCosigners:
		return fmt.Errorf("%w: %d cosigners, from 1 to %d", ErrSet, len(s.Cosigners), MaxCosigners)
	}
	names := s.Names()
	for i, key := range s.Cosigners {
		if i > 0 && names[i] <= names[i-1] {
			return fmt.Errorf("%w: cosigner %s after %s: not in order, or twice", ErrSet, names[i], names[i-1])
		}
		if err := crypto.CheckPublicKey(key); err != nil {
			return fmt.Errorf("%w: cosigner %s: %w", ErrSet, names[i], err)
		}
	}
	return nil
}

// ParseSetText reads what Text writes, and nothing else.
func ParseSetText(text []byte) (Set, error) {
	s, err := parseSetText(text)
	if err != nil && !errors.Is(err, ErrSet) {
		err = fmt.Errorf("%w: %w", ErrSet, err)
	}
	if err != nil {
		return Set{}, err
	}
	return s, nil
}

func parseSetText(text []byte) (s Set, err error) {
	if len(text) > maxTextBytes {
		return s, fmt.Errorf("%d bytes, at most %d", len(text), maxTextBytes)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) < 6 || lines[0] != SetTitle {
		return s, fmt.Errorf("it does not begin with %q", SetTitle)
	}
	var values [4]string
	for i, name := range []string{"cluster", "version", "epoch", "previous"} {
		value, ok := strings.CutPrefix(lines[i+1], name+" ")
		if !ok {
			return s, fmt.Errorf("line %d: want %q", i+2, name)
		}
		values[i] = value
	}
	s.ClusterID = values[0]
	if s.Version, err = parseDecimal(values[1]); err != nil {
		return s, fmt.Errorf("version: %w", err)
	}
	if s.Epoch, err = parseDecimal(values[2]); err != nil {
		return s, fmt.Errorf("epoch: %w", err)
	}
	if values[3] != "none" {
		if s.Previous, err = crypto.ParseHash(values[3]); err != nil {
			return s, fmt.Errorf("previous: %w", err)
		}
	}
	for i, line := range lines[5:] {
		key, err := parseCosigner(line)
		if err != nil {
			return s, fmt.Errorf("line %d: %w", i+6, err)
		}
		s.Cosigners = append(s.Cosigners, key)
	}
	if err := s.Check(); err != nil {
		return s, err
	}
	if string(s.Text()) != string(text) {
		return s, errors.New("not in its one spelling")
	}
	return s, nil
}

// parseCosigner reads "cosigner " and a verifier key, whose name and id must be those of the key itself.
func parseCosigner(line string) (crypto.PublicKey, error) {
	text, ok := strings.CutPrefix(line, "cosigner ")
	if !ok {
		return crypto.PublicKey{}, errors.New(`want "cosigner"`)
	}
	return ParseCosignerKey(text)
}

// ParseCosignerKey reads the verifier key that CosignerKey writes.
func ParseCosignerKey(text string) (crypto.PublicKey, error) {
	raw, err := vkeyBytes(text)
	if err != nil {
		return crypto.PublicKey{}, fmt.Errorf("verifier key %.120s: %w", strconv.QuoteToASCII(text), err)
	}
	key := crypto.PublicKey(raw[1:])
	if CosignerKey(key) != text {
		return crypto.PublicKey{}, fmt.Errorf("verifier key %.120s: not the name and id of its own key", strconv.QuoteToASCII(text))
	}
	return key, crypto.CheckPublicKey(key)
}
