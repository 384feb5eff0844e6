package fsm

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/crypto"
)

// modelKeys is what P5 says of the keys of one subject, written down as a plain
// list of facts about names. It learns from commands which were taken, never
// from the state; what verifies when is its own sum.
type modelKeys struct {
	of      Subject
	keys    []*modelKey // in the order in which they were taken
	overlap int64
	signed  int64 // time of the last order
	asked   bool  // its owner may bring a key that none ordered
}

type modelKey struct {
	name    string
	from    int64
	until   int64 // 0: open
	waits   bool
	revoked bool
	at      uint64    // entry that revoked it
	gone    bool      // it had ended and left the ring: it never counts again
	by      *modelKey // that ordered it
	closes  bool      // by had no end before
}

func (k *modelKey) good(t int64) bool {
	return !k.gone && !k.revoked && !k.waits && k.from <= t && (k.until == 0 || t <= k.until)
}

func (m *modelKeys) newest(t int64) (out *modelKey) {
	for _, k := range m.keys {
		if k.good(t) {
			out = k
		}
	}
	return out
}

func (m *modelKeys) next(t int64) *modelKey {
	if len(m.keys) == 0 {
		return nil
	}
	k := m.keys[len(m.keys)-1]
	if !k.revoked && (k.waits || k.from > t) {
		return k
	}
	return nil
}

func (m *modelKeys) find(name string) *modelKey {
	i := slices.IndexFunc(m.keys, func(k *modelKey) bool { return k.name == name })
	if i < 0 {
		return nil
	}
	return m.keys[i]
}

// taken notes a key that begins at a time, and when those before it end.
func (m *modelKeys) taken(now int64, name string, from, until int64, waits bool) {
	by := m.newest(now)
	next := &modelKey{name: name, from: from, waits: waits, by: by, closes: by != nil && by.until == 0}
	if !waits {
		for _, k := range m.keys {
			if !k.revoked && k.until == 0 {
				k.until = until
			}
		}
	}
	m.keys, m.asked = append(m.keys, next), false
}

func (m *modelKeys) begins(k *modelKey, t int64) {
	k.waits, k.from = false, t
	for _, other := range m.keys {
		if other != k && !other.revoked && other.until == 0 {
			other.until = t + m.overlap
		}
	}
}

func (m *modelKeys) revoked(k *modelKey, t int64) {
	was, next := m.newest(t), m.next(t)
	k.revoked = true
	switch {
	case m.of.Kind.Shared():
		if k == was {
			m.begins(next, t)
		}
	case m.of.Kind == SubjectCertificate && k == was && next != nil:
		m.begins(next, t)
	case k == next && k.closes:
		k.by.until = 0
	case k != next && next != nil && next.by == k:
		next.revoked = true
	}
	left := m.newest(t)
	if m.of.Kind == SubjectCertificate && left != nil && m.next(t) == nil {
		left.until = 0 // its owner may be away
	}
	if m.of.Kind == SubjectCoordinator && (left == nil || left.until != 0) && m.next(t) == nil {
		m.asked = true
	}
}

func (m *modelKeys) setBack(was, to int64) {
	for _, k := range m.keys {
		if k.gone {
			continue
		}
		if k.from > was {
			k.from -= was - to
		} else {
			k.from = min(k.from, to)
		}
		if k.until >= was && k.until != 0 {
			k.until -= was - to
		} else if k.until != 0 {
			k.until = min(k.until, to-1)
		}
	}
}

// keyTrial feeds a world with commands about keys and holds it to the models.
type keyTrial struct {
	*world
	t      *rapid.T
	models []*modelKeys
	fresh  int
	known  map[string]crypto.PublicKey // public halves by name: making them is what takes time
}

func (x *keyTrial) public(m *modelKeys, name string) crypto.PublicKey {
	id := string(m.of.Kind) + name
	if _, ok := x.known[id]; !ok {
		x.known[id] = publicKey(name)
		switch {
		case m.of.Kind.Shared():
			x.known[id] = PoolKeyName(poolKey(name))
		case m.of.Kind == SubjectCertificate:
			x.known[id] = tlsKey(name)
		}
	}
	return x.known[id]
}

const trialOverlap = 2 * keyHourMs

