package fsm

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
)

const (
	// maxAheadOfWallMs is how far the clock of a backup may be ahead of whoever takes it.
	maxAheadOfWallMs = 3_600_000
	// lastTimeMs bounds what follows from a time: the floor and what is closed
	// lie up to a window ahead of the clock.
	lastTimeMs = MaxTimeMs + MaxSkewMs + NonceBucketMs
	// lastTokenMs likewise: a token ends and is purged after it was made.
	lastTokenMs = MaxTimeMs + MaxTokenTTLMs + tokenKeepMs
	// ownerAgent begins the owner of an agent's key in keyOwners.
	ownerAgent = "agent:"
)

// Validate holds a state that comes from outside, such as a backup whose
// checksums anybody can compute, to the rules that commands keep: what they
// could not have made is refused, and the error names the field and the row. The
// clock may be an hour ahead of wallMs, Unix milliseconds; zero: not looked at.
func (s *State) Validate(wallMs int64) error {
	for _, f := range []struct {
		name  string
		check func() error
	}{
		{"meta", func() error { return s.meta.v.fault(wallMs) }},
		{"policy", s.policyFault},
		{"marks", s.marksFault},
		{"agents", func() error { return eachRow(s.agents, s.agentFault) }},
		{"coordinators", func() error { return eachRow(s.coordinators, s.coordinatorFault) }},
		{"signing_keys", func() error { return eachRow(s.signingKeys, s.signingKeyFault) }},
		{"key_owners", s.ownersFault},
		{"tokens", func() error { return eachRow(s.tokens, tokenFault) }},
		{"tokens", s.edgesFault},
		{"removed", func() error { return eachRow(s.removed, removalFault) }},
		{"bans", func() error { return eachRow(s.bans, s.banFault) }},
		{"idempotency", func() error { return eachRow(s.idempotent, outcomeFault) }},
		{"nonces", func() error { return s.bucketsFault(s.nonces) }},
		{"rate_windows", s.windows.fault},
		{"self_windows", s.selves.fault},
		{"divergent", func() error { return eachRow(s.divergent, divergenceFault) }},
		{"manifest_trust", func() error { return eachRow(s.manifestTrust, s.manifestTrustFault) }},
		{"manifests", func() error { return eachRow(s.manifests, manifestFault) }},
		{"audit_heads", func() error { return eachRow(s.auditHeads, s.auditHeadFault) }},
		{"ledger", s.ledgerFaults},
		{"cosigner_sets", func() error { return eachRow(s.cosignerSets, s.cosignerSetFault) }},
		{"key_schedules", func() error { return eachRow(s.keySchedules, scheduleFault) }},
		{"key_requests", func() error { return eachRow(s.keyRequests, keyRequestFault) }},
		{"key_rings", func() error { return eachRow(s.keyRings, s.sharedRingFault) }},
		{"key_owners", s.namesFault},
	} {
		if err := f.check(); err != nil {
			return fmt.Errorf("fsm: field %s: %w", f.name, err)
		}
	}
	return nil
}

func eachRow[V any](t *table[V], fault func(key string, v V) error) error {
	if t.size() > t.cap {
		return fmt.Errorf("%d rows, at most %d", t.size(), t.cap)
	}
	for key, v := range t.m {
		if err := fault(key, v); err != nil {
			return fmt.Errorf("row %s: %w", shown(key), err)
		}
	}
	return nil
}

// shown quotes a text of a stranger for one line.
func shown(text string) string {
	if len(text) <= crypto.MaxIDBytes {
		return fmt.Sprintf("%+q", text)
	}
	return fmt.Sprintf("%+q… (%d bytes)", text[:crypto.MaxIDBytes], len(text))
}

// timeFault returns the first time that lies outside 0..last.
func timeFault(last int64, named ...any) error {
	for i := 0; i+1 < len(named); i += 2 {
		if at := named[i+1].(int64); at < 0 || at > last {
			return fmt.Errorf("%s is %d, outside 0..%d", named[i], at, last)
		}
	}
	return nil
}

func rowID(key, id string) error {
	if key != id {
		return fmt.Errorf("it says that it is %s", shown(id))
	}
	return crypto.CheckID(id)
}

func optionalID(id string) error {
	if id == "" {
		return nil
	}
	return crypto.CheckID(id)
}

