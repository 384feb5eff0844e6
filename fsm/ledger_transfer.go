package fsm

import (
	"encoding/binary"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/ledger"
)

// decide decides one entry and lets it take effect; a code other than CodeOK
// changes nothing. Everything is asked before anything is changed.
func (r *ledgerRun) decide(i int, last bool) (code Code, field string) {
	e := &r.batch.Entries[i]
	if int(e.Caller) >= len(r.callers) {
		return CodeUnauthorized, ""
	}
	caller := &r.callers[e.Caller]
	switch {
	case caller.code != CodeOK:
		return caller.code, ""
	case last && e.Linked:
		return CodeInvalid, "linked" // to nothing of its caller's
	}
	key := r.key(i)
	if code, field := r.mayUse(e, caller, key); code != CodeOK {
		return code, field
	}
	if plantLedgerLost && e.Op == LedgerTransfer && e.ID[15]%8 == 0 {
		r.chain.ids = append(r.chain.ids, idUse{e.ID, key, r.tag(e)})
		return CodeOK, "" // planted
	}
	rec := ledger.Record{Actor: caller.actor, ID: e.ID, Ref: e.Ref}
	switch e.Op {
	case LedgerTransfer:
		code, field = r.transfer(e, caller, &rec)
	case LedgerHold:
		code, field = r.hold(e, caller, &rec)
	case LedgerPost:
		code, field = r.post(e, caller, &rec)
	case LedgerVoid:
		code, field = r.void(e, caller, &rec)
	default:
		return CodeInvalid, "op"
	}
	if code != CodeOK {
		return code, field
	}
	r.s.seal(r.c, &rec)
	r.chain.ids = append(r.chain.ids, idUse{e.ID, key, r.tag(e)})
	if r.chain.used != nil {
		r.chain.used[e.ID] = true
	}
	return CodeOK, ""
}

// mayUse asks whether the id of an entry may be used now, for the first time.
func (r *ledgerRun) mayUse(e *LedgerEntry, caller *standing, key nonceKey) (Code, string) {
	code, field := r.s.ledgerIDTimeCode(e.ID, r.c.atMs)
	switch {
	case code == CodeInvalid:
		return code, field
	case !r.chain.fresh && r.s.ledgerIDUsed(e.ID, key):
		return CodeConflict, "id"
	case code != CodeOK:
		return code, field
	case caller.replay: // its first answer was a refusal
		return CodeReplay, ""
	case r.chain.used[e.ID]:
		return CodeConflict, "id"
	case !r.s.ledger.ids.room(caller, len(r.chain.ids)+1):
		return CodeOverloaded, "id"
	case !ledger.RefAllowed(e.Ref):
		return CodeInvalid, "ref"
	}
	return CodeOK, ""
}

// ledgerIDCode: an id is good for one use while its time is in the window. One that
// is older may have been used and forgotten, so it is refused for ever.
func (s *State) ledgerIDCode(id ledger.ID, key nonceKey, nowMs int64) (Code, string) {
	code, field := s.ledgerIDTimeCode(id, nowMs)
	if code != CodeInvalid && s.ledgerIDUsed(id, key) {
		return CodeConflict, "id"
	}
	return code, field
}

func (s *State) ledgerIDUsed(id ledger.ID, key nonceKey) bool {
	_, used := s.ledger.ids.find(id.TimeMs(), key)
	return used
}

// ledgerIDTimeCode is ledgerIDCode of an id that was not used.
func (s *State) ledgerIDTimeCode(id ledger.ID, nowMs int64) (Code, string) {
	if id.Fault() != "" {
		return CodeInvalid, "id"
	}
	book, at := &s.ledger.book.v, id.TimeMs()
	switch {
	case at <= book.IDFloorMs || nowMs-at > book.Policy.IDWindowMs || inRanges(book.Closed, at):
		return CodeIDExpired, "id"
	case at-nowMs > ledger.MaxAheadMs:
		return CodeIDAhead, "id"
	}
	return CodeOK, ""
}

func amountAllowed(n int64) bool { return n >= 1 && n <= ledger.MaxMicro }

// sides returns the two accounts of a transfer or hold, and asks what is the same
// for both operations.
func (r *ledgerRun) sides(e *LedgerEntry, caller *standing) (debit, credit *ledgerRow, code Code, field string) {
	if int(e.Debit) >= len(r.rows) || int(e.Credit) >= len(r.rows) {
		return nil, nil, CodeInvalid, "accounts"
	}
	debit, credit = r.rows[e.Debit], r.rows[e.Credit]
	switch {
	case !amountAllowed(e.Amount):
		return nil, nil, CodeInvalid, "amount"
	case debit == nil:
		return nil, nil, CodeNotFound, "debit"
	case credit == nil:
		return nil, nil, CodeNotFound, "credit"
	case debit == credit:
		return nil, nil, CodeInvalid, "credit"
	case !caller.mayDebit(debit):
		return nil, nil, CodeForbidden, "debit"
	case debit.Frozen:
		return nil, nil, CodeAccountFrozen, "debit"
	}
	if debit.Available() >= e.Amount || plantLedgerFloor {
		return debit, credit, CodeOK, ""
	}
	if _, ended := debit.ends.first(r.c.atMs + 1); ended { // and this entry of the log gives no more back
		return nil, nil, CodeOverloaded, "debit"
	}
	return nil, nil, CodeInsufficient, "amount"
}

