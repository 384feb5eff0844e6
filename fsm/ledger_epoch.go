package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/edgecoder/edgecoder/ledger"
)

// OpenEpoch is an epoch in which something was confirmed and which is not closed yet.
type OpenEpoch struct {
	WindowMs int64  `cbor:"1,keyasint"` // its beginning
	Weight   int64  `cbor:"2,keyasint"` // of all accounts, millionths of a second
	Accounts uint64 `cbor:"3,keyasint"`
}

// EpochWeight is what an account did in an open epoch.
type EpochWeight struct {
	Account string `cbor:"1,keyasint"`
	Weight  int64  `cbor:"2,keyasint"`
}

// epochKey begins the keys of an epoch's weights, and is its own.
func epochKey(windowMs int64) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(windowMs)))
}

// countingIn returns the epoch in which what is confirmed now counts: that of the
// clock, but none that was closed, should the clock have been set back.
func (s *State) countingIn() int64 {
	return s.ledger.book.v.Finalised.Next(ledger.WindowOf(s.meta.v.ClockMs))
}

// countCode tells whether a weight can be counted for an account now.
func (s *State) countCode(account string, weight int64) (Code, string) {
	l, window := s.ledger, s.countingIn()
	epoch, open := l.epochs.get(epochKey(window))
	if !open && l.epochs.full() {
		return CodeOverloaded, "epochs"
	}
	row, known := l.weights.get(epochKey(window) + account)
	if !known && (l.weights.full() || epoch.Accounts >= MaxEpochAccounts) {
		return CodeOverloaded, "accounts"
	}
	if row.Weight+weight > l.book.v.Policy.MaxWeight { // so that no epoch has more than MaxMicro
		return CodeOverflow, "weight"
	}
	return CodeOK, ""
}

// count has a report count; countCode was asked.
func (s *State) count(c *change, r *PendingReport, actor string) {
	l, window := s.ledger, s.countingIn()
	key := epochKey(window)
	epoch, _ := l.epochs.get(key)
	row, known := l.weights.get(key + r.Account)
	if !known {
		epoch.Accounts++
	}
	epoch.WindowMs, epoch.Weight = window, epoch.Weight+r.Weight()
	l.epochs.put(key, epoch)
	l.weights.put(key+r.Account, EpochWeight{Account: r.Account, Weight: row.Weight + r.Weight()})
	*r = l.decide(*r, c, ReportConfirmed)
	s.seal(c, &ledger.Record{Kind: ledger.KindConfirm, Actor: actor, ID: r.ID, Credit: r.Account, Weight: r.Weight(), WindowMs: window})
}

// OldestEpoch returns the open epoch that is to be closed next.
func (s *State) OldestEpoch() (OpenEpoch, bool) {
	var oldest OpenEpoch
	for _, e := range s.ledger.epochs.m {
		if oldest.Accounts == 0 || e.WindowMs < oldest.WindowMs {
			oldest = e
		}
	}
	return oldest, oldest.Accounts > 0
}

// applyLedgerEpochClose finalises an epoch and pays it, all of it in one entry: it
// has MaxEpochAccounts accounts at most. No epoch is closed twice, for only open
// ones are, and what is confirmed later counts in a later one.
func (s *State) applyLedgerEpochClose(c *change, b LedgerEpochClose) Result {
	if res, ok := s.mayClose(c); !ok {
		return res
	}
	if res, ok := s.ledgerOpen(); !ok {
		return res
	}
	if field := b.Load.Fault(); field != "" {
		return refuse(CodeInvalid, "load."+field, "outside 0..%d", int64(ledger.MaxLoad))
	}
	epoch, open := s.OldestEpoch()
	switch {
	case !open || epoch.WindowMs != b.WindowMs:
		return refuse(CodeConflict, "window_ms", "the epoch of %d is not the oldest that is open: it was closed, or nothing was confirmed in it", b.WindowMs)
	case c.atMs < epoch.WindowMs+ledger.EpochMs:
		return refuse(CodeConflict, "window_ms", "the epoch of %d lasts until %d, the cluster clock is %d", b.WindowMs, b.WindowMs+ledger.EpochMs, c.atMs)
	}
	book := s.ledger.book.v
	smoothed := book.Policy.Smooth(book.Smoothed, b.Load.Index())
	pool := min(book.Policy.Pool(smoothed), s.ledger.accounts.get(ledger.Issuance).Available())
	shares := s.sharesOf(epoch, pool)
	book.Smoothed, book.Finalised = smoothed, book.Finalised.With(epoch.WindowMs)
	closed := append(slices.Clone(book.Recent), ClosedEpoch{WindowMs: epoch.WindowMs, Seq: book.Size + 1, Index: c.index, AtMs: c.atMs,
		Weight: epoch.Weight, Accounts: epoch.Accounts, Smoothed: smoothed, Pool: pool})
	book.Recent = closed[max(0, len(closed)-MaxClosedEpochs):]
	s.ledger.book.set(book)
	s.seal(c, &ledger.Record{Kind: ledger.KindEpoch, Actor: s.principal(c.actor), WindowMs: epoch.WindowMs, Weight: epoch.Weight,
		Epoch: &ledger.Epoch{Load: b.Load, Smoothed: smoothed, Pool: pool, Accounts: epoch.Accounts}})
	s.payShares(c, epoch, shares)
	return Result{Code: CodeOK, ID: strconv.FormatInt(epoch.WindowMs, 10)}
}

