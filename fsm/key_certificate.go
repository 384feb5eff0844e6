package fsm

import (
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

// What a node's TLS certificates are for. Whoever shows a key by a certificate of the
// cluster's CA is the node only while the key verifies here. The order for the next one
// is a signature of the node's signing key: who stole the TLS key alone speaks as the
// node until that is revoked, and cannot make itself a successor. Apply asks whose
// signing key it is, at its own index; who proposes, and the leader again, verify the
// signature, as of all orders.

// CertificateSubject is the subject of a node's TLS keys.
func CertificateSubject(nodeID string) Subject { return Subject{SubjectCertificate, nodeID} }

// TLSRing returns the keys that the node's certificates are for. Records of the
// oldest binaries have none.
func (n Coordinator) TLSRing() Ring {
	if len(n.TLSKeys) == 0 && !n.TLSKey.IsZero() {
		return Ring{{Public: crypto.PublicKey(n.TLSKey)}}
	}
	return n.TLSKeys
}

// TLSKeyAt returns the TLS key that is active at a time, or the newest if none verifies.
func (n Coordinator) TLSKeyAt(nowMs int64) crypto.Hash {
	ring := n.TLSRing()
	k, ok := ring.Active(nowMs)
	if !ok && len(ring) > 0 {
		k = ring[len(ring)-1]
	}
	return crypto.Hash(k.Public)
}

// HasTLSKey tells whether a removed node proves itself by a key: by one that verified
// when it left, or was to come. It is true of all where none is remembered.
func (r Removal) HasTLSKey(key crypto.Hash) bool {
	return r.TLSKey == nil || *r.TLSKey == key || slices.Contains(r.OtherTLSKeys, key)
}

func hashesOf(keys []crypto.PublicKey) (out []crypto.Hash) {
	for _, k := range keys {
		out = append(out, crypto.Hash(k))
	}
	return out
}

// maySign tells whether who signed an order may where that is not the predecessor: for a
// node's next TLS key, and for a coordinator none of whose keys verifies.
func (s *State) maySign(of Subject, b KeyPrepare, nowMs int64) bool {
	n, _ := s.coordinators.get(of.ID)
	switch {
	case of.Kind == SubjectCertificate:
		return n.Ring().Verifies(b.Signer, nowMs)
	case of.Kind == SubjectCoordinator && b.By.IsZero():
		return n.Ring().at(b.Signer.Fingerprint()) >= 0
	}
	return b.Signer.IsZero()
}

func (b KeyPrepare) signerText() string {
	if b.Signer.IsZero() {
		return ""
	}
	return " signer=" + b.Signer.KeyID()
}

// noTLSKeyLeft refuses to leave a node without a key to show: it could not even say
// what its next one is.
func (s *State) noTLSKeyLeft(of Subject) Result {
	return refuse(CodeConflict, "key", "no key of %s would go on: rotate first (edgecoder keys rotate %s), or take the node out (edgecoder peers remove %s [--compromised])", of, of, of.ID)
}

// revokeOrdered revokes, with a signing key of a node, the TLS keys that it ordered:
// whoever has the one may have made the others. One that would still be to come, had
// not a revocation hastened it, goes whatever is left. Of those in force that began in
// their time the last one stays: most nodes show a key that an older signing key
// ordered, and none could go on without.
func (s *State) revokeOrdered(c *change, nodeID string, signer crypto.PublicKey) {
	of := CertificateSubject(nodeID)
	have, _ := s.ring(of)
	ring := slices.Clone(have)
	for i := range ring {
		k := &ring[i]
		if k.ended(c.atMs) || k.Succession == nil || k.Succession.Signer != signer {
			continue
		}
		next := k.pending(c.atMs) || k.Succession.NotBeforeMs > c.atMs
		if k.RevokedAt = c.index; !next && ring.activeAt(c.atMs) < 0 {
			k.RevokedAt = 0
			continue
		}
		if k.pending(c.atMs) {
			ring.takeBack(*k)
		}
		was := have.StateOf(i, c.atMs)
		s.keepGoing(c, of, ring)
		s.putRing(c, of, slices.Clone(ring)) // the loop goes on with its own
		s.record(c, "key_revoke", of.String(), fmt.Sprintf("key_id=%s was=%s %s reason=%q", k.Public.KeyID(), was, ring.text(), "its order was signed by "+signer.KeyID()))
	}
}

// keepGoing has the owner of a list that is the caller's own asked for its next key if
// none will go on. Of a node's TLS keys the one that is left counts on until then: the
// node may be away, and without any it could not even say what comes next.
func (s *State) keepGoing(c *change, of Subject, ring Ring) {
	s.askNext(c, of, ring)
	if i := ring.activeAt(c.atMs); of.Kind == SubjectCertificate && i >= 0 && ring.pendingAt(c.atMs) < 0 {
		ring[i].NotAfterMs = 0
	}
}

// noSubject refuses what is about the keys of somebody who has none here.
func (s *State) noSubject(of Subject) Result {
	if _, edge := s.Edge(of.ID); edge && of.Kind == SubjectCertificate {
		return refuse(CodeNotFound, "subject", "%s is an edge: its keys do not rotate, it joins anew by a new token", of.ID)
	}
	return refuse(CodeNotFound, "subject", "there is no %s", of)
}
