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
	cosigned := s.ownersOf(now.Cosigners)
	for _, n := range s.coordinators.values() {
		key, signs := n.Ring().Signing(s.meta.v.ClockMs)
		cosigns := slices.Contains(votes, n.ID) || cosigned[n.ID]
		if n.Role == RoleCoordinator && signs && (root || cosigns && n.ID != leaving) {
			keys = append(keys, key.Public)
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
	if err := s.cosignersFault(next.Cosigners); err != nil {
		return refuse(CodeInvalid, "cosigners", "%v", err), false
	}
	return s.checkLeftOut(next)
}

// cosignersFault tells why keys make no set: each must be one that a coordinator signs with now, no two of the same one,
// whose word would count twice.
func (s *State) cosignersFault(keys []crypto.PublicKey) error {
	of := map[string]bool{}
	for _, key := range keys {
		n, known := s.Cosigner(key)
		switch {
		case !known || !n.Ring().Verifies(key, s.meta.v.ClockMs):
			return fmt.Errorf("%s is no key that a coordinator signs with", key.CoordinatorID())
		case of[n.ID]:
			return fmt.Errorf("%s is a second key of coordinator %s", key.CoordinatorID(), shown(n.ID))
		}
		of[n.ID] = true
	}
	return nil
}

// checkLeftOut holds a set to who is on record. One that cosigned since the last root may be left out, since it may be
// about to leave; then the others must still be half of those on record, for of two that part one is left.
func (s *State) checkLeftOut(next CosignerSet) (Result, bool) {
	cosigned, named := s.everCosigned(), s.ownersOf(next.Cosigners)
	coordinators, missing, left := 0, 0, 0
	for _, n := range s.coordinators.m {
		if _, signs := n.Ring().Active(s.meta.v.ClockMs); n.Role != RoleCoordinator || !signs { // one whose keys were revoked cannot be named
			continue
		}
		coordinators++
		if !named[n.ID] {
			missing++
			if cosigned[n.ID] {
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

// everCosigned are the node ids of who is in the versions since the last root.
func (s *State) everCosigned() map[string]bool {
	var keys []crypto.PublicKey
	for _, v := range s.cosignerSets.m {
		keys = append(keys, v.Cosigners...)
	}
	return s.ownersOf(keys)
}

// ownersOf are the node ids of those whose signing keys these are, or were.
func (s *State) ownersOf(keys []crypto.PublicKey) map[string]bool {
	out := map[string]bool{}
	for _, key := range keys {
		if row, known := s.signingKeys.get(key.CoordinatorID()); known && row.Public == key {
			out[row.NodeID] = true
		}
	}
	return out
}

// lostMajority tells whether so few cosigners are on record, with a key that was not revoked, that they cannot vouch for
// the next set.
func (s *State) lostMajority(now CosignerSet) bool {
	left := 0
	for _, key := range now.Cosigners {
		if _, vouches := s.Cosigner(key); vouches {
			left++
		}
	}
	return left < now.Signed(s.meta.v.ClusterID).Majority()
}

// Cosigner returns the coordinator that a key of a cosigner set is of. A set follows a little after a rotation, so a key
// whose window is over cosigns until then, and vouches for the set that follows. One that was revoked does neither.
func (s *State) Cosigner(key crypto.PublicKey) (n Coordinator, known bool) {
	row, _ := s.signingKeys.get(key.CoordinatorID())
	if n, known = s.coordinators.get(row.NodeID); !known || n.Role != RoleCoordinator {
		return n, false
	}
	i := n.Ring().at(key.Fingerprint())
	return n, i >= 0 && n.Ring()[i].Public == key && n.Ring()[i].RevokedAt == 0
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
		}
		if _, vouches := s.Cosigner(voucher.Cosigners[i]); !vouches {
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
