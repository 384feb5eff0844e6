package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A recovery takes the state back, or goes on from a copy that may be older
// than what others saw. Nobody can undo that; so it opens a new recovery epoch
// which everybody can see, and closes what a forgotten past could reopen:
// every nonce up to now plus the skew counts as used, and all join and enrolment
// tokens are void.
type Recovery struct {
	ID     string // of a recovery: random, lower-case hex of RecoveryIDBytes; a restore needs none, its epoch is reserved
	AtMs   int64  // wall clock of whoever recovers, Unix milliseconds
	Actor  Actor  // who asked
	Action string // of the admin record: "restore" or "recover"
	Detail string // what is known to be lost, for people
	// Forgetful: what came after this copy may be lost, a wider policy too, so
	// admissions pause for the widest window that any policy can have.
	Forgetful bool
	// Admin, of a recovery, is the one token that stays: all others are revoked.
	Admin *TokenCreate
}

// maxRecoveries bounds the ids of recoveries that are remembered: they tell a
// copy of this cluster's past from one of another future, and pasts that old are
// not started again.
const maxRecoveries = 16

// CheckRecoveryID refuses what is no id of a recovery.
func CheckRecoveryID(id string) error {
	if len(id) != 2*RecoveryIDBytes || strings.Trim(id, "0123456789abcdef") != "" {
		return fmt.Errorf("fsm: %q is no id of a recovery: want %d lower-case hex digits", id, 2*RecoveryIDBytes)
	}
	return nil
}

// RecoveryIDBytes is the length of a recovery's random id, before hex.
const RecoveryIDBytes = 8

// LevelRecovery is the feature level from which the log may carry clock
// recoveries and digest rounds.
const LevelRecovery = 2

// Recover goes on from this state under a new epoch with one member left: the
// others are removed, since they may hold what this copy lacks. It returns
// the history records of it. The state must have a genesis; an error leaves it
// as it was.
func (s *State) Recover(r Recovery, survivor string) ([]Record, error) {
	if _, ok := s.coordinators.get(survivor); !ok {
		return nil, fmt.Errorf("fsm: the node %s is no coordinator of this cluster", survivor)
	}
	if s.removed.size()+s.coordinators.size()-1 > s.removed.cap {
		return nil, fmt.Errorf("fsm: %d coordinators were removed, no room to remember %d more", s.removed.size(), s.coordinators.size()-1)
	}
	if err := errors.Join(CheckRecoveryID(r.ID), s.checkAdmin(r.Admin)); err != nil {
		return nil, err
	}
	head, size, epoch := s.meta.v.ChainHead, s.meta.v.ChainSize, s.meta.v.Epoch
	c := s.openEpoch(epoch, r, s.meta.v)
	known := s.meta.v.Recoveries
	s.meta.v.Recoveries = append(slices.Clone(known[max(0, len(known)+1-maxRecoveries):]), r.ID)
	for _, d := range s.divergent.values() {
		s.divergent.remove(d.NodeID) // what the survivor holds is the truth from here on
	}
	for _, gone := range s.removed.values() {
		if gone.LeftAt != "" { // by an earlier recovery
			gone.LeftAt = ""
			s.removed.put(gone.ID, gone)
		}
	}
	for _, n := range s.coordinators.values() {
		if n.ID == survivor {
			continue
		}
		s.dropCoordinator(c, n.ID, false)
		gone, _ := s.removed.get(n.ID)
		gone.LeftAt = n.Gossip
		s.removed.put(gone.ID, gone)
		s.record(c, "coordinator_remove", n.ID, "by=recover")
	}
	if r.Admin != nil {
		s.replaceTokens(c, r.Admin)
	}
	s.meta.v.Recovered = s.meta.v.Epoch
	s.record(c, r.Action, s.meta.v.ClusterID, fmt.Sprintf("recovery=%s epoch=%d size=%d head=%s survivor=%s %s", r.ID, epoch, size, head, survivor, r.Detail))
	return c.records, nil
}

