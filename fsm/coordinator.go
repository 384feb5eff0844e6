package fsm

import (
	"bytes"
	"fmt"

	"github.com/edgecoder/edgecoder/crypto"
)

// Coordinator is a member of the cluster as the log knows it. Which of them
// vote is raft's own configuration; the leader makes it follow this table.
type Coordinator struct {
	ID            string           `cbor:"1,keyasint"`
	Name          string           `cbor:"2,keyasint"`
	Role          Role             `cbor:"3,keyasint"` // RoleCoordinator or RoleObserver
	SigningKey    crypto.PublicKey `cbor:"4,keyasint"`
	EncryptionKey []byte           `cbor:"5,keyasint"` // raw X25519
	API           string           `cbor:"6,keyasint"` // host:port
	Raft          string           `cbor:"7,keyasint"`
	Gossip        string           `cbor:"8,keyasint"`
	Level         uint32           `cbor:"9,keyasint"` // highest feature level its binary supports
	Version       string           `cbor:"10,keyasint"`
	JoinedMs      int64            `cbor:"11,keyasint"`
	TokenID       string           `cbor:"12,keyasint"`
	TLSKey        crypto.Hash      `cbor:"13,keyasint"` // SHA-256 of the TLS public key (PKIX) that it joined with, see TLSRing
	// Hosts are those an observer joined with, once it said that it moved; its
	// certificate names no others (CertificateHosts). From LevelUpgrades on.
	Hosts []string `cbor:"14,keyasint,omitempty"`
	// UpdatedMs is when it last described itself anew, by the cluster clock; 0:
	// not since LevelUpgrades.
	UpdatedMs int64 `cbor:"15,keyasint,omitempty"`
	// Through are the nodes by whose word it was taken in, as Token.Through; at most
	// MaxThrough. Apply sets it. From LevelCheckpoints on.
	Through []string `cbor:"16,keyasint,omitempty"`
	// Keys are its signing keys once it has changed them; until then SigningKey,
	// which it joined with, is the one. From LevelKeys on.
	Keys Ring `cbor:"17,keyasint,omitempty"`
	// TLSKeys are the keys that its certificates are for, once it has changed them;
	// until then TLSKey, which it joined with, is the one. From LevelKeys on.
	TLSKeys Ring `cbor:"18,keyasint,omitempty"`
}

// Ring returns the signing keys.
func (n Coordinator) Ring() Ring {
	if len(n.Keys) == 0 {
		return Ring{{Public: n.SigningKey}}
	}
	return n.Keys
}

// KeyAt returns the key that is active at a time, or the newest if none verifies.
func (n Coordinator) KeyAt(nowMs int64) crypto.PublicKey {
	ring := n.Ring()
	if k, ok := ring.Active(nowMs); ok {
		return k.Public
	}
	return ring[len(ring)-1].Public
}

// sameJoin tells whether two records are the same submission.
func (n Coordinator) sameJoin(other Coordinator) bool {
	return n.ID == other.ID && n.Name == other.Name && n.Role == other.Role && n.SigningKey == other.SigningKey &&
		bytes.Equal(n.EncryptionKey, other.EncryptionKey) && n.TLSKey == other.TLSKey &&
		n.API == other.API && n.Raft == other.Raft && n.Gossip == other.Gossip
}

// Removal remembers a removed coordinator for ever.
type Removal struct {
	ID          string `cbor:"1,keyasint"`
	Name        string `cbor:"2,keyasint"`
	RemovedMs   int64  `cbor:"3,keyasint"`
	Compromised bool   `cbor:"4,keyasint"`
	// LeftAt is the gossip address of a node that the last recovery left behind:
	// should its copy run on, this side must find it. Else empty.
	LeftAt string `cbor:"5,keyasint,omitempty"`
	// Audit is where its audit log ended, as the cluster last knew, for those who
	// want to look into it. From LevelClients on.
	Audit *AuditHead `cbor:"6,keyasint,omitempty"`
	// SilentMs is how long nobody had heard of a node that the cluster cleaned up
	// by itself; 0: somebody asked for its removal. From LevelUpgrades on.
	SilentMs int64 `cbor:"7,keyasint,omitempty"`
	// TLSKey is what its certificates were for: whoever shows another key is not the
	// node. From LevelThrough on.
	TLSKey *crypto.Hash `cbor:"8,keyasint,omitempty"`
	// Role says what it knew of what coordinators share. From LevelKeys on; else empty.
	Role Role `cbor:"9,keyasint,omitempty"`
	// OtherTLSKeys verified beside TLSKey, or were to come; at most MaxRingKeys. From
	// LevelKeys on.
	OtherTLSKeys []crypto.Hash `cbor:"10,keyasint,omitempty"`
	// Index is the entry that removed it: what was made known to members until then it
	// may know. From LevelKeys on; else 0.
	Index uint64 `cbor:"11,keyasint,omitempty"`
}

