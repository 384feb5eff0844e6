package fsm

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/dcbor"
	"github.com/edgecoder/edgecoder/ledger"
)

// LedgerAccount is an account and what is on it.
type LedgerAccount struct {
	ledger.Account
	Balance int64            // micro-credits; credits less debits
	Held    int64            // sum of the holds that are pending on it
	Key     crypto.PublicKey // that signed the newest report for it, as the records say
}

// Available is what may leave the account now.
func (a *LedgerAccount) Available() int64 { return a.Balance - a.Held - a.Floor }

// ledgerAccounts are the accounts by id. A transfer changes two of them, so unlike
// the rows of a table they change in place, and their share of the digest is
// brought up to date when it is asked for, as that of rateWindows.
type ledgerAccounts struct {
	m     map[string]*ledgerRow
	ids   idList
	sum   Digest
	dirty []*ledgerRow // whose share of sum may be out of date, each once

	debtors map[string]*ledgerRow // that admins let owe; derived
}

type ledgerRow struct {
	LedgerAccount
	sum   Digest // the account's share of the digest when it was last clean
	fresh bool   // it has no share yet
	dirty bool   // changed since

	// Derived, rebuilt by restore.
	ends    endHeap // of the holds on it
	reports int     // for it
	pays    int     // reports that it is to pay for
}

func newLedgerAccounts() *ledgerAccounts {
	return &ledgerAccounts{m: map[string]*ledgerRow{}, debtors: map[string]*ledgerRow{}}
}

func (t *ledgerAccounts) full() bool { return len(t.m) >= MaxLedgerAccounts }

func (t *ledgerAccounts) get(id string) *ledgerRow { return t.m[id] }

func (t *ledgerAccounts) add(a LedgerAccount) *ledgerRow {
	row := &ledgerRow{LedgerAccount: a, fresh: true, ends: endHeap{own: heapOfAccount}}
	t.m[a.ID] = row
	t.ids.add(a.ID)
	t.changed(row)
	t.mayOwe(row)
	return row
}

// mayOwe is to be called whenever the floor of a row is not what it was.
func (t *ledgerAccounts) mayOwe(row *ledgerRow) {
	if row.Kind != ledger.KindSystem && row.Floor < 0 {
		t.debtors[row.ID] = row
	} else {
		delete(t.debtors, row.ID)
	}
}

// changed is to be called whenever a row is not what it was.
func (t *ledgerAccounts) changed(row *ledgerRow) {
	if !row.dirty {
		row.dirty = true
		t.dirty = append(t.dirty, row)
	}
}

// maxDirtyAccounts bounds what is left for whoever asks for the digest, at a mark or
// a snapshot: some 10 ms.
const maxDirtyAccounts = 8_192

// settle brings the digest up to date once much has changed. It is for the end of an
// entry of the log: rows may be marked before they change.
func (t *ledgerAccounts) settle() {
	if len(t.dirty) > maxDirtyAccounts {
		t.digest()
	}
}

// encode returns the row of an account: the array of its members.
func (a *LedgerAccount) encode(dst []byte) []byte {
	frozen := uint64(0)
	if a.Frozen {
		frozen = 1
	}
	dst = dcbor.AppendArray(dst, 8, false)
	dst = dcbor.AppendText(dst, a.ID)
	dst = dcbor.AppendUnsigned(dst, uint64(a.Kind))
	dst = dcbor.AppendText(dst, a.Owner)
	dst = dcbor.AppendSigned(dst, a.Floor)
	dst = dcbor.AppendUnsigned(dst, frozen)
	dst = dcbor.AppendSigned(dst, a.Balance)
	dst = dcbor.AppendSigned(dst, a.Held)
	return dcbor.AppendBytes(dst, a.Key[:])
}

func (t *ledgerAccounts) label() string { return "ledger_accounts" }
func (t *ledgerAccounts) size() int     { return len(t.m) }

func (t *ledgerAccounts) usage() (rows, most int) { return len(t.m), MaxLedgerAccounts }

func (t *ledgerAccounts) digest() Digest {
	var room [320]byte
	for _, row := range t.dirty {
		if !row.fresh {
			t.sum.sub(row.sum)
		}
		row.sum = sumElement(t.label(), row.encode(room[:0]))
		t.sum.add(row.sum)
		row.fresh, row.dirty = false, false
	}
	clear(t.dirty)
	t.dirty = t.dirty[:0]
	return t.sum
}

func (t *ledgerAccounts) recompute() Digest {
	var sum Digest
	for _, row := range t.m {
		sum.add(sumElement(t.label(), row.encode(nil)))
	}
	return sum
}