// Restored returns what a cluster becomes when it takes the contents of a
// backup: agents, bans, chain, policy and history are the backup's, while who
// the members are, the tokens, the clock and the log stay the cluster's own. Of
// the manifests accepted in either the newer ones stay (keepManifests), of the
// rules of signature profiles the stricter ones (stricterRules). The present
// state is neither changed nor shared. The records are those to append to the
// backup's history, so the log must go on above the indexes of both. Whoever
// asks must have stopped admissions before it takes the present state.
func Restored(backup, present *State, r Recovery) (*State, []Record, error) {
	if backup.meta.v.ClusterID == "" || present.meta.v.ClusterID == "" {
		return nil, nil, errors.New("fsm: a state without a genesis cannot be restored, nor restored into")
	}
	if err := backup.Validate(0); err != nil { // its clock is for whoever knows the time
		return nil, nil, fmt.Errorf("the backup holds what no cluster makes: %w", err)
	}
	s, was := NewState(), present.meta.v
	old := backup.meta.v
	if fault := present.epochFault(old.Epoch); fault != "" {
		return nil, nil, fmt.Errorf("fsm: the backup: %s", fault)
	}
	// Another cluster, or another past, may have admitted claims since the backup, under a wider policy too.
	r.Forgetful = r.Forgetful || was.ClusterID != old.ClusterID || !old.IsPastOf(was)
	s.meta.v = Meta{Index: max(was.Index, old.Index), ClockMs: present.clockWith(backup), NonceFloorMs: max(was.NonceFloorMs, old.NonceFloorMs),
		TickTerm: was.TickTerm, Recovered: was.Recovered, Recoveries: was.Recoveries, ClusterID: was.ClusterID, Level: was.Level, LevelVersion: was.LevelVersion, MostCoordinators: was.MostCoordinators, CACert: was.CACert,
		ChainHead: old.ChainHead, ChainSize: old.ChainSize, AdminSize: old.AdminSize}
	if !was.goesOn(old) {
		s.meta.v.NonceFloorMs = was.NonceFloorMs
	}
	s.policy.v = backup.policy.v.stricterRules(present.policy.v)
	if field, fault := s.policy.v.Validate(); fault != "" { // the agents of both may be too many
		return nil, nil, fmt.Errorf("fsm: the backup's policy with the stricter rules of the present: %s: %s; take rules away first, or make them the rule for all", field, fault)
	}
	copyTable(s.agents, backup.agents, nil)
	if was.Level < LevelKeys { // from then on keepKeys moves their windows
		s.setKeysBack(s.meta.v.ClockMs)
	}
	copyTable(s.bans, backup.bans, nil)
	copyTable(s.signingKeys, backup.signingKeys, nil)
	copyTable(s.keyOwners, backup.keyOwners, func(owner string) bool { return !strings.HasPrefix(owner, ownerEdge) && !ownsName(owner) }) // its edges do not come over, nor do its members
	copyTable(s.tokens, present.tokens, nil)
	copyTable(s.coordinators, present.coordinators, nil)
	copyTable(s.cosignerSets, present.cosignerSets, nil) // who cosigns is who the members are
	copyTable(s.auditHeads, present.auditHeads, nil)     // the logs are not taken back: what they once held they still must
	for id, gone := range backup.removed.m {
		gone.LeftAt, gone.Audit = "", nil // nobody looks where a file says, nor for what it says
		if was.Level < LevelThrough {
			gone.TLSKey = nil // the binaries of this cluster may not read it
		}
		if was.Level < LevelKeys {
			gone.Role, gone.OtherTLSKeys, gone.Index = "", nil, 0
		}
		s.removed.put(id, gone)
	}
	copyTable(s.removed, present.removed, nil)
	for id := range s.coordinators.m {
		s.removed.remove(id) // the backup may be of a past that this cluster did not take
	}
	for id := range present.edges {
		if _, member := present.Edge(id); member {
			s.removed.remove(id)
		}
	}
	s.keepManifests(backup, present)
	s.ledger.copyFrom(backup.ledger)
	s.adoptKeys(backup, present)
	s.keepKeys(backup, present)
	if err := s.keysOwn(); err != nil {
		return nil, nil, err
	}
	if field, fault := s.ManifestTrust().Validate(); fault != "" {
		return nil, nil, fmt.Errorf("fsm: the backup's trust policy with the keys that signers have since: %s: %s; take the signer out of the present policy first", field, fault)
	}
	// What neither state knows of was admitted under the policy of either.
	s.meta.v.NonceFloorMs = max(s.meta.v.NonceFloorMs, later(max(s.meta.v.ClockMs, r.AtMs), present.policy.v.MaxSkewMs))
	c := s.openEpoch(max(was.Epoch, old.Epoch, max(was.Reserved, 1)-1), r, old) // the one that was reserved, if one was
	s.keepClosed(present)
	s.keepClosed(backup)
	s.closeFar()
	if more := s.closesMore(present); more > maxClosedByBackupMs {
		return nil, nil, fmt.Errorf("fsm: the backup closes %d ms to come in which nothing would be admitted, at most a year (%d ms): take a backup of before, into a new cluster",
			more, int64(maxClosedByBackupMs))
	}
	if err := s.checkCaps(present); err != nil {
		return nil, nil, err
	}
	s.keepOutcomes(present)
	if err := errors.Join(s.windows.loadAll(present.windows), s.selves.loadAll(present.selves)); err != nil {
		return nil, nil, err
	}
	s.reindex()
	detail := fmt.Sprintf("backup_epoch=%d backup_index=%d backup_size=%d; before: epoch=%d index=%d size=%d head=%s; %s",
		old.Epoch, old.Index, old.ChainSize, was.Epoch, was.Index, was.ChainSize, was.ChainHead, r.Detail)
	if changes := ruleChanges(present.policy.v, s.policy.v); changes != nil {
		detail += "; " + strings.Join(changes, " ")
	}
	if was.Level >= LevelKeys {
		s.recordRings(c, backup, r.Action)
	}
	s.record(c, r.Action, old.ClusterID, detail)
	if err := s.meta.v.fault(0); err != nil { // else no backup of the cluster would be sound any more
		return nil, nil, fmt.Errorf("fsm: with the backup the cluster would become what no cluster makes: %w", err)
	}
	return s, c.records, nil
}

