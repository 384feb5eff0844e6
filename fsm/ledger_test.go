package fsm

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/ledger"
)

// P7: every transfer balances, the sum of all accounts is zero, no account goes
// below its floor, the same id moves money once.

func TestP7LedgerIsClosedUntilItIsOpened(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	for _, body := range []any{w.transferOf("a", "b", 1), LedgerReports{}, LedgerConfirm{}, LedgerEpochClose{}} {
		w.want(w.do(admin, body), CodeConflict)
	}
	if need := w.s.NeedsLevel(); need >= LevelLedger {
		t.Errorf("a state without a ledger needs level %d", need)
	}
	w.want(w.do(operator, LedgerPolicySet{Policy: ledger.DefaultPolicy()}), CodeForbidden)
	w.want(w.do(admin, LedgerPolicySet{}), CodeInvalid)
	w.want(w.do(admin, LedgerPolicySet{IfVersion: 1, Policy: ledger.DefaultPolicy()}), CodeConflict)
	w.must(w.do(admin, LedgerPolicySet{Policy: ledger.DefaultPolicy()}))
	w.want(w.do(admin, LedgerPolicySet{Policy: ledger.DefaultPolicy()}), CodeConflict)
	w.must(w.do(admin, LedgerPolicySet{IfVersion: 1, Policy: ledger.DefaultPolicy()}))
	if need := w.s.NeedsLevel(); need != LevelLedger {
		t.Errorf("a state with a ledger needs level %d", need)
	}
	for kind := KindLedgerPolicySet; kind <= KindLedgerEpochClose; kind++ {
		if LevelOf(Command{Kind: kind}) != LevelLedger {
			t.Errorf("kind %d may stand in a log of level %d", kind, LevelOf(Command{Kind: kind}))
		}
	}
	w.wantMoney(ledger.Issuance, 0, 0)
	w.wantMoney(ledger.Reserve, 0, 0)
	w.soundLedger()
}

func TestP7LedgerAccounts(t *testing.T) {
	w := ledgerWorld(t, "a")
	for name, tt := range map[string]struct {
		by   Actor
		set  LedgerAccountSet
		code Code
	}{
		"id of the cluster":   {admin, LedgerAccountSet{ID: ledger.Issuance, Kind: ledger.KindAgent, Owner: "a"}, CodeInvalid},
		"of the system":       {admin, LedgerAccountSet{ID: "x", Kind: ledger.KindSystem, Owner: "a"}, CodeInvalid},
		"no kind":             {admin, LedgerAccountSet{ID: "x", Owner: "a"}, CodeInvalid},
		"no owner":            {admin, LedgerAccountSet{ID: "x", Kind: ledger.KindAgent}, CodeInvalid},
		"control character":   {admin, LedgerAccountSet{ID: "x\n", Kind: ledger.KindAgent, Owner: "a"}, CodeInvalid},
		"viewer":              {Actor{TokenID: "viewer"}, LedgerAccountSet{ID: "x", Kind: ledger.KindAgent, Owner: "a"}, CodeForbidden},
		"operator may not":    {operator, LedgerAccountSet{ID: "x", Kind: ledger.KindAgent, Owner: "a", Floor: -1}, CodeForbidden},
		"floor of nothing":    {admin, LedgerAccountSet{ID: "x", Kind: ledger.KindAgent, Owner: "a", Floor: 1}, CodeConflict},
		"floor beyond":        {admin, LedgerAccountSet{ID: "x", Kind: ledger.KindAgent, Owner: "a", Floor: -ledger.MaxMicro - 1}, CodeInvalid},
		"other owner":         {admin, LedgerAccountSet{ID: "a", Kind: ledger.KindAgent, Owner: "b"}, CodeConflict},
		"other kind":          {admin, LedgerAccountSet{ID: "a", Kind: ledger.KindService, Owner: "a"}, CodeConflict},
		"floor above balance": {admin, LedgerAccountSet{ID: "a", Kind: ledger.KindAgent, Owner: "a", Floor: 1_000_001}, CodeConflict},
		"floor by operator":   {operator, LedgerAccountSet{ID: "a", Kind: ledger.KindAgent, Owner: "a", Floor: 5}, CodeForbidden},
		"nothing new":         {operator, LedgerAccountSet{ID: "a", Kind: ledger.KindAgent, Owner: "a"}, CodeOK},
	} {
		before := w.s.Totals()[StreamLedger]
		if res := w.do(tt.by, tt.set); res.Code != tt.code || w.s.Totals()[StreamLedger] != before {
			t.Errorf("%s: %+v, want %s; %d records", name, res, tt.code, w.s.Totals()[StreamLedger]-before)
		}
	}
	w.must(w.do(admin, LedgerAccountSet{ID: "a", Kind: ledger.KindAgent, Owner: "a", Floor: 999_999}))
	w.wantEntry(w.entry(w.transferOf("a", "shop", 2)), CodeInsufficient)
	w.wantEntry(w.entry(w.transferOf("a", "shop", 1)), CodeOK)
	w.must(w.do(admin, LedgerAccountSet{ID: "a", Kind: ledger.KindAgent, Owner: "a", Floor: -10}))
	w.wantEntry(w.entry(w.transferOf("a", "shop", 1_000_010)), CodeInsufficient)
	w.wantEntry(w.entry(w.transferOf("a", "shop", 1_000_009)), CodeOK)
	w.wantMoney("a", -10, 0)
	w.soundLedger()
	all := w.s.LedgerAccounts("", 100)
	if len(all) != 4 || all[0].ID != ledger.Issuance || len(w.s.LedgerAccounts("a", 1)) != 1 || w.s.LedgerAccounts("a", 1)[0].ID != "shop" || len(w.s.LedgerAccounts("zz", 9)) != 0 {
		t.Errorf("listed are %+v", all)
	}
}