// SigningKey is a coordinator key that signs, or ever signed, the chain.
type SigningKey struct {
	Public    crypto.PublicKey `cbor:"1,keyasint"`
	NodeID    string           `cbor:"2,keyasint"`
	API       string           `cbor:"3,keyasint"`
	Since     uint64           `cbor:"4,keyasint"` // first index at which it may sign
	RetiredAt uint64           `cbor:"5,keyasint"` // last index at which it may sign; 0: still in use
}

// ownerCoordinator begins the owner of a coordinator's key in keyOwners.
const ownerCoordinator = "coordinator:"

// joinCapability maps the role of a joiner to what its token must allow.
func joinCapability(r Role) (Capability, bool) {
	switch r {
	case RoleCoordinator:
		return CapJoinVoter, true
	case RoleObserver:
		return CapJoinObserver, true
	}
	return 0, false
}

func (s *State) applyCoordinatorJoin(c *change, b CoordinatorJoin) Result {
	n := b.Coordinator
	if s.isJoinRetry(c, n) {
		return Result{Code: CodeOK, ID: n.ID, Repeated: true}
	}
	need, ok := joinCapability(n.Role)
	if !ok {
		return refuse(CodeForbidden, "role", "a token of role %q opens no join: make one of role coordinator or observer", n.Role)
	}
	if res, ok := s.actorCan(c, need); !ok {
		return res
	}
	if res, ok := s.checkJoin(n, b.ReplaceID); !ok {
		return res
	}
	if res, ok := s.checkThrough(c.actor); !ok {
		return res
	}
	if b.ReplaceID != "" {
		s.dropCoordinator(c, b.ReplaceID, false)
		s.record(c, "coordinator_replace", b.ReplaceID, "by="+n.ID)
	}
	s.useToken(c)
	n.TokenID = c.actor.TokenID
	s.putCoordinator(c, n)
	s.record(c, "coordinator_join", n.ID, fmt.Sprintf("name=%s role=%s", n.Name, n.Role))
	return Result{Code: CodeOK, ID: n.ID}
}

// isJoinRetry tells whether this is the very join that took effect, asked again
// because its answer was lost: the same record under the same token, which may
// be used up by now but not revoked, nor expired (retryable).
func (s *State) isJoinRetry(c *change, n Coordinator) bool {
	have, ok := s.coordinators.get(n.ID)
	t, known := s.tokens.get(c.actor.TokenID)
	return ok && known && s.retryable(t, c.atMs) && have.TokenID == t.ID && have.sameJoin(n)
}

func (s *State) checkJoin(n Coordinator, replaceID string) (Result, bool) {
	if field, fault := n.Fault(); fault != "" {
		return refuse(CodeInvalid, field, "%s", fault), false
	}
	if field, fault := s.describedFault(n.Version, n.API, n.Raft, n.Gossip); fault != "" {
		return refuse(CodeInvalid, field, "%s", fault), false
	}
	if res, ok := s.checkMemberLevel(n.Level); !ok {
		return res, false
	}
	if _, gone := s.removed.get(n.ID); gone {
		return refuse(CodeForbidden, "id", "node %s was removed: join with an empty data directory, which gets a new id", n.ID), false
	}
	if _, taken := s.coordinators.get(n.ID); taken {
		return refuse(CodeConflict, "id", "node %s is a member already", n.ID), false
	}
	if res, ok := s.checkReplace(n, replaceID); !ok {
		return res, false
	}
	for _, other := range s.coordinators.values() {
		if other.Name == n.Name && other.ID != replaceID {
			return refuse(CodeConflict, "name", "the name %q belongs to node %s", n.Name, other.ID), false
		}
		if other.Name == n.ID || other.ID == n.Name {
			return refuse(CodeConflict, "id", "a node's id is never another's name: operators name nodes by either"), false
		}
	}
	if res, ok := s.checkNotEdge(n.ID, n.Name); !ok {
		return res, false
	}
	ref := n.SigningKey.Fingerprint()
	_, taken := s.keyOwners.get(string(ref[:]))
	// The coordinator id is a short hash: somebody could search a key for a taken
	// one, and old events would no longer verify.
	_, signs := s.signingKeys.get(n.SigningKey.CoordinatorID())
	if taken || signs {
		return refuse(CodeConflict, "signing_key", "this public key or its coordinator id belongs to another id"), false
	}
	if s.meta.v.Level >= LevelKeys && !n.TLSKey.IsZero() && s.HadTLSKey(n.TLSKey) { // older logs were applied without
		return refuse(CodeConflict, "tls_key", "a node has or had this TLS key: join with an empty data directory, which gets a new one"), false
	}
	if (s.coordinators.full() && replaceID == "") || s.signingKeys.full() || s.keyOwners.full() {
		return refuse(CodeOverloaded, "", "%d coordinators with %d keys, no room for one more", s.coordinators.size(), s.signingKeys.size()), false
	}
	return Result{}, true
}

