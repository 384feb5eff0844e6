package fsm

import (
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

// KeyPrepare announces the next key of a subject. Who proposes it has verified
// both signatures on the crypto.Succession that it makes up together with the
// cluster id: the predecessor's order, and the successor's proof. Who may:
//
//   - agent: the agent itself, without a token; the order is its credential.
//   - coordinator: that node. If it is asked and none of its keys verifies, the order is by
//     none of them, and the signature that of one that it had, see KeyPrepare.Signer.
//   - certificate: that node. Its signing key orders it, see KeyPrepare.Signer.
//   - manifest: an admin who holds what the signer signed.
//   - gossip, ca: any coordinator. The first of a ring has no predecessor: it is
//     the one in use. The others wait for a KeySwitch, and take the place of what a
//     removal left (State.Leftover); Apply verifies nothing of
//     their signatures, nor does it see what is sealed.
type KeyPrepare struct {
	Subject     string           `cbor:"1,keyasint"`
	Public      crypto.PublicKey `cbor:"2,keyasint"` // see Key.Public
	By          crypto.PublicKey `cbor:"3,keyasint"` // the active key; zero: none is
	NotBeforeMs int64            `cbor:"4,keyasint"` // as signed, Unix milliseconds; 0 or past: at once
	SignedMs    int64            `cbor:"5,keyasint"`
	Order       []byte           `cbor:"6,keyasint"`
	Proof       []byte           `cbor:"7,keyasint"`

	Data   []byte       `cbor:"8,keyasint,omitempty"` // of ca: the certificate, DER
	Copies []SealedCopy `cbor:"9,keyasint,omitempty"` // of gossip and ca, each node once, in byte order
	// EncryptionProof is Public's signature on the encryption key that the agent
	// has; without it nobody can check that key once Public is active.
	EncryptionProof []byte `cbor:"10,keyasint,omitempty"`
	Without         string `cbor:"11,keyasint,omitempty"` // of gossip and ca, see SharedKey.Without
	// Signer is, of a certificate, the signing key of the node whose signature Order
	// is: who merely stole the TLS key can order nothing. There is no Proof: each
	// handshake is one, and a key that the node does not hold harms it alone.
	// Of a coordinator without a key that verifies it is one of its ring: who stole
	// its TLS key alone speaks as the node, and must not become it.
	Signer crypto.PublicKey `cbor:"12,keyasint,omitzero"`
}

// Succession is the statement that both signatures are on.
func (b KeyPrepare) Succession(clusterID string) crypto.Succession {
	return crypto.Succession{ClusterID: clusterID, Subject: b.Subject, Predecessor: b.By, Successor: b.Public, NotBeforeMs: b.NotBeforeMs, SignedMs: b.SignedMs}
}

// Verify checks the signatures of a command about a key that no others share.
func (b KeyPrepare) Verify(clusterID string) error {
	of, err := ParseSubject(b.Subject)
	if err != nil || of.Kind.Shared() {
		return err
	}
	st := b.Succession(clusterID)
	switch {
	case of.Kind == SubjectCertificate && !st.OrderedBy(b.Signer, b.Order):
		return fmt.Errorf("the order is no signature of the signing key %s on this succession of %s", b.Signer.KeyID(), of)
	case of.Kind == SubjectCertificate:
		return nil
	case of.Kind == SubjectCoordinator && b.By.IsZero() && !st.OrderedBy(b.Signer, b.Order):
		return fmt.Errorf("the order is no signature of the key %s, which %s had, on this succession", b.Signer.KeyID(), of)
	case !b.By.IsZero() && !st.Ordered(b.Order):
		return fmt.Errorf("the order is no signature of the key %s on this succession of %s", b.By.KeyID(), of)
	case !st.Proven(b.Proof):
		return fmt.Errorf("the proof is no signature of the new key %s on this succession of %s", b.Public.KeyID(), of)
	}
	return nil
}

// keysKnown refuses what binaries below LevelKeys do not know.
func (s *State) keysKnown() (Result, bool) {
	if s.meta.v.Level < LevelKeys {
		return refuse(CodeConflict, "", "the cluster is at feature level %d, key schedules need %d: upgrade every server first", s.meta.v.Level, LevelKeys), false
	}
	return Result{}, true
}

func (s *State) applyKeyPrepare(c *change, b KeyPrepare) Result {
	of, res, ok := s.mayPrepare(c, b)
	if !ok {
		return res
	}
	ring, res := s.prepared(c, of, b)
	if !res.OK() || res.Repeated {
		return res
	}
	next := ring[len(ring)-1]
	s.recordLeftover(c, of)
	if of.Kind == SubjectCoordinator { // the ring may have no room for what ended since the last mark
		have, _ := s.ring(of)
		s.retireSigningKeys(of.ID, have, c)
	}
	s.bind(c, of, next.Public)
	s.putRing(c, of, ring)
	if of.Kind == SubjectAgent {
		a, _ := s.agents.get(of.ID)
		a.KeysSignedMs = b.SignedMs
		s.agents.put(a.ID, a)
	}
	s.keyRequests.remove(of.String())
	s.record(c, "key_prepare", of.String(), fmt.Sprintf("key_id=%s public_key=%s by=%s not_before_ms=%d begins_ms=%d signed_ms=%d order=%s proof=%s copies=%d %s",
		b.Public.KeyID(), b.Public, keyIDOrNone(b.By), b.NotBeforeMs, next.NotBeforeMs, b.SignedMs, textOf(b.Order), textOf(b.Proof), len(b.Copies), ring.text())+b.signerText())
	return res
}

// CheckPrepare returns what Apply would say of a command now, without its place in
// the log: a refusal that is known beforehand needs none.
func (s *State) CheckPrepare(actor Actor, b KeyPrepare, nowMs int64) Result {
	c := &change{index: s.meta.v.Index, atMs: nowMs, actor: actor}
	of, res, ok := s.mayPrepare(c, b)
	if !ok {
		return res
	}
	_, res = s.prepared(c, of, b)
	return res
}

func keyIDOrNone(key crypto.PublicKey) string {
	if key.IsZero() {
		return "nobody"
	}
	return key.KeyID()
}

func textOf(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// mayPrepare asks who proposes the next key of whom.
func (s *State) mayPrepare(c *change, b KeyPrepare) (of Subject, res Result, ok bool) {
	if res, ok := s.keysKnown(); !ok {
		return of, res, false
	}
	of, err := ParseSubject(b.Subject)
	if err != nil {
		return of, refuse(CodeInvalid, "subject", "%v", err), false
	}
	if _, known := s.ring(of); !known {
		return of, s.noSubject(of), false
	}
	switch of.Kind {
	case SubjectAgent:
		a, _ := s.agents.get(of.ID)
		res, ok = s.mayRekey(a, c.atMs)
	case SubjectCoordinator, SubjectCertificate:
		if ok = c.actor.NodeID == of.ID; !ok {
			res = refuse(CodeForbidden, "subject", "a node prepares its own keys")
		}
	case SubjectManifest:
		res, ok = s.actorCan(c, CapAdmin)
	default:
		res, ok = s.actorCoordinates(c)
	}
	return of, res, ok
}

// actorCoordinates asks for a coordinator that speaks for itself.
func (s *State) actorCoordinates(c *change) (Result, bool) {
	if n, member := s.coordinators.get(c.actor.NodeID); !member || n.Role != RoleCoordinator {
		return refuse(CodeForbidden, "", "coordinators do this, %q is none", c.actor.NodeID), false
	}
	return Result{}, true
}

// prepared returns the ring with the next key, or why there is none.
func (s *State) prepared(c *change, of Subject, b KeyPrepare) (Ring, Result) {
	ring, _ := s.ring(of)
	if i := ring.at(b.Public.Fingerprint()); i >= 0 && i == len(ring)-1 && ring[i].RevokedAt == 0 && ring[i].orderedBy(b.By) {
		return ring, Result{Code: CodeOK, ID: b.Public.KeyID(), Repeated: true}
	}
	if i := ring.pendingAt(c.atMs); i >= 0 && s.Leftover(ring[i], c.atMs) {
		ring = slices.Clone(ring)
		ring[i].RevokedAt = c.index
	} else if i >= 0 {
		return nil, refuse(CodeConflict, "subject", "the next key of %s is prepared already, it is %s: let it begin or revoke it", of, ring[i].Public.KeyID())
	}
	if res, ok := s.checkOrder(c, of, ring, b); !ok {
		return nil, res
	}
	if res, ok := s.bindable(of, b.Public, ownersKept); !ok {
		return nil, res
	}
	if res, ok := s.checkExtras(of, ring, b); !ok {
		return nil, res
	}
	return s.append(c, of, ring, b)
}

// orderedBy tells whether a key was the predecessor, or signed for a coordinator without one.
func (k Key) orderedBy(key crypto.PublicKey) bool {
	if k.Succession == nil {
		return key.IsZero()
	}
	return k.Succession.Predecessor == key || k.Succession.Predecessor.IsZero() && k.Succession.Signer == key
}

// checkOrder asks whether the key that ordered the change may, and when it did.
// That each order is signed later than the one before keeps a captured one from
// taking anything back.
func (s *State) checkOrder(c *change, of Subject, ring Ring, b KeyPrepare) (Result, bool) {
	if err := timeFault(lastTimeMs, "not_before_ms", b.NotBeforeMs, "signed_ms", b.SignedMs); err != nil { // else no backup would be sound
		return refuse(CodeInvalid, "not_before_ms", "%v", err), false
	}
	active, ok := ring.Active(c.atMs)
	_, asked := s.keyRequests.get(of.String())
	orphan := asked && !ok && of.Kind == SubjectCoordinator
	switch {
	case len(b.Order) > MaxKeySignatureBytes || len(b.Proof) > MaxKeySignatureBytes || (b.By.IsZero() && b.Signer.IsZero()) != (len(b.Order) == 0):
		return refuse(CodeInvalid, "order", "an order of %d bytes and a proof of %d: each has at most %d, and an order is somebody's", len(b.Order), len(b.Proof), MaxKeySignatureBytes), false
	case b.By.IsZero() && of.Kind.Shared() && len(ring) == 0:
		return Result{}, true
	case b.By.IsZero() && !orphan:
		return refuse(CodeInvalid, "by", "the next key of %s is ordered by its current key", of), false
	case !ok && !orphan:
		return refuse(CodeConflict, "by", "no key of %s verifies: a new one takes an operator", of), false
	case active.Public != b.By:
		return refuse(CodeConflict, "by", "the active key of %s is %s, not %s", of, active.Public.KeyID(), b.By.KeyID()), false
	case of.Kind.Shared():
		return Result{}, true
	case !s.maySign(of, b, c.atMs):
		return refuse(CodeInvalidSignature, "signer", "the order for %s is of the key %s, which may not sign it", of, keyIDOrNone(b.Signer)), false
	case !s.inWindow(b.SignedMs, c.atMs):
		return refuse(CodeTimestampSkew, "signed_ms", "it was signed at %d, outside the window around %d", b.SignedMs, c.atMs), false
	}
	if last := s.lastOrderMs(of, ring, c.atMs); b.SignedMs <= last {
		return refuse(CodeReplay, "signed_ms", "it was signed at %d, the keys of %s are as of %d: sign a new one", b.SignedMs, of, last), false
	}
	// The pause is between two begins, so whatever the schedule's lead is, what it asks for may be announced.
	if begun := active.NotBeforeMs; !asked && begun != 0 && max(b.NotBeforeMs, c.atMs)-begun < RekeyPauseMs {
		return refuse(CodeOverloaded, "", "the key of %s was changed less than %d ms before: its next one begins later, unless somebody asks for it", of, RekeyPauseMs), false
	}
	return Result{}, true
}

// lastOrderMs is when the last change of a subject's keys was signed. What was signed
// later than anything now can be is of before the clock was set back: the new keys of
// such orders are taken, so nobody replays them.
func (s *State) lastOrderMs(of Subject, ring Ring, nowMs int64) (last int64) {
	if of.Kind == SubjectAgent {
		a, _ := s.agents.get(of.ID)
		if s.signable(a.KeysSignedMs, nowMs) {
			last = a.KeysSignedMs
		}
		if a.EnrolledMs <= nowMs { // else the clock was set back since
			last = max(last, a.EnrolledMs)
		}
	}
	for _, k := range ring {
		if k.Succession != nil && s.signable(k.Succession.SignedMs, nowMs) {
			last = max(last, k.Succession.SignedMs)
		}
	}
	return last
}

// signable tells whether an order of a time could have been taken by now.
func (s *State) signable(signedMs, nowMs int64) bool { return signedMs-nowMs <= s.policy.v.MaxSkewMs }

// checkExtras holds what only some kinds of keys bring to its form.
func (s *State) checkExtras(of Subject, ring Ring, b KeyPrepare) (Result, bool) {
	if n := len(b.EncryptionProof); n != 0 && (n != crypto.SignatureSize || of.Kind != SubjectAgent) {
		return refuse(CodeInvalid, "encryption_proof", "%d bytes, the signature of an agent's key has %d", n, crypto.SignatureSize), false
	}
	if of.Kind == SubjectCertificate && len(b.Proof) > 0 || of.Kind.Shared() && !b.Signer.IsZero() {
		return refuse(CodeInvalid, "proof", "the order for certificates has no proof, that of shared keys no signer"), false
	}
	if !of.Kind.Shared() && len(b.Data)+len(b.Copies)+len(b.Without) > 0 {
		return refuse(CodeInvalid, "copies", "the private key of %s is nobody else's", of), false
	}
	if of.Kind == SubjectCA && crypto.Sum(b.Data) != crypto.Hash(b.Public) || of.Kind == SubjectGossip && len(b.Data) > 0 {
		return refuse(CodeInvalid, "data", "the key of ca is named by the SHA-256 of its certificate, that of gossip has no public half"), false
	}
	if of.Kind == SubjectCA && len(ring) == 0 && string(b.Data) != string(s.meta.v.CACert) {
		return refuse(CodeConflict, "data", "the first key of the ring is that of the CA in use"), false
	}
	if fault := s.sharedFault(&SharedKey{Data: b.Data, Copies: b.Copies, Without: b.Without}); fault != nil {
		return refuse(CodeInvalid, "copies", "%v", fault), false
	}
	return Result{}, true
}

// append returns the ring with the new key at its end, and the end of the one
// before it set: it verifies for the overlap beside the new one (P5).
func (s *State) append(c *change, of Subject, ring Ring, b KeyPrepare) (Ring, Result) {
	k := Key{Public: b.Public, NotBeforeMs: max(b.NotBeforeMs, c.atMs, 1), Index: c.index, EncryptionProof: b.EncryptionProof}
	if len(b.Order) > 0 {
		k.Succession = &Succession{Predecessor: b.By, NotBeforeMs: b.NotBeforeMs, SignedMs: b.SignedMs, Signature: b.Order, Signer: b.Signer}
	}
	if of.Kind.Shared() {
		k.Shared = &SharedKey{Waits: len(ring) > 0, Data: b.Data, Copies: b.Copies, Maker: c.actor.NodeID, Without: b.Without}
	}
	have, ok := ring.Active(c.atMs)
	if ok && have.NotAfterMs != 0 && have.NotAfterMs < k.NotBeforeMs {
		return nil, refuse(CodeInvalid, "not_before_ms", "the key %s ends at %d, before its successor would begin", have.Public.KeyID(), have.NotAfterMs)
	}
	if k.Succession != nil {
		k.Succession.Closes = have.NotAfterMs == 0
	}
	if ahead := s.schedule(of).announceMs(); k.NotBeforeMs-c.atMs > ahead || k.NotBeforeMs > MaxTimeMs-MaxScheduleMs {
		return nil, refuse(CodeInvalid, "not_before_ms", "%d is more than %d ms ahead: until it begins nobody could announce another", b.NotBeforeMs, ahead)
	}
	out := ring.with(k, of.Kind, c.atMs)
	if out == nil {
		return nil, refuse(CodeOverloaded, "", "%s has %d keys that count, no room for one more", of, len(ring))
	}
	if k.waits() {
		return out, Result{Code: CodeOK, ID: b.Public.KeyID()}
	}
	out.retire(k.NotBeforeMs + s.schedule(of).OverlapMs)
	return out, Result{Code: CodeOK, ID: b.Public.KeyID()}
}

// retire gives the keys before the last of a list that is the caller's own an end
// if they have none: windows that were announced stay as they are.
func (r Ring) retire(endMs int64) {
	if plantKeyGap {
		endMs = r[len(r)-1].NotBeforeMs - KeySettleMs
	}
	for i := range r[:len(r)-1] {
		if k := &r[i]; k.NotAfterMs == 0 && k.RevokedAt == 0 {
			k.NotAfterMs = endMs
		}
	}
}