// Who may move whose money.
func TestP7LedgerOnlyOwnersAndOperatorsMoveMoney(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	token := func(id, from, to string) LedgerBatch {
		b := w.transferOf(from, to, 1)
		b.Callers[0].TokenID = id
		return b
	}
	for name, tt := range map[string]struct {
		b    LedgerBatch
		code Code
	}{
		"owner":                 {by("a", w.transferOf("a", "b", 1)), CodeOK},
		"another agent":         {by("a", w.transferOf("b", "a", 1)), CodeForbidden},
		"agent of a service":    {by("a", w.transferOf("shop", "a", 1)), CodeForbidden},
		"agent of the cluster":  {by("a", w.transferOf(ledger.Issuance, "a", 1)), CodeForbidden},
		"operator":              {token("operator", "b", "a"), CodeOK},
		"operator issues":       {token("operator", ledger.Issuance, "a"), CodeForbidden},
		"operator of a reserve": {token("operator", ledger.Reserve, "a"), CodeForbidden},
		"admin issues":          {token("admin", ledger.Issuance, "a"), CodeOK},
		"anybody burns":         {by("a", w.transferOf("a", ledger.Issuance, 1)), CodeOK},
		"owner by token":        {token("verifier", "shop", "a"), CodeOK},
		"token not the owner":   {token("viewer", "shop", "a"), CodeForbidden},
		"no token":              {token("", "a", "b"), CodeUnauthorized},
		"unknown token":         {token("none", "a", "b"), CodeUnauthorized},
		"unknown agent":         {by("nobody", w.transferOf("a", "b", 1)), CodeUnknownAgent},
		"a key of another": {LedgerBatch{Callers: []LedgerCaller{{AgentID: "a", Key: keyRef("b"), TimestampMs: w.wallMs}}, Accounts: []string{"a", "b"},
			Entries: []LedgerEntry{{Op: LedgerTransfer, ID: w.newID(), Credit: 1, Amount: 1}}}, CodeInvalidSignature},
		"two at once": {LedgerBatch{Callers: []LedgerCaller{{AgentID: "a", TokenID: "admin"}}, Accounts: []string{"a", "b"},
			Entries: []LedgerEntry{{Op: LedgerTransfer, ID: w.newID(), Credit: 1, Amount: 1}}}, CodeInvalid},
		"no caller": {LedgerBatch{Accounts: []string{"a", "b"}, Entries: []LedgerEntry{{Op: LedgerTransfer, ID: w.newID(), Credit: 1, Amount: 1}}}, CodeUnauthorized},
	} {
		if got := w.entry(tt.b); got.Code != tt.code {
			t.Errorf("%s: %+v, want %s", name, got, tt.code)
		}
	}
	w.must(w.do(operator, w.banOf("a", "e1", "n0", nil)))
	w.wantEntry(w.entry(by("a", w.transferOf("a", "b", 1))), CodeBlacklisted)
	w.must(w.do(admin, AgentSetState{AgentID: "b", State: AgentSuspended}))
	w.wantEntry(w.entry(by("b", w.transferOf("b", "a", 1))), CodeAgentNotActive)
	w.soundLedger()
}