func (m *Meta) fault(wallMs int64) error {
	if err := crypto.CheckID(m.ClusterID); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if err := timeFault(MaxTimeMs, "the clock", m.ClockMs); err != nil {
		return err
	}
	_, headErr := crypto.ParseHash(m.ChainHead)
	switch {
	case wallMs > 0 && m.ClockMs-maxAheadOfWallMs > wallMs:
		return fmt.Errorf("the clock is at %d, %d ms ahead of the time here, at most %d", m.ClockMs, m.ClockMs-wallMs, maxAheadOfWallMs)
	case m.NonceFloorMs < 0 || m.NonceFloorMs > m.ClockMs+MaxSkewMs+NonceBucketMs:
		return fmt.Errorf("the nonce floor is at %d, the clock at %d", m.NonceFloorMs, m.ClockMs)
	case len(m.Recoveries) > maxRecoveries:
		return fmt.Errorf("%d recoveries, at most %d", len(m.Recoveries), maxRecoveries)
	case m.Epoch < 1 || m.Epoch >= maxEpoch || m.Reserved > maxEpoch || m.Recovered > m.Epoch:
		return fmt.Errorf("epoch %d, %d reserved, %d recovered: outside 1..%d or out of order", m.Epoch, m.Reserved, m.Recovered, uint64(maxEpoch-1))
	case m.MostCoordinators < 0 || m.MostCoordinators > MaxCoordinators:
		return fmt.Errorf("%d coordinators at one time, at most %d", m.MostCoordinators, MaxCoordinators)
	case len(m.CACert) > MaxCACertBytes:
		return fmt.Errorf("a CA certificate of %d bytes, at most %d", len(m.CACert), MaxCACertBytes)
	case (m.ChainSize == 0) != (m.ChainHead == crypto.BlacklistGenesis), m.ChainSize > 0 && headErr != nil:
		return fmt.Errorf("a chain of %d events with the head %s", m.ChainSize, shown(m.ChainHead))
	case len(m.Closed) > maxClosed || len(m.Skipped) > maxSkipped:
		return fmt.Errorf("%d closed and %d skipped ranges, at most %d and %d", len(m.Closed), len(m.Skipped), maxClosed, maxSkipped)
	}
	for _, id := range m.Recoveries {
		if err := CheckRecoveryID(id); err != nil {
			return err
		}
	}
	for _, r := range m.Skipped { // they may overlap: the clock jumps again before anybody is admitted
		if r.FromMs < 0 || r.FromMs > r.ToMs || r.ToMs > lastTimeMs {
			return fmt.Errorf("the skipped range %d..%d", r.FromMs, r.ToMs)
		}
	}
	after := int64(-1)
	for _, r := range m.Closed {
		if r.FromMs <= after || r.FromMs > r.ToMs || r.ToMs > lastTimeMs {
			return fmt.Errorf("the closed range %d..%d after %d", r.FromMs, r.ToMs, after)
		}
		after = r.ToMs
	}
	return nil
}

func (s *State) policyFault() error {
	p := &s.policy.v
	if field, fault := p.Validate(); fault != "" {
		return fmt.Errorf("%s: %s", shown(field), fault)
	}
	if p.Version < 1 {
		return errors.New("version 0")
	}
	return nil
}

func (s *State) marksFault() error {
	if len(s.marks.v) > MaxMarks {
		return fmt.Errorf("%d marks, at most %d", len(s.marks.v), MaxMarks)
	}
	return nil
}

func (s *State) agentFault(key string, a Agent) error {
	if err := rowID(key, a.ID); err != nil {
		return err
	}
	switch a.State {
	case AgentPending, AgentActive, AgentSuspended, AgentRevoked:
	default:
		return fmt.Errorf("unknown state %s", shown(string(a.State)))
	}
	if n := len(a.Keys); n < 1 || n > MaxAgentKeys {
		return fmt.Errorf("%d keys, it has 1 to %d", n, MaxAgentKeys)
	}
	if err := s.ringFault(AgentSubject(a.ID), a.Keys); err != nil {
		return err
	}
	if n := len(a.EncryptionKey); n != 0 && n != 32 {
		return fmt.Errorf("an encryption key of %d bytes, it has 32", n)
	}
	if n := len(a.EncryptionProof); n != 0 && (n != crypto.SignatureSize || len(a.EncryptionKey) == 0) {
		return fmt.Errorf("an encryption proof of %d bytes, it has %d", n, crypto.SignatureSize)
	}
	if err := optionalID(a.TokenID); err != nil {
		return err
	}
	if err := timeFault(lastTimeMs, "the time that a change of keys was signed with", a.KeysSignedMs); err != nil {
		return err
	}
	return timeFault(MaxTimeMs, "the enrolment", a.EnrolledMs, "the change", a.UpdatedMs)
}

