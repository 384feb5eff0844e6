package gossip

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func lineOf(t *testing.T, tb *table, id string) Member {
	t.Helper()
	for _, m := range tb.members() {
		if m.Card.NodeID == id {
			return m
		}
	}
	return Member{State: "absent"}
}

func TestTableCards(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	tb := newTable(testCard(t, "self", 1, 1), "1.1.1.1:1", now)
	if tb.up(testCard(t, "b", 2, 100), "2.2.2.2:2", true, now) {
		t.Error("the first card is a replay")
	}
	if !tb.up(testCard(t, "b", 2, 99), "2.2.2.2:2", true, now) || lineOf(t, tb, "b").Card.IssuedMs != 100 {
		t.Error("an older card was taken")
	}
	same := testCard(t, "b", 2, 100)
	same.API = "elsewhere:1"
	if err := same.Sign(testKey(2)); err != nil {
		t.Fatal(err)
	}
	if !tb.up(same, "2.2.2.2:2", true, now) || lineOf(t, tb, "b").Card.API != "api:1" {
		t.Error("a second card of the same time was taken")
	}
	// A card under another key, newer but not trusted, displaces nothing.
	tb.up(testCard(t, "b", 3, 1<<50), "2.2.2.2:2", false, now)
	if m := lineOf(t, tb, "b"); m.Card.IssuedMs != 100 || m.State != StateAlive {
		t.Errorf("displaced by a stranger: %+v", m)
	}
	tb.up(testCard(t, "b", 2, 101), "2.2.2.2:2", true, now)
	if lineOf(t, tb, "b").Card.IssuedMs != 101 {
		t.Error("a newer card was not taken")
	}
	// The same stranger first: the true card displaces it, though older.
	tb.up(testCard(t, "c", 3, 1<<50), "3.3.3.3:3", false, now)
	if s := lineOf(t, tb, "c").State; s != StateUntrusted {
		t.Errorf("a stranger is %s", s)
	}
	tb.up(testCard(t, "c", 2, 5), "3.3.3.3:3", true, now)
	if m := lineOf(t, tb, "c"); m.Card.IssuedMs != 5 || m.State != StateAlive {
		t.Errorf("the true card did not displace a stranger's: %+v", m)
	}
}

// TestTableClockThatRanAhead: a node that once signed with a clock far ahead is not barred until that time.
func TestTableClockThatRanAhead(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	tb := newTable(testCard(t, "self", 1, 1), "1.1.1.1:1", now)
	tb.up(testCard(t, "b", 2, 1<<50), "2.2.2.2:2", true, now)
	later := now.Add(2 * cardFuture)
	if tb.up(testCard(t, "b", 2, later.UnixMilli()), "2.2.2.2:2", true, later) {
		t.Error("barred")
	}
}

func TestTableLifeAndDeath(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	tb := newTable(testCard(t, "self", 1, 1), "1.1.1.1:1", now)
	b := testCard(t, "b", 2, 1)
	want := func(state string, at time.Time) {
		t.Helper()
		if m := lineOf(t, tb, "b"); m.State != state || (state != "absent" && m.ChangedMs != at.UnixMilli()) {
			t.Errorf("%s since %d, not %s since %d", m.State, m.ChangedMs, state, at.UnixMilli())
		}
	}
	at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
	tb.up(b, "x:1", true, at(0))
	want(StateAlive, at(0))
	tb.setSuspect("b", true, at(1))
	want(StateSuspect, at(1))
	tb.setSuspect("b", false, at(2))
	want(StateAlive, at(2))
	tb.down("b", at(3))
	want(StateDead, at(3))
	tb.setSuspect("b", true, at(4))
	want(StateDead, at(3))
	tb.farewell("b", at(5)) // a goodbye that death overtook
	want(StateLeft, at(5))
	tb.up(b, "x:1", true, at(6))
	tb.down("b", at(7)) // the goodbye was for the last life
	want(StateDead, at(7))
	tb.farewell("b", at(7).Add(2*leaveGrace))
	want(StateDead, at(7))
	tb.up(b, "x:1", true, at(200))
	tb.farewell("b", at(201))
	want(StateAlive, at(200))
	tb.down("b", at(202))
	want(StateLeft, at(202))
	tb.expire(at(202).Add(keepDead))
	want(StateLeft, at(202))
	tb.expire(at(202).Add(keepDead + time.Second))
	want("absent", at(0))
	tb.down("self", at(300))
	tb.farewell("self", at(300))
	if s := lineOf(t, tb, "self").State; s != StateAlive {
		t.Errorf("others' word made us %s", s)
	}
}

func TestTableIsBounded(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	tb := newTable(testCard(t, "self", 1, 1), "1.1.1.1:1", now)
	card := testCard(t, "x", 2, 1)
	for i := range MaxMembers + 10 {
		card.NodeID = fmt.Sprintf("n%d", i)
		tb.up(card, "x:1", true, now.Add(time.Duration(i)))
		tb.down(card.NodeID, now.Add(time.Duration(i)*time.Millisecond))
	}
	if all, _ := tb.count(); all != MaxMembers {
		t.Errorf("%d lines", all)
	}
	if tb.known("n0") || !tb.known(fmt.Sprintf("n%d", MaxMembers+9)) || !tb.known("self") {
		t.Error("not the longest dead made room")
	}
}

func TestInboxIsBounded(t *testing.T) {
	var count counters
	q := newInbox(&count)
	b := []byte{1, 2, 3}
	q.put(item{news: b})
	b[0] = 9
	if it := <-q.items; it.news[0] != 1 {
		t.Error("the bytes were not copied")
	}
	q.bytes.Store(0)
	for range maxInbox + 5 {
		q.put(item{news: []byte{1}})
	}
	if d := count.inboxDropped.Load(); d != 5 {
		t.Errorf("%d dropped", d)
	}
	for range maxInbox {
		q.taken(<-q.items)
	}
	for range 20 {
		q.put(item{state: make([]byte, 1<<20)})
	}
	if d := count.inboxDropped.Load(); d != 17 {
		t.Errorf("%d dropped", d)
	}
	if n := q.bytes.Load(); n != 8<<20 {
		t.Errorf("%d bytes counted", n)
	}
}

func TestLogIsBoundedAndLevelled(t *testing.T) {
	var out strings.Builder
	l := newMemberlistLogger(slog.New(slog.NewTextHandler(&out, nil)), func(string) {})
	l.Printf("[DEBUG] memberlist: quiet")
	l.Printf("[ERR] memberlist: %s", strings.Repeat("ä", 1000))
	for range 1000 {
		l.Printf("[WARN] memberlist: again")
	}
	s := out.String()
	if strings.Contains(s, "quiet") || !strings.Contains(s, "level=WARN") || strings.Contains(s, "�") || len(s) > 10_000 {
		t.Errorf("%d bytes: %.300s", len(s), s)
	}
}