func TestP7LedgerEdgesOfTransfers(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	for name, tt := range map[string]struct {
		from, to string
		amount   int64
		code     Code
		field    string
	}{
		"zero":              {"a", "b", 0, CodeInvalid, "amount"},
		"negative":          {"a", "b", -1, CodeInvalid, "amount"},
		"least":             {"a", "b", math.MinInt64, CodeInvalid, "amount"},
		"beyond":            {"a", "b", ledger.MaxMicro + 1, CodeInvalid, "amount"},
		"most":              {"a", "b", math.MaxInt64, CodeInvalid, "amount"},
		"to itself":         {"a", "a", 1, CodeInvalid, "credit"},
		"from nobody":       {"x", "b", 1, CodeNotFound, "debit"},
		"to nobody":         {"a", "x", 1, CodeNotFound, "credit"},
		"one more than all": {"a", "b", 1_000_001, CodeInsufficient, "amount"},
		"the largest":       {"a", "b", ledger.MaxMicro, CodeInsufficient, "amount"},
	} {
		if got := w.entry(w.transferOf(tt.from, tt.to, tt.amount)); got.Code != tt.code || got.Field != tt.field {
			t.Errorf("%s: %+v, want %s of %s", name, got, tt.code, tt.field)
		}
	}
	w.wantEntry(w.entry(w.transferOf("a", "b", 1_000_000)), CodeOK)
	w.wantEntry(w.entry(w.transferOf("a", "b", 1)), CodeInsufficient)
	w.wantMoney("a", 0, 0)
	w.wantMoney("b", 2_000_000, 0)
	out := w.transferOf("a", "b", 1)
	out.Entries[0].Credit = 2
	w.wantEntry(w.entry(out), CodeInvalid)

	// Whatever is issued stays within what every JSON reader holds.
	w.wantEntry(w.issue("a", ledger.MaxMicro), CodeInsufficient)
	w.wantEntry(w.issue("a", ledger.MaxMicro-3_000_000), CodeOK)
	w.wantEntry(w.issue("a", 1), CodeInsufficient)
	w.must(w.do(admin, LedgerAccountSet{ID: "rich", Kind: ledger.KindService, Owner: "x", Floor: -ledger.MaxMicro}))
	w.wantEntry(w.entry(w.transferOf("rich", "a", 3_000_000)), CodeOK)
	w.wantMoney("a", ledger.MaxMicro, 0)
	if got := w.entry(w.transferOf("rich", "a", 1)); got.Code != CodeOverflow || got.Field != "credit" {
		t.Errorf("beyond the largest balance: %+v", got)
	}
	w.soundLedger()
}

func TestP7LedgerFrozen(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	hold := w.holdOf("a", "b", 100, 60_000)
	w.wantEntry(w.entry(hold), CodeOK)
	other := w.holdOf("a", "b", 50, 60_000)
	w.wantEntry(w.entry(other), CodeOK)
	w.must(w.do(operator, LedgerAccountSet{ID: "a", Kind: ledger.KindAgent, Owner: "a", Frozen: true}))
	w.wantEntry(w.entry(w.transferOf("a", "b", 1)), CodeAccountFrozen)
	w.wantEntry(w.entry(w.holdOf("a", "b", 1, 1_000)), CodeAccountFrozen)
	w.wantEntry(w.entry(w.endOf(LedgerPost, hold.Entries[0].ID, 1)), CodeAccountFrozen)
	w.wantEntry(w.entry(w.transferOf("b", "a", 1)), CodeOK) // what comes in stays
	w.wantEntry(w.entry(w.endOf(LedgerVoid, other.Entries[0].ID, 0)), CodeOK)
	w.must(w.do(operator, LedgerAccountSet{ID: "a", Kind: ledger.KindAgent, Owner: "a"}))
	w.wantEntry(w.entry(w.endOf(LedgerPost, hold.Entries[0].ID, 1)), CodeOK)
	w.wantMoney("a", 1_000_000, 0)
	w.soundLedger()
}

