package fsm

import (
	"fmt"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
)

// The names of keys that are no Ed25519 keys (Key.Public) are bound for ever as public
// keys are: rings forget what ended long ago, and a key that was revoked must not come
// back then. Of a node that never changed its TLS key its record, or what is remembered
// of it, has the only one.

// ownerTLS and ownerShared begin the owners of such names in keyOwners.
const (
	ownerTLS    = "tls:"
	ownerShared = "shared:"
)

// ownsName tells whether an owner in keyOwners has a name, not a public key.
func ownsName(owner string) bool {
	return strings.HasPrefix(owner, ownerTLS) || strings.HasPrefix(owner, ownerShared)
}

// nameOwner is the owner of names of a subject.
func nameOwner(of Subject) string {
	if of.Kind.Shared() {
		return ownerShared + string(of.Kind)
	}
	return ownerTLS + of.ID
}

func (s *State) bindName(of Subject, name crypto.PublicKey) {
	if s.hadName(name) { // a node's first one may be bound to whoever named it as a public key
		return
	}
	ref := name.Fingerprint()
	s.keyOwners.put(string(ref[:]), nameOwner(of))
}

// hadName tells whether anybody has or had the key of a name.
func (s *State) hadName(name crypto.PublicKey) bool {
	ref := name.Fingerprint()
	_, taken := s.keyOwners.get(string(ref[:]))
	return taken
}

// HadTLSKey tells whether a node has a TLS key, or had it: nobody takes it up again.
func (s *State) HadTLSKey(key crypto.Hash) bool {
	if key.IsZero() || s.hadName(crypto.PublicKey(key)) {
		return true
	}
	for _, n := range s.coordinators.m {
		if n.TLSKey == key {
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

// countNames counts the names in keyOwners.
func (s *State) countNames() (n int) {
	for _, owner := range s.keyOwners.m {
		if ownsName(owner) {
			n++
		}
	}
	return n
}

// namesFault: each key of a ring is bound to who has it. Others of the same owner are of
// the past, so no more can be said of them.
func (s *State) namesFault() error {
	bound := func(of Subject, r Ring, first crypto.PublicKey) error {
		for _, k := range r {
			ref := k.Public.Fingerprint()
			if k.Public == first && s.hadName(first) {
				continue
			}
			if owner, _ := s.keyOwners.get(string(ref[:])); owner != nameOwner(of) {
				return fmt.Errorf("row %s: the key belongs to %s, not to %s", ref, shown(owner), shown(nameOwner(of)))
			}
		}
		return nil
	}
	for _, c := range s.coordinators.m {
		if err := bound(CertificateSubject(c.ID), c.TLSKeys, crypto.PublicKey(c.TLSKey)); err != nil {
			return err
		}
	}
	for kind, r := range s.keyRings.m {
		if err := bound(Subject{Kind: SubjectKind(kind)}, r, crypto.PublicKey{}); err != nil {
			return err
		}
	}
	return nil
}