// goesOn tells whether the clock of a backup is of this cluster: that of another one, or
// of before a recovery, is none here, all agents sign by the same world's time.
func (m Meta) goesOn(old Meta) bool {
	return m.ClusterID == old.ClusterID && m.Epoch <= old.Epoch && old.IsPastOf(m)
}

// clockWith is the clock that a restore of a backup goes on from, milliseconds.
func (s *State) clockWith(backup *State) int64 {
	if was, old := s.meta.v, backup.meta.v; was.goesOn(old) {
		return max(was.ClockMs, old.ClockMs)
	}
	return s.meta.v.ClockMs
}

// keepOutcomes remembers which changes were made to what a restore keeps, tokens
// and members: the same call under the same key must not make a second token.
func (s *State) keepOutcomes(present *State) {
	copyTable(s.idempotent, present.idempotent, func(o Outcome) bool {
		_, token := s.tokens.get(o.ID)
		_, member := s.coordinators.get(o.ID)
		_, removed := s.removed.get(o.ID)
		return token || member || removed
	})
}

// adoptKeys makes the signing keys of the present members good, and retires all
// others: old events still verify, new ones only by who is a member.
func (s *State) adoptKeys(backup, present *State) {
	for id, k := range backup.signingKeys.m {
		if n, member := present.coordinators.get(k.NodeID); k.RetiredAt == 0 && (!member || n.Ring().at(k.Public.Fingerprint()) < 0) {
			k.RetiredAt = s.meta.v.Index
			s.signingKeys.put(id, k)
		}
	}
	copyTable(s.signingKeys, present.signingKeys, nil)
	if s.meta.v.Level >= LevelCheckpoints { // older logs were applied without
		s.widenKeys(backup)
	}
	copyTable(s.keyOwners, present.keyOwners, func(owner string) bool {
		return strings.HasPrefix(owner, ownerCoordinator) || strings.HasPrefix(owner, ownerEdge) || ownsName(owner)
	})
}

