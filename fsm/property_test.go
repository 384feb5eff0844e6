package fsm

import (
	"runtime"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/ledger"
)

// P4: replicas that applied the same log are the same, however they got there.

func TestP4AgreementReplayEqualsReplay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t, 80)
		replay(t, NewState(), w.log)
	})
}

// Two runs of maps in other orders, on one and on two processors.
func TestP4AgreementOnAnyProcessors(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t, 40)
		for _, n := range []int{1, 2, 1} {
			runtime.GOMAXPROCS(n)
			s := NewState()
			replay(t, s, w.log)
			if s.FullDigest() != w.s.Digest() {
				t.Fatalf("on %d processors the state differs", n)
			}
		}
	})
}

// A replica that restarts from a snapshot at any index goes on like one that
// never stopped: answers, records, digests and marks.
func TestP4AgreementSnapshotAtEveryIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t, 25)
		s, h := NewState(), NewMemoryHistory()
		for i, l := range w.log {
			replay(t, s, w.log[i:i+1])
			if err := h.Append(1, l.records); err != nil {
				t.Fatal(err)
			}
			back, records := restored(t, snapshotOf(t, s, h))
			if !sameEncoding(back.Marks(), s.Marks()) {
				t.Fatalf("index %d: other marks after the restore", l.index)
			}
			replay(t, back, w.log[i+1:])
			if !sameEncoding(back.Marks(), w.s.Marks()) || back.FullDigest() != w.s.Digest() {
				t.Fatalf("restored at index %d it ends elsewhere", l.index)
			}
			if err := h.Append(1, records); err != nil {
				t.Fatalf("index %d: the snapshot's history differs: %v", l.index, err)
			}
		}
	})
}

// A restart at every single index in turn is a restart too many for any
// derived index that is not rebuilt whole.
func TestP4AgreementRestartAfterEachCommand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t, 40)
		s, h := NewState(), NewMemoryHistory()
		for i, l := range w.log {
			replay(t, s, w.log[i:i+1])
			if err := h.Append(1, l.records); err != nil {
				t.Fatal(err)
			}
			s, _ = restored(t, snapshotOf(t, s, h))
		}
		if s.FullDigest() != w.s.Digest() {
			t.Fatal("it ends elsewhere")
		}
	})
}

func TestP4AgreementIncrementalDigest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := startWorld(t)
		for i := range rapid.IntRange(1, 60).Draw(t, "commands") {
			cmd := w.draw(t, i)
			w.apply(cmd)
			if w.s.Digest() != w.s.FullDigest() {
				t.Fatalf("kind %d: the digest kept is not that of the contents", cmd.Kind)
			}
		}
	})
}

// The model's word against the state's on every claim, ban and tick.
func TestP1OnceP2BanHoldsP6LimitsAgainstTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, m := startWorld(t), newModel(t)
		for _, l := range w.log {
			m.follow(l)
		}
		for i := range rapid.IntRange(1, 120).Draw(t, "commands") {
			w.apply(w.draw(t, i))
			m.follow(w.log[len(w.log)-1])
			if err := m.checkState(w.s); err != nil {
				t.Fatalf("after index %d, kind %d: %v", w.index, w.log[len(w.log)-1].cmd.Kind, err)
			}
		}
	})
}

// P7 the same way, with little but the ledger and the clock going on.
func TestP7LedgerAgainstTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, m := startWorld(t), newModel(t)
		for _, l := range w.log {
			m.follow(l)
		}
		for i := range rapid.IntRange(1, 80).Draw(t, "commands") {
			w.apply(w.drawOfLedger(t, i))
			m.follow(w.log[len(w.log)-1])
			if err := m.checkState(w.s); err != nil {
				t.Fatalf("after index %d, kind %d: %v", w.index, w.log[len(w.log)-1].cmd.Kind, err)
			}
			if w.s.Digest() != w.s.FullDigest() {
				t.Fatalf("after index %d the digest kept is not that of the contents", w.index)
			}
		}
		w.soundLedger()
		replay(t, NewState(), w.log)
		back, records := restored(t, snapshotOf(t, w.s, w.history))
		soundLedger(t, back, historyOf(t, records))
	})
}

// A second replica that restarts now and then answers, records and is the same: whatever
// it derives follows from the rows alone, not from what they were.
func TestP4AgreementLedgerRestarts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := startWorld(t)
		w.raiseTo(LevelLedger)
		other, _ := restored(t, snapshotOf(t, w.s, w.history))
		for i := range rapid.IntRange(1, 80).Draw(t, "commands") {
			w.apply(w.drawOfLedgerAtAnyTime(t, i))
			replay(t, other, w.log[len(w.log)-1:])
			if chance(t, "restart", 3) {
				other, _ = restored(t, snapshotOf(t, w.s, w.history))
			}
		}
		w.soundLedger()
	})
}