func newKeyTrial(t *rapid.T) *keyTrial {
	w := genesisWorld(t)
	w.s.meta.v.Level = LevelKeys
	w.enroll("a")
	w.must(w.trust(trustOf(1, "m")))
	w.must(w.do(node("n0"), sharedPoolKey("", "p")))
	first := func(of Subject, name string, from int64) *modelKeys {
		w.must(w.do(admin, KeyScheduleSet{Subject: of.String(), Schedule: Schedule{OverlapMs: trialOverlap}}))
		return &modelKeys{of: of, keys: []*modelKey{{name: name, from: from}}, overlap: trialOverlap}
	}
	x := &keyTrial{world: w, t: t, known: map[string]crypto.PublicKey{}, models: []*modelKeys{first(AgentSubject("a"), "a", 0), first(CoordinatorSubject("n0"), "node n0", 0),
		first(Subject{SubjectManifest, "m"}, trustOf(1, "m").Signers[0].Name, 0), first(Subject{Kind: SubjectGossip}, "p", w.wallMs)}}
	x.models[2].keys[0].name = "signer m"
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: withTLS(nodeOf("t0", RoleCoordinator))}))
	x.models = append(x.models, first(CertificateSubject("t0"), "t0", 0))
	return x
}

// jump passes time of any length: the first tick of a term may.
func (x *keyTrial) jump(ms int64) {
	x.wallMs += ms
	x.term++
	x.must(x.doAt(x.wallMs, Actor{}, nil, Tick{Term: x.term, Voters: 3, Walls: walls(x.wallMs, 0, 1, -1), Mark: true}))
}

func (x *keyTrial) ref(m *modelKeys, name string) KeyRef {
	return x.public(m, name).Fingerprint()
}

// owner is who proposes the keys of a subject.
func (x *keyTrial) owner(m *modelKeys) Actor {
	switch m.of.Kind {
	case SubjectAgent:
		return Actor{}
	case SubjectManifest:
		return admin
	case SubjectCertificate:
		return node("t0")
	}
	return node("n0")
}

func (x *keyTrial) prepare(m *modelKeys) {
	now := x.wallMs
	x.fresh++
	name := fmt.Sprint("k", x.fresh)
	if chance(x.t, "an old key again", 8) {
		again := m.keys[rapid.IntRange(0, len(m.keys)-1).Draw(x.t, "which")].name
		if r, _ := x.s.KeyRing(m.of); m.of.Kind != SubjectManifest || r.at(x.ref(m, again)) >= 0 {
			name = again // else it left the ring, and nobody remembers it
		}
	}
	by := m.keys[rapid.IntRange(0, len(m.keys)-1).Draw(x.t, "by")].name
	if k := m.newest(now); k != nil && !chance(x.t, "another orders", 4) {
		by = k.name
	}
	ahead := pick(x.t, "ahead", []int64{0, 0, -5, 1, keyHourMs, 3 * keyHourMs})
	begin, noTime := now+ahead, chance(x.t, "no time", 12)
	if noTime {
		begin = pick(x.t, "begin", []int64{-5, math.MinInt64, lastTimeMs + 1, math.MaxInt64})
	}
	b := x.order(m.of, by, name, begin)
	switch {
	case m.of.Kind.Shared():
		b = sharedPoolKey(by, name, "n0")
		b.NotBeforeMs, b.SignedMs = begin, now
		if noTime && chance(x.t, "signed at no time", 2) {
			b.NotBeforeMs, b.SignedMs = 0, begin
		}
	case m.of.Kind == SubjectCertificate:
		b = x.tlsOrder("t0", "node t0", by, name, begin)
	}
	res := x.do(x.owner(m), b)
	if res.Repeated {
		return
	}
	if noTime {
		if res.OK() {
			x.t.Fatalf("%s: a next key that was ordered for %d, by one of %d, was taken", m.of, b.NotBeforeMs, b.SignedMs)
		}
		return
	}
	newest := m.newest(now)
	old := m.find(name) != nil
	mayOrder := newest != nil && newest.name == by && m.next(now) == nil && !old
	if res.OK() && !mayOrder {
		x.t.Fatalf("%s: %s named %s its successor, and might not", m.of, by, name)
	}
	paused := !m.of.Kind.Shared() && (newest != nil && newest.from != 0 && now-newest.from < RekeyPauseMs || m.signed >= now)
	endsFirst := newest != nil && newest.until != 0 && newest.until < now+ahead
	if must := mayOrder && !paused && !endsFirst && x.s.Recovering() == 0 && m.room(now) && now > worldStart; must && !res.OK() {
		x.t.Fatalf("%s: %s may name %s its successor: %+v", m.of, by, name, res)
	}
	if !res.OK() {
		return
	}
	if !m.of.Kind.Shared() {
		m.signed = now
	}
	from := max(now, now+ahead)
	m.taken(now, name, from, from+m.overlap, m.of.Kind.Shared())
}

// room tells whether the ring takes one more key.
func (m *modelKeys) room(t int64) bool {
	n := 0
	for _, k := range m.keys {
		if !k.revoked && (k.waits || k.until == 0 || t <= k.until) {
			n++
		}
	}
	return n < m.of.Kind.mostKeys()
}