// mayClose: the leader does it by itself, an admin may.
func (s *State) mayClose(c *change) (Result, bool) {
	if c.actor.TokenID == "" && c.actor.NodeID != "" {
		if _, member := s.coordinators.get(c.actor.NodeID); !member {
			return refuse(CodeForbidden, "", "%q is no coordinator", c.actor.NodeID), false
		}
		return Result{}, true
	}
	return s.actorCan(c, CapAdmin)
}

// epochShare is what an account earns in an epoch.
type epochShare struct {
	key    string // of its weight, "" for the remainder
	row    *ledgerRow
	weight int64
	amount int64
	why    ledger.Withheld
}

// sharesOf divides a pool by weight, in the order of accounts, each share rounded
// down. The rest goes to the reserve: what an account cannot take, too, and what one
// earned that is frozen now or whose agent may not act. Whatever becomes of one
// account, the epoch is closed.
func (s *State) sharesOf(epoch OpenEpoch, pool int64) []epochShare {
	l, prefix := s.ledger, epochKey(epoch.WindowMs)
	shares := make([]epochShare, 0, epoch.Accounts+1)
	for key, w := range l.weights.m {
		if strings.HasPrefix(key, prefix) {
			shares = append(shares, s.shareOf(key, w, ledger.Share(pool, w.Weight, epoch.Weight)))
		}
	}
	slices.SortFunc(shares, func(a, b epochShare) int { return strings.Compare(a.key, b.key) })
	rest := pool
	for _, share := range shares {
		rest -= share.amount
	}
	if rest > 0 {
		reserve := l.accounts.get(ledger.Reserve)
		shares = append(shares, epochShare{row: reserve, amount: ledger.Payable(rest, reserve.Balance)})
	}
	return shares
}

func (s *State) shareOf(key string, w EpochWeight, share int64) epochShare {
	out := epochShare{key: key, row: s.ledger.accounts.get(w.Account), weight: w.Weight}
	switch {
	case out.row.Frozen:
		out.why = ledger.WithheldFrozen
	case s.agentCode(out.row.Owner) != CodeOK:
		out.why = ledger.WithheldAgent
	default:
		out.amount = ledger.Payable(share, out.row.Balance)
	}
	return out
}

func (s *State) payShares(c *change, epoch OpenEpoch, shares []epochShare) {
	l := s.ledger
	issuance := l.accounts.get(ledger.Issuance)
	for _, share := range shares {
		issuance.Balance -= share.amount
		share.row.Balance += share.amount
		l.accounts.changed(share.row)
		if share.key != "" {
			l.weights.remove(share.key)
		}
		s.seal(c, &ledger.Record{Kind: ledger.KindShare, WindowMs: epoch.WindowMs, Credit: share.row.ID, Weight: share.weight,
			Amount: share.amount, CreditBalance: share.row.Balance, Withheld: share.why})
	}
	l.accounts.changed(issuance)
	l.epochs.remove(epochKey(epoch.WindowMs))
}

// ActiveAgents counts the agents that may act, bans apart.
func (s *State) ActiveAgents() (n int) {
	for _, a := range s.agents.m {
		if a.State == AgentActive {
			n++
		}
	}
	return n
}

// OpenEpochs returns the epochs that are not closed yet, the oldest first.
func (s *State) OpenEpochs() []OpenEpoch { return s.ledger.epochs.values() }

// epochsFault holds the open epochs against the weights of their accounts.
func (s *State) epochsFault() error {
	left := map[string]OpenEpoch{}
	for key, e := range s.ledger.epochs.m {
		if e.WindowMs < 0 || e.WindowMs%ledger.EpochMs != 0 || key != epochKey(e.WindowMs) {
			return fmt.Errorf("an epoch that begins at %d", e.WindowMs)
		}
		if e.Accounts < 1 || e.Accounts > MaxEpochAccounts || e.Weight > ledger.MaxMicro {
			return fmt.Errorf("the epoch of %d has %d accounts and a weight of %d", e.WindowMs, e.Accounts, e.Weight)
		}
		left[key] = e
	}
	for key, w := range s.ledger.weights.m {
		if len(key) < len(epochKey(0)) || key[len(epochKey(0)):] != w.Account || s.ledger.accounts.get(w.Account) == nil || w.Weight < 1 {
			return fmt.Errorf("a weight of %d of %s", w.Weight, shown(w.Account))
		}
		window := key[:len(epochKey(0))]
		e := left[window]
		e.Accounts, e.Weight = e.Accounts-1, e.Weight-w.Weight
		if e.Weight < 0 {
			return errors.New("the accounts of an epoch have more weight than the epoch")
		}
		left[window] = e
	}
	for _, e := range left {
		if e.Accounts != 0 || e.Weight != 0 {
			return errors.New("the accounts of an epoch have other weights than the epoch")
		}
	}
	return nil
}