// P3: the chain is contiguous and verifies, the history has no gaps, and the
// actions of the log are all there in order.
func TestP3AppendOnlyHistoryIsGapless(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t, 80)
		_, size := w.s.Chain()
		verifyChain(t, w.s, w.history, int(size))
		soundLedger(t, w.s, w.history)
		for _, stream := range Streams() {
			last := Record{}
			for _, r := range recordsOf(t, w.history, stream) {
				if r.Seq != last.Seq+1 || r.Index < last.Index || r.Index > w.index {
					t.Fatalf("stream %d: record %d of index %d follows %d of %d", stream, r.Seq, r.Index, last.Seq, last.Index)
				}
				last = r
			}
		}
		for _, l := range w.log {
			mutates := l.cmd.Kind != KindTick && l.cmd.Kind != KindAdmitBatch
			if !l.res.OK() && len(l.records) > 0 && !releases(l) {
				t.Fatalf("index %d: refused with %s, yet in history", l.index, l.res.Code)
			}
			if l.res.OK() && mutates && !l.res.Repeated && len(l.records) == 0 && !idle(l) {
				t.Fatalf("index %d, kind %d: took effect, not in history", l.index, l.cmd.Kind)
			}
		}
	})
}

// idle: asking for what is the case already is answered and changes nothing.
func idle(l logged) bool {
	return l.cmd.Kind == KindAgentSetState || l.cmd.Kind == KindTokenRevoke || l.cmd.Kind == KindCoordinatorRemove ||
		l.cmd.Kind == KindLedgerAccountSet || l.cmd.Kind.answersEach()
}

// releases: an operation of the ledger that is refused under a key has given back what
// was over, as an entry without operations does.
func releases(l logged) bool {
	for _, r := range l.records {
		rec, err := ledger.ParseRecord(r.Data)
		if r.Stream != StreamLedger || err != nil || rec.Kind != ledger.KindExpire {
			return false
		}
	}
	return l.cmd.Kind == KindLedgerBatch
}

// P9: a refusal changes nothing: the state is that of a replica which got a
// tick of the same time instead.
func TestP9HonestRefusalChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := startWorld(t)
		for i := range rapid.IntRange(1, 40).Draw(t, "commands") {
			cmd := w.draw(t, i)
			before := snapshotOf(t, w.s, w.history)
			res := w.apply(cmd)
			if res.OK() {
				continue
			}
			twin, _ := restored(t, before)
			var nothing any = Tick{}
			if len(res.Ledger) > 0 {
				nothing = LedgerBatch{} // which gives back what is over, too
			}
			tick, err := New(Actor{}, nothing)
			if err != nil {
				t.Fatal(err)
			}
			tick.AtMs = cmd.AtMs
			if _, _, err := twin.Apply(w.index, tick); err != nil {
				t.Fatal(err)
			}
			if got, want := w.s.FieldDigests(), twin.FieldDigests(); !sameEncoding(got, want) {
				t.Fatalf("kind %d, refused with %s (%s): the fields are %v, a tick makes them %v", cmd.Kind, res.Code, res.Detail, got, want)
			}
		}
	})
}

func TestClockIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := startWorld(t)
		for i := range rapid.IntRange(1, 60).Draw(t, "commands") {
			before := w.s.Meta()
			cmd := w.draw(t, i)
			res := w.apply(cmd)
			after := w.s.Meta()
			if cmd.Kind == KindClockRecover && res.OK() && !res.Repeated {
				if after.ClockMs != cmd.AtMs || after.ClockMs >= before.ClockMs || after.Epoch != max(before.Epoch, before.Reserved)+1 {
					t.Fatalf("at %d: from %+v to %+v", cmd.AtMs, before, after)
				}
				continue // the one that sets it back
			}
			if after.ClockMs < before.ClockMs || after.Epoch != before.Epoch || after.NonceFloorMs < before.NonceFloorMs || after.TickTerm < before.TickTerm {
				t.Fatalf("kind %d: from %+v to %+v", cmd.Kind, before, after)
			}
			if after.ClockMs > before.ClockMs+MaxAheadMs && cmd.Kind != KindTick {
				t.Fatalf("kind %d moved the clock by %d", cmd.Kind, after.ClockMs-before.ClockMs)
			}
			if res.Code == CodeClockAhead && after.ClockMs != before.ClockMs {
				t.Fatal("a refused stamp moved the clock")
			}
			if want := max(before.ClockMs, cmd.AtMs); res.Code != CodeClockAhead && after.ClockMs != want {
				t.Fatalf("kind %d at %d: the clock is %d", cmd.Kind, cmd.AtMs, after.ClockMs)
			}
		}
	})
}