func (x *keyTrial) revoke(m *modelKeys) {
	k := m.keys[rapid.IntRange(0, len(m.keys)-1).Draw(x.t, "revoked")]
	res := x.do(admin, KeyRevoke{Subject: m.of.String(), Key: x.ref(m, k.name)})
	switch {
	case res.OK() && !k.revoked:
		m.revoked(k, x.wallMs)
	case res.Code == CodeNotFound && !k.good(x.wallMs) && m.next(x.wallMs) != k: // it left the ring
	case res.Code == CodeConflict && m.of.Kind.Named():
		others := m.of.Kind == SubjectCertificate && slices.ContainsFunc(m.keys, func(o *modelKey) bool { return o != k && o.good(x.wallMs) })
		if m.newest(x.wallMs) != k || m.next(x.wallMs) != nil || others {
			x.t.Fatalf("%s: %s cannot be revoked, though another goes on", m.of, k.name)
		}
	case !res.OK():
		x.t.Fatalf("%s: revoke %s: %+v", m.of, k.name, res)
	}
}

// recover brings a key that none ordered, where that is somebody's to allow.
func (x *keyTrial) recover(m *modelKeys) {
	x.fresh++
	name := fmt.Sprint("k", x.fresh)
	switch m.of.Kind {
	case SubjectAgent:
		if x.do(operator, x.recovery("a", name)).OK() {
			for _, k := range m.keys {
				k.revoked = k.revoked || !k.gone
			}
			m.taken(x.wallMs, name, x.wallMs, 0, false)
			m.signed = max(m.signed, x.wallMs)
		}
	case SubjectCoordinator:
		res := x.do(node("n0"), x.orphanOrder("n0", m.keys[len(m.keys)-1].name, name))
		may := m.asked && m.next(x.wallMs) == nil && m.newest(x.wallMs) == nil
		if must := may && m.signed < x.wallMs && x.s.Recovering() == 0; res.OK() && !may || must && !res.OK() {
			x.t.Fatalf("%s: a key that none ordered, asked for %t: %+v", m.of, m.asked, res)
		}
		if res.OK() {
			m.signed = x.wallMs
			m.taken(x.wallMs, name, x.wallMs, x.wallMs+m.overlap, false)
		}
	case SubjectGossip:
		if k := m.next(x.wallMs); k != nil {
			if k.from > x.wallMs && chance(x.t, "when it is due", 2) {
				x.jump(k.from - x.wallMs)
			}
			x.trySwitch(m, k)
		}
	}
}

// trySwitch has everybody take up the next shared key: it begins if it is time.
func (x *keyTrial) trySwitch(m *modelKeys, k *modelKey) {
	now := x.s.ClockMs()
	x.must(x.do(node("n0"), KeyReady{Subject: m.of.String(), Key: x.ref(m, k.name)}))
	x.do(node("t0"), KeyReady{Subject: m.of.String(), Key: x.ref(m, k.name)})
	res := x.do(node("n0"), KeySwitch{Subject: m.of.String(), Key: x.ref(m, k.name)})
	if res.OK() != (k.from <= now) {
		x.t.Fatalf("%s: %s is to begin in %d ms, the switch: %+v", m.of, k.name, k.from-now, res)
	}
	if res.OK() {
		m.begins(k, now)
	}
}

func (x *keyTrial) reschedule(m *modelKeys) {
	d := Schedule{OverlapMs: pick(x.t, "overlap", []int64{MinOverlapMs, keyHourMs, trialOverlap, keyDayMs})}
	x.must(x.do(admin, KeyScheduleSet{Subject: m.of.String(), IfVersion: x.s.OwnSchedule(m.of).Version, Schedule: d}))
	m.overlap = d.OverlapMs
	if m.of.Kind == SubjectAgent {
		m.overlap = max(m.overlap, x.s.Policy().MaxSkewMs)
	}
}

func (x *keyTrial) setBack() {
	was := x.wallMs
	x.wallMs -= pick(x.t, "back", []int64{1_000, 30_000, keyHourMs, 3 * keyHourMs})
	if !x.doAt(x.wallMs, admin, nil, ClockRecover{Voters: 3, Walls: walls(x.wallMs, 0, 1)}).OK() {
		x.wallMs = was
		return
	}
	for _, m := range x.models {
		m.setBack(was, x.wallMs)
	}
	for _, m := range x.models {
		if k := m.next(x.wallMs); k != nil && k.waits && chance(x.t, "it waits still", 2) {
			x.recover(m)
		}
	}
}

