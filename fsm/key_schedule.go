package fsm

import (
	"cmp"
	"fmt"
	"strconv"

	"github.com/edgecoder/edgecoder/crypto"
)

// Schedule says how often a subject's keys are rotated. It decides when the next
// key is due and how long the one before verifies beside it; the windows of keys
// that are announced already stay as they are when it changes.
type Schedule struct {
	Version   uint64 `cbor:"1,keyasint"` // 0: the default, never set
	PeriodMs  int64  `cbor:"2,keyasint"` // from the begin of a key to that of the next; 0: only when it is asked for
	OverlapMs int64  `cbor:"3,keyasint"` // how long the one before verifies beside it
	LeadMs    int64  `cbor:"4,keyasint"` // how long before its begin the next key is asked for
	SetMs     int64  `cbor:"5,keyasint,omitempty"`
}

const (
	keyHourMs = int64(3_600_000)
	keyDayMs  = 24 * keyHourMs

	// MinPeriodMs bounds what a wrong schedule may cost: every key is kept for ever.
	MinPeriodMs = keyHourMs
	// MinSigningPeriodMs bounds that of coordinators: five of them that change a key a
	// day fill MaxSigningKeys in five years, not in three months.
	MinSigningPeriodMs = keyDayMs
	// MinOverlapMs is twice the time in which an owner keeps to the older key.
	MinOverlapMs = 2 * KeySettleMs
	// MaxScheduleMs bounds each member: ten years, the life of a CA certificate.
	MaxScheduleMs = 3_650 * keyDayMs
	// MinAnnounceMs is how far ahead a key may be announced whatever the lead is. Who
	// stole a key must not hold its owner's place for longer.
	MinAnnounceMs = 7 * keyDayMs
	// overdueMs is how long a key that is due may wait for its successor before
	// somebody must look; a lead that is shorter bounds it.
	overdueMs = keyDayMs
)

// DefaultSchedule returns the schedule of a kind that none was set for. Overlaps
// are those that the reference protocol knows (WIRE.md section 18): 48 h, and
// 90 days of keys that others pin. Agents and signers are rotated when somebody
// asks: their owners may be people, or programs that know of no rotation.
func DefaultSchedule(kind SubjectKind) Schedule {
	switch kind {
	case SubjectCoordinator:
		return Schedule{PeriodMs: 90 * keyDayMs, OverlapMs: 2 * keyDayMs, LeadMs: 7 * keyDayMs}
	case SubjectCertificate:
		return Schedule{PeriodMs: 180 * keyDayMs, OverlapMs: 2 * keyDayMs, LeadMs: 7 * keyDayMs}
	case SubjectManifest:
		return Schedule{OverlapMs: 90 * keyDayMs, LeadMs: 30 * keyDayMs}
	case SubjectGossip:
		return Schedule{PeriodMs: 30 * keyDayMs, OverlapMs: keyDayMs, LeadMs: keyDayMs}
	case SubjectCA:
		return Schedule{PeriodMs: 365 * keyDayMs, OverlapMs: 60 * keyDayMs, LeadMs: 30 * keyDayMs}
	}
	return Schedule{OverlapMs: 2 * keyDayMs, LeadMs: 7 * keyDayMs}
}

// announceMs is how far ahead of its begin a key may be announced, milliseconds.
func (d Schedule) announceMs() int64 { return max(d.LeadMs, MinAnnounceMs) }

// KeyScheduleSet replaces the schedule of a subject, or of all subjects of a kind
// that have none of their own, if its version is still IfVersion.
type KeyScheduleSet struct {
	Subject   string   `cbor:"1,keyasint"` // see ParseScheduled
	IfVersion uint64   `cbor:"2,keyasint"`
	Schedule  Schedule `cbor:"3,keyasint"`
}

// minPeriodMs is how often keys of the kind may fall due at most, milliseconds.
func (k SubjectKind) minPeriodMs() int64 {
	if k == SubjectCoordinator {
		return MinSigningPeriodMs
	}
	return MinPeriodMs
}

