package judge

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
)

// issuance is the one account that may owe without a floor: what it owes is what
// there is.
const issuance = "@issuance"

// ledgerBooks are the nodes' records as the judge read them, by node.
type ledgerBooks struct {
	byNode map[string]*ledgerBook
	// longest is the one that answers are held against; nil when no node gave any.
	longest *ledgerBook
}

// ledgerBook is one node's records, walked from the first by the judge's own rules.
type ledgerBook struct {
	node     string
	records  []ledgerRecord
	accounts map[string]*ledgerAccount
	byID     map[string]int        // place of what moved money under an id
	holds    map[string]ledgerHold // every hold there ever was
	faults   []string              // what is wrong with the records
	broken   bool                  // records that could not be read are missing
	strange  bool                  // kinds that this model does not know moved money
}

// ledgerAccount is an account with its history: what was on it from each record on.
type ledgerAccount struct {
	floor   int64
	history []onAccount
}

type onAccount struct {
	at            int // place of the record
	index         uint64
	balance, held int64
	floor         int64
}

func (a onAccount) available() int64 { return a.balance - a.held - a.floor }

// ledgerHold is a hold from the record that made it to the one that ended it.
type ledgerHold struct {
	ledgerRecord
	ended   bool
	endedAt uint64 // index
}

// maxFaults bounds what one book is blamed for: after that it is the same story.
const maxFaults = 10

func (r *Run) ledgerBooks() ledgerBooks {
	all := ledgerBooks{byNode: map[string]*ledgerBook{}}
	for i := range r.Finals {
		f := &r.Finals[i]
		if f.Ledger == nil || f.Ledger.Error != "" {
			continue
		}
		if same := all.byNode[f.Ledger.SameAs]; same != nil {
			all.byNode[f.Node] = same
			continue
		}
		b := walkRecords(f.Node, f.Ledger.Records)
		all.byNode[f.Node] = b
		if all.longest == nil || len(b.records) > len(all.longest.records) {
			all.longest = b
		}
	}
	return all
}

func walkRecords(node string, texts []string) *ledgerBook {
	b := &ledgerBook{node: node, accounts: map[string]*ledgerAccount{}, byID: map[string]int{}, holds: map[string]ledgerHold{}}
	b.open(issuance, -(1<<53 - 1))
	b.open("@reserve", 0)
	for i, text := range texts {
		r, err := parseRecord(text)
		if err != nil {
			b.blame("record %d: %v", i+1, err)
			b.broken = true // what follows hangs on it
			return b
		}
		b.follow(&r)
		b.records = append(b.records, r)
		b.take(&r)
	}
	return b
}

func (b *ledgerBook) blame(format string, args ...any) {
	if len(b.faults) < maxFaults {
		b.faults = append(b.faults, fmt.Sprintf(format, args...))
	}
}

// follow holds a record against the one before it.
func (b *ledgerBook) follow(r *ledgerRecord) {
	n := len(b.records)
	if r.seq != uint64(n+1) {
		b.blame("record %d stands at %d", r.seq, n+1)
	}
	if n == 0 {
		return
	}
	before := &b.records[n-1]
	switch {
	case r.prev != before.hash:
		b.blame("record %d follows %.12s, but record %d has the hash %.12s", r.seq, r.prev, before.seq, before.hash)
	case r.index < before.index:
		b.blame("record %d is of index %d, the one before of %d", r.seq, r.index, before.index)
	case r.atMs < before.atMs:
		b.blame("record %d is of the clock %d, the one before of %d", r.seq, r.atMs, before.atMs)
	}
}

func (b *ledgerBook) open(id string, floor int64) *ledgerAccount {
	a := b.accounts[id]
	if a == nil {
		a = &ledgerAccount{history: []onAccount{{at: -1, floor: floor}}}
		b.accounts[id] = a
	}
	a.floor = floor
	return a
}

// last is what is on an account after all that was walked.
func (a *ledgerAccount) last() onAccount { return a.history[len(a.history)-1] }