// widenKeys lets a key that both states know have signed whatever it might in either: the present may be of an older copy,
// which retired who signed the backup's events, and from those nobody could cosign the chain any more.
func (s *State) widenKeys(backup *State) {
	for id, then := range backup.signingKeys.m {
		k, known := s.signingKeys.get(id)
		if !known || k.Public != then.Public {
			continue
		}
		k.Since = min(k.Since, then.Since)
		if then.RetiredAt == 0 {
			then.RetiredAt = backup.meta.v.Index
		}
		if k.RetiredAt != 0 {
			k.RetiredAt = max(k.RetiredAt, then.RetiredAt)
		}
		s.signingKeys.put(id, k)
	}
}

// checkCaps: two states within their bounds may exceed them together. What is
// kept for ever must not be filled up by a backup either: a tenth stays free for
// members to come, unless the present has filled it already.
func (s *State) checkCaps(present *State) error {
	for _, c := range []struct {
		what            string
		have, here, cap int
	}{
		{"owners of keys", s.keyOwners.size(), present.keyOwners.size(), MaxKeyOwners},
		{"signing keys", s.signingKeys.size(), present.signingKeys.size(), MaxSigningKeys},
		{"removed nodes", s.removed.size(), present.removed.size(), MaxRemoved},
		{"names of manifests", s.manifests.size(), present.manifests.size(), MaxManifests},
		{"keys of former signers", s.ManifestTrust().former(), present.ManifestTrust().former(), MaxFormerKeys},
	} {
		if room := max(c.cap/10*9, c.here); c.have > min(room, c.cap) {
			return fmt.Errorf("fsm: together with what is here the backup has %d %s, at most %d", c.have, c.what, room)
		}
	}
	if s.nonces.size() > MaxNonces {
		return fmt.Errorf("fsm: together with what is here the backup has %d nonces, at most %d", s.nonces.size(), MaxNonces)
	}
	return nil
}

// keepClosed keeps what another state knows of timestamps above the floor: those
// whose nonces it forgot, and the nonces that a policy since narrowed or a clock
// since set back left far ahead.
func (s *State) keepClosed(from *State) {
	if floor := s.meta.v.NonceFloorMs; from.meta.v.NonceFloorMs > floor {
		s.closeRange(TimeRange{FromMs: floor + 1, ToMs: from.meta.v.NonceFloorMs})
	}
	for _, r := range from.meta.v.Closed {
		s.closeRange(r)
	}
	for _, number := range from.nonces.order {
		if (number+1)*NonceBucketMs <= s.meta.v.NonceFloorMs {
			continue
		}
		for _, row := range from.nonces.buckets[number].rows {
			if _, known := s.nonces.find(row.key); known {
				continue
			}
			if s.nonces.claimTaken(row.claim, row.key) {
				row.claim = ClaimTag{} // in two pasts one claim id stood for two requests
			}
			s.nonces.insertAt(number, row)
		}
	}
}

func copyTable[V any](to, from *table[V], which func(V) bool) {
	for k, v := range from.m {
		if which == nil || which(v) {
			to.put(k, v)
		}
	}
}

// openEpoch begins an epoch after one, and after any that was reserved. Was is what the
// ledger, which may be that of a backup, last knew of time.
func (s *State) openEpoch(after uint64, r Recovery, was Meta) *change {
	s.meta.v.Epoch, s.meta.v.Reserved = max(after, s.meta.v.Reserved)+1, 0
	s.meta.v.ClockMs = max(s.meta.v.ClockMs, r.AtMs)
	skew := s.policy.v.MaxSkewMs
	if r.Forgetful {
		skew = MaxSkewMs
	}
	s.meta.v.NonceFloorMs = max(s.meta.v.NonceFloorMs, later(s.meta.v.ClockMs, skew))
	s.marks.v = nil // they were of another epoch
	for _, t := range s.tokens.values() {
		if t.Role.SingleUse() {
			s.tokens.remove(t.ID)
		}
	}
	c := &change{index: s.meta.v.Index, atMs: s.meta.v.ClockMs, actor: r.Actor}
	s.recoverLedger(c, was)
	return c
}