// Fault returns the first member that is out of bounds for a kind and why, or "".
func (d Schedule) Fault(kind SubjectKind) (field, fault string) {
	switch least := kind.minPeriodMs(); {
	case d.PeriodMs != 0 && (d.PeriodMs < least || d.PeriodMs > MaxScheduleMs):
		return "period_ms", fmt.Sprintf("%d is neither 0 nor in %d..%d", d.PeriodMs, least, int64(MaxScheduleMs))
	case d.OverlapMs < MinOverlapMs || d.OverlapMs > MaxScheduleMs:
		return "overlap_ms", fmt.Sprintf("%d is outside %d..%d", d.OverlapMs, MinOverlapMs, int64(MaxScheduleMs))
	case d.LeadMs < 0 || d.LeadMs > MaxScheduleMs:
		return "lead_ms", fmt.Sprintf("%d is outside 0..%d", d.LeadMs, int64(MaxScheduleMs))
	case d.PeriodMs != 0 && d.LeadMs >= d.PeriodMs:
		return "lead_ms", fmt.Sprintf("%d is not below the period %d: the next key would be asked for before this one begins", d.LeadMs, d.PeriodMs)
	case d.PeriodMs != 0 && d.OverlapMs > d.PeriodMs:
		return "overlap_ms", fmt.Sprintf("%d is above the period %d: keys would pile up", d.OverlapMs, d.PeriodMs)
	}
	return "", ""
}

// schedule returns the schedule of a subject: its own, that of its kind, or the
// default. An agent's overlap is at least the window in which requests count: one
// that was signed with the key before must not be refused for its rotation.
func (s *State) schedule(of Subject) Schedule {
	d, ok := s.keySchedules.get(of.String())
	if !ok {
		if d, ok = s.keySchedules.get(string(of.Kind)); !ok {
			d = DefaultSchedule(of.Kind)
		}
	}
	if of.Kind == SubjectAgent {
		d.OverlapMs = max(d.OverlapMs, s.policy.v.MaxSkewMs)
	}
	return d
}

func (s *State) applyKeyScheduleSet(c *change, b KeyScheduleSet) Result {
	if res, ok := s.keysKnown(); !ok {
		return res
	}
	if res, ok := s.actorCan(c, CapAdmin); !ok {
		return res
	}
	of, err := ParseScheduled(b.Subject)
	if err != nil {
		return refuse(CodeInvalid, "subject", "%v", err)
	}
	if _, known := s.ring(of); of.ID != "" && !known {
		return s.noSubject(of)
	}
	have, is := s.keySchedules.get(of.String())
	next := b.Schedule
	field, fault := next.Fault(of.Kind)
	switch {
	case b.IfVersion != have.Version:
		return refuse(CodeConflict, "version", "the schedule of %s is at version %d, not %d: read it again", of, have.Version, b.IfVersion)
	case fault != "":
		return refuse(CodeInvalid, field, "%s", fault)
	case !is && s.keySchedules.full():
		return refuse(CodeOverloaded, "", "%d schedules are set, no room for one more: set one for the kind", s.keySchedules.size())
	}
	next.Version, next.SetMs = have.Version+1, c.atMs
	s.keySchedules.put(of.String(), next)
	s.record(c, "key_schedule", of.String(), fmt.Sprintf("version=%d period_ms=%d overlap_ms=%d lead_ms=%d", next.Version, next.PeriodMs, next.OverlapMs, next.LeadMs))
	return Result{Code: CodeOK, ID: strconv.FormatUint(next.Version, 10)}
}

// OwnSchedule returns the schedule that was set for a subject or a kind itself;
// its version is 0 if none was.
func (s *State) OwnSchedule(of Subject) Schedule {
	d, ok := s.keySchedules.get(of.String())
	if !ok {
		d = s.schedule(of)
		d.Version = 0
	}
	return d
}

// KeyStanding is all that can be said of a subject's keys at one time.
type KeyStanding struct {
	Subject  Subject
	Schedule Schedule
	Ring     Ring
	Active   int   // place in Ring, -1: no key verifies
	Pending  int   // place of the key that is still to begin, -1: none
	BeginMs  int64 // when the active key began; 0: unknown
	// DueMs is when the next key should begin, 0: never by itself. AskMs is when it
	// is asked for: a lead before that, or when somebody asked.
	DueMs, AskMs int64
	Asked        *KeyRequest // somebody asked for a rotation, and there is no next key yet
}