// take lets a record take effect. It is the model: every rule is asked of what was before.
func (b *ledgerBook) take(r *ledgerRecord) {
	if r.kind == recordAccount {
		now := b.open(r.debit, r.floor).last()
		b.put(r, r.debit, now.balance, now.held)
		return
	}
	if r.id != "" {
		if at, twice := b.byID[r.id]; twice {
			b.blame("id %s moved money twice: records %d and %d", r.id, at+1, r.seq)
		}
		b.byID[r.id] = len(b.records) - 1
	}
	switch r.kind {
	case recordTransfer:
		b.pay(r, 0)
	case recordHold:
		b.holds[r.id] = ledgerHold{ledgerRecord: *r}
		if r.expiresMs <= r.atMs {
			b.blame("record %d holds until %d, which was past at %d", r.seq, r.expiresMs, r.atMs)
		}
		if a := b.account(r, r.debit); a != nil && b.account(r, r.credit) != nil {
			b.put(r, r.debit, a.balance, a.held+r.amount)
			b.floorHolds(r, r.debit)
			b.says(r, "held", r.debitHeld, a.held+r.amount)
		}
	case recordPost:
		if h, ok := b.end(r); ok {
			if r.debit != h.debit || r.credit != h.credit || r.amount > h.amount {
				b.blame("record %d posts %d from %s to %s of a hold of %d from %s to %s", r.seq, r.amount, r.debit, r.credit, h.amount, h.debit, h.credit)
			}
			b.pay(r, h.amount)
		}
	case recordVoid, recordExpire:
		if h, ok := b.end(r); ok {
			if a := b.account(r, h.debit); a != nil {
				b.put(r, h.debit, a.balance, a.held-h.amount)
				b.says(r, "held", r.debitHeld, a.held-h.amount)
			}
		}
	default:
		b.strange = b.strange || r.kind > recordExpire && r.kind != 13
	}
}

// account returns what is on an account before a record that names it.
func (b *ledgerBook) account(r *ledgerRecord, id string) *onAccount {
	a := b.accounts[id]
	if a == nil {
		b.blame("record %d names %q, which is no account", r.seq, id)
		return nil
	}
	now := a.last()
	return &now
}

func (b *ledgerBook) put(r *ledgerRecord, id string, balance, held int64) {
	a := b.accounts[id]
	a.history = append(a.history, onAccount{at: len(b.records) - 1, index: r.index, balance: balance, held: held, floor: a.floor})
}

// pay moves the amount of a record, and takes so much off what the payer has set aside.
func (b *ledgerBook) pay(r *ledgerRecord, held int64) {
	from, to := b.account(r, r.debit), b.account(r, r.credit)
	if from == nil || to == nil {
		return
	}
	if r.amount < 1 || r.debit == r.credit {
		b.blame("record %d moves %d from %s to %s", r.seq, r.amount, r.debit, r.credit)
		return
	}
	b.put(r, r.debit, from.balance-r.amount, from.held-held)
	b.put(r, r.credit, to.balance+r.amount, to.held)
	b.floorHolds(r, r.debit)
	b.says(r, "balance of the debit account", r.debitBalance, from.balance-r.amount)
	b.says(r, "balance of the credit account", r.creditBalance, to.balance+r.amount)
	if r.kind == recordPost {
		b.says(r, "held", r.debitHeld, from.held-held)
	}
}

// floorHolds holds P7: no account goes below its floor.
func (b *ledgerBook) floorHolds(r *ledgerRecord, id string) {
	if now := b.accounts[id].last(); now.available() < 0 {
		b.blame("record %d leaves %s with %d, of which %d are held: below its floor %d", r.seq, id, now.balance, now.held, now.floor)
	}
}

func (b *ledgerBook) says(r *ledgerRecord, what string, says, is int64) {
	if says != is {
		b.blame("record %d says that the %s is %d, but it is %d", r.seq, what, says, is)
	}
}

// end takes a hold away: it must be there, posting and voiding must come before
// its end, expiry not.
func (b *ledgerBook) end(r *ledgerRecord) (ledgerHold, bool) {
	h, ok := b.holds[r.hold]
	if !ok || h.ended {
		b.blame("record %d ends the hold %s, which there is none of (any more)", r.seq, r.hold)
		return h, false
	}
	if over := r.atMs >= h.expiresMs; over != (r.kind == recordExpire) {
		b.blame("record %d at %d ends a hold that lasts until %d", r.seq, r.atMs, h.expiresMs)
	}
	h.ended, h.endedAt = true, r.index
	b.holds[r.hold] = h
	return h, true
}

// sum of all accounts: zero, whatever happened.
func (b *ledgerBook) sum() (sum int64) {
	for _, a := range b.accounts {
		sum += a.last().balance
	}
	return sum
}

// at returns what was on the account once all entries of the log up to index had
// taken effect.
func (a *ledgerAccount) at(index uint64) onAccount {
	i := sort.Search(len(a.history), func(i int) bool { return a.history[i].index > index })
	return a.history[max(i-1, 0)]
}

// during returns all that was on the account while the entry of index took
// effect: before it, and after each of its records.
func (a *ledgerAccount) during(index uint64) []onAccount {
	all := []onAccount{a.at(index - 1)}
	from, _ := slices.BinarySearchFunc(a.history, index, func(on onAccount, index uint64) int { return cmp.Compare(on.index, index) })
	for _, on := range a.history[from:] {
		if on.index != index {
			break
		}
		all = append(all, on)
	}
	return all
}