// checkReplace: a joiner may push out only a node of its own name and role, or
// any join token could remove any coordinator.
func (s *State) checkReplace(n Coordinator, replaceID string) (Result, bool) {
	if replaceID == "" {
		return Result{}, true
	}
	old, ok := s.coordinators.get(replaceID)
	switch {
	case !ok:
		return refuse(CodeConflict, "replace_id", "there is no coordinator %q to replace", replaceID), false
	case old.Name != n.Name || old.Role != n.Role:
		return refuse(CodeConflict, "replace_id", "%s is the %s %q: only a node of the same name and role replaces it", old.ID, old.Role, old.Name), false
	case s.removed.full():
		return refuse(CodeOverloaded, "", "%d coordinators were removed, no room to remember one more", MaxRemoved), false
	}
	return Result{}, true
}

// Fault tells what is wrong with a record by itself, in which field; "" if nothing is.
func (n Coordinator) Fault() (field, fault string) {
	for _, f := range []struct{ name, v string }{{"id", n.ID}, {"name", n.Name}} {
		if err := crypto.CheckID(f.v); err != nil {
			return f.name, err.Error()
		}
	}
	if err := crypto.CheckPublicKey(n.SigningKey); err != nil {
		return "signing_key", err.Error()
	}
	if len(n.EncryptionKey) != 32 {
		return "encryption_key", fmt.Sprintf("%d bytes, an X25519 key has 32", len(n.EncryptionKey))
	}
	if len(n.Version) > MaxLabelBytes {
		return "version", fmt.Sprintf("%d bytes, at most %d", len(n.Version), MaxLabelBytes)
	}
	return addressFault(n.API, n.Raft, n.Gossip)
}

func addressFault(addresses ...string) (field, fault string) {
	for _, a := range addresses {
		if a == "" || len(a) > MaxAddressBytes {
			return "address", fmt.Sprintf("%q: an address has 1 to %d bytes", a, MaxAddressBytes)
		}
	}
	return "", ""
}

func (s *State) putCoordinator(c *change, n Coordinator) {
	n.JoinedMs, n.UpdatedMs, n.Hosts, n.Through, n.Keys, n.TLSKeys = c.atMs, 0, nil, s.takenInThrough(c.actor), nil, nil
	ref := n.SigningKey.Fingerprint()
	s.coordinators.put(n.ID, n)
	s.keyOwners.put(string(ref[:]), ownerCoordinator+n.ID)
	s.signingKeys.put(n.SigningKey.CoordinatorID(), SigningKey{Public: n.SigningKey, NodeID: n.ID, API: n.API, Since: c.index})
	s.countMost()
}

// Described is the update that would change nothing.
func (n Coordinator) Described() CoordinatorUpdate {
	return CoordinatorUpdate{ID: n.ID, API: n.API, Raft: n.Raft, Gossip: n.Gossip, Level: n.Level, Version: n.Version}
}

func (s *State) applyCoordinatorUpdate(c *change, b CoordinatorUpdate) Result {
	n, ok := s.coordinators.get(b.ID)
	if !ok {
		return refuse(CodeNotFound, "id", "there is no coordinator %q", b.ID)
	}
	if c.actor.NodeID != b.ID {
		return refuse(CodeForbidden, "id", "a coordinator describes only itself")
	}
	if field, fault := addressFault(b.API, b.Raft, b.Gossip); fault != "" {
		return refuse(CodeInvalid, field, "%s", fault)
	}
	if len(b.Version) > MaxLabelBytes {
		return refuse(CodeTooLarge, "version", "%d bytes, at most %d", len(b.Version), MaxLabelBytes)
	}
	if field, fault := s.describedFault(b.Version, b.API, b.Raft, b.Gossip); fault != "" {
		return refuse(CodeInvalid, field, "%s", fault)
	}
	if res, ok := s.checkMemberLevel(b.Level); !ok {
		return res
	}
	if s.meta.v.Level >= LevelUpgrades { // older logs were applied without
		switch age := c.atMs - n.UpdatedMs; {
		case b == n.Described():
			return Result{Code: CodeOK, ID: n.ID, Repeated: true}
		case n.UpdatedMs != 0 && age >= 0 && age < UpdatePauseMs:
			return refuse(CodeOverloaded, "", "%s described itself %d ms ago: again after %d", n.ID, age, UpdatePauseMs)
		}
		n.keepHosts()
		n.UpdatedMs = c.atMs
	}
	n.API, n.Raft, n.Gossip, n.Level, n.Version = b.API, b.Raft, b.Gossip, b.Level, b.Version
	s.coordinators.put(n.ID, n)
	for _, key := range n.Ring() {
		if k, ok := s.signingKeys.get(key.Public.CoordinatorID()); ok {
			k.API = n.API
			s.signingKeys.put(key.Public.CoordinatorID(), k)
		}
	}
	s.record(c, "coordinator_update", n.ID, fmt.Sprintf("api=%s raft=%s gossip=%s version=%s", n.API, n.Raft, n.Gossip, n.Version))
	return Result{Code: CodeOK, ID: n.ID}
}