func (s *State) coordinatorFault(key string, n Coordinator) error {
	if err := rowID(key, n.ID); err != nil {
		return err
	}
	if field, fault := n.Fault(); fault != "" {
		return fmt.Errorf("%s: %s", field, fault)
	}
	if n.Role != RoleCoordinator && n.Role != RoleObserver {
		return fmt.Errorf("unknown role %s", shown(string(n.Role)))
	}
	if err := errors.Join(s.ringFault(CoordinatorSubject(n.ID), n.Keys), s.ringFault(CertificateSubject(n.ID), n.TLSKeys)); err != nil {
		return err
	}
	for _, key := range n.Ring() {
		k, ok := s.signingKeys.get(key.Public.CoordinatorID())
		if inUse := ok && k.RetiredAt == 0; !ok || k.Public != key.Public || k.NodeID != n.ID || !inUse && !key.ended(s.meta.v.ClockMs) {
			return errors.New("its signing key is not in use")
		}
	}
	if err := optionalID(n.TokenID); err != nil {
		return err
	}
	if err := errors.Join(n.hostsFault(), throughFault(n.Through)); err != nil {
		return err
	}
	if err := timeFault(MaxTimeMs, "the last description", n.UpdatedMs); err != nil {
		return err
	}
	return timeFault(MaxTimeMs, "the join", n.JoinedMs)
}

// signingKeyFault: only members sign, each with its own key.
func (s *State) signingKeyFault(key string, k SigningKey) error {
	if err := crypto.CheckPublicKey(k.Public); err != nil {
		return err
	}
	if id := k.Public.CoordinatorID(); key != id {
		return fmt.Errorf("its key is that of %s", id)
	}
	if err := crypto.CheckID(k.NodeID); err != nil {
		return err
	}
	if len(k.API) > MaxAddressBytes {
		return fmt.Errorf("an address of %d bytes, at most %d", len(k.API), MaxAddressBytes)
	}
	if n, member := s.coordinators.get(k.NodeID); k.RetiredAt == 0 && (!member || n.Ring().at(k.Public.Fingerprint()) < 0) {
		return fmt.Errorf("the key is in use, and not that of a member %s", shown(k.NodeID))
	}
	return nil
}

// ownersFault: the owners of keys are those that the agents and signing keys
// name, no fewer, since a key could be bound twice, and no more.
func (s *State) ownersFault() error {
	n := 0
	owned := func(key crypto.PublicKey, owner string) error {
		ref := key.Fingerprint()
		if have, ok := s.keyOwners.get(string(ref[:])); !ok || have != owner {
			return fmt.Errorf("row %s: the key belongs to %s, not to %s", ref, shown(have), shown(owner))
		}
		n++
		return nil
	}
	for _, a := range s.agents.m {
		for _, k := range a.Keys {
			if err := owned(k.Public, ownerAgent+a.ID); err != nil {
				return err
			}
		}
	}
	for _, k := range s.signingKeys.m {
		if err := owned(k.Public, ownerCoordinator+k.NodeID); err != nil {
			return err
		}
	}
	for id, t := range s.tokens.m {
		if t.Edge == nil {
			continue
		}
		if err := owned(t.Edge.SigningKey, ownerEdge+t.Edge.NodeID); err != nil {
			return fmt.Errorf("the edge of token %s: %w", shown(id), err)
		}
	}
	if have := s.keyOwners.size() - s.replacedKeys() - s.forgottenEdges() - s.countNames(); have != n {
		return fmt.Errorf("%d owners of keys, the agents, coordinators and edges have %d keys", have, n)
	}
	return nil
}

// cutOwner returns the agent that an owner of a key names.
func cutOwner(owner string) (agentID string, ok bool) { return strings.CutPrefix(owner, ownerAgent) }

// replacedKeys counts the keys that agents replaced long ago, or in a past that a
// recovery or a restore went back behind: nobody has them, nor ever will.
func (s *State) replacedKeys() (n int) {
	for ref, owner := range s.keyOwners.m {
		id, ok := cutOwner(owner)
		if a, known := s.agents.get(id); ok && known && a.Keys.at(KeyRef([]byte(ref))) < 0 {
			n++
		}
	}
	return n
}

// keysOwn tells whether each agent's and coordinator's key is its own.
func (s *State) keysOwn() error {
	for _, a := range s.agents.m {
		for _, k := range a.Keys {
			ref := k.Public.Fingerprint()
			if owner, _ := s.keyOwners.get(string(ref[:])); owner != ownerAgent+a.ID {
				return fmt.Errorf("fsm: a key of the backup's agent %s belongs to %s here", shown(a.ID), shown(owner))
			}
		}
	}
	for _, k := range s.signingKeys.m {
		ref := k.Public.Fingerprint()
		if owner, _ := s.keyOwners.get(string(ref[:])); owner != ownerCoordinator+k.NodeID {
			return fmt.Errorf("fsm: a key of the backup's coordinator %s belongs to %s here", shown(k.NodeID), shown(owner))
		}
	}
	return nil
}

