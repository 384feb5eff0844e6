package fsm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/crypto"
)

// keyYears plays years of schedules in virtual time: owners that crash between
// every two steps, stay away past what is due, hear no answer, and have clocks that
// differ; leaders that change and whose clocks differ; clusters that are down for
// months; schedules that change, and keys that are revoked. The model of
// key_model_test.go judges when keys verify. Owners follow KeyStanding and
// Ring.Signing, as nodes do.
type keyYears struct {
	*keyTrial
	dice   *rand.Rand
	owners []*keyOwner

	late      []lateOrder // commands that may arrive (again)
	snapshot  []byte      // the last that was kept; nil: none
	snappedAt uint64
}

// keyOwner is the holder of a subject's keys: its key file survives, nothing else.
type keyOwner struct {
	m      *modelKeys
	file   []string // names of keys, the oldest first
	skewMs int64
	awayMs int64 // until when it is away
	hurt   bool  // a key of it was revoked, and it has made none since
}

func (y *keyYears) chance(n int) bool { return y.dice.IntN(n) == 0 }

// nameOf finds the name of a key.
func (y *keyYears) nameOf(m *modelKeys, key crypto.PublicKey) string {
	for _, k := range m.keys {
		if y.public(m, k.name) == key {
			return k.name
		}
	}
	return ""
}

// live has an owner do what is due, and crash somewhere in it at times.
func (y *keyYears) live(o *keyOwner) {
	st, _ := y.s.KeyStanding(o.m.of, y.s.ClockMs())
	o.file = slices.DeleteFunc(o.file, func(name string) bool {
		i := st.Ring.at(y.ref(o.m, name))
		return len(o.file) > 1 && i >= 0 && st.Ring[i].ended(y.s.ClockMs())
	})
	if !st.Due(y.s.ClockMs()) {
		return
	}
	next := ""
	for _, name := range o.file { // made before a crash
		if st.Ring.at(y.ref(o.m, name)) < 0 {
			next = name
		}
	}
	if next == "" {
		y.fresh++
		next = fmt.Sprint(o.m.of.Kind, y.fresh)
		o.file = append(o.file, next)
	}
	if y.chance(6) {
		return // it crashed with the key in its file
	}
	y.announce(o, st, next)
}

func (y *keyYears) announce(o *keyOwner, st KeyStanding, next string) {
	b := st.NextOrder(y.public(o.m, next), y.s.ClockMs(), y.wallMs+o.skewMs)
	by := y.nameOf(o.m, b.By)
	id := y.s.Meta().ClusterID
	switch {
	case o.m.of.Kind.Shared():
		b.SignedMs, b.Order = 0, []byte("mac")
	case o.m.of.Kind == SubjectCertificate:
		b.Signer = publicKey("node t0")
		b.Order = b.Succession(id).Order(privateKey("node t0"))
		if err := b.Verify(id); err != nil {
			y.t.Fatal(err)
		}
	default:
		if by == "" {
			by = y.nameOf(o.m, st.Ring[len(st.Ring)-1].Public)
			b.Signer = publicKey(by)
		}
		b.Order = b.Succession(id).Order(privateKey(by))
		b.Proof = b.Succession(id).Prove(privateKey(next))
		if err := b.Verify(id); err != nil {
			y.t.Fatal(err)
		}
	}
	y.sent(o, b)
	if y.chance(6) {
		return // it did not arrive, or not yet
	}
	res := y.do(y.owner(o.m), b)
	if !res.OK() {
		y.mayRefuse(o, res)
		return
	}
	if !res.Repeated {
		y.took(o, next, b.NotBeforeMs)
	}
}

// mayRefuse holds refusals of an owner that did as it should to what it is told to
// wait for.
func (y *keyYears) mayRefuse(o *keyOwner, res Result) {
	waits := res.Code == CodeOverloaded || res.Code == CodeUnavailable || res.Code == CodeTimestampSkew || res.Code == CodeReplay
	if !waits && !o.hurt && y.s.Recovering() == 0 {
		y.t.Fatalf("%s: its next key was refused: %+v", o.m.of, res)
	}
}

// sign has an owner sign by its replica, and the others judge a moment later.
func (y *keyYears) sign(o *keyOwner) {
	ring, _ := y.s.KeyRing(o.m.of)
	key, ok := ring.Signing(y.s.ClockMs())
	if !ok {
		if !o.hurt {
			y.t.Fatalf("%s: no key to sign with, %+v", o.m.of, ring)
		}
		return
	}
	name := y.nameOf(o.m, key.Public)
	if !slices.Contains(o.file, name) {
		y.t.Fatalf("%s is to sign with %s, which is not in its file %v", o.m.of, name, o.file)
	}
	y.jump(int64(y.dice.IntN(KeySettleMs)))
	if !y.accepts(o.m, name, y.s.ClockMs()) {
		y.t.Fatalf("%s: what %s signed is refused %s later", o.m.of, name, "a moment")
	}
}

