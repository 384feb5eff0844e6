package audit

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// claimOf is what a verifier reports of a name that nobody proved.
func claimOf(id string) Event {
	return Event{Type: "admission_denied", Level: LevelWarn, Code: "unknown_agent", Actor: Actor{Kind: "agent", ID: id}, Action: "reject_request",
		Details: map[string]string{"asked_by": "5ba63cc12c9b01d1"}}
}

func refusalOf(id, action, subject string) Event {
	return Event{Type: "access_denied", Level: LevelWarn, Code: "forbidden", Actor: Actor{Kind: "token", ID: id, Proved: true}, Action: action,
		Details: map[string]string{"subject": subject, "role": "viewer"}}
}

// TestOutsidersTakeNobodysPlace: however many names an outsider makes up, what
// addresses, members and the node itself did stands there as it was.
func TestOutsidersTakeNobodysPlace(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir, Now: newClock().now})
	const flood = 5_000
	for i := range flood {
		l.Append(claimOf(fmt.Sprint("ghost-", i)))
	}
	wanted := []Event{
		{Type: "divergence", Level: LevelCritical, Code: "diverged", Action: "divergence", Actor: Actor{Kind: kindNode, ID: "node-1", Proved: true}, Details: map[string]string{"mark": "5"}},
		{Type: "replay_attempt", Level: LevelHigh, Code: "replay", Actor: Actor{Kind: "agent", ID: "ghost-1", Proved: true}, Action: "reject_request"},
		{Type: "failed_auth", Level: LevelWarn, Code: "unauthorized", Actor: Actor{Kind: kindAddress, ID: "192.0.2.1"}, Action: "POST /register", Details: map[string]string{"subject": "victim"}},
		refusalOf("stolen", "POST /v1/leader/transfer", ""),
		refusalOf("stolen", "DELETE /v1/peers/{peer}", "node2"),
		refusalOf("stolen", "DELETE /v1/peers/{peer}", "node3"),
	}
	for _, e := range wanted {
		l.Append(e)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	all := lines(t, dir)
	for _, e := range wanted {
		found := false
		for _, line := range all {
			found = found || line.Type == e.Type && line.Level == e.Level && line.Actor == e.Actor && line.Action == e.Action && fmt.Sprint(line.Details) == fmt.Sprint(e.Details)
		}
		if !found {
			t.Errorf("no line tells of %+v", e)
		}
	}
	var told uint64
	for _, line := range all {
		if line.Type == "admission_denied" {
			told += line.Events()
		}
	}
	if told != flood {
		t.Errorf("%d of %d events of the flood are told", told, flood)
	}
	if most := bounds[ofClaim].rows + 10 + len(wanted); len(all) > most {
		t.Errorf("%d lines", len(all))
	}
}

// TestOneActorCrowdsNobodyOut: a proved actor that does ever new things is told
// by type and code after a while, under its own name, and others are not.
func TestOneActorCrowdsNobodyOut(t *testing.T) {
	r := newRepeats()
	now := time.UnixMilli(testMs)
	for i := range 10 * bounds[ofProved].ofOne {
		e := refusalOf("noisy", "DELETE /v1/peers/{peer}", fmt.Sprint("node", i))
		r.note(&e, now)
		if e.Actor.ID != "noisy" {
			t.Fatalf("event %d is of %+v", i, e.Actor)
		}
	}
	other := refusalOf("noisy", "POST /v1/leader/transfer", "")
	if first := r.note(&other, now); !first || other.Action != "POST /v1/leader/transfer" || other.Actor.ID != "noisy" {
		t.Errorf("what else it tries: first %t: %+v", first, other)
	}
	for i := range 10 * bounds[ofProved].ofOne {
		e := refusalOf("noisy", fmt.Sprint("GET /", i), "")
		if r.note(&e, now); e.Actor.ID != "noisy" {
			t.Fatalf("action %d is of %+v", i, e.Actor)
		}
	}
	e := refusalOf("quiet", "DELETE /v1/peers/{peer}", "node1")
	if first := r.note(&e, now); !first || e.Action == "" || e.Details["subject"] != "node1" {
		t.Errorf("first %t: %+v", first, e)
	}
	if n := len(r.rows); n != 2*bounds[ofProved].ofOne+2 { // events, actions, the rest of them, and the quiet one's
		t.Errorf("%d rows", n)
	}
}

// TestNodesOwnEventsKeepTheirName however many there are.
func TestNodesOwnEventsKeepTheirName(t *testing.T) {
	r := newRepeats()
	now := time.UnixMilli(testMs)
	for i := range 3 * bounds[ofNode].rows {
		e := Event{Type: "superseded", Level: LevelHigh, Actor: Actor{Kind: kindNode, ID: "node-1", Proved: true}, Details: map[string]string{"epoch": fmt.Sprint(i)}}
		r.note(&e, now)
		if e.Actor.Kind != kindNode || e.Actor.ID != "node-1" {
			t.Fatalf("event %d is of %+v", i, e.Actor)
		}
	}
}

