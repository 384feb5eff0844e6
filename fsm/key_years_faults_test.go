package fsm

import "slices"

// What goes wrong in keyYears with commands, replicas and the cluster, rather than with owners.

// lateOrder is a command that its owner made, and that is still under way.
type lateOrder struct {
	o *keyOwner
	b KeyPrepare
}

// maxLate bounds the commands that are under way: of a few changes of keys.
const maxLate = 4

// arrives delivers a command again, or long after it was made: an order that was overtaken changes nothing. What it does change is the next key of who
// ordered it, which is its word still.
func (y *keyYears) arrives() {
	if len(y.late) == 0 {
		return
	}
	i := y.dice.IntN(len(y.late))
	l := y.late[i]
	if y.chance(2) { // else it comes once more
		y.late = slices.Delete(y.late, i, i+1)
	}
	m := l.o.m
	by, next := y.nameOf(m, l.b.By), ""
	for _, name := range l.o.file {
		if y.public(m, name) == l.b.Public {
			next = name
		}
	}
	newest := m.newest(y.s.ClockMs())
	ordered := newest != nil && newest.name == by || newest == nil && by == "" // by nobody: it is asked for, and none of its keys verifies
	may := next != "" && ordered && m.next(y.s.ClockMs()) == nil && m.find(next) == nil
	res := y.do(y.owner(m), l.b)
	if !res.OK() || res.Repeated {
		return
	}
	if !may {
		y.t.Fatalf("%s: an order of %q for %q that came late was taken", m.of, by, next)
	}
	y.took(l.o, next, l.b.NotBeforeMs)
}

// took notes a key that was taken to begin at a time.
func (y *keyYears) took(o *keyOwner, next string, notBeforeMs int64) {
	from := max(notBeforeMs, y.s.ClockMs())
	o.m.taken(y.s.ClockMs(), next, from, from+o.m.overlap, o.m.of.Kind.Shared())
	o.hurt = false
}

// sent keeps a command, which may arrive once more.
func (y *keyYears) sent(o *keyOwner, b KeyPrepare) {
	if y.late = append(y.late, lateOrder{o, b}); len(y.late) > maxLate {
		y.late = y.late[1:]
	}
}

// snaps keeps a snapshot, for a restart or a restore later.
func (y *keyYears) snaps() { y.snapshot, y.snappedAt = snapshotOf(y.t, y.s, y.history), y.index }

// restarts has a replica go on from the last snapshot and the log since.
func (y *keyYears) restarts() {
	if y.snapshot == nil {
		return
	}
	s, _ := restored(y.t, y.snapshot)
	for _, e := range y.log {
		if e.index <= y.snappedAt {
			continue
		}
		if _, _, err := s.Apply(e.index, e.cmd); err != nil {
			y.t.Fatalf("entry %d after a restart: %v", e.index, err)
		}
		if s.Digest() != e.digest {
			y.t.Fatalf("entry %d after a restart leads to another state", e.index)
		}
	}
	y.s = s
}

// restores puts the cluster back to the last snapshot: no key of the present is lost by it, none comes back.
func (y *keyYears) restores() {
	if y.snapshot == nil {
		return
	}
	backup, records := restored(y.t, y.snapshot)
	next := restoreWorld(y.t, y.world, backup, historyOf(y.t, records), y.wallMs)
	y.s, y.history, y.index, y.term, y.log = next.s, next.history, next.index, max(y.term, next.term), nil
	y.snapshot = nil
	y.jump(1)
}

// revokesAny takes any key that a subject has or had. Of shared keys the active one goes only beside a next one.
func (y *keyYears) revokesAny(o *keyOwner) {
	keys := o.m.keys
	y.revokeKey(o, keys[len(keys)-1-y.dice.IntN(min(len(keys), 3))])
}
