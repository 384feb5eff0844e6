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
	// The ends of holds that were posted or voided stay until their time: not more
	// of them than there are holds.
	if len(l.ends) > 2*l.holds.size()+64 {
		l.reindexHolds()
	}
}

func (l *ledgerState) dropHold(h PendingHold) {
	l.holds.remove(string(h.ID[:]))
	row := l.accounts.get(h.Debit)
	if row.holds--; row.holds == 0 {
		row.ends = nil
	}
}

func (l *ledgerState) indexHold(key string, h PendingHold) {
	row, end := l.accounts.get(h.Debit), expiry{atMs: h.ExpiresMs, key: key}
	if row == nil {
		return // a damaged snapshot: Validate refuses it
	}
	row.holds++
	heap.Push(&l.ends, end)
	heap.Push(&row.ends, end)
}

// reindexHolds rebuilds the ends of holds.
func (l *ledgerState) reindexHolds() {
	l.ends = make(expiryIndex, 0, l.holds.size())
	for _, row := range l.accounts.m {
		row.ends, row.holds = nil, 0
	}
	for key, h := range l.holds.m {
		l.indexHold(key, h)
	}
}

// releaseHolds gives back what holds whose time has come held, the earliest first,
// up to a bound: the rest waits for the next entry or mark, or for somebody who
// needs it. Until then it is neither spent nor lost, and which ones wait follows
// from the state alone.
func (s *State) releaseHolds(c *change) {
	for n := 0; n < MaxReleases; n++ {
		h, ok := s.ledger.ended(&s.ledger.ends, c.atMs)
		if !ok {
			return
		}
		s.release(c, h)
	}
}

// releaseOf gives back what has ended on an account until so much is available, up to
// a bound that is beyond what anybody but an operator sets aside on one.
func (s *State) releaseOf(c *change, row *ledgerRow, amount int64) {
	for n := 0; n < 2*MaxAccountHolds && row.Available() < amount; n++ {
		h, ok := s.ledger.ended(&row.ends, c.atMs)
		if !ok {
			return
		}
		s.release(c, h)
	}
}

// ended takes the first hold that is over out of an index.
func (l *ledgerState) ended(ends *expiryIndex, nowMs int64) (PendingHold, bool) {
	for len(*ends) > 0 && (*ends)[0].atMs <= nowMs {
		e := heap.Pop(ends).(expiry)
		if h, ok := l.holds.get(e.key); ok && h.ExpiresMs == e.atMs {
			return h, true
		} // else it was posted, voided or given back
	}
	return PendingHold{}, false
}

func (s *State) release(c *change, h PendingHold) {
	row := s.ledger.accounts.get(h.Debit)
	row.Held -= h.Amount
	s.ledger.accounts.changed(row)
	s.ledger.dropHold(h)
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