// Recovering tells until when admissions pause after a recovery: requests
// signed up to then cannot be told from ones that were used before it. The
// clock may also walk into a closed range. Zero when nothing is paused.
func (s *State) Recovering() (untilMs int64) { return s.recoveringAt(s.meta.v.ClockMs) }

func (s *State) recoveringAt(nowMs int64) (untilMs int64) {
	nowMs = max(nowMs, s.meta.v.ClockMs)
	until := max(nowMs, later(s.meta.v.NonceFloorMs, 1))
	for _, r := range s.meta.v.Closed {
		if r.FromMs <= until && until <= r.ToMs {
			until = later(r.ToMs, 1)
		}
	}
	if until == nowMs {
		return 0
	}
	return until
}

// ClockRecover sets a cluster clock back that ran ahead of the world. It opens
// a new epoch. The clock becomes the time that the leader stamps, which a
// majority of voters must support as for a term's first tick.
type ClockRecover struct {
	Voters int         `cbor:"1,keyasint"`
	Walls  []VoterWall `cbor:"2,keyasint"`
	Reason string      `cbor:"3,keyasint,omitempty"`
}

// applyClockRecover: nonces that were dropped while the clock ran ahead were
// signed with timestamps up to the floor; that range stays closed for ever.
func (s *State) applyClockRecover(c *change, b ClockRecover) Result {
	if res, ok := s.actorCan(c, CapAdmin); !ok {
		return res
	}
	to := c.stampMs
	before := s.meta.v
	was, floor := before.ClockMs, before.NonceFloorMs
	switch {
	case to < 1:
		return refuse(CodeInvalid, "at_ms", "the leader stamped %d, that is no time", to)
	case to >= was:
		return refuse(CodeConflict, "", "the cluster clock %d does not run ahead of the leader's %d", was, to)
	case !majoritySupports(to, Tick{Voters: b.Voters, Walls: b.Walls}):
		return refuse(CodeInvalid, "walls", "no majority of voters reports a time near %d", to)
	case len(b.Reason) > MaxReasonBytes:
		return refuse(CodeTooLarge, "reason", "%d bytes, at most %d", len(b.Reason), MaxReasonBytes)
	}
	s.meta.v.ClockMs, s.meta.v.NonceFloorMs = to, 0
	head, size, epoch := s.meta.v.ChainHead, s.meta.v.ChainSize, s.meta.v.Epoch
	next := s.openEpoch(epoch, Recovery{AtMs: to, Actor: c.actor}, before)
	c.records, c.atMs = append(c.records, next.records...), next.atMs
	if fresh := s.meta.v.NonceFloorMs; floor > fresh {
		for _, r := range (TimeRange{FromMs: fresh + 1, ToMs: floor}).without(s.meta.v.Skipped) {
			s.closeRange(r)
		}
	}
	s.meta.v.Skipped = nil
	if s.meta.v.Level >= LevelProfiles { // older logs were applied without
		s.closeFar()
	}
	s.windows.setBack(to)
	switch level := s.meta.v.Level; {
	case level >= LevelKeys:
		s.shiftKeys(c, was, to)
	case level >= LevelClients: // in older logs no key has a window
		s.setKeysBack(to)
	}
	s.selves.setBack(to)
	s.record(c, "recover_clock", s.meta.v.ClusterID, fmt.Sprintf("epoch=%d clock_ms=%d to=%d size=%d head=%s %s", epoch, was, to, size, head, b.Reason))
	return Result{Code: CodeOK, ID: s.meta.v.ClusterID}
}

