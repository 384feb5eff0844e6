package fsm

import (
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

// KeyRequest is somebody's wish that the keys of a subject be rotated, until its
// owner prepares the next one.
type KeyRequest struct {
	AtMs  int64 `cbor:"1,keyasint"`
	Actor Actor `cbor:"2,keyasint"`
}

// KeyRotate asks the owner of a subject to prepare its next key.
type KeyRotate struct {
	Subject string `cbor:"1,keyasint"`
}

// KeyRevoke ends a key at this index, overlap or not, and with it the next one if
// it ordered that: whoever has the key may have made it. Of those that it ordered and
// that count already the answer tells, unless they are to end as well. What is left
// keeps the end that was announced, but see keepGoing. Of what coordinators share, and
// of a node's TLS keys, which others ordered, the next key begins at once.
type KeyRevoke struct {
	Subject string `cbor:"1,keyasint"`
	Key     KeyRef `cbor:"2,keyasint"`
	Reason  string `cbor:"3,keyasint,omitempty"`
	// WithSuccessors ends all keys that it ordered, and those that these did, also if
	// it is revoked already. Of agents, coordinators and signers alone: other keys are
	// ordered by another's signature.
	WithSuccessors bool `cbor:"4,keyasint,omitempty"`
}

// KeyRecover gives an agent that lost its key a new one on an operator's word, who
// knows by other ways whose it is. All others are revoked with it. The new key's
// proof on the crypto.Succession without a predecessor was verified before.
type KeyRecover struct {
	Subject  string           `cbor:"1,keyasint"` // agent/ID
	Public   crypto.PublicKey `cbor:"2,keyasint"`
	SignedMs int64            `cbor:"3,keyasint"`
	Proof    []byte           `cbor:"4,keyasint"`
	Reason   string           `cbor:"5,keyasint"`
}

// Verify checks the proof.
func (b KeyRecover) Verify(clusterID string) error {
	st := crypto.Succession{ClusterID: clusterID, Subject: b.Subject, Successor: b.Public, SignedMs: b.SignedMs}
	if !st.Proven(b.Proof) {
		return fmt.Errorf("the proof is no signature of the new key %s on this recovery of %s", b.Public.KeyID(), b.Subject)
	}
	return nil
}

// rotationCapability is what a token must allow for changes of a kind's keys.
func rotationCapability(kind SubjectKind) Capability {
	if kind == SubjectAgent {
		return CapOperate
	}
	return CapAdmin
}

// keysOf finds the keys that a token wants changed.
func (s *State) keysOf(c *change, subject string, need func(SubjectKind) Capability) (of Subject, ring Ring, res Result, ok bool) {
	if res, ok := s.keysKnown(); !ok {
		return of, nil, res, false
	}
	of, err := ParseSubject(subject)
	if err != nil {
		return of, nil, refuse(CodeInvalid, "subject", "%v", err), false
	}
	if res, ok := s.actorCan(c, need(of.Kind)); !ok {
		return of, nil, res, false
	}
	ring, known := s.ring(of)
	if !known {
		return of, nil, s.noSubject(of), false
	}
	return of, slices.Clone(ring), Result{}, true
}

func (s *State) applyKeyRotate(c *change, b KeyRotate) Result {
	of, ring, res, ok := s.keysOf(c, b.Subject, rotationCapability)
	if !ok {
		return res
	}
	if _, asked := s.keyRequests.get(of.String()); asked {
		return Result{Code: CodeOK, ID: of.String(), Repeated: true}
	}
	if i := ring.pendingAt(c.atMs); i >= 0 {
		return refuse(CodeConflict, "subject", "the next key of %s is prepared already, it is %s", of, ring[i].Public.KeyID())
	}
	if res, ok := s.ask(c, of); !ok {
		return res
	}
	s.record(c, "key_rotate", of.String(), "")
	return Result{Code: CodeOK, ID: of.String()}
}

func (s *State) ask(c *change, of Subject) (Result, bool) {
	_, asked := s.keyRequests.get(of.String())
	if waiting := s.keyRequests.size(); !asked && (waiting >= MaxKeyRequests && of.Kind == SubjectAgent || s.keyRequests.full()) {
		return refuse(CodeOverloaded, "", "%d rotations are asked for, no room for one more", waiting), false
	}
	s.keyRequests.put(of.String(), KeyRequest{AtMs: c.atMs, Actor: c.actor})
	return Result{}, true
}

func (s *State) applyKeyRevoke(c *change, b KeyRevoke) Result {
	of, ring, res, ok := s.keysOf(c, b.Subject, func(SubjectKind) Capability { return CapAdmin })
	if !ok {
		return res
	}
	i := ring.at(b.Key)
	switch {
	case i < 0:
		return refuse(CodeNotFound, "key", "%s has no key %s, or not any more", of, crypto.KeyIDOf(b.Key))
	case len(b.Reason) > MaxReasonBytes:
		return refuse(CodeTooLarge, "reason", "%d bytes, at most %d", len(b.Reason), MaxReasonBytes)
	case b.WithSuccessors && of.Kind.Named():
		return refuse(CodeInvalid, "with_successors", "the keys of %s order none of their own: revoke each that is to end", of)
	}
	var ended KeysEnded
	if ring[i].RevokedAt == 0 {
		if res, ok := s.revokeOne(c, of, ring, i, b.Reason, &ended); !ok {
			return res
		}
	}
	s.revokeSuccessors(c, of, i, b, &ended)
	return Result{Code: CodeOK, ID: ring[i].Public.KeyID(), Ended: ended.orNone()}
}

// revokeOne revokes the i-th key, in a list that is the caller's own.
func (s *State) revokeOne(c *change, of Subject, ring Ring, i int, reason string, ended *KeysEnded) (Result, bool) {
	was := ring.StateOf(i, c.atMs)
	ring[i].RevokedAt = c.index
	with, res, ok := s.afterRevocation(c, of, ring, i, was)
	if !ok {
		return res, false
	}
	s.putRing(c, of, ring)
	s.afterward(c, of, ring, i, ended)
	s.record(c, "key_revoke", of.String(), fmt.Sprintf("key_id=%s was=%s next_revoked=%s%s %s reason=%q", ring[i].Public.KeyID(), was, keyIDOrNone(with), ended.encryptionText(), ring.text(), reason))
	if of.Kind == SubjectCA && (was == KeyActive || was == KeyRetiring) {
		ended.JoinTokens = s.voidJoinTokens(c)
	}
	return Result{}, true
}

// afterRevocation does what follows from the revocation of the i-th key, in a list
// that is the caller's own. It returns the next key if that was revoked with it.
func (s *State) afterRevocation(c *change, of Subject, ring Ring, i int, was KeyState) (with crypto.PublicKey, res Result, ok bool) {
	pending := ring.pendingAt(c.atMs)
	switch {
	case of.Kind.Shared() && was == KeyActive && pending < 0:
		return with, refuse(CodeConflict, "key", "no key of %s would go on: prepare the next one first (edgecoder keys rotate %s)", of, of), false
	case of.Kind.Shared() && was == KeyActive:
		s.begin(c, of, ring)
	case of.Kind.Shared():
	case of.Kind == SubjectCertificate && was == KeyActive && ring.activeAt(c.atMs) < 0 && pending < 0:
		return with, s.noTLSKeyLeft(of), false
	case of.Kind == SubjectCertificate && was == KeyActive && pending >= 0:
		s.begin(c, of, ring)
	case was == KeyNext:
		ring.takeBack(ring[i])
	case pending >= 0 && ring[pending].orderedBy(ring[i].Public):
		ring[pending].RevokedAt, with = c.index, ring[pending].Public
	}
	if !of.Kind.Shared() {
		s.keepGoing(c, of, ring)
	}
	return with, Result{}, true
}

// takeBack gives the predecessor of a key that never began the window that it had
// before that was announced.
func (r Ring) takeBack(next Key) {
	if next.Succession == nil || !next.Succession.Closes {
		return
	}
	if i := r.at(next.Succession.Predecessor.Fingerprint()); i >= 0 {
		r[i].NotAfterMs = 0
	}
}

// askNext asks the owner of a ring for its next key if none will go on: what is left
// has an end, or there is nothing left and a coordinator's certificate must do.
// The revocation counts even if there is no room to ask.
func (s *State) askNext(c *change, of Subject, ring Ring) {
	active, left := ring.Active(c.atMs)
	if ring.pendingAt(c.atMs) < 0 && (left && active.NotAfterMs != 0 || !left && of.Kind == SubjectCoordinator) {
		s.ask(c, of)
	}
}

func (s *State) applyKeyRecover(c *change, b KeyRecover) Result {
	of, ring, res, ok := s.keysOf(c, b.Subject, rotationCapability)
	if !ok {
		return res
	}
	a, _ := s.agents.get(of.ID)
	switch {
	case of.Kind != SubjectAgent:
		return refuse(CodeInvalid, "subject", "only agents' keys are recovered: a coordinator rotates its own, signers are an admin's trust policy")
	case a.State == AgentRevoked:
		return refuse(CodeConflict, "subject", "%q is revoked for good: enrol a new id", a.ID)
	case len(b.Reason) < 3 || len(b.Reason) > MaxReasonBytes:
		return refuse(CodeInvalid, "reason", "%d bytes: say in 3 to %d why the key is replaced on your word", len(b.Reason), MaxReasonBytes)
	case ring.recoveredTo(b.Public):
		return Result{Code: CodeOK, ID: b.Public.KeyID(), Repeated: true}
	case !s.inWindow(b.SignedMs, c.atMs):
		return refuse(CodeTimestampSkew, "signed_ms", "the proof was signed at %d, outside the window around %d", b.SignedMs, c.atMs)
	}
	if res, ok := s.bindable(of, b.Public, MaxSigningKeys); !ok {
		return res
	}
	for i := range ring {
		if ring[i].RevokedAt == 0 {
			ring[i].RevokedAt = c.index
		}
	}
	next := Key{Public: b.Public, NotBeforeMs: max(c.atMs, 1), Index: c.index}
	told := append(slices.Clone(ring), next) // history is told of those too that make room in the very entry that revokes them
	ring = ring.with(next, of.Kind, c.atMs)
	s.bind(c, of, b.Public)
	s.putRing(c, of, ring)
	a, _ = s.agents.get(of.ID)
	// What was sealed to the lost pair nobody opens any more.
	a.EncryptionKey, a.EncryptionProof, a.KeysSignedMs = nil, nil, max(a.KeysSignedMs, b.SignedMs)
	s.agents.put(a.ID, a)
	s.keyRequests.remove(of.String())
	s.record(c, "key_recover", of.String(), fmt.Sprintf("key_id=%s public_key=%s signed_ms=%d proof=%s %s reason=%q",
		b.Public.KeyID(), b.Public, b.SignedMs, textOf(b.Proof), told.text(), b.Reason))
	return Result{Code: CodeOK, ID: b.Public.KeyID()}
}

// recoveredTo tells whether a recovery brought the newest key: it revoked all others.
func (r Ring) recoveredTo(key crypto.PublicKey) bool {
	newest := r[len(r)-1]
	return newest.Public == key && newest.RevokedAt == 0 && newest.Succession == nil && newest.Index != 0
}

// retireSigningKeys notes, beside the keys that ever signed the chain, which of a
// coordinator's will not sign again.
func (s *State) retireSigningKeys(nodeID string, ring Ring, c *change) {
	for _, k := range ring {
		id := k.Public.CoordinatorID()
		if row, ok := s.signingKeys.get(id); ok && row.NodeID == nodeID && row.RetiredAt == 0 && k.ended(c.atMs) {
			row.RetiredAt = c.index
			s.signingKeys.put(id, row)
		}
	}
}

// settleKeys is done at marks: it retires what the passing of time ended, and
// drops what stands beside it.
func (s *State) settleKeys(index uint64) {
	c := &change{index: index, atMs: s.meta.v.ClockMs}
	for _, n := range s.coordinators.m {
		if len(n.Keys) > 0 {
			s.retireSigningKeys(n.ID, n.Keys, c)
		}
	}
	for _, of := range []Subject{{Kind: SubjectGossip}, {Kind: SubjectCA}} {
		if ring, _ := s.keyRings.get(of.String()); ring.hasLeftovers(c.atMs) {
			ring = slices.Clone(ring)
			for i := range ring {
				if ring[i].ended(c.atMs) {
					ring[i].Shared = &SharedKey{Data: ring[i].Shared.Data, Waits: ring[i].Shared.Waits, Maker: ring[i].Shared.Maker, Without: ring[i].Shared.Without}
				}
			}
			s.keyRings.put(of.String(), ring)
		}
	}
	for _, text := range s.keySchedules.sortedKeys() {
		of, err := ParseScheduled(text)
		if _, known := s.ring(of); err == nil && of.ID != "" && !known {
			s.keySchedules.remove(text)
		}
	}
	for _, text := range s.keyRequests.sortedKeys() {
		of, err := ParseSubject(text)
		q, _ := s.keyRequests.get(text)
		stale := of.Kind == SubjectAgent && c.atMs-q.AtMs > KeyRequestMs
		if _, known := s.ring(of); err != nil || !known || stale {
			s.keyRequests.remove(text)
		}
	}
}

func (r Ring) hasLeftovers(nowMs int64) bool {
	return slices.ContainsFunc(r, func(k Key) bool { return k.ended(nowMs) && len(k.Shared.Copies)+len(k.Shared.Ready) > 0 })
}
