package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/ledger"
)

// copyFrom takes over the ledger of another state, all of it: balances without the
// records they follow from would be worth nothing. Nothing is shared.
func (l *ledgerState) copyFrom(from *ledgerState) {
	if from.book.known {
		l.book.set(from.book.v)
	}
	for _, row := range from.accounts.m {
		l.accounts.add(row.LedgerAccount)
	}
	copyTable(l.holds, from.holds, nil)
	copyTable(l.reports, from.reports, nil)
	copyTable(l.epochs, from.epochs, nil)
	copyTable(l.weights, from.weights, nil)
	for number, row := range from.ids.each() {
		l.ids.insertAt(number, row)
	}
	l.reindexHolds()
	l.reindexReports()
}

// recoverLedger goes on under a new recovery epoch. Whatever was asked for before
// may be lost or undone, and ids may have been forgotten, so all of up to a minute
// from now are refused: who had no answer looks the transfer up in the records. If
// the clock was set back, what it forgot while it ran ahead is closed for ever, but for
// the times that a jump skipped, which no id has. What was confirmed in epochs ahead
// of the clock counts in those that come now, and no report is kept for longer than if
// it came, or was decided, now.
func (s *State) recoverLedger(c *change, was Meta) {
	if !s.ledger.book.known {
		return
	}
	book := s.ledger.book.v
	floor := max(s.meta.v.NonceFloorMs, later(s.meta.v.ClockMs, ledger.MaxAheadMs))
	if forgot := book.IDFloorMs; forgot > floor {
		for _, r := range (TimeRange{FromMs: floor + 1, ToMs: forgot}).without(was.Skipped) {
			book.Closed = withRange(book.Closed, r, floor)
		}
	}
	book.IDFloorMs = floor
	s.ledger.book.set(book)
	s.renameEpochs()
	s.ledger.recoverReports(was.ClockMs, s.meta.v.ClockMs)
	s.seal(c, &ledger.Record{Kind: ledger.KindRecovery, Actor: s.principal(c.actor),
		Recovery: &ledger.Recovery{Epoch: s.meta.v.Epoch, FloorMs: floor, WasMs: was.ClockMs, ClusterID: s.meta.v.ClusterID}})
}

// recoverReports forgets what was over by the clock that was, so that it is not there
// again, and has the others end by the clock that is.
func (l *ledgerState) recoverReports(wasMs, nowMs int64) {
	for _, key := range l.reports.sortedKeys() {
		r, latest := l.reports.m[key], nowMs+l.book.v.Policy.ReportKeepMs
		if r.Verdict != ReportPending {
			latest = nowMs + l.book.v.Policy.IDWindowMs
		}
		switch {
		case r.ExpiresMs < wasMs:
			l.dropReport(key, r)
		case r.ExpiresMs > latest:
			l.dropReport(key, r)
			r.ExpiresMs = latest
			l.putReport(r)
		}
	}
}

// renameEpochs brings open epochs that lie ahead of the clock back to it.
func (s *State) renameEpochs() {
	l := s.ledger
	var open []int64
	for _, e := range l.epochs.m {
		open = append(open, e.WindowMs)
	}
	names := l.book.v.Finalised.Moved(open, ledger.WindowOf(s.meta.v.ClockMs))
	if len(names) == 0 {
		return
	}
	epochs, weights := l.epochs.m, l.weights.m
	l.epochs, l.weights = newTable[OpenEpoch](l.epochs.name, l.epochs.cap), newTable[EpochWeight](l.weights.name, l.weights.cap)
	for _, e := range epochs {
		e.WindowMs = newName(names, e.WindowMs)
		l.epochs.put(epochKey(e.WindowMs), e)
	}
	for key, w := range weights {
		window := int64(binary.BigEndian.Uint64([]byte(key[:len(epochKey(0))])))
		l.weights.put(epochKey(newName(names, window))+w.Account, w)
	}
}

func newName(names map[int64]int64, window int64) int64 {
	if name, moved := names[window]; moved {
		return name
	}
	return window
}

// closeRange closes a range of times to ids.
func (l *ledgerState) closeRange(r TimeRange) {
	l.book.v.Closed = withRange(l.book.v.Closed, r, l.book.v.IDFloorMs)
}