func TestP7LedgerHolds(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	hold := w.holdOf("a", "b", 600_000, 60_000)
	id := hold.Entries[0].ID
	w.wantEntry(w.entry(by("a", hold)), CodeOK)
	w.wantMoney("a", 1_000_000, 600_000)
	w.wantEntry(w.entry(w.transferOf("a", "b", 400_001)), CodeInsufficient)
	w.wantEntry(w.entry(w.holdOf("a", "b", 400_001, 60_000)), CodeInsufficient)
	if h, ok := w.s.LedgerHold(id, w.wallMs); !ok || h.Amount != 600_000 || h.Index != w.index-2 {
		t.Errorf("the hold is %+v", h)
	}
	for name, tt := range map[string]struct {
		b     LedgerBatch
		code  Code
		field string
	}{
		"negative":     {w.endOf(LedgerPost, id, -1), CodeInvalid, "amount"},
		"more":         {w.endOf(LedgerPost, id, 600_001), CodeInvalid, "amount"},
		"of none":      {w.endOf(LedgerPost, w.newID(), 1), CodeNotFound, "hold"},
		"by the payee": {by("b", w.endOf(LedgerPost, id, 1)), CodeForbidden, "hold"},
	} {
		if got := w.entry(tt.b); got.Code != tt.code || got.Field != tt.field {
			t.Errorf("%s: %+v, want %s of %s", name, got, tt.code, tt.field)
		}
	}
	w.wantEntry(w.entry(by("a", w.endOf(LedgerPost, id, 200_000))), CodeOK) // in part: the rest is free again
	whole := w.holdOf("a", "b", 7, 60_000)
	w.wantEntry(w.entry(whole), CodeOK)
	w.wantEntry(w.entry(w.endOf(LedgerPost, whole.Entries[0].ID, 0)), CodeOK) // 0: all of it
	w.wantEntry(w.entry(w.transferOf("b", "a", 7)), CodeOK)
	w.wantMoney("a", 800_000, 0)
	w.wantMoney("b", 1_200_000, 0)
	w.wantEntry(w.entry(w.endOf(LedgerPost, id, 1)), CodeNotFound)
	w.wantEntry(w.entry(w.endOf(LedgerVoid, id, 0)), CodeNotFound)

	for _, who := range []string{"a", "b"} { // to refuse money is the payee's right too
		hold := w.holdOf("a", "b", 5, 60_000)
		w.wantEntry(w.entry(hold), CodeOK)
		w.wantEntry(w.entry(by(who, w.endOf(LedgerVoid, hold.Entries[0].ID, 0))), CodeOK)
		w.wantMoney("a", 800_000, 0)
	}
	for _, life := range []int64{0, -1, ledger.DefaultPolicy().HoldMaxMs + 1, math.MaxInt64 - worldStart, math.MinInt64} {
		if got := w.entry(w.holdOf("a", "b", 1, life)); got.Code != CodeInvalid || got.Field != "expires_ms" {
			t.Errorf("a hold for %d ms: %+v", life, got)
		}
	}
	w.wantEntry(w.entry(w.holdOf("a", "b", 1, ledger.DefaultPolicy().HoldMaxMs)), CodeOK)
	w.soundLedger()
}

// At the very instant of its expiry a hold is none any more, whoever is first.
func TestP7LedgerHoldAtTheInstantOfItsExpiry(t *testing.T) {
	for _, op := range []LedgerOp{LedgerPost, LedgerVoid} {
		w := ledgerWorld(t, "a", "b")
		early, late := w.holdOf("a", "b", 100, 5_000), w.holdOf("a", "b", 100, 5_001)
		w.wantEntry(w.entry(early), CodeOK)
		w.wantEntry(w.entry(late), CodeOK)
		w.wallMs += 5_000
		var amount int64
		if op == LedgerPost {
			amount = 100
		}
		w.wantEntry(w.entry(w.endOf(op, early.Entries[0].ID, amount)), CodeNotFound) // taken away just before
		w.wantMoney("a", 1_000_000, 100)
		w.wantEntry(w.entry(w.endOf(op, late.Entries[0].ID, amount)), CodeOK)
		w.soundLedger()
	}
}

// What is not taken away yet is expired all the same: the bound on the work of one
// entry changes no answer but that of what is available.
func TestP7LedgerReleasesAreBounded(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	const extra = 6
	var ids []ledger.ID
	for len(ids) < MaxReleases/2+extra {
		b := LedgerBatch{Callers: []LedgerCaller{{TokenID: "operator"}}, Accounts: []string{"a", "b"}}
		for range min(MaxLedgerEntries, MaxReleases/2+extra-len(ids)) {
			id := w.newID()
			ids = append(ids, id)
			b.Entries = append(b.Entries, LedgerEntry{Op: LedgerHold, ID: id, Credit: 1, Amount: 1, ExpiresMs: w.wallMs + 1_000 + int64(len(ids))})
		}
		w.wantCodes(b, CodeOK)
	}
	w.wallMs += 1_000 + int64(len(ids)) // the instant at which the last one ends
	w.wantEntry(w.entry(w.endOf(LedgerPost, ids[len(ids)-1], 1)), CodeHoldExpired)
	w.wantMoney("a", 1_000_000, extra)
	w.mark() // the latest ones
	w.wantMoney("a", 1_000_000, 0)
	if n := w.s.Sizes()["ledger_holds"]; n != 0 {
		t.Errorf("%d holds are left", n)
	}
	w.soundLedger()
}