func TestRepeatsAreBounded(t *testing.T) {
	for name, actorOf := range map[string]func(int) Actor{
		"claims":    func(i int) Actor { return Actor{Kind: "agent", ID: fmt.Sprint(i)} },
		"addresses": func(i int) Actor { return Actor{Kind: kindAddress, ID: fmt.Sprint(i)} },
		"proved":    func(i int) Actor { return Actor{Kind: "agent", ID: fmt.Sprint(i), Proved: true} },
	} {
		r := newRepeats()
		now := time.UnixMilli(testMs)
		const events = 40_000
		first := 0
		for i := range events {
			e := Event{Type: "admission_denied", Code: "unknown_agent", Actor: actorOf(i)}
			if r.note(&e, now) {
				first++
			}
		}
		b := bounds[classOf(actorOf(0))]
		if most := b.rows + b.actions + b.sums + 1; len(r.rows) > most || len(r.actors) > b.actors {
			t.Errorf("%s: %d rows, at most %d; %d actors, at most %d", name, len(r.rows), most, len(r.actors), b.actors)
		}
		counted := uint64(first)
		for _, row := range r.due(now.Add(sumWindow), true) {
			counted += row.n
		}
		if counted != events || len(r.rows) != 0 || r.count != (repeats{}).count {
			t.Errorf("%s: %d events, %d rows left, counts %v", name, counted, len(r.rows), r.count)
		}
		r.due(now.Add(24*time.Hour), false)
		if len(r.actors) != 0 || r.known != (repeats{}).known {
			t.Errorf("%s: %d actors remembered after a day, %v", name, len(r.actors), r.known)
		}
	}
}

// TestOutsidersBytesADay: made-up names with long texts, and as many addresses,
// stay under the stated bound; an hour of them stands for the day.
func TestOutsidersBytesADay(t *testing.T) {
	const stated = (16 << 20) / 24
	r := newRepeats()
	now := time.UnixMilli(testMs)
	long := strings.Repeat("x", 200)
	total, burst := 0, 2*(4<<20)/burstShare
	write := func(e Event, count uint64) {
		line := Line{Seq: 1 << 40, TimeMs: testMs, Node: "59cc5266-b3ca-4d87-8611-a6768aff8d0d", Type: e.Type, Level: e.Level, Actor: e.Actor, Action: e.Action,
			RequestID: e.RequestID, Code: e.Code, Index: e.Index, Count: count, FirstMs: testMs, LastMs: testMs, Details: e.Details}
		text, _, err := seal(&line, noHash)
		if err != nil {
			t.Fatal(err)
		}
		if e.Action != "" && len(text) > e.lineBytes() {
			t.Fatalf("a line of %d bytes was paid as %d", len(text), e.lineBytes())
		}
		total += len(text)
	}
	for round := 0; now.Before(time.UnixMilli(testMs).Add(time.Hour)); round++ {
		for i := range 540 {
			claim := claimOf(fmt.Sprint(round, i, "<\x01", long)).bounded()
			address := Event{Type: fmt.Sprint("t", i%12), Level: LevelWarn, Code: "unauthorized", Action: "POST /register", Actor: Actor{Kind: kindAddress, ID: fmt.Sprint("192.0.", round%255, ".", i)},
				Details: map[string]string{"subject": fmt.Sprint(round, i, long)}}.bounded()
			for _, e := range []Event{claim, address, claim} {
				if r.note(&e, now) {
					write(e, 0)
				}
			}
		}
		now = now.Add(repeatWindow)
		for _, row := range r.due(now, false) {
			write(row.event, row.n)
		}
	}
	if total > stated+burst || total < burst/2 {
		t.Errorf("%d bytes in an hour, stated are %d and %d at once", total, stated, burst)
	}
}

// TestAnOutsiderDoesNotRollTheLogAway: what an admin did long before a flood is
// still there, where a flood filled the whole log in three and a half hours.
func TestAnOutsiderDoesNotRollTheLogAway(t *testing.T) {
	dir := t.TempDir()
	c := newClock()
	l := mustOpen(t, Options{Dir: dir, Now: c.now, FileBytes: 1 << 20, TotalBytes: 8 << 20})
	commit(t, l, Event{Type: "token_create", Level: LevelInfo, Actor: Actor{Kind: "token", ID: "thief", Proved: true}, Action: "POST /v1/tokens", Code: "ok"})
	for round := range 120 { // an hour, of a log that is 32 times as small
		for i := range 600 {
			l.Append(claimOf(fmt.Sprintf("%d-%0120d", round, i%540)))
		}
		c.move(repeatWindow)
		commit(t, l, Event{Type: "tick", Level: LevelInfo, Actor: Actor{Kind: kindNode, ID: "node-1", Proved: true}})
	}
	page, err := l.Read(context.Background(), Query{Type: "token_create", Limit: 1, Bytes: 1 << 20})
	if err != nil || len(page.Lines) != 1 {
		t.Errorf("the admin's line is gone: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) > 4 {
		t.Errorf("%d files, %v", len(files), err)
	}
}

func TestALogKnowsWhatItHolds(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir, FileBytes: 1500, TotalBytes: 4500})
	var heads []Head
	for i := range 30 {
		commit(t, l, numbered(i))
		heads = append(heads, l.Head())
	}
	holds := func(h Head) bool {
		t.Helper()
		yes, err := l.Holds(context.Background(), h)
		if err != nil {
			t.Fatal(err)
		}
		return yes
	}
	newest := heads[len(heads)-1]
	if !holds(newest) || !holds(heads[len(heads)-2]) || !holds(Head{Hash: noHash.String()}) {
		t.Error("it does not know its own lines")
	}
	for name, h := range map[string]Head{"made room": heads[0], "ahead": {Seq: newest.Seq + 1, Hash: newest.Hash}, "another hash": {Seq: newest.Seq, Hash: heads[0].Hash}, "no line": {Hash: newest.Hash}} {
		if holds(h) {
			t.Errorf("%s: it says that it holds %v", name, h)
		}
	}
}