// isLedgerHead holds a record of the ledger against the head of the book.
func (s *State) isLedgerHead(r Record) error {
	rec, err := ledger.ParseRecord(r.Data)
	if err == nil && rec.Hash != s.ledger.book.v.Head {
		err = fmt.Errorf("it hashes to %s, the head is %s", rec.Hash, s.ledger.book.v.Head)
	}
	return err
}

// ledgerFaults are the checks of Validate: by themselves the fields hold what
// commands make, and together they balance.
func (s *State) ledgerFaults() error {
	l := s.ledger
	if !l.book.known {
		for _, f := range l.fields() {
			if f.size() != 0 {
				return fmt.Errorf("%s has rows, and the ledger was never opened", f.label())
			}
		}
		return nil
	}
	for _, f := range []struct {
		name  string
		check func() error
	}{
		{"ledger_book", l.book.v.fault},
		{"ledger_accounts", s.ledgerAccountsFault},
		{"ledger_holds", func() error { return eachRow(l.holds, s.holdFault) }},
		{"ledger_ids", func() error { return s.bucketsFault(l.ids) }},
		{"ledger_reports", func() error { return eachRow(l.reports, s.reportFault) }},
		{"ledger_epochs", s.epochsFault},
	} {
		if err := f.check(); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

func (b LedgerBook) fault() error {
	if field, fault := b.Policy.Fault(); fault != "" {
		return fmt.Errorf("policy: %s: %s", field, fault)
	}
	if err := crypto.CheckID(b.Origin); err != nil {
		return fmt.Errorf("origin: %w", err)
	}
	switch {
	case b.Policy.Version < 1 || b.Size < 1 || b.Head == (crypto.Hash{}):
		return fmt.Errorf("policy version %d, %d records, head %s", b.Policy.Version, b.Size, b.Head)
	case b.Smoothed < 0 || b.Smoothed > ledger.MaxLoadMicro:
		return fmt.Errorf("a load index of %d", b.Smoothed)
	case len(b.Recent) > MaxClosedEpochs:
		return fmt.Errorf("%d epochs that were closed, at most %d", len(b.Recent), MaxClosedEpochs)
	case len(b.Closed) > maxClosed:
		return fmt.Errorf("%d closed ranges, at most %d", len(b.Closed), maxClosed)
	case b.Finalised.Fault():
		return fmt.Errorf("closed epochs %v", b.Finalised)
	}
	for _, r := range b.Closed {
		if err := timeFault(lastTimeMs, "a closed range", r.FromMs, "its end", r.ToMs); err != nil {
			return err
		}
	}
	return timeFault(lastTimeMs, "the floor of ids", b.IDFloorMs)
}

// ledgerAccountsFault holds P7 against the accounts: they sum up to zero, none is
// below its floor, and what is held is what holds hold.
func (s *State) ledgerAccountsFault() error {
	accounts := s.ledger.accounts
	held := map[string]int64{}
	for _, h := range s.ledger.holds.m {
		held[h.Debit] += h.Amount
	}
	for _, a := range ledger.SystemAccounts() {
		if row := accounts.get(a.ID); row == nil || row.Account != a {
			return fmt.Errorf("%s is not there, or not as it should be", a.ID)
		}
	}
	var sum int64 // of at most MaxLedgerAccounts balances, which may wrap around and come back
	for id, row := range accounts.m {
		if field, fault := row.Fault(); fault != "" && row.Kind != ledger.KindSystem {
			return fmt.Errorf("row %s: %s: %s", shown(id), field, fault)
		}
		switch {
		case id != row.ID || row.Kind == ledger.KindSystem && id != ledger.Issuance && id != ledger.Reserve:
			return fmt.Errorf("row %s: it says that it is %s of the %s", shown(id), shown(row.ID), row.Kind)
		case row.Balance < -ledger.MaxMicro || row.Balance > ledger.MaxMicro || row.Held != held[id] || row.Held < 0:
			return fmt.Errorf("row %s: a balance of %d with %d held", shown(id), row.Balance, row.Held)
		case row.Available() < 0:
			return fmt.Errorf("row %s: %d with %d held is below its floor %d", shown(id), row.Balance, row.Held, row.Floor)
		}
		sum += row.Balance
	}
	if sum != 0 {
		return errors.New("the balances do not sum up to zero")
	}
	return nil
}
