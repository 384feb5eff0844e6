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
	heap.Push(&l.ends, expiry{atMs: h.ExpiresMs, key: key})
	// The ends of holds that were posted or voided stay until their time: not more
	// of them than there are holds.
	if len(l.ends) > 2*l.holds.size()+64 {
		l.reindex()
	}
}

// reindex rebuilds the ends of holds.
func (l *ledgerState) reindex() {
	l.ends = make(expiryIndex, 0, l.holds.size())
	for key, h := range l.holds.m {
		l.ends = append(l.ends, expiry{atMs: h.ExpiresMs, key: key})
	}
	heap.Init(&l.ends)
}

// releaseHolds gives back what holds whose time has come held, the earliest first,
// up to a bound: the rest waits for the next entry or mark. Until then it is
// neither spent nor lost, and which ones wait follows from the state alone.
func (s *State) releaseHolds(c *change) {
	l := s.ledger
	for n := 0; n < MaxReleases && len(l.ends) > 0 && l.ends[0].atMs <= c.atMs; {
		e := heap.Pop(&l.ends).(expiry)
		h, ok := l.holds.get(e.key)
		if !ok || h.ExpiresMs != e.atMs {
			continue // it was posted or voided
		}
		row := l.accounts.get(h.Debit)
		row.Held -= h.Amount
		l.accounts.changed(row)
		l.holds.remove(e.key)
		s.seal(c, &ledger.Record{Kind: ledger.KindExpire, Hold: h.ID, Debit: h.Debit, DebitHeld: row.Held})
		n++
	}
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