func tokenFault(key string, t Token) error {
	if err := rowID(key, t.ID); err != nil {
		return err
	}
	switch {
	case !t.Role.Known() && t.Role != RoleEdgeMember:
		return fmt.Errorf("unknown role %s", shown(string(t.Role)))
	case t.credentialFault() != nil:
		return t.credentialFault()
	case t.UsesLeft < -1:
		return fmt.Errorf("%d uses left", t.UsesLeft)
	case len(t.Label) > MaxLabelBytes:
		return fmt.Errorf("a label of %d bytes, at most %d", len(t.Label), MaxLabelBytes)
	}
	if err := throughFault(t.Through); err != nil {
		return err
	}
	return timeFault(lastTokenMs, "its begin", t.CreatedMs, "its end", t.ExpiresMs, "the revocation", t.RevokedMs, "the purge", t.PurgeMs)
}

func removalFault(key string, r Removal) error {
	if err := rowID(key, r.ID); err != nil {
		return err
	}
	if err := crypto.CheckID(r.Name); err != nil {
		return err
	}
	if len(r.LeftAt) > MaxAddressBytes {
		return fmt.Errorf("an address of %d bytes, at most %d", len(r.LeftAt), MaxAddressBytes)
	}
	if n := len(r.OtherTLSKeys); n > MaxRingKeys {
		return fmt.Errorf("%d more TLS keys, at most %d", n, MaxRingKeys)
	}
	if r.Role != "" && r.Role != RoleCoordinator && r.Role != RoleObserver {
		return fmt.Errorf("unknown role %s", shown(string(r.Role)))
	}
	if r.Audit != nil {
		if r.Audit.NodeID != r.ID {
			return fmt.Errorf("the audit log of %s", shown(r.Audit.NodeID))
		}
		if err := r.Audit.fault(); err != nil {
			return err
		}
	}
	return timeFault(MaxTimeMs, "the removal", r.RemovedMs, "the silence", r.SilentMs)
}

func (s *State) banFault(key string, b Ban) error {
	if err := rowID(key, b.AgentID); err != nil {
		return err
	}
	if err := crypto.CheckID(b.EventID); err != nil {
		return fmt.Errorf("event: %w", err)
	}
	switch {
	case b.EventHash == (crypto.Hash{}):
		return errors.New("without the hash of its event")
	case b.Seq < 1 || b.Seq > s.meta.v.ChainSize:
		return fmt.Errorf("event %d of a chain of %d", b.Seq, s.meta.v.ChainSize)
	case !crypto.KnownReasonCode(b.ReasonCode):
		return fmt.Errorf("unknown reason code %s", shown(b.ReasonCode))
	}
	return timeFault(MaxTimeMs, "the ban", b.TimestampMs, "its end", b.ExpiresMs)
}

func outcomeFault(key string, o Outcome) error {
	if len(key) != len(crypto.Hash{}) {
		return fmt.Errorf("a key of %d bytes, it has %d", len(key), len(crypto.Hash{}))
	}
	if err := optionalID(o.TokenID); err != nil {
		return err
	}
	return timeFault(lastTimeMs+IdempotencyMs, "its end", o.ExpiresMs)
}

// bucketsFault: what was admitted lies up to the widest window ahead of the
// clock; further ahead only after a recovery, which may set the clock back. A
// restore closes the time of those and forgets them.
func (s *State) bucketsFault(w bucketed) error {
	last := bucketOf(s.meta.v.ClockMs + MaxSkewMs)
	for _, number := range w.numbers() {
		if number < 0 || number > bucketOf(lastTimeMs) {
			return fmt.Errorf("bucket %d: no time", number)
		}
		if number > last && s.meta.v.Epoch < 2 {
			return fmt.Errorf("bucket %d: %s far ahead of the clock %d", number, w.label(), s.meta.v.ClockMs)
		}
	}
	return nil
}

func (w *rateWindows) fault() error {
	for agent := range w.agents {
		if err := crypto.CheckID(agent); err != nil {
			return err
		}
	}
	return nil
}

func divergenceFault(key string, d Divergence) error {
	if key != d.NodeID {
		return fmt.Errorf("it says that it is %s", shown(d.NodeID))
	}
	return optionalID(d.NodeID)
}

// later adds a span to a time; what lies beyond all time is the end of it.
func later(atMs, spanMs int64) int64 {
	if spanMs > 0 && atMs > math.MaxInt64-spanMs {
		return math.MaxInt64
	}
	return atMs + spanMs
}