// happens is what nobody planned.
func (y *keyYears) happens(o *keyOwner) {
	switch y.dice.IntN(48) {
	case 0:
		o.awayMs = y.wallMs + int64(y.dice.IntN(120))*keyDayMs
	case 1:
		o.skewMs = int64(y.dice.IntN(60_000)) - 30_000
	case 2:
		y.jump(int64(y.dice.IntN(200)) * keyDayMs) // everything is down, past several dues
	case 3:
		if y.do(admin, KeyRotate{Subject: o.m.of.String()}).OK() && o.m.of.Kind == SubjectAgent && y.chance(2) {
			o.awayMs = 0
		}
	case 4:
		if y.chance(4) {
			y.revokeActive(o)
		}
	case 5:
		d := Schedule{PeriodMs: []int64{10, 30, 90}[y.dice.IntN(3)] * keyDayMs, OverlapMs: []int64{1, 48, 120}[y.dice.IntN(3)] * keyHourMs, LeadMs: []int64{0, 1, 7}[y.dice.IntN(3)] * keyDayMs}
		y.must(y.do(admin, KeyScheduleSet{Subject: o.m.of.String(), IfVersion: y.s.OwnSchedule(o.m.of).Version, Schedule: d}))
		o.m.overlap = d.OverlapMs
	case 6:
		y.switches(o)
	case 7:
		y.term++ // another leads
	case 8, 9:
		y.arrives()
	case 10, 11:
		y.snaps()
	case 12, 13:
		y.restarts()
	case 14:
		if y.chance(4) {
			y.restores()
		}
	case 15:
		if y.chance(4) {
			y.revokesAny(o)
		}
	case 16:
		if y.chance(4) {
			y.setBack()
			y.snapshot, y.late = nil, nil // what is of before is no order any more
		}
	}
}

// switches has a shared key begin once it is time.
func (y *keyYears) switches(o *keyOwner) {
	k := o.m.next(y.wallMs)
	if k == nil || !k.waits {
		return
	}
	y.trySwitch(o.m, k)
}

// revokeActive takes an owner's key. An agent is recovered by an operator later.
func (y *keyYears) revokeActive(o *keyOwner) { y.revokeKey(o, o.m.newest(y.s.ClockMs())) }

func (y *keyYears) revokeKey(o *keyOwner, k *modelKey) {
	if k == nil || !y.do(admin, KeyRevoke{Subject: o.m.of.String(), Key: y.ref(o.m, k.name)}).OK() || k.revoked {
		return
	}
	o.m.revoked(k, y.s.ClockMs())
	o.hurt = true
}

// heal lets an operator replace an agent's revoked key.
func (y *keyYears) heal(o *keyOwner) {
	if o.m.newest(y.s.ClockMs()) == nil && o.m.of.Kind == SubjectAgent {
		y.fresh++
		name := fmt.Sprint("agent", y.fresh)
		if y.do(operator, y.recovery(o.m.of.ID, name)).OK() {
			for _, k := range o.m.keys {
				k.revoked = true
			}
			o.m.taken(y.s.ClockMs(), name, y.s.ClockMs(), 0, false)
			o.file, o.hurt = append(o.file, name), false
		}
	}
}

// TestP5YearsOfSchedules: nobody who is there is ever without a key that counts,
// no key counts outside its window, and who was away catches up.
func TestP5YearsOfSchedules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		y := &keyYears{keyTrial: newKeyTrial(t), dice: rand.New(rand.NewPCG(seed, 8))}
		for _, m := range []*modelKeys{y.models[0], y.models[1], y.models[3], y.models[4]} {
			d := Schedule{PeriodMs: 30 * keyDayMs, OverlapMs: trialOverlap, LeadMs: 3 * keyDayMs}
			y.must(y.do(admin, KeyScheduleSet{Subject: m.of.String(), IfVersion: y.s.OwnSchedule(m.of).Version, Schedule: d}))
			y.owners = append(y.owners, &keyOwner{m: m, file: []string{m.keys[0].name}})
		}
		begun, changes := y.wallMs, 0
		for y.wallMs-begun < 4*365*keyDayMs {
			y.jump(keyHourMs + int64(y.dice.IntN(168))*keyHourMs)
			for _, o := range y.owners {
				y.happens(o)
				if y.wallMs < o.awayMs {
					continue
				}
				for range 1 + y.dice.IntN(3) {
					y.live(o)
				}
				y.heal(o)
				y.sign(o)
			}
			y.judge()
		}
		for _, o := range y.owners {
			o.awayMs = 0
			changes += len(o.m.keys)
		}
		if changes < 20 {
			t.Fatalf("%d keys in four years", changes)
		}
		y.settles()
	})
}

// settles: without further faults nothing stays due. What fell due in the last day has had too few rolls of the dice.
func (y *keyYears) settles() {
	for range 60 {
		y.jump(keyHourMs)
		for _, o := range y.owners {
			o.skewMs = 0
			y.live(o)
			y.heal(o)
			y.switches(o)
		}
	}
	for _, o := range y.owners {
		if st, _ := y.s.KeyStanding(o.m.of, y.s.ClockMs()); st.Overdue(y.s.ClockMs()) || st.Active < 0 {
			y.t.Fatalf("%s: due still: %+v", o.m.of, st)
		}
	}
}
