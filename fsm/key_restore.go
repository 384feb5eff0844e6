package fsm

import (
	"errors"
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

// scheduled tells whether a key has what binaries below LevelKeys do not know.
func (k Key) scheduled() bool {
	return k.Index != 0 || k.RevokedAt != 0 || k.Succession != nil || k.Shared != nil || len(k.EncryptionProof) > 0
}

// keysNeedLevel returns the feature level that schedules and changed keys need.
func (s *State) keysNeedLevel() uint32 {
	if s.keySchedules.size()+s.keyRequests.size()+s.keyRings.size() > 0 {
		return LevelKeys
	}
	trust := s.ManifestTrust()
	if trust.former() > 0 || slices.ContainsFunc(trust.Signers, func(g ManifestSigner) bool { return len(g.Keys) > 0 }) {
		return LevelKeys
	}
	for _, n := range s.coordinators.m {
		if len(n.Keys)+len(n.TLSKeys) > 0 {
			return LevelKeys
		}
	}
	return 0
}

// keepKeys fills what a restored state knows of keys. Members, and so their keys
// and what they share, are the present's, and so is how often keys are rotated.
// An agent or a signer that both know keeps the keys that it has since: those of the
// present, or those of a backup of what a recovery or a restore went back behind. Whom a signer's signature counts for is the trust policy, which is the
// backup's; what either revoked stays so.
func (s *State) keepKeys(backup, present *State) {
	copyTable(s.keySchedules, present.keySchedules, nil)
	copyTable(s.keyRequests, present.keyRequests, nil)
	copyTable(s.keyRings, present.keyRings, nil)
	if present.meta.v.Level < LevelKeys {
		return
	}
	for id := range backup.agents.m {
		a, _ := present.AfterRestore(backup, id)
		s.agents.put(id, a)
	}
	if present.sharesPast(backup) {
		for ref, owner := range present.keyOwners.m {
			if _, bound := s.keyOwners.get(ref); !bound && s.ownerStays(owner) {
				s.keyOwners.put(ref, owner)
			}
		}
	}
	s.keepSigners(backup, present)
}

// keepSigners gives the signers of a restored trust policy their keys.
func (s *State) keepSigners(backup, present *State) {
	now, t := present.ManifestTrust(), s.ManifestTrust()
	t.Signers, t.Revoked, t.Retired = slices.Clone(t.Signers), mergeRefs(t.Revoked, now.Revoked), mergeRefs(t.Retired, now.Retired)
	for _, g := range now.Signers {
		t.Revoked = mergeRefs(t.Revoked, g.Keys.revoked()) // those that stay below leave again
	}
	for i := range t.Signers {
		g := &t.Signers[i]
		r := g.Ring().setBack(backup.meta.v.ClockMs, s.meta.v.ClockMs)
		if have, ok := now.signer(g.Name); ok && have.Key == g.Key && present.sharesPast(backup) {
			r = have.Ring().laterOf(r)
		}
		if r = r.revokedBy(t.Revoked, s.meta.v.Index).endedBy(t.Retired, s.meta.v.ClockMs); !r.Same(g.Ring()) {
			g.Keys = r
		}
	}
	t.noteFormer(now.Signers, present.meta.v.ClockMs)
	t.forgetFormer()
	if t.former() > 0 {
		t.Version = max(t.Version, 1) // the backup may have no policy at all
	}
	if t.Version > 0 {
		s.manifestTrust.put(theTrust, t)
	}
}

// laterOf returns, of two rings of one signer, the one that knows the newest key of the
// other, or else was ordered last, with the revocations of both.
func (r Ring) laterOf(other Ring) Ring {
	newest, newestThere := r[len(r)-1], other[len(other)-1]
	knows, known := r.at(newestThere.Public.Fingerprint()) >= 0, other.at(newest.Public.Fingerprint()) >= 0
	if !knows && newest.RevokedAt == 0 && (known || newest.signedMs() < newestThere.signedMs()) {
		return other.revokedToo(r)
	}
	return r.revokedToo(other)
}

// signedMs is when the order for the key was signed; 0: nobody ordered it.
func (k Key) signedMs() int64 {
	if k.Succession == nil {
		return 0
	}
	return k.Succession.SignedMs
}

// setBack returns the ring as it is on a clock that may be behind the one it was on.
func (r Ring) setBack(wasMs, toMs int64) Ring {
	if toMs >= wasMs {
		return r
	}
	return r.shifted(wasMs, toMs)
}

// sharesPast tells whether a backup is of this cluster's own past.
func (s *State) sharesPast(backup *State) bool {
	return s.meta.v.Level >= LevelKeys && backup.meta.v.ClusterID == s.meta.v.ClusterID && backup.meta.v.IsPastOf(s.meta.v)
}

// AfterRestore returns an agent of a backup as it would be here after a restore.
func (s *State) AfterRestore(backup *State, id string) (Agent, bool) {
	then, ok := backup.agents.get(id)
	if !ok || s.meta.v.Level < LevelKeys {
		return then, ok
	}
	then.Keys = then.Keys.setBack(backup.meta.v.ClockMs, s.clockWith(backup))
	now, known := s.agents.get(id)
	if !known || !s.sharesPast(backup) || now.EnrolledMs != then.EnrolledMs || now.TokenID != then.TokenID {
		return then, true
	}
	return then.withKeysOf(now, s.keysCameAfter(backup, now, then)), true
}

// keysCameAfter tells whether an agent has the keys of this state since it had those of
// a backup. Log indexes do not say, after a recovery they are given anew; but a state
// never forgets whose a key was.
func (s *State) keysCameAfter(backup *State, now, then Agent) bool {
	switch newest := now.Keys[len(now.Keys)-1]; {
	case slices.ContainsFunc(now.Keys, func(k Key) bool { return backup.boundToAnother(k.Public, now.ID) }):
		return false // the backup, whose keys come back, has it as another's
	case s.hadKey(then.Keys[len(then.Keys)-1].Public, now.ID):
		return true
	case newest.RevokedAt != 0: // on somebody's word: no past brings the agent back
		return true
	case backup.hadKey(newest.Public, now.ID):
		return false
	}
	return now.KeysSignedMs >= then.KeysSignedMs // both went on without the other: the later is what the agent holds
}

// hadKey tells whether an agent has or had a key.
func (s *State) hadKey(key crypto.PublicKey, agentID string) bool {
	ref := key.Fingerprint()
	owner, _ := s.keyOwners.get(string(ref[:]))
	return owner == ownerAgent+agentID
}

// boundToAnother tells whether somebody else than an agent has or had a key.
func (s *State) boundToAnother(key crypto.PublicKey, agentID string) bool {
	ref := key.Fingerprint()
	_, bound := s.keyOwners.get(string(ref[:]))
	return bound && !s.hadKey(key, agentID)
}

// CompareRestore is Compare for a restore, which keeps keys that a recovery from
// the same copy would lose.
func CompareRestore(backup, present *State) Undone {
	u := Compare(backup, present)
	u.AgentsOther = slices.DeleteFunc(u.AgentsOther, func(now Agent) bool {
		after, _ := present.AfterRestore(backup, now.ID)
		return sameAgent(after, now)
	})
	return u
}

// withKeysOf returns the agent with the revocations of another state of it, and with the
// keys of that one if they came after its own. An order that was taken in either is not
// taken again.
func (a Agent) withKeysOf(now Agent, after bool) Agent {
	a.KeysSignedMs = max(a.KeysSignedMs, now.KeysSignedMs)
	if !after {
		a.Keys = a.Keys.revokedToo(now.Keys)
		return a
	}
	a.Keys = now.Keys.revokedToo(a.Keys)
	a.UpdatedMs, a.Index = now.UpdatedMs, now.Index
	a.EncryptionKey, a.EncryptionProof = now.EncryptionKey, now.EncryptionProof
	return a
}

func (s *State) ownerStays(owner string) bool {
	id, isAgent := cutOwner(owner)
	return isAgent && s.hasAgent(id)
}

// revokedToo returns the ring with the revocations of another.
func (r Ring) revokedToo(other Ring) Ring {
	out := slices.Clone(r)
	changed := false // else it is the same list
	for i := range out {
		if j := other.at(out[i].Public.Fingerprint()); j >= 0 && other[j].RevokedAt != 0 && out[i].RevokedAt == 0 {
			out[i].RevokedAt, changed = other[j].RevokedAt, true
		}
	}
	if !changed {
		return r
	}
	return out
}

// shiftKeys moves the windows of keys along with a clock that was set back.
func (s *State) shiftKeys(c *change, wasMs, toMs int64) {
	for _, id := range s.shiftAgentKeys(wasMs, toMs) {
		s.recordRing(c, AgentSubject(id), "recover_clock")
	}
	for _, n := range s.coordinators.values() {
		keys, tlsKeys := n.Keys.shifted(wasMs, toMs), n.TLSKeys.shifted(wasMs, toMs)
		moved, tlsMoved := !keys.Same(n.Keys), !tlsKeys.Same(n.TLSKeys)
		n.Keys, n.TLSKeys = keys, tlsKeys
		if moved || tlsMoved {
			s.coordinators.put(n.ID, n)
		}
		if moved {
			s.recordRing(c, CoordinatorSubject(n.ID), "recover_clock")
		}
		if tlsMoved {
			s.recordRing(c, CertificateSubject(n.ID), "recover_clock")
		}
	}
	for _, g := range s.ManifestTrust().Signers {
		if moved := g.Keys.shifted(wasMs, toMs); !moved.Same(g.Keys) {
			s.putSignerRing(g.Name, moved)
			s.recordRing(c, Subject{SubjectManifest, g.Name}, "recover_clock")
		}
	}
	for _, text := range s.keyRings.sortedKeys() {
		r, _ := s.keyRings.get(text)
		if moved := r.shifted(wasMs, toMs); !moved.Same(r) {
			s.keyRings.put(text, moved)
			s.recordRing(c, Subject{Kind: SubjectKind(text)}, "recover_clock")
		}
	}
	for _, text := range s.keyRequests.sortedKeys() {
		q, _ := s.keyRequests.get(text)
		q.AtMs = min(q.AtMs, toMs)
		s.keyRequests.put(text, q)
	}
}

// shiftAgentKeys moves those of agents, and returns of which, in the order of ids.
func (s *State) shiftAgentKeys(wasMs, toMs int64) (moved []string) {
	for _, a := range s.agents.values() {
		if keys := a.Keys.setBack(wasMs, toMs); !keys.Same(a.Keys) {
			a.Keys = keys
			s.agents.put(a.ID, a)
			moved = append(moved, a.ID)
		}
	}
	return moved
}

// ringFault says what is wrong with a ring that comes from outside.
func (s *State) ringFault(of Subject, r Ring) error {
	if n := len(r); n > of.Kind.mostKeys() {
		return fmt.Errorf("%d keys, at most %d", n, of.Kind.mostKeys())
	}
	begun := int64(0)
	for i, k := range r {
		if err := s.keyFault(of, k); err != nil {
			return fmt.Errorf("key %d: %w", i, err)
		}
		if r.at(k.Public.Fingerprint()) != i {
			return fmt.Errorf("key %d comes twice", i)
		}
		if k.RevokedAt == 0 && !k.waits() {
			if k.NotBeforeMs < begun {
				return fmt.Errorf("key %d begins before one in front of it", i)
			}
			begun = k.NotBeforeMs
		}
		if k.waits() && i != len(r)-1 && k.RevokedAt == 0 {
			return fmt.Errorf("key %d waits behind another one", i)
		}
	}
	return nil
}

func (s *State) keyFault(of Subject, k Key) error {
	if !of.Kind.Named() {
		if err := crypto.CheckPublicKey(k.Public); err != nil {
			return err
		}
	}
	if err := timeFault(MaxTimeMs, "the begin of a key", k.NotBeforeMs, "the end of a key", k.NotAfterMs); err != nil {
		return err
	}
	if n := len(k.EncryptionProof); n != 0 && (n != crypto.SignatureSize || of.Kind != SubjectAgent) {
		return fmt.Errorf("an encryption proof of %d bytes", n)
	}
	if p := k.Succession; p != nil {
		if err := timeFault(lastTimeMs, "the order's begin", p.NotBeforeMs, "the order's time", p.SignedMs); err != nil {
			return err
		}
		if signed := of.Kind == SubjectCertificate || of.Kind == SubjectCoordinator && p.Predecessor.IsZero(); p.Signer.IsZero() == signed {
			return errors.New("a signer of the order is with certificates and coordinators' keys without a predecessor, and with these alone")
		}
		if n := len(p.Signature); n > MaxKeySignatureBytes {
			return fmt.Errorf("an order of %d bytes, at most %d", n, MaxKeySignatureBytes)
		}
	}
	if (k.Shared != nil) != of.Kind.Shared() {
		return errors.New("what stands with shared keys is with these alone")
	}
	if k.Shared == nil {
		return nil
	}
	return s.sharedFault(k.Shared)
}

func scheduleFault(key string, d Schedule) error {
	of, err := ParseScheduled(key)
	if err != nil || of.String() != key {
		return fmt.Errorf("it is for no subject: %w", err)
	}
	if field, fault := d.Fault(of.Kind); fault != "" {
		return fmt.Errorf("%s: %s", field, fault)
	}
	if d.Version < 1 {
		return errors.New("version 0")
	}
	return timeFault(MaxTimeMs, "when it was set", d.SetMs)
}

func keyRequestFault(key string, q KeyRequest) error {
	if _, err := ParseSubject(key); err != nil {
		return err
	}
	if err := errors.Join(optionalID(q.Actor.TokenID), optionalID(q.Actor.NodeID)); err != nil {
		return err
	}
	return timeFault(MaxTimeMs, "when it was asked for", q.AtMs)
}

func (s *State) sharedRingFault(key string, r Ring) error {
	of, err := ParseSubject(key)
	if err != nil || !of.Kind.Shared() {
		return fmt.Errorf("%s shares no keys", shown(key))
	}
	return s.ringFault(of, r)
}