// Undone is what a restore would take back.
type Undone struct {
	BansLost    []Ban        // in force now, not in the backup
	BansBack    []Ban        // lifted since the backup, in force again
	AgentsLost  []Agent      // enrolled since the backup
	AgentsAdded []Agent      // that only the backup has, as they are there
	AgentsOther []Agent      // which differ in anything: as they are now
	KeysAdded   []SigningKey // that only the backup has: coordinators unknown here
	GoneAdded   []Removal    // removed nodes that only the backup has: refused for ever from then on
	Events      uint64       // of the chain that only the present has, or 0 when the backup's chain is no prefix of it
	Forked      bool         // the backup's chain is no prefix of the present one, as far as sizes tell
	RulesKept   []string     // of signature profiles, stricter than the backup's: they stay
	RulesNew    []string     // of the backup, stricter than at present: they come

	// Records of the ledger now and in the backup, whose balances come back with them.
	LedgerNow, LedgerThen uint64

	ManifestsKept    []Manifest    // accepted since the backup: they stay accepted
	ManifestsAdded   []Manifest    // that only the backup has, or in a newer version: they become accepted
	ManifestsForked  bool          // one version has two digests: the present's stays, and the backup is of another past
	Trust, TrustThen ManifestTrust // of manifests, now and in the backup
}

// Compare lists what a restore of the backup would undo, in the order of ids.
func Compare(backup, present *State) Undone {
	var u Undone
	now := present.meta.v.ClockMs
	for _, b := range present.bans.values() {
		if have, ok := backup.bans.get(b.AgentID); b.inForce(now) && (!ok || have.EventHash != b.EventHash) {
			u.BansLost = append(u.BansLost, b)
		}
	}
	for _, b := range backup.bans.values() {
		if have, ok := present.bans.get(b.AgentID); b.inForce(now) && (!ok || !have.inForce(now)) {
			u.BansBack = append(u.BansBack, b)
		}
	}
	for _, a := range present.agents.values() {
		have, ok := backup.agents.get(a.ID)
		switch {
		case !ok:
			u.AgentsLost = append(u.AgentsLost, a)
		case !sameAgent(have, a):
			u.AgentsOther = append(u.AgentsOther, a)
		}
	}
	for _, a := range backup.agents.values() {
		if !present.hasAgent(a.ID) {
			u.AgentsAdded = append(u.AgentsAdded, a)
		}
	}
	for _, k := range backup.signingKeys.values() {
		if have, ok := present.signingKeys.get(k.Public.CoordinatorID()); !ok || have.Public != k.Public {
			u.KeysAdded = append(u.KeysAdded, k)
		}
	}
	for _, gone := range backup.removed.values() {
		_, known := present.removed.get(gone.ID)
		_, member := present.coordinators.get(gone.ID) // it stays one
		_, edge := present.Edge(gone.ID)
		if !known && !member && !edge {
			u.GoneAdded = append(u.GoneAdded, gone)
		}
	}
	if p, b := present.meta.v.ChainSize, backup.meta.v.ChainSize; p >= b {
		u.Events = p - b
	} else {
		u.Forked = true
	}
	if present.meta.v.ChainSize == backup.meta.v.ChainSize && present.meta.v.ChainHead != backup.meta.v.ChainHead ||
		!backup.meta.v.IsPastOf(present.meta.v) {
		u.Forked = true
	}
	u.compareManifests(backup, present)
	u.LedgerNow, u.LedgerThen = present.ledger.book.v.Size, backup.ledger.book.v.Size
	next := backup.policy.v.stricterRules(present.policy.v)
	u.RulesKept, u.RulesNew = ruleChanges(backup.policy.v, next), ruleChanges(present.policy.v, next)
	return u
}

func sameAgent(a, b Agent) bool {
	return a.ID == b.ID && a.State == b.State && a.Keys.Same(b.Keys) && bytes.Equal(a.EncryptionKey, b.EncryptionKey) && bytes.Equal(a.EncryptionProof, b.EncryptionProof) &&
		a.EnrolledMs == b.EnrolledMs && a.UpdatedMs == b.UpdatedMs && a.TokenID == b.TokenID && a.Index == b.Index && a.KeysSignedMs == b.KeysSignedMs
}