// accepts asks the place that decides whether a key counts at a time.
func (x *keyTrial) accepts(m *modelKeys, name string, at int64) bool {
	switch m.of.Kind {
	case SubjectAgent:
		a, _ := x.s.Agent(m.of.ID)
		return a.keyCode(x.ref(m, name), at) == CodeOK
	case SubjectCoordinator:
		row, ok := x.s.SigningKey(x.public(m, name).CoordinatorID())
		return ok && x.s.Signs(row, at)
	case SubjectManifest:
		_, signers := x.s.ManifestTrust().vouching("m", []KeyRef{x.ref(m, name)}, func(k Key) bool { return k.verifies(at) })
		return signers == 1
	}
	r, _ := x.s.KeyRing(m.of)
	return r.Verifies(x.public(m, name), at)
}

// judge compares now, and at every edge that is known to come.
func (x *keyTrial) judge() {
	now := x.s.ClockMs()
	for _, m := range x.models {
		times := []int64{now, now + 1}
		for _, k := range m.keys {
			for _, edge := range []int64{k.from, k.until} {
				times = append(times, edge-1, edge, edge+1)
			}
		}
		for _, at := range times {
			if at < now {
				continue
			}
			covered := false
			for _, k := range m.keys {
				want := k.good(at)
				covered = covered || want
				if got := x.accepts(m, k.name, at); got != want {
					x.t.Fatalf("%s: %s verifies %+d ms from now: %t, want %t; %+v", m.of, k.name, at-now, got, want, *k)
				}
			}
			if !covered && !slices.ContainsFunc(m.keys, func(k *modelKey) bool { return k.revoked }) {
				x.t.Fatalf("%s: no key verifies %+d ms from now", m.of, at-now)
			}
		}
		x.judgeStanding(m, now)
		x.markGone(m, now)
	}
	if x.s.Digest() != x.s.FullDigest() {
		x.t.Fatal("the digest kept and the digest computed differ")
	}
}

// markGone notes which keys the last entry revoked, and which left the ring. Only
// what ended may.
func (x *keyTrial) markGone(m *modelKeys, now int64) {
	r, _ := x.s.KeyRing(m.of)
	for _, k := range m.keys {
		if k.revoked && k.at == 0 {
			k.at = x.s.Index()
		}
		if k.gone || r.at(x.ref(m, k.name)) >= 0 {
			continue
		}
		if !k.revoked && (k.waits || k.until == 0 || k.until >= now) {
			x.t.Fatalf("%s: %s left the ring and has not ended: %+v", m.of, k.name, *k)
		}
		k.gone = true
	}
}

func (x *keyTrial) judgeStanding(m *modelKeys, now int64) {
	st, _ := x.s.KeyStanding(m.of, now)
	newest, next := m.newest(now), m.next(now)
	if (st.Active >= 0) != (newest != nil) || (st.Pending >= 0) != (next != nil) {
		x.t.Fatalf("%s: %+v, the newest is %+v, the next %+v", m.of, st, newest, next)
	}
	if newest != nil && st.Ring[st.Active].Public.Fingerprint() != x.ref(m, newest.name) {
		x.t.Fatalf("%s: the active key is not %s", m.of, newest.name)
	}
	for i := range st.Ring {
		if state := st.Ring.StateOf(i, now); (state == KeyActive) != (i == st.Active) || (state == KeyNext) != (i == st.Pending) {
			x.t.Fatalf("%s: key %d is %s", m.of, i, state)
		}
	}
	if k, ok := st.Ring.Signing(now); ok && !st.Ring.Verifies(k.Public, now) {
		x.t.Fatalf("%s signs with a key that does not verify", m.of)
	}
}

// TestP5KeysVerifyInsideTheirWindows: whatever is prepared, switched, revoked,
// recovered, rescheduled and set back, in any order, a key verifies inside its
// window alone, and only a revocation leaves a subject without one.
func TestP5KeysVerifyInsideTheirWindows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := newKeyTrial(t)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			m := pick(t, "subject", x.models)
			switch rapid.IntRange(0, 12).Draw(t, "step") {
			case 0, 1, 2, 3:
				x.prepare(m)
			case 4:
				x.revoke(m)
			case 5, 6:
				x.recover(m)
			case 7:
				x.reschedule(m)
			case 8:
				if chance(t, "set back", 2) {
					x.setBack()
				}
			default:
				x.jump(pick(t, "passes", []int64{1, KeySettleMs, keyHourMs - 1, keyHourMs, trialOverlap, trialOverlap + 1, keyDayMs, 400 * keyDayMs}))
			}
			x.judge()
		}
		if err := x.s.Validate(0); err != nil {
			t.Fatalf("a backup of it is refused: %v", err)
		}
		for _, m := range x.models {
			x.judgeHistory(m)
		}
		back, records := restored(t, snapshotOf(t, x.s, x.history))
		if back.Digest() != x.s.Digest() || len(records) == 0 {
			t.Fatal("a snapshot reads as another state")
		}
	})
}