// An entry takes effect once, whatever becomes of the answer.
func TestP7LedgerOnce(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	b := w.transferOf("a", "b", 10)
	first := w.wantEntry(w.entry(b), CodeOK)
	w.wallMs += 5_000
	again := w.wantEntry(w.entry(b), CodeOK)
	if !again.Repeated || again.Index != first.Index || again.ClockMs != first.ClockMs {
		t.Errorf("asked again: %+v, first %+v", again, first)
	}
	w.wantMoney("a", 999_990, 0)
	change := func(f func(*LedgerBatch)) LedgerBatch {
		other := b
		other.Entries = []LedgerEntry{b.Entries[0]}
		f(&other)
		return other
	}
	for name, other := range map[string]LedgerBatch{
		"amount":  change(func(b *LedgerBatch) { b.Entries[0].Amount++ }),
		"side":    change(func(b *LedgerBatch) { b.Accounts = []string{"b", "a"} }),
		"ref":     change(func(b *LedgerBatch) { b.Entries[0].Ref = "x" }),
		"op":      change(func(b *LedgerBatch) { b.Entries[0].Op, b.Entries[0].ExpiresMs = LedgerHold, w.wallMs+1_000 }),
		"account": change(func(b *LedgerBatch) { b.Accounts = []string{"a", "shop"} }),
	} {
		if got := w.entry(other); got.Code != CodeConflict || got.Field != "id" {
			t.Errorf("the same id with another %s: %+v", name, got)
		}
	}
	// A refusal uses nothing up.
	poor := w.transferOf("a", "b", 999_991)
	w.wantEntry(w.entry(poor), CodeInsufficient)
	w.wantEntry(w.issue("a", 1), CodeOK)
	w.wantEntry(w.entry(poor), CodeOK)
	// Twice in one batch.
	twice := w.transferOf("b", "a", 5)
	twice.Entries = append(twice.Entries, twice.Entries[0])
	if got := w.entries(twice); got[0].Code != CodeOK || got[0].Repeated || got[1].Code != CodeOK || !got[1].Repeated {
		t.Errorf("twice in one batch: %+v", got)
	}
	w.soundLedger()
}

// Under an idempotency key an operation takes effect once, and what was refused is
// not remembered.
func TestP7LedgerOnceUnderAKey(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	idem := func(n byte) *Idempotency { return &Idempotency{Key: crypto.Hash{n}, Body: crypto.Hash{n}} }
	do := func(idem *Idempotency, b LedgerBatch) Result { return w.doAt(w.wallMs, operator, idem, b) }
	first := w.transferOf("a", "b", 10)
	res := w.must(do(idem(1), first))
	if res.ID != first.Entries[0].ID.String() || len(res.Ledger) != 1 {
		t.Errorf("answered %+v", res)
	}
	again := w.must(do(idem(1), w.transferOf("a", "b", 10))) // the id is another: the server made it
	if !again.Repeated || again.ID != res.ID || again.Index != res.Index {
		t.Errorf("again: %+v, first %+v", again, res)
	}
	w.wantMoney("a", 999_990, 0)
	w.want(do(&Idempotency{Key: crypto.Hash{1}, Body: crypto.Hash{9}}, w.transferOf("a", "b", 11)), CodeConflict)
	w.want(do(idem(2), w.transferOf("a", "b", 2_000_000)), CodeInsufficient)
	w.must(do(idem(2), w.transferOf("a", "b", 20)))
	twice := w.transferOf("b", "a", 5)
	twice.Entries = append(twice.Entries, w.transferOf("b", "a", 5).Entries...)
	w.want(do(idem(3), twice), CodeInvalid)
	w.want(w.doAt(w.wallMs, operator, idem(4), LedgerReports{}), CodeInvalid)
	w.want(w.doAt(w.wallMs, operator, idem(4), LedgerConfirm{}), CodeInvalid)
	w.wantMoney("a", 999_970, 0)
	w.soundLedger()
}

// The first account opens the ledger, under the default policy.
func TestP7LedgerOpenedByItsFirstAccount(t *testing.T) {
	w := genesisWorld(t)
	w.want(w.do(Actor{TokenID: "viewer"}, LedgerAccountSet{ID: "a", Kind: ledger.KindAgent, Owner: "a"}), CodeForbidden)
	w.want(w.do(admin, LedgerAccountSet{ID: "a", Kind: ledger.KindAgent, Owner: "a", Floor: 1}), CodeConflict)
	if _, open := w.s.LedgerBook(); open {
		t.Fatal("a refusal opened it")
	}
	w.must(w.do(operator, LedgerAccountSet{ID: "a", Kind: ledger.KindAgent, Owner: "a"}))
	if book, open := w.s.LedgerBook(); !open || book.Policy != ledger.DefaultPolicy() || book.Size != 2 {
		t.Errorf("open %t: %+v", open, book)
	}
	w.wantEntry(w.issue("a", 5), CodeOK)
	w.soundLedger()
}