// Due tells whether the owner is to prepare the next key.
func (k KeyStanding) Due(nowMs int64) bool {
	return k.Asked != nil || k.Pending < 0 && k.AskMs != 0 && nowMs >= k.AskMs
}

// Overdue tells whether the next key was asked for, or was to begin, so long ago that
// somebody should look why none did.
func (k KeyStanding) Overdue(nowMs int64) bool {
	from := k.AskMs
	switch {
	case k.Asked != nil:
		from = k.Asked.AtMs
	case k.Pending >= 0:
		from = k.DueMs // it was to begin by then
		if next := k.Ring[k.Pending]; next.waits() && (from == 0 || next.NotBeforeMs < from) {
			from = next.NotBeforeMs
		}
	}
	return from != 0 && nowMs-from > min(overdueMs, cmp.Or(k.Schedule.LeadMs, overdueMs))
}

// Expired tells whether the subject's key is older than its schedule allows and
// has no successor that verifies, or none verifies at all.
func (k KeyStanding) Expired(nowMs int64) bool {
	return k.Active < 0 && len(k.Ring) > 0 || k.DueMs != 0 && nowMs > k.DueMs && k.Pending < 0
}

// NextOrder returns what the owner of a key signs for it to be followed by another,
// as of its own clock: the active key orders a begin when the next is due, or at
// once. If none is active, nobody orders it.
func (k KeyStanding) NextOrder(next crypto.PublicKey, clockMs, signedMs int64) KeyPrepare {
	b := KeyPrepare{Subject: k.Subject.String(), Public: next, SignedMs: signedMs}
	if k.Asked == nil && k.DueMs > clockMs {
		b.NotBeforeMs = k.DueMs
	}
	if k.Active >= 0 {
		b.By = k.Ring[k.Active].Public
	}
	return b
}

// KeyStanding returns how a subject's keys stand at a time.
func (s *State) KeyStanding(of Subject, nowMs int64) (k KeyStanding, known bool) {
	r, known := s.ring(of)
	if !known {
		return k, false
	}
	k = KeyStanding{Subject: of, Schedule: s.schedule(of), Ring: r, Active: r.activeAt(nowMs), Pending: r.pendingAt(nowMs)}
	if k.Active >= 0 {
		k.BeginMs = cmp.Or(r[k.Active].NotBeforeMs, min(s.boundMs(of), nowMs)) // the clock may have been set back since
	}
	if k.BeginMs != 0 && k.Schedule.PeriodMs != 0 {
		k.DueMs = k.BeginMs + k.Schedule.PeriodMs
		k.AskMs = k.DueMs - k.Schedule.LeadMs
	}
	if q, ok := s.keyRequests.get(of.String()); ok {
		k.Asked = &q
	}
	return k, true
}

// boundMs is when the first key of a subject was bound to it.
func (s *State) boundMs(of Subject) int64 {
	switch of.Kind {
	case SubjectAgent:
		a, _ := s.agents.get(of.ID)
		return a.EnrolledMs
	case SubjectCoordinator, SubjectCertificate:
		n, _ := s.coordinators.get(of.ID)
		return n.JoinedMs
	case SubjectManifest:
		g, _ := s.ManifestTrust().signer(of.ID)
		return g.AddedMs
	}
	return 0
}

// KeySubjects returns the subjects of a kind whose ids come after one, in order,
// at most limit of them.
func (s *State) KeySubjects(kind SubjectKind, after string, limit int) (out []Subject) {
	switch kind {
	case SubjectAgent:
		for _, a := range s.agents.page(after, limit) {
			out = append(out, AgentSubject(a.ID))
		}
	case SubjectCoordinator, SubjectCertificate:
		for _, n := range s.coordinators.page(after, limit) {
			out = append(out, Subject{kind, n.ID})
		}
	case SubjectManifest:
		out = s.ManifestTrust().signersAfter(after, limit)
	default:
		if after == "" && limit > 0 {
			out = append(out, Subject{Kind: kind})
		}
	}
	return out
}

// asksAgents tells whether any agent's keys can fall due: whether a schedule of
// agents has a period.
func (s *State) asksAgents() bool {
	for key, d := range s.keySchedules.m {
		if of, err := ParseScheduled(key); err == nil && of.Kind == SubjectAgent && d.PeriodMs != 0 {
			return true
		}
	}
	return false
}
