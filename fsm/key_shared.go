package fsm

import (
	"errors"
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

// What coordinators share, the gossip pool key and the CA, changes hands when the
// leader says so: members must hold the next key before anybody uses it. The log
// says which key that is, who has it, and since when it is the one.

// PoolKeyName is the 32 bytes by which the state knows a pool key. It tells
// nothing of the key, which is random.
func PoolKeyName(key []byte) crypto.PublicKey {
	return crypto.PublicKey(crypto.Sum(append([]byte("edgecoder pool key v1\n"), key...)))
}

// KeyReady says that a member holds a shared key: it can open what others make
// with it, or verifies what it signed.
type KeyReady struct {
	Subject string `cbor:"1,keyasint"`
	Key     KeyRef `cbor:"2,keyasint"`
}

// KeySwitch makes the next key of gossip or ca the active one, once it is time and
// most coordinators hold it. The leader has waited for the other members, or for as
// long as it waits at most.
type KeySwitch struct {
	Subject string `cbor:"1,keyasint"`
	Key     KeyRef `cbor:"2,keyasint"`
}

// sharedKey finds a key of gossip or ca that has not ended.
func (s *State) sharedKey(c *change, subject string, ref KeyRef) (of Subject, ring Ring, i int, res Result, ok bool) {
	if res, ok := s.keysKnown(); !ok {
		return of, nil, 0, res, false
	}
	of, err := ParseSubject(subject)
	if err != nil || !of.Kind.Shared() {
		return of, nil, 0, refuse(CodeInvalid, "subject", "%s: this is about gossip and ca", shown(subject)), false
	}
	ring, _ = s.ring(of)
	if i = ring.at(ref); i < 0 || ring[i].ended(c.atMs) {
		return of, nil, 0, refuse(CodeNotFound, "key", "%s has no key %s, or not any more", of, crypto.KeyIDOf(ref)), false
	}
	return of, slices.Clone(ring), i, Result{}, true
}

func (s *State) applyKeyReady(c *change, b KeyReady) Result {
	of, ring, i, res, ok := s.sharedKey(c, b.Subject, b.Key)
	if !ok {
		return res
	}
	if !s.isMember(c.actor.NodeID) {
		return refuse(CodeForbidden, "", "a member says what it holds, %q is none", c.actor.NodeID)
	}
	if ring[i].Shared.Without == c.actor.NodeID {
		return refuse(CodeForbidden, "key", "%s is not to have the key %s of %s", c.actor.NodeID, crypto.KeyIDOf(b.Key), of)
	}
	shared := *ring[i].Shared
	shared.Ready = slices.DeleteFunc(slices.Clone(shared.Ready), func(id string) bool { return !s.isMember(id) })
	place, said := slices.BinarySearch(shared.Ready, c.actor.NodeID)
	if said {
		return Result{Code: CodeOK, ID: c.actor.NodeID, Repeated: true}
	}
	shared.Ready = slices.Insert(shared.Ready, place, c.actor.NodeID)
	ring[i].Shared = &shared
	s.putRing(c, of, ring)
	s.record(c, "key_ready", of.String(), "key_id="+crypto.KeyIDOf(b.Key)+" node="+c.actor.NodeID)
	return Result{Code: CodeOK, ID: c.actor.NodeID}
}

// MostReady tells whether a majority of the coordinators said that they hold a shared
// key: without them nobody could sign with it, or hand it on.
func (s *State) MostReady(k Key) bool {
	ready, all := 0, 0
	for id, n := range s.coordinators.m {
		if n.Role != RoleCoordinator {
			continue
		}
		all++
		if _, said := slices.BinarySearch(k.Shared.Ready, id); said {
			ready++
		}
	}
	return ready > all/2
}

// leftoverMs is how long a key that was prepared for a removal keeps its place: the
// removal follows within seconds.
const leftoverMs = 600_000

// Leftover tells whether a waiting key is what is left of a removal that never came: it
// was made without a member, and without that one most do not hold it. Nobody switches
// to it, so another takes its place.
func (s *State) Leftover(k Key, nowMs int64) bool {
	return k.RevokedAt == 0 && k.waits() && k.Shared.Without != "" && nowMs-k.NotBeforeMs > leftoverMs && !s.MostReady(k)
}

// recordLeftover has history tell of the leftover that a next key takes the place of.
func (s *State) recordLeftover(c *change, of Subject) {
	have, _ := s.ring(of)
	if i := have.pendingAt(c.atMs); i >= 0 {
		ring := slices.Clone(have)
		ring[i].RevokedAt = c.index
		s.record(c, "key_revoke", of.String(), fmt.Sprintf("key_id=%s was=%s %s reason=%q", ring[i].Public.KeyID(), KeyNext, ring.text(),
			"it was made without "+ring[i].Shared.Without+", which was not removed, and most do not hold it"))
	}
}

func (s *State) isMember(id string) bool { _, ok := s.coordinators.get(id); return ok }

func (s *State) applyKeySwitch(c *change, b KeySwitch) Result {
	of, ring, i, res, ok := s.sharedKey(c, b.Subject, b.Key)
	if !ok {
		return res
	}
	if res, ok := s.actorCoordinates(c); !ok {
		return res
	}
	if !ring[i].waits() {
		return Result{Code: CodeOK, ID: crypto.KeyIDOf(b.Key), Repeated: true}
	}
	if from := ring[i].NotBeforeMs; c.atMs < from { // the order's own begin may be of a clock that was set back
		return refuse(CodeConflict, "key", "the key %s of %s is to begin at %d, now is %d", crypto.KeyIDOf(b.Key), of, from, c.atMs)
	}
	if !s.MostReady(ring[i]) {
		return refuse(CodeConflict, "key", "the key %s of %s is held by %d members, no majority of the coordinators", crypto.KeyIDOf(b.Key), of, len(ring[i].Shared.Ready))
	}
	s.begin(c, of, ring)
	s.putRing(c, of, ring)
	s.record(c, "key_switch", of.String(), fmt.Sprintf("key_id=%s ready=%d of=%d %s", crypto.KeyIDOf(b.Key), len(ring[i].Shared.Ready), s.coordinators.size(), ring.text()))
	return Result{Code: CodeOK, ID: crypto.KeyIDOf(b.Key)}
}

// begin has the last key of a list that is the caller's own begin now.
func (s *State) begin(c *change, of Subject, ring Ring) {
	k := &ring[len(ring)-1]
	k.NotBeforeMs = max(c.atMs, 1)
	if k.Shared != nil {
		shared := *k.Shared
		shared.Waits = false
		k.Shared = &shared
	}
	ring.retire(k.NotBeforeMs + s.schedule(of).OverlapMs)
	if of.Kind == SubjectCA {
		s.meta.v.CACert = k.Shared.Data
	}
}

// sharedFault says what is wrong with what stands beside a shared key.
func (s *State) sharedFault(k *SharedKey) error {
	if len(k.Data) > MaxCACertBytes {
		return fmt.Errorf("a public half of %d bytes, at most %d", len(k.Data), MaxCACertBytes)
	}
	if len(k.Copies) > MaxCoordinators || len(k.Ready) > MaxCoordinators {
		return fmt.Errorf("%d copies and %d members that have it, at most %d", len(k.Copies), len(k.Ready), MaxCoordinators)
	}
	if err := errors.Join(optionalID(k.Maker), optionalID(k.Without)); err != nil {
		return err
	}
	for i, p := range k.Copies {
		if err := crypto.CheckID(p.NodeID); err != nil {
			return err
		}
		if n := len(p.Sealed); n == 0 || n > MaxSealedBytes {
			return fmt.Errorf("the copy for %s has %d bytes, it has 1 to %d", p.NodeID, n, MaxSealedBytes)
		}
		if i > 0 && p.NodeID <= k.Copies[i-1].NodeID {
			return fmt.Errorf("the copy for %s is out of order, or comes twice", p.NodeID)
		}
	}
	for i, id := range k.Ready {
		if err := crypto.CheckID(id); err != nil {
			return err
		}
		if i > 0 && id <= k.Ready[i-1] {
			return fmt.Errorf("the member %s is out of order, or comes twice", id)
		}
	}
	return nil
}

// KeyRing returns the keys of a subject; its rows must not be changed.
func (s *State) KeyRing(of Subject) (Ring, bool) { return s.ring(of) }

// CACerts returns the certificates (DER) of the cluster's CA that count at a
// time, the active one first: announced ones too, since a member whose leaf is of
// the next CA is one already.
func (s *State) CACerts(nowMs int64) [][]byte {
	out := [][]byte{s.meta.v.CACert}
	r, _ := s.keyRings.get(string(SubjectCA))
	for i := len(r) - 1; i >= 0; i-- {
		if data := r[i].Shared.Data; !r[i].ended(nowMs) && string(data) != string(s.meta.v.CACert) {
			out = append(out, data)
		}
	}
	return out
}