// An id is good while its time is in the window, and refused for ever after: once
// holds without remembering for ever.
func TestP7LedgerWindowOfIDs(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	window := ledger.DefaultPolicy().IDWindowMs
	at := func(ms int64) LedgerBatch {
		b := w.transferOf("a", "b", 1)
		b.Entries[0].ID = idAt(w.wallMs+ms, 1_000_000+w.ids)
		return b
	}
	for _, tt := range []struct {
		ms   int64
		code Code
	}{{0, CodeOK}, {-window, CodeOK}, {-window - 1, CodeIDExpired}, {ledger.MaxAheadMs, CodeOK}, {ledger.MaxAheadMs + 1, CodeIDAhead}} {
		if got := w.entry(at(tt.ms)); got.Code != tt.code {
			t.Errorf("an id of %+d ms: %+v, want %s", tt.ms, got, tt.code)
		}
	}
	first := at(0)
	w.wantEntry(w.entry(first), CodeOK)
	w.pass(window)
	if got := w.entry(first); got.Code != CodeOK || !got.Repeated {
		t.Errorf("at the end of the window: %+v", got)
	}
	w.pass(1_000)
	w.wantEntry(w.entry(first), CodeIDExpired)
	if n := w.s.Sizes()["ledger_ids"]; n > 2 { // the one ahead, and none else
		t.Errorf("%d ids are remembered", n)
	}
	p := ledger.DefaultPolicy()
	p.IDWindowMs = ledger.MaxIDWindowMs // a wider window brings nothing back
	w.must(w.do(admin, LedgerPolicySet{IfVersion: 1, Policy: p}))
	w.wantEntry(w.entry(first), CodeIDExpired)
	for name, id := range map[string]ledger.ID{"zero": {}, "version 4": {6: 0x40, 8: 0x80}, "variant": {6: 0x70}} {
		b := w.transferOf("a", "b", 1)
		b.Entries[0].ID = id
		if got := w.entry(b); got.Code != CodeInvalid || got.Field != "id" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	w.soundLedger()
}

func TestP7LedgerLinkedEntriesFailTogether(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	chain := func(amounts ...int64) LedgerBatch {
		b := w.transferOf("a", "b", 0)
		b.Entries = nil
		for i, n := range amounts {
			b.Entries = append(b.Entries, LedgerEntry{Op: LedgerTransfer, ID: w.newID(), Credit: 1, Amount: n, Linked: i+1 < len(amounts)})
		}
		return b
	}
	size := w.s.Totals()[StreamLedger]
	w.wantCodes(chain(400_000, 600_001, 1), CodeLinkedFailed, CodeInsufficient, CodeLinkedFailed)
	w.wantMoney("a", 1_000_000, 0)
	if n := w.s.Totals()[StreamLedger]; n != size || w.s.Digest() != w.s.FullDigest() {
		t.Errorf("%d records of a chain that failed", n-size)
	}
	good := chain(400_000, 600_000)
	w.wantCodes(good, CodeOK, CodeOK)
	if got := w.entries(good); !got[0].Repeated || !got[1].Repeated {
		t.Errorf("the chain again: %+v", got)
	}
	// What one entry brings, the next one of the chain may spend, holds too.
	id, post := w.newID(), w.newID()
	b := LedgerBatch{Callers: []LedgerCaller{{TokenID: "operator"}}, Accounts: []string{"a", "b"}, Entries: []LedgerEntry{
		{Op: LedgerTransfer, Linked: true, ID: w.newID(), Debit: 1, Credit: 0, Amount: 50},
		{Op: LedgerHold, Linked: true, ID: id, Debit: 0, Credit: 1, Amount: 50, ExpiresMs: w.wallMs + 9_000},
		{Op: LedgerPost, Linked: true, ID: post, Hold: id, Amount: 20},
		{Op: LedgerVoid, ID: w.newID(), Hold: id},
	}}
	w.wantCodes(b, CodeLinkedFailed, CodeLinkedFailed, CodeLinkedFailed, CodeNotFound)
	w.wantMoney("a", 0, 0)
	b.Entries = b.Entries[:3]
	b.Entries[2].Linked = false
	w.wantCodes(b, CodeOK, CodeOK, CodeOK)
	w.wantMoney("a", 30, 0)
	// A hold that was pending before comes back when the chain that voids it fails.
	hold := w.holdOf("b", "a", 7, 9_000)
	w.wantEntry(w.entry(hold), CodeOK)
	held := hold.Entries[0].ID
	b.Entries = []LedgerEntry{{Op: LedgerVoid, Linked: true, ID: w.newID(), Hold: held}, {Op: LedgerTransfer, ID: w.newID(), Debit: 0, Credit: 1, Amount: 31}}
	w.wantCodes(b, CodeLinkedFailed, CodeInsufficient)
	if h, ok := w.s.LedgerHold(held, w.wallMs); !ok || h.Amount != 7 {
		t.Error("the hold is gone")
	}
	w.wallMs += 9_000
	w.mark()
	w.wantMoney("b", 1_999_970, 0) // and it still ends

	b.Entries = []LedgerEntry{{Op: LedgerTransfer, Linked: true, ID: w.newID(), Debit: 1, Credit: 0, Amount: 1}}
	if got := w.entry(b); got.Code != CodeInvalid || got.Field != "linked" {
		t.Errorf("linked to nothing: %+v", got)
	}
	same := w.newID()
	b.Entries = []LedgerEntry{{Op: LedgerTransfer, Linked: true, ID: same, Debit: 1, Amount: 1}, {Op: LedgerTransfer, ID: same, Debit: 1, Amount: 1}}
	w.wantCodes(b, CodeLinkedFailed, CodeConflict)
	// A chain of which one entry took effect before is another chain.
	b.Entries = []LedgerEntry{{Op: LedgerTransfer, ID: same, Debit: 1, Amount: 1}}
	w.wantCodes(b, CodeOK)
	b.Entries = []LedgerEntry{{Op: LedgerTransfer, Linked: true, ID: same, Debit: 1, Amount: 1}, {Op: LedgerTransfer, ID: w.newID(), Debit: 1, Amount: 1}}
	w.wantCodes(b, CodeConflict, CodeLinkedFailed)
	two := b
	two.Callers = []LedgerCaller{{TokenID: "operator"}, {TokenID: "admin"}}
	two.Entries = []LedgerEntry{{Op: LedgerTransfer, Linked: true, ID: w.newID(), Debit: 1, Amount: 1}, {Op: LedgerTransfer, Caller: 1, ID: w.newID(), Debit: 1, Amount: 1}}
	w.wantCodes(two, CodeInvalid, CodeOK) // a chain ends with its caller's entries
	w.soundLedger()
}

func TestP7LedgerBatchIsBounded(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	b := w.transferOf("a", "b", 1)
	b.Entries = nil
	for range MaxLedgerEntries {
		b.Entries = append(b.Entries, LedgerEntry{Op: LedgerTransfer, ID: w.newID(), Credit: 1, Amount: 1, Linked: len(b.Entries) < MaxLedgerEntries-1})
	}
	for _, got := range w.entries(b) {
		w.wantEntry(got, CodeOK)
	}
	w.wantMoney("b", 1_000_000+MaxLedgerEntries, 0)
	b.Entries = append(b.Entries, LedgerEntry{Op: LedgerTransfer, ID: w.newID(), Credit: 1, Amount: 1})
	w.want(w.do(Actor{}, b), CodeTooLarge)
	long := w.transferOf("a", "b", 1)
	long.Entries[0].Ref = strings.Repeat("x", 129)
	if got := w.entry(long); got.Code != CodeInvalid || got.Field != "ref" {
		t.Errorf("a long ref: %+v", got)
	}
	w.s.ledger.ids.limit = w.s.ledger.ids.size()
	if got := w.entry(w.transferOf("a", "b", 1)); got.Code != CodeOverloaded || got.Field != "id" {
		t.Errorf("with a full window: %+v", got)
	}
}

// The head that the state names is the hash of its newest record.
func TestLedgerHeadIsChecked(t *testing.T) {
	w := ledgerWorld(t, "a", "b")
	m := NewMachine(w.history, nil)
	if err := m.checkHead(w.s); err != nil {
		t.Fatal(err)
	}
	w.s.ledger.book.v.Head[0] ^= 1
	if err := m.checkHead(w.s); err == nil || !strings.Contains(err.Error(), "ledger") {
		t.Errorf("another head: %v", err)
	}
	if _, err := ScanSnapshot(bytes.NewReader(snapshotOf(t, w.s, w.history))); !errors.Is(err, ErrSnapshot) {
		t.Errorf("a snapshot with records that end elsewhere: %v", err)
	}
	w.s.ledger.book.v.Size++
	if err := m.checkHead(w.s); err == nil {
		t.Error("a record that is not there")
	}
}

// A state of strangers is held to the rules of the ledger too.
func TestValidateRefusesALedgerThatNoCommandMakes(t *testing.T) {
	w := sampleWorld(t)
	good := snapshotOf(t, w.s, w.history)
	row := func(s *State, id string, change func(*ledgerRow)) { change(s.ledger.accounts.get(id)) }
	for name, c := range map[string]struct {
		change func(*State)
		says   string
	}{
		"sum":            {func(s *State) { row(s, "a", func(r *ledgerRow) { r.Balance++ }) }, "zero"},
		"floor":          {func(s *State) { row(s, "a", func(r *ledgerRow) { r.Floor = r.Balance }) }, "floor"},
		"held":           {func(s *State) { row(s, "a", func(r *ledgerRow) { r.Held++ }) }, "held"},
		"system":         {func(s *State) { row(s, ledger.Reserve, func(r *ledgerRow) { r.Floor = -1 }) }, "@reserve"},
		"owner":          {func(s *State) { row(s, "a", func(r *ledgerRow) { r.Owner = "" }) }, "owner"},
		"two systems":    {func(s *State) { row(s, "b", func(r *ledgerRow) { r.Kind = ledger.KindSystem }) }, "system"},
		"balance":        {func(s *State) { row(s, "a", func(r *ledgerRow) { r.Balance = math.MinInt64 }) }, "balance"},
		"hold of nobody": {func(s *State) { s.changeHold(func(h *PendingHold) { h.Credit = "nobody" }) }, "no two accounts"},
		"hold amount":    {func(s *State) { s.changeHold(func(h *PendingHold) { h.Amount = -5 }) }, "held"},
		"hold end":       {func(s *State) { s.changeHold(func(h *PendingHold) { h.ExpiresMs = -1 }) }, "end"},
		"policy":         {func(s *State) { s.ledger.book.v.Policy.IDWindowMs = 0 }, "id_window_ms"},
		"head":           {func(s *State) { s.ledger.book.v.Size = 0 }, "records"},
		"load":           {func(s *State) { s.ledger.book.v.Smoothed = -1 }, "load"},
		"origin":         {func(s *State) { s.ledger.book.v.Origin = "" }, "origin"},
		"epoch":          {func(s *State) { s.ledger.book.v.Finalised = ledger.Windows{{From: 7, To: 7}} }, "epoch"},
		"ids floor":      {func(s *State) { s.ledger.book.v.IDFloorMs = math.MaxInt64 }, "floor of ids"},
		"ids far": {func(s *State) {
			s.ledger.ids.insertAt(bucketOf(s.meta.v.ClockMs+MaxSkewMs)+1, nonceRow{key: nonceKey{1}})
		}, "ledger_ids"},
		"report":         {func(s *State) { s.changeReport(func(r *PendingReport) { r.DurationMs = 0 }) }, "duration_ms"},
		"verdict":        {func(s *State) { s.changeReport(func(r *PendingReport) { r.Verdict = 9 }) }, "verdict"},
		"report payer":   {func(s *State) { s.changeReport(func(r *PendingReport) { r.Payer = "x" }) }, "accounts"},
		"epoch weight":   {func(s *State) { s.changeEpoch(func(e *OpenEpoch) { e.Weight++ }) }, "other weights"},
		"epoch accounts": {func(s *State) { s.changeEpoch(func(e *OpenEpoch) { e.Accounts++ }) }, "other weights"},
		"epoch begin":    {func(s *State) { s.changeEpoch(func(e *OpenEpoch) { e.WindowMs++ }) }, "begins"},
		"never opened":   {func(s *State) { s.ledger.book.known = false }, "never opened"},
	} {
		s, _ := restored(t, good)
		if err := s.Validate(w.wallMs); err != nil {
			t.Fatalf("untouched: %v", err)
		}
		c.change(s)
		if err := s.Validate(0); err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "ledger") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func (s *State) changeHold(change func(*PendingHold)) {
	for key, h := range s.ledger.holds.m {
		change(&h)
		s.ledger.holds.put(key, h)
	}
}

func (s *State) changeReport(change func(*PendingReport)) {
	for key, r := range s.ledger.reports.m {
		change(&r)
		s.ledger.reports.put(key, r)
	}
}

func (s *State) changeEpoch(change func(*OpenEpoch)) {
	for key, e := range s.ledger.epochs.m {
		change(&e)
		s.ledger.epochs.put(key, e)
	}
}
