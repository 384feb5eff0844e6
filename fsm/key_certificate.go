package fsm

import (
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

// hadTLSKey tells whether a node has a TLS key, or had it when it left.
func (s *State) hadTLSKey(key crypto.Hash) bool {
	if key.IsZero() {
		return true
	}
	for _, n := range s.coordinators.m {
		if n.TLSKey == key || n.TLSRing().at(crypto.PublicKey(key).Fingerprint()) >= 0 {
			return true
		}
	}
	for _, gone := range s.removed.m {
		if gone.TLSKey != nil && gone.HasTLSKey(key) {
			return true
		}
	}
	return false
}

// maySign tells whether a key may sign the order for a node's next TLS key. Orders of
// other kinds have no other signer than the predecessor.
func (s *State) maySign(of Subject, signer crypto.PublicKey, nowMs int64) bool {
	if of.Kind != SubjectCertificate {
		return true
	}
	n, _ := s.coordinators.get(of.ID)
	return n.Ring().Verifies(signer, nowMs)
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

// revokeOrdered revokes, with a signing key of a node, the next TLS key that it
// ordered: whoever has the one may have made the other.
func (s *State) revokeOrdered(c *change, nodeID string, signer crypto.PublicKey) {
	of := CertificateSubject(nodeID)
	have, _ := s.ring(of)
	i := have.pendingAt(c.atMs)
	if i < 0 || have[i].Succession == nil || have[i].Succession.Signer != signer {
		return
	}
	ring := slices.Clone(have)
	ring[i].RevokedAt = c.index
	ring.takeBack(ring[i])
	s.askNext(c, of, ring)
	s.putRing(c, of, ring)
	s.record(c, "key_revoke", of.String(), "key_id="+ring[i].Public.KeyID()+" was=next reason=\"its order was signed by "+signer.KeyID()+"\"")
}

// noSubject refuses what is about the keys of somebody who has none here.
func (s *State) noSubject(of Subject) Result {
	if _, edge := s.Edge(of.ID); edge && of.Kind == SubjectCertificate {
		return refuse(CodeNotFound, "subject", "%s is an edge: its keys do not rotate, it joins anew by a new token", of.ID)
	}
	return refuse(CodeNotFound, "subject", "there is no %s", of)
}