func (r *ledgerRun) transfer(e *LedgerEntry, caller *standing, rec *ledger.Record) (Code, string) {
	debit, credit, code, field := r.sides(e, caller)
	if code != CodeOK {
		return code, field
	}
	if code, field := r.move(debit, credit, e.Amount, 0); code != CodeOK {
		return code, field
	}
	rec.Kind = ledger.KindTransfer
	moved(rec, debit, credit, e.Amount)
	return CodeOK, ""
}

func (r *ledgerRun) hold(e *LedgerEntry, caller *standing, rec *ledger.Record) (Code, string) {
	debit, credit, code, field := r.sides(e, caller)
	switch {
	case code != CodeOK:
		return code, field
	case e.ExpiresMs <= r.c.atMs || e.ExpiresMs-r.c.atMs > r.s.ledger.book.v.Policy.HoldMaxMs:
		return CodeInvalid, "expires_ms"
	case !r.s.ledger.roomForHold(caller, debit):
		return CodeOverloaded, "hold"
	}
	if _, pending := r.s.ledger.holds.get(string(e.ID[:])); pending { // of another caller: holds are ended by their id alone
		return CodeConflict, "id"
	}
	h := PendingHold{ID: e.ID, Debit: debit.ID, Credit: credit.ID, Amount: e.Amount, ExpiresMs: e.ExpiresMs, Index: r.c.index}
	r.touch(debit)
	debit.Held += e.Amount
	r.chain.holds = append(r.chain.holds, holdBefore{hold: h})
	r.s.ledger.putHold(h)
	rec.Kind, rec.ExpiresMs = ledger.KindHold, e.ExpiresMs
	moved(rec, debit, credit, e.Amount)
	return CodeOK, ""
}

func (r *ledgerRun) post(e *LedgerEntry, caller *standing, rec *ledger.Record) (Code, string) {
	h, debit, credit, code := r.pending(e)
	amount := e.Amount
	if amount == 0 {
		amount = h.Amount
	}
	switch {
	case code != CodeOK:
		return code, "hold"
	case !caller.mayDebit(debit):
		return CodeForbidden, "hold"
	case amount < 1 || amount > h.Amount:
		return CodeInvalid, "amount"
	case debit.Frozen:
		return CodeAccountFrozen, "debit"
	}
	if code, field := r.move(debit, credit, amount, h.Amount); code != CodeOK {
		return code, field
	}
	r.drop(h)
	rec.Kind, rec.Hold = ledger.KindPost, e.Hold
	moved(rec, debit, credit, amount)
	return CodeOK, ""
}

// void is also for whoever would have been paid: to refuse money is everybody's right.
func (r *ledgerRun) void(e *LedgerEntry, caller *standing, rec *ledger.Record) (Code, string) {
	h, debit, credit, code := r.pending(e)
	switch {
	case code != CodeOK:
		return code, "hold"
	case !caller.mayDebit(debit) && !caller.owns(credit):
		return CodeForbidden, "hold"
	}
	r.touch(debit)
	debit.Held -= h.Amount
	r.drop(h)
	rec.Kind, rec.Hold, rec.Debit, rec.DebitHeld = ledger.KindVoid, e.Hold, debit.ID, debit.Held
	return CodeOK, ""
}

// pending returns the hold that an entry ends, with its accounts.
func (r *ledgerRun) pending(e *LedgerEntry) (h PendingHold, debit, credit *ledgerRow, code Code) {
	h, ok := r.s.ledger.holds.get(string(e.Hold[:]))
	switch {
	case !ok:
		return h, nil, nil, CodeNotFound
	case !h.inForce(r.c.atMs):
		return h, nil, nil, CodeHoldExpired
	}
	accounts := r.s.ledger.accounts
	return h, accounts.get(h.Debit), accounts.get(h.Credit), CodeOK
}

func (r *ledgerRun) drop(h PendingHold) {
	r.chain.holds = append(r.chain.holds, holdBefore{hold: h, was: true})
	r.s.ledger.dropHold(h)
}

// move takes an amount from one account to another, and so much off what is held.
func (r *ledgerRun) move(debit, credit *ledgerRow, amount, held int64) (Code, string) {
	after, ok := ledger.Add(credit.Balance, amount)
	if !ok {
		return CodeOverflow, "credit"
	}
	r.touch(debit)
	r.touch(credit)
	debit.Balance -= amount
	debit.Held -= held
	credit.Balance = after
	return CodeOK, ""
}

// moved fills in what a record says of two accounts.
func moved(rec *ledger.Record, debit, credit *ledgerRow, amount int64) {
	rec.Debit, rec.Credit, rec.Amount = debit.ID, credit.ID, amount
	rec.DebitBalance, rec.DebitHeld, rec.CreditBalance = debit.Balance, debit.Held, credit.Balance
}

func appendPart(dst []byte, part string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(part))), part...)
}

func appendNumber(dst []byte, n int64) []byte { return binary.BigEndian.AppendUint64(dst, uint64(n)) }

// shortTag is the first half of a SHA-256, see ClaimTag.
func shortTag(text []byte) ClaimTag {
	sum := crypto.Sum(text)
	return ClaimTag(sum[:16])
}
