package fsm

import (
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

// The records say who cosigns, not whoever leads. A root names every coordinator on record. From there on one comes in
// once it votes, and goes out before it leaves the records, one at a time; who is off the records goes with the next
// version. Only coordinators on record vouch: where those left of a set are no majority of it, whether a recovery or
// removals took the others, nobody can vouch for the next, and a root begins anew. So some version can always follow,
// and a leader that lies cannot leave the others out of it.

// NextCosigners returns the set that should follow: of the coordinators on record those who vote, as raft has it, and
// those who cosign already, but for the one that is about to leave. Of a root it is all of them.
func (s *State) NextCosigners(votes []string, leaving string) (checkpoint.Set, error) {
	now, some := s.CosignerSet()
	root := !some || s.lostMajority(now)
	previous := crypto.Hash{}
	if !root {
		previous = now.Signed(s.meta.v.ClusterID).Hash()
	}
	var keys []crypto.PublicKey
	for _, n := range s.coordinators.values() {
		cosigns := slices.Contains(votes, n.ID) || slices.Contains(now.Cosigners, n.SigningKey)
		if n.Role == RoleCoordinator && (root || cosigns && n.ID != leaving) {
			keys = append(keys, n.SigningKey)
		}
	}
	return checkpoint.NewSet(s.meta.v.ClusterID, now.Version+1, s.meta.v.Epoch, previous, keys)
}

// CheckCosigners asks whether a set may follow the one in force, whoever signed it: Apply does, and so does each
// coordinator that is asked to sign.
func (s *State) CheckCosigners(next CosignerSet) (Result, bool) {
	now, some := s.CosignerSet()
	root, lost := next.Previous.IsZero(), some && s.lostMajority(now)
	switch {
	case next.Version != now.Version+1:
		return refuse(CodeConflict, "version", "version %d, the set in force is %d", next.Version, now.Version), false
	case next.Epoch != s.meta.v.Epoch:
		return refuse(CodeConflict, "epoch", "epoch %d, the cluster is in %d", next.Epoch, s.meta.v.Epoch), false
	case root && some && !lost:
		return refuse(CodeConflict, "previous", "a set that none before vouches for, but a majority of version %d is on record", now.Version), false
	case !root && lost:
		return refuse(CodeConflict, "previous", "no majority of version %d is on record any more: a root must follow", now.Version), false
	case !root && next.Previous != now.Signed(s.meta.v.ClusterID).Hash():
		return refuse(CodeConflict, "previous", "it follows another version %d", now.Version), false
	case some && slices.Equal(next.Cosigners, now.Cosigners):
		return refuse(CodeConflict, "cosigners", "they are those of version %d, which is in force", now.Version), false
	}
	for _, key := range next.Cosigners {
		if !s.signsAsCoordinator(key) {
			return refuse(CodeInvalid, "cosigners", "%s is no key that a coordinator signs with", key.CoordinatorID()), false
		}
	}
	return s.checkLeftOut(next)
}

// checkLeftOut holds a set to who is on record. One that cosigned since the last root may be left out, since it may be
// about to leave; then the others must still be half of those on record, for of two that part one is left.
func (s *State) checkLeftOut(next CosignerSet) (Result, bool) {
	cosigned := s.everCosigned()
	coordinators, missing, left := 0, 0, 0
	for _, n := range s.coordinators.m {
		if n.Role != RoleCoordinator {
			continue
		}
		coordinators++
		if !slices.Contains(next.Cosigners, n.SigningKey) {
			missing++
			if cosigned[n.SigningKey] {
				left++
			}
		}
	}
	switch {
	case next.Previous.IsZero() && missing > 0:
		return refuse(CodeConflict, "cosigners", "a root names all %d coordinators on record, %d are missing", coordinators, missing), false
	case left > 1:
		return refuse(CodeConflict, "cosigners", "%d coordinators on record that cosigned are left out: one at a time may leave", left), false
	case left == 1 && 2*len(next.Cosigners) < coordinators:
		return refuse(CodeConflict, "cosigners", "one is left out, and the %d others are not half of the %d coordinators on record", len(next.Cosigners), coordinators), false
	}
	return Result{}, true
}

// everCosigned are the keys in the versions since the last root.
func (s *State) everCosigned() map[crypto.PublicKey]bool {
	out := map[crypto.PublicKey]bool{}
	for _, v := range s.cosignerSets.m {
		for _, key := range v.Cosigners {
			out[key] = true
		}
	}
	return out
}

// lostMajority tells whether so few cosigners are on record that they cannot vouch for the next set.
func (s *State) lostMajority(now CosignerSet) bool {
	left := 0
	for _, key := range now.Cosigners {
		if s.signsAsCoordinator(key) {
			left++
		}
	}
	return left < now.Signed(s.meta.v.ClusterID).Majority()
}

// signsAsCoordinator tells whether a key is that of a member that may vote.
func (s *State) signsAsCoordinator(key crypto.PublicKey) bool {
	known, ok := s.signingKeys.get(key.CoordinatorID())
	n, member := s.coordinators.get(known.NodeID)
	return ok && member && n.SigningKey == key && n.Role == RoleCoordinator
}

// vouchedFor verifies that a majority of the set in force signed the next, or of a root its own: each once, all of them
// on record, and nobody else, since verifiers read a note strictly.
func (s *State) vouchedFor(next CosignerSet) error {
	by := next
	if !next.Previous.IsZero() {
		by, _ = s.CosignerSet()
	}
	signed, voucher := next.Signed(s.meta.v.ClusterID), by.Signed(s.meta.v.ClusterID)
	names, done := voucher.Names(), map[string]bool{}
	for _, line := range signed.Signatures {
		i := slices.Index(names, line.Name)
		switch {
		case i < 0 || done[line.Name]:
			return fmt.Errorf("a signature of %s, which is no cosigner of version %d or signed before", shown(line.Name), by.Version)
		case !s.signsAsCoordinator(voucher.Cosigners[i]):
			return fmt.Errorf("a signature of %s, which is no coordinator any more", line.Name)
		}
		if err := signed.VerifySignature(line, voucher.Cosigners[i]); err != nil {
			return err
		}
		done[line.Name] = true
	}
	if need := voucher.Majority(); len(done) < need {
		return fmt.Errorf("%d of %d cosigners of version %d signed, %d are needed", len(done), len(by.Cosigners), by.Version, need)
	}
	return nil
}
