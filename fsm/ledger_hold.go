package fsm

import (
	"container/heap"
	"fmt"

	"github.com/edgecoder/edgecoder/ledger"
)

// PendingHold is an amount that is set aside. It is in force while the cluster
// clock is before ExpiresMs, at that very moment it is none any more: posting and
// voiding are refused then, whether it has been taken away yet or not.
type PendingHold struct {
	ID        ledger.ID `cbor:"1,keyasint"`
	Debit     string    `cbor:"2,keyasint"`
	Credit    string    `cbor:"3,keyasint"`
	Amount    int64     `cbor:"4,keyasint"`
	ExpiresMs int64     `cbor:"5,keyasint"`
	Index     uint64    `cbor:"6,keyasint"` // entry that made it
}

func (h PendingHold) inForce(nowMs int64) bool { return nowMs < h.ExpiresMs }

func (l *ledgerState) putHold(h PendingHold) {
	key := string(h.ID[:])
	l.holds.put(key, h)
	l.indexHold(key, h)
}

func (l *ledgerState) dropHold(h PendingHold) {
	key := string(h.ID[:])
	l.holds.remove(key)
	l.accounts.get(h.Debit).ends.remove(l.holdEnds.drop(key))
}

func (l *ledgerState) indexHold(key string, h PendingHold) {
	if row := l.accounts.get(h.Debit); row != nil { // else of a damaged snapshot: Validate refuses it
		heap.Push(&row.ends, l.holdEnds.add(key, h.ExpiresMs))
	}
}

// reindexHolds makes the ends of holds anew, after a restore.
func (l *ledgerState) reindexHolds() {
	l.holdEnds = newEndIndex()
	for _, row := range l.accounts.m {
		row.ends.list = nil
	}
	for key, h := range l.holds.m {
		l.indexHold(key, h)
	}
}

// releaseHolds gives back what holds whose time has come held, the earliest first, as
// long as this entry of the log gave back fewer than so many: the rest waits for the
// next entry or mark, or for somebody who needs it. Until then it is neither spent nor
// lost, and which ones wait follows from the state alone.
func (s *State) releaseHolds(c *change, most int) {
	for c.released < most {
		key, ok := s.ledger.holdEnds.first(c.atMs + 1)
		if !ok {
			return
		}
		s.release(c, key)
	}
}

// releaseOf gives back what has ended on an account until so much is available, or the
// entry has given back all that one may.
func (s *State) releaseOf(c *change, row *ledgerRow, amount int64) {
	for c.released < MaxReleases && row.Available() < amount {
		key, ok := row.ends.first(c.atMs + 1)
		if !ok {
			return
		}
		s.release(c, key)
	}
}

// release gives a hold back that is over. It stands whatever becomes of the command
// that it made room for.
func (s *State) release(c *change, key string) {
	h, _ := s.ledger.holds.get(key)
	row := s.ledger.accounts.get(h.Debit)
	row.Held -= h.Amount
	s.ledger.accounts.changed(row)
	s.ledger.dropHold(h)
	c.released++
	s.seal(c, &ledger.Record{Kind: ledger.KindExpire, Hold: h.ID, Debit: h.Debit, DebitHeld: row.Held})
}

// LedgerHold returns a hold that is in force at nowMs.
func (s *State) LedgerHold(id ledger.ID, nowMs int64) (PendingHold, bool) {
	h, ok := s.ledger.holds.get(string(id[:]))
	return h, ok && h.inForce(nowMs)
}

func (s *State) holdFault(key string, h PendingHold) error {
	row := s.ledger.accounts.get(h.Debit)
	switch {
	case key != string(h.ID[:]):
		return fmt.Errorf("it says that it is %s", h.ID)
	case row == nil || s.ledger.accounts.get(h.Credit) == nil || h.Debit == h.Credit:
		return fmt.Errorf("from %s to %s: no two accounts", shown(h.Debit), shown(h.Credit))
	case h.Amount < 1 || h.Amount > ledger.MaxMicro:
		return fmt.Errorf("an amount of %d", h.Amount)
	}
	return timeFault(lastTimeMs+ledger.MaxLifeMs, "its end", h.ExpiresMs)
}
