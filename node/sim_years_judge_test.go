package node

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
)

// keyBook is what P5 says of the keys of a cluster, as those outside can know it: when each key began and was revoked, as far as that is
// sure, and who was accepted with which key when. It is told of commands that were acknowledged and of keys that were seen to have begun; when a
// key ends is its own sum. Times are the bubble's, Unix milliseconds.
type keyBook struct {
	mu       sync.Mutex // guards what follows
	subjects map[string]*bookSubject
	overlaps map[string][]int64 // by kind, the newest last: any of them may be what a key that begins now goes by
	uses     []keyUseSeen
	findings []string
	examined map[string]int // uses that had to go one way, by the kind of the subject and that way
}

// maxOverlaps: a key that was announced goes by the overlap of then, and is in use before the schedule changed this often.
const maxOverlaps = 3

// bookSubject is one subject: its keys in the order in which they began.
type bookSubject struct{ keys []*bookKey }

// span is a moment that is known to lie between two; never if it is not known to come.
type span struct{ lo, hi int64 }

const never = math.MaxInt64

var notYet = span{never, never}

type bookKey struct {
	name                 string
	from, until, revoked span
	closes               *bookKey // had no end until this one was announced
}

// keyUseSeen is one attempt to be taken for the holder of a key.
type keyUseSeen struct {
	subject, key string
	span                // in which it was decided
	accepted     bool   // else it was refused for its key
	what         string // for a finding
}

// yearsSlackMs is how far the cluster's clock, and what a node applied, may be from the bubble's clock: what a leader may be off, and a moment.
const yearsSlackMs = 10_000

func newKeyBook() *keyBook {
	return &keyBook{subjects: map[string]*bookSubject{}, overlaps: map[string][]int64{}, examined: map[string]int{}}
}

// kindOf is the part of a subject before its id.
func kindOf(subject string) string {
	kind, _, _ := strings.Cut(subject, "/")
	return kind
}

// subject returns what stands of a subject. The caller holds mu.
func (b *keyBook) subject(of string) *bookSubject {
	s := b.subjects[of]
	if s == nil {
		s = &bookSubject{}
		b.subjects[of] = s
	}
	return s
}

func (s *bookSubject) key(name string) *bookKey {
	for _, k := range s.keys {
		if k.name == name {
			return k
		}
	}
	return nil
}

// overlap notes that keys of a kind are asked to overlap by so much.
func (b *keyBook) overlap(kind string, ms int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := append(b.overlaps[kind], ms)
	b.overlaps[kind] = all[max(0, len(all)-maxOverlaps):]
}

// begins notes that a key begins within a span: all that had no end get one.
func (b *keyBook) begins(of, name string, from span) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begin(of, name, from)
}

// begin is begins for whoever holds mu.
func (b *keyBook) begin(of, name string, from span) {
	s, overlaps := b.subject(of), b.overlaps[kindOf(of)]
	next := &bookKey{name: name, from: from, until: notYet, revoked: notYet}
	for _, k := range s.keys {
		if k.until == notYet && k.revoked == notYet {
			k.until = span{from.lo + slices.Min(overlaps), from.hi + slices.Max(overlaps)}
			next.closes = k
		}
	}
	s.keys = append(s.keys, next)
}

// revokes notes that a key was revoked within a span. A key that it named and that had not begun goes with it; if it had not begun itself, the
// one before has no end again.
func (b *keyBook) revokes(of, name string, at span) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.subject(of)
	k := s.key(name)
	if k == nil || k.revoked != notYet { // revoked again
		return
	}
	k.revoked = at
	if k.closes != nil && at.hi < k.from.lo {
		k.closes.until = notYet
	}
	for _, next := range s.keys {
		if next.closes == k && at.hi < next.from.lo {
			next.revoked = at
		}
	}
}

// recovers notes that an operator brought a key, which ends all others at once.
func (b *keyBook) recovers(of, name string, at span) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range b.subject(of).keys {
		if k.revoked == notYet {
			k.revoked = at
		}
	}
	b.begin(of, name, at)
}

func (b *keyBook) used(u keyUseSeen) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.uses = append(b.uses, u)
}

// find notes what is wrong already.
func (b *keyBook) find(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.findings = append(b.findings, fmt.Sprintf(format, args...))
}

// mustRefuse tells whether the key surely did not count in all of a span.
func (k *bookKey) mustRefuse(at span) bool {
	return at.hi+yearsSlackMs < k.from.lo || at.lo-yearsSlackMs > min(k.until.hi, k.revoked.hi)
}

// mustAccept tells whether the key surely counted in all of a span.
func (k *bookKey) mustAccept(at span) bool {
	return at.lo-yearsSlackMs > k.from.hi && at.hi+yearsSlackMs < min(k.until.lo, k.revoked.lo)
}

// judge holds every use to the window of its key.
func (b *keyBook) judge() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, u := range b.uses {
		k := b.subject(u.subject).key(u.key)
		switch {
		case k == nil && u.accepted:
			b.findings = append(b.findings, fmt.Sprintf("%s: %s was accepted, which never began: %s", u.subject, u.key, u.what))
		case k == nil || early(u.subject) && u.hi+yearsSlackMs < k.from.lo:
		case k.mustRefuse(u.span):
			b.hold(u, k, false)
		case k.mustAccept(u.span):
			b.hold(u, k, true)
		}
	}
	return b.findings
}

// early tells whether those who share a key hold it before it begins, as they should.
func early(subject string) bool { return subject == "gossip" || subject == "ca" }

// hold holds a use that had to go one way to it. The caller holds mu.
func (b *keyBook) hold(u keyUseSeen, k *bookKey, accept bool) {
	must, was := "refuse", "accepted outside"
	if accept {
		must, was = "accept", "refused inside"
	}
	b.examined[kindOf(u.subject)+" "+must]++
	if u.accepted != accept {
		b.findings = append(b.findings, fmt.Sprintf("%s: %s was %s its window at %v: it begins at %v, ends at %v and was revoked at %v: %s",
			u.subject, u.key, was, u.span, k.from, k.until, k.revoked, u.what))
	}
}
