package checkpoint

import (
	"errors"
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

// Cosignature is one that was verified.
type Cosignature struct {
	Key crypto.PublicKey
	AtS int64 // Unix seconds, of the cosigner's clock
}

// Opened is a checkpoint that the log signed, and who vouches for it.
type Opened struct {
	Checkpoint
	Log          crypto.PublicKey // who signed as the log
	Cosignatures []Cosignature    // newest of each cosigner, newest first
	majority     int
}

// ErrNotFinal is in the chain when a majority of cosigners is missing: the tree may be one that others are not shown.
var ErrNotFinal = errors.New("no majority of cosigners vouches for it")

// Open reads a checkpoint's note and verifies it by the set: a member signed it as the log, and whatever names itself
// a cosignature of a member is one (signed-note: else the whole note is refused). Whether enough did, Final tells.
// Other signatures, of witnesses say, are passed over.
func (s Set) Open(msg []byte) (Opened, error) {
	n, err := ParseNote(msg)
	if err != nil {
		return Opened{}, err
	}
	c := n.Checkpoint
	if c.Origin.ClusterID != s.ClusterID {
		return Opened{}, fmt.Errorf("%w: of cluster %s, want %s", ErrCheckpoint, c.Origin.ClusterID, s.ClusterID)
	}
	out := Opened{Checkpoint: c, majority: s.Majority()}
	newest := map[crypto.PublicKey]int64{}
	for _, line := range n.Signatures {
		for _, key := range s.Cosigners {
			switch {
			case line.by(c.Origin.String(), typeEd25519, key):
				if !crypto.Verify(key, c.Text(), line.Bytes) {
					return Opened{}, fmt.Errorf("%w: of the log on size %d by the key of %s", ErrSignature, c.Size, key.CoordinatorID())
				}
				out.Log = key
			case line.by(key.CoordinatorID(), typeCosignature, key):
				at, err := VerifyCosignature(c, line, key)
				if err != nil {
					return Opened{}, err
				}
				newest[key] = max(newest[key], at)
			}
		}
	}
	if out.Log.IsZero() {
		return Opened{}, fmt.Errorf("%w: size %d: no cosigner of version %d signed it as the log", ErrSignature, c.Size, s.Version)
	}
	for key, at := range newest {
		out.Cosignatures = append(out.Cosignatures, Cosignature{Key: key, AtS: at})
	}
	slices.SortFunc(out.Cosignatures, func(a, b Cosignature) int {
		if a.AtS != b.AtS {
			return int(max(-1, min(1, b.AtS-a.AtS)))
		}
		return slices.Compare(a.Key[:], b.Key[:])
	})
	return out, nil
}

// Final tells whether a majority of the set vouches for the checkpoint.
func (o Opened) Final() bool { return o.majority > 0 && len(o.Cosignatures) >= o.majority }

// MajorityAtS returns the majority-th newest time of the cosignatures, Unix seconds: at that time, by its clock, the
// slowest of the fastest majority still saw a leader with quorum. Leases run from it (DESIGN 7). 0 unless Final.
func (o Opened) MajorityAtS() int64 {
	if !o.Final() {
		return 0
	}
	return o.Cosignatures[o.majority-1].AtS
}

// OpenFinal is Open that refuses what is not final.
func (s Set) OpenFinal(msg []byte) (Opened, error) {
	o, err := s.Open(msg)
	if err == nil && !o.Final() {
		return Opened{}, fmt.Errorf("%w: size %d of %s has %d cosignatures of version %d, %d are needed",
			ErrNotFinal, o.Size, o.Origin, len(o.Cosignatures), s.Version, s.Majority())
	}
	return o, err
}