func (s *State) applyCoordinatorRemove(c *change, b CoordinatorRemove) Result {
	res, ok := s.actorCan(c, CapAdmin)
	if !ok {
		return res
	}
	if gone, ok := s.removed.get(b.ID); ok {
		if b.Compromised && s.meta.v.Level >= LevelThrough {
			return s.removedAsCompromised(c, b, gone)
		}
		return Result{Code: CodeOK, ID: b.ID}
	}
	if _, ok := s.coordinators.get(b.ID); !ok {
		return refuse(CodeNotFound, "id", "there is no coordinator %q", b.ID)
	}
	if s.onlyVoter(b.ID) {
		return refuse(CodeConflict, "id", "%s is the only coordinator", b.ID)
	}
	if s.removed.full() {
		return refuse(CodeOverloaded, "", "%d coordinators were removed, no room to remember one more", MaxRemoved)
	}
	var revoked *TokensRevoked
	var ended *KeysEnded
	if b.Compromised {
		if revoked, ended, res, ok = s.revokeCompromised(c, b); !ok {
			return res
		}
	}
	s.dropCoordinator(c, b.ID, b.Compromised)
	s.record(c, "coordinator_remove", b.ID, fmt.Sprintf("compromised=%t", b.Compromised)+revoked.text())
	return Result{Code: CodeOK, ID: b.ID, Tokens: revoked, Ended: ended}
}

// onlyVoter tells whether nobody but the node could lead; observers cannot.
func (s *State) onlyVoter(id string) bool {
	for other, n := range s.coordinators.m {
		if other != id && n.Role == RoleCoordinator {
			return false
		}
	}
	return true
}

func (s *State) dropCoordinator(c *change, id string, compromised bool) {
	n, ok := s.coordinators.get(id)
	if !ok {
		return
	}
	s.coordinators.remove(id)
	s.keyRequests.remove(CoordinatorSubject(id).String())
	s.keyRequests.remove(CertificateSubject(id).String())
	s.divergent.remove(id)
	gone := Removal{ID: id, Name: n.Name, RemovedMs: c.atMs, Compromised: compromised}
	if s.meta.v.Level >= LevelThrough {
		key := n.TLSKeyAt(c.atMs)
		gone.TLSKey = &key
	}
	if s.meta.v.Level >= LevelKeys {
		gone.Role, gone.OtherTLSKeys, gone.Index = n.Role, hashesOf(n.TLSRing().Beside(c.atMs)), c.index
	}
	if head, known := s.auditHeads.get(id); known {
		gone.Audit = &head
		s.auditHeads.remove(id)
	}
	s.removed.put(id, gone)
	for signer, k := range s.signingKeys.m {
		if k.NodeID == id && k.RetiredAt == 0 {
			k.RetiredAt = c.index
			s.signingKeys.put(signer, k)
		}
	}
}

// Coordinator returns a member by id.
func (s *State) Coordinator(id string) (Coordinator, bool) { return s.coordinators.get(id) }

// Coordinators returns all members in the order of their ids.
func (s *State) Coordinators() []Coordinator { return s.coordinators.values() }

// Removed returns all removed members in the order of their ids.
func (s *State) Removed() []Removal { return s.removed.values() }

// Removal returns what is remembered of a removed member.
func (s *State) Removal(id string) (Removal, bool) { return s.removed.get(id) }

// IsRemoved tells whether a node id was removed.
func (s *State) IsRemoved(id string) bool { _, ok := s.removed.get(id); return ok }

// SigningKey returns the key of a coordinator id ([crypto.PublicKey.CoordinatorID]),
// retired or not.
func (s *State) SigningKey(coordinatorID string) (SigningKey, bool) {
	return s.signingKeys.get(coordinatorID)
}

// SigningKeys returns every key that may or might have signed the chain, in
// the order of their coordinator ids.
func (s *State) SigningKeys() []SigningKey { return s.signingKeys.values() }
