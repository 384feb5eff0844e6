package fsm

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

// LevelCheckpoints is the feature level from which checkpoints are cosigned, by whom the replicated cosigner sets say.
const LevelCheckpoints = 8

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
// gathered. Apply verifies them, unlike those of other commands: it has all that they are verified with, they are few and
// rare, and a version that no verifier takes could not be mended, since the next would have to follow it. From
// LevelCheckpoints on.
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

// CosignerSets returns up to limit versions from one on, in order; those before the oldest that is kept are passed over.
func (s *State) CosignerSets(from uint64, limit int) []CosignerSet {
	var out []CosignerSet
	for v := max(from, s.oldestSet()); len(out) < limit; v++ {
		set, ok := s.cosignerSets.get(setKey(v))
		if !ok {
			break
		}
		out = append(out, set)
	}
	return out
}

// CosignerSet returns the version in force.
func (s *State) CosignerSet() (CosignerSet, bool) { return s.cosignerSets.get(setKey(s.newestSet)) }

// oldestSet is the version from which on all are kept.
func (s *State) oldestSet() uint64 { return s.newestSet + 1 - uint64(s.cosignerSets.size()) }

// putSet brings a version into force. No version before a root leads to it: they go. Of others the newest MaxCosignerSets are kept.
func (s *State) putSet(v CosignerSet) {
	keep := MaxCosignerSets - 1
	if v.Previous.IsZero() {
		keep = 0
	}
	for s.cosignerSets.size() > keep {
		s.cosignerSets.remove(setKey(s.oldestSet()))
	}
	s.cosignerSets.put(setKey(v.Version), v)
	s.newestSet = v.Version
}

// indexSets finds the newest version among them.
func (s *State) indexSets() {
	s.newestSet = 0
	for _, v := range s.cosignerSets.m {
		s.newestSet = max(s.newestSet, v.Version)
	}
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
	if field, fault := next.fault(s.meta.v.ClusterID); fault != "" {
		return refuse(CodeInvalid, field, "%s", fault)
	}
	if have, ok := s.cosignerSets.get(setKey(next.Version)); ok && have.sameText(next, s.meta.v.ClusterID) {
		return Result{Code: CodeOK, ID: setKey(next.Version), Repeated: true}
	}
	if res, ok := s.CheckCosigners(next); !ok {
		return res
	}
	if err := s.vouchedFor(next); err != nil {
		return refuse(CodeInvalid, "signatures", "%v", err)
	}
	next.AtMs = c.atMs
	s.putSet(next)
	set := next.Signed(s.meta.v.ClusterID).Set
	s.record(c, "cosigner_set", s.meta.v.ClusterID, fmt.Sprintf("version=%d epoch=%d root=%t hash=%s cosigners=%v", set.Version, set.Epoch, set.Root(), set.Hash(), set.Names()))
	return Result{Code: CodeOK, ID: setKey(next.Version)}
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

// cosignerSetFault is for a state that comes from outside: each version follows the one before, as far as those are kept.
func (s *State) cosignerSetFault(key string, v CosignerSet) error {
	oldest := s.oldestSet()
	if key != setKey(v.Version) || v.Version < oldest {
		return fmt.Errorf("version %d, where %d to %d belong", v.Version, oldest, s.newestSet)
	}
	if field, fault := v.fault(s.meta.v.ClusterID); fault != "" {
		return fmt.Errorf("%s: %s", field, fault)
	}
	before, some := s.cosignerSets.get(setKey(v.Version - 1))
	trimmed := !some && s.cosignerSets.size() == MaxCosignerSets
	switch {
	case v.Epoch > s.meta.v.Epoch || some && v.Epoch < before.Epoch:
		return fmt.Errorf("epoch %d", v.Epoch)
	case v.Previous.IsZero() == some && !trimmed:
		return fmt.Errorf("a root goes before all others: it follows %s", v.Previous)
	case some && v.Previous != before.Signed(s.meta.v.ClusterID).Hash():
		return fmt.Errorf("it follows another version %d", before.Version)
	case some && slices.Equal(v.Cosigners, before.Cosigners):
		return fmt.Errorf("the cosigners are those of version %d", before.Version)
	}
	return timeFault(MaxTimeMs, "the change", v.AtMs)
}

// assert that a row of the most cosigners fits a frame of a snapshot: a key is 47 bytes, a signature 64 and its name.
var _ [maxRowBytes - checkpoint.MaxCosigners*(47+crypto.SignatureSize+crypto.MaxIDBytes+16)]byte
