package fsm

import (
	"bytes"
	"fmt"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

// LevelCheckpoints is the feature level from which checkpoints are cosigned, by whom the replicated cosigner sets say.
const LevelCheckpoints = 7

// CosignerSet is one version of who cosigns checkpoints (checkpoint.Set), and the signatures that vouch for it. The
// trees and checkpoints themselves are no part of the state: Apply never reads history, and a cluster whose chain is
// older than this level could not compute a root without it. A tree follows from the records alone, so replicas agree
// on it as they agree on those.
type CosignerSet struct {
	Version    uint64              `cbor:"1,keyasint"`
	Epoch      uint64              `cbor:"2,keyasint"` // recovery epoch in which it was made
	Previous   crypto.Hash         `cbor:"3,keyasint"` // zero of a root
	Cosigners  []crypto.PublicKey  `cbor:"4,keyasint"` // in the order of their coordinator ids
	Signatures []CosignerSignature `cbor:"5,keyasint"`
	AtMs       int64               `cbor:"6,keyasint,omitempty"` // cluster clock when it took effect; Apply sets it
}

// CosignerSignature is a signature on a set's text: who, and with which key.
type CosignerSignature struct {
	_         struct{} `cbor:",toarray"`
	Name      string
	KeyID     uint32
	Signature []byte
}

// CosignerSetPut brings the next version of the set into force. The leader proposes it once the signatures are
// gathered, which it verified; every verifier verifies them again, so a leader that lies convinces nobody. Apply asks what
// depends on the state. From LevelCheckpoints on.
type CosignerSetPut struct {
	Set CosignerSet `cbor:"1,keyasint"`
}

// NewCosignerSet returns the row of a signed set.
func NewCosignerSet(s checkpoint.SignedSet) CosignerSet {
	out := CosignerSet{Version: s.Version, Epoch: s.Epoch, Previous: s.Previous, Cosigners: s.Cosigners}
	for _, line := range s.Signatures {
		out.Signatures = append(out.Signatures, CosignerSignature{Name: line.Name, KeyID: line.KeyID, Signature: line.Bytes})
	}
	return out
}

// Signed returns the set of a cluster, to verify and to show. Its lists must not be changed.
func (v CosignerSet) Signed(clusterID string) checkpoint.SignedSet {
	out := checkpoint.SignedSet{Set: checkpoint.Set{ClusterID: clusterID, Version: v.Version, Epoch: v.Epoch, Previous: v.Previous, Cosigners: v.Cosigners}}
	for _, g := range v.Signatures {
		out.Signatures = append(out.Signatures, checkpoint.Signature{Name: g.Name, KeyID: g.KeyID, Bytes: g.Signature})
	}
	return out
}

// CosignerSets returns up to limit versions from one on, in order.
func (s *State) CosignerSets(from uint64, limit int) []CosignerSet {
	var out []CosignerSet
	for v := max(from, 1); len(out) < limit; v++ {
		set, ok := s.cosignerSets.get(setKey(v))
		if !ok {
			break
		}
		out = append(out, set)
	}
	return out
}

// CosignerSet returns the version in force.
func (s *State) CosignerSet() (CosignerSet, bool) {
	return s.cosignerSets.get(setKey(uint64(s.cosignerSets.size()))) // versions are without gaps, from 1 on
}

func setKey(version uint64) string { return fmt.Sprintf("%016d", version) }

func (s *State) applyCosignerSetPut(c *change, b CosignerSetPut) Result {
	if s.meta.v.Level < LevelCheckpoints {
		return refuse(CodeConflict, "", "the cluster is at feature level %d, a cosigner set needs %d", s.meta.v.Level, LevelCheckpoints)
	}
	if n, known := s.coordinators.get(c.actor.NodeID); !known || n.Role != RoleCoordinator {
		return refuse(CodeForbidden, "", "a coordinator proposes the cosigner set, %q is none", c.actor.NodeID)
	}
	next := b.Set
	next.AtMs = 0
	if have, ok := s.cosignerSets.get(setKey(next.Version)); ok && have.sameText(next, s.meta.v.ClusterID) {
		return Result{Code: CodeOK, ID: setKey(next.Version), Repeated: true}
	}
	if field, fault := next.fault(s.meta.v.ClusterID); fault != "" {
		return refuse(CodeInvalid, field, "%s", fault)
	}
	if res, ok := s.checkNextSet(next); !ok {
		return res
	}
	next.AtMs = c.atMs
	s.cosignerSets.put(setKey(next.Version), next)
	set := next.Signed(s.meta.v.ClusterID).Set
	s.record(c, "cosigner_set", s.meta.v.ClusterID, fmt.Sprintf("version=%d epoch=%d root=%t hash=%s cosigners=%v", set.Version, set.Epoch, set.Root(), set.Hash(), set.Names()))
	return Result{Code: CodeOK, ID: setKey(next.Version)}
}

// checkNextSet asks whether a set follows the one in force: members' keys alone, no version left out, and no root but
// the first and one after a recovery.
func (s *State) checkNextSet(next CosignerSet) (Result, bool) {
	now, some := s.CosignerSet()
	switch {
	case next.Version != now.Version+1:
		return refuse(CodeConflict, "version", "version %d, the set in force is %d", next.Version, now.Version), false
	case next.Epoch != s.meta.v.Epoch:
		return refuse(CodeConflict, "epoch", "epoch %d, the cluster is in %d", next.Epoch, s.meta.v.Epoch), false
	case next.Previous.IsZero() && some && now.Epoch == next.Epoch:
		return refuse(CodeConflict, "previous", "a set that none before vouches for, but no recovery since version %d", now.Version), false
	case !next.Previous.IsZero() && next.Previous != now.Signed(s.meta.v.ClusterID).Hash():
		return refuse(CodeConflict, "previous", "it follows another version %d", now.Version), false
	case s.cosignerSets.full():
		return refuse(CodeOverloaded, "", "%d cosigner sets, no room for one more", MaxCosignerSets), false
	}
	for _, key := range next.Cosigners {
		known, ok := s.signingKeys.get(key.CoordinatorID())
		if !ok || known.Public != key || known.RetiredAt != 0 {
			return refuse(CodeInvalid, "cosigners", "%s is no key that a member signs with", key.CoordinatorID()), false
		}
	}
	return Result{}, true
}

// fault holds a set to its form.
func (v CosignerSet) fault(clusterID string) (field, fault string) {
	if err := v.Signed(clusterID).Check(); err != nil {
		return "set", err.Error()
	}
	if n := len(v.Signatures); n == 0 || n > checkpoint.MaxCosigners {
		return "signatures", fmt.Sprintf("%d signatures, from 1 to %d", n, checkpoint.MaxCosigners)
	}
	for i, g := range v.Signatures {
		if err := crypto.CheckID(g.Name); err != nil {
			return "signatures", err.Error()
		}
		if len(g.Signature) != crypto.SignatureSize {
			return "signatures", fmt.Sprintf("signature %d has %d bytes, an Ed25519 signature has %d", i, len(g.Signature), crypto.SignatureSize)
		}
	}
	return "", ""
}

// sameText tells whether two rows are the same version, whoever signed it.
func (v CosignerSet) sameText(other CosignerSet, clusterID string) bool {
	return v.Version == other.Version && bytes.Equal(v.Signed(clusterID).Text(), other.Signed(clusterID).Text())
}

// cosignerSetFault is for a state that comes from outside: each version follows the one before.
func (s *State) cosignerSetFault(key string, v CosignerSet) error {
	if key != setKey(v.Version) || v.Version > uint64(s.cosignerSets.size()) {
		return fmt.Errorf("version %d of %d", v.Version, s.cosignerSets.size())
	}
	if field, fault := v.fault(s.meta.v.ClusterID); fault != "" {
		return fmt.Errorf("%s: %s", field, fault)
	}
	before, some := s.cosignerSets.get(setKey(v.Version - 1))
	switch {
	case v.Epoch > s.meta.v.Epoch || some && v.Epoch < before.Epoch:
		return fmt.Errorf("epoch %d", v.Epoch)
	case !v.Previous.IsZero() && v.Previous != before.Signed(s.meta.v.ClusterID).Hash():
		return fmt.Errorf("it follows another version %d", before.Version)
	}
	return timeFault(MaxTimeMs, "the change", v.AtMs)
}

// assert that a row of the most cosigners fits a frame of a snapshot: a key is 47 bytes, a signature 64 and its name.
var _ [maxRowBytes - checkpoint.MaxCosigners*(47+crypto.SignatureSize+crypto.MaxIDBytes+16)]byte