func (t *ledgerAccounts) load(data []byte) error {
	var a LedgerAccount
	d := dcbor.NewReader(data)
	d.List(8)
	a.ID, a.Kind, a.Owner = d.Text(), ledger.AccountKind(d.UnsignedTo(1<<8-1)), d.Text()
	a.Floor, a.Frozen = d.Signed(), d.UnsignedTo(1) == 1
	a.Balance, a.Held = d.Signed(), d.Signed()
	d.Fill(a.Key[:])
	switch {
	case !d.Done():
		return errors.New("an account is not in canonical form")
	case t.m[a.ID] != nil:
		return fmt.Errorf("account %s twice", shown(a.ID))
	case t.full():
		return fmt.Errorf("more than %d accounts", MaxLedgerAccounts)
	}
	t.add(a)
	return nil
}

// frozenAccounts are copies, in no order yet: sorting is for whoever writes them.
type frozenAccounts []LedgerAccount

func (t *ledgerAccounts) freeze() frozen {
	f := make(frozenAccounts, 0, len(t.m))
	for _, row := range t.m {
		f = append(f, row.LedgerAccount)
	}
	return f
}

func (f frozenAccounts) count() int { return len(f) }

func (f frozenAccounts) rows() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		byID := func(a, b LedgerAccount) int { return strings.Compare(a.ID, b.ID) }
		for _, a := range slices.SortedFunc(slices.Values(f), byID) {
			if !yield(a.encode(nil), nil) {
				return
			}
		}
	}
}

// LedgerAccount returns an account by id.
func (s *State) LedgerAccount(id string) (LedgerAccount, bool) {
	row := s.ledger.accounts.get(id)
	if row == nil {
		return LedgerAccount{}, false
	}
	return row.LedgerAccount, true
}

// LedgerOwed is what accounts owe that admins let: credits that were spent and never issued.
func (s *State) LedgerOwed() (sum int64) {
	for _, row := range s.ledger.accounts.debtors {
		sum -= min(0, row.Balance)
	}
	return sum
}

// LedgerAccounts returns up to limit accounts with ids after the given one, in order.
func (s *State) LedgerAccounts(after string, limit int) []LedgerAccount {
	ids := s.ledger.accounts.ids.after(after, limit)
	out := make([]LedgerAccount, 0, len(ids))
	for _, id := range ids {
		out = append(out, s.ledger.accounts.m[id].LedgerAccount)
	}
	return out
}

// applyLedgerAccountSet: operators make accounts and freeze them; what lets an
// account owe is a kind of issuance, and takes an admin. The first account opens
// the ledger, under the first policy.
func (s *State) applyLedgerAccountSet(c *change, b LedgerAccountSet) Result {
	row := s.ledger.accounts.get(b.ID)
	need := CapOperate
	if row == nil && b.Floor < 0 || row != nil && b.Floor != row.Floor {
		need = CapAdmin
	}
	if res, ok := s.actorCan(c, need); !ok {
		return res
	}
	want := ledger.Account(b)
	if field, fault := want.Fault(); fault != "" {
		return refuse(CodeInvalid, field, "%s", fault)
	}
	if row == nil {
		if s.ledger.accounts.full() {
			return refuse(CodeOverloaded, "", "there are %d accounts, no room for one more", MaxLedgerAccounts)
		}
		if want.Floor > 0 {
			return refuse(CodeConflict, "floor", "a new account is empty: its floor cannot be %d", want.Floor)
		}
		if !s.ledger.book.known {
			s.setLedgerPolicy(c, ledger.FirstPolicy())
		}
		s.ledger.accounts.add(LedgerAccount{Account: want})
		s.recordAccount(c, want)
		return Result{Code: CodeOK, ID: want.ID}
	}
	switch {
	case row.Kind != want.Kind || row.Owner != want.Owner:
		return refuse(CodeConflict, "owner", "%q is of the %s %q, and stays so: open another account", row.ID, row.Kind, row.Owner)
	case row.Balance-row.Held < want.Floor:
		return refuse(CodeConflict, "floor", "%q has %d and %d of it is held: its floor cannot be %d", row.ID, row.Balance, row.Held, want.Floor)
	case row.Account == want:
		return Result{Code: CodeOK, ID: row.ID}
	}
	row.Account = want
	s.ledger.accounts.changed(row)
	s.ledger.accounts.mayOwe(row)
	s.recordAccount(c, want)
	return Result{Code: CodeOK, ID: row.ID}
}

func (s *State) recordAccount(c *change, a ledger.Account) {
	s.seal(c, &ledger.Record{Kind: ledger.KindAccount, Actor: s.principal(c.actor), Account: &a})
}
