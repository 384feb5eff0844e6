package fsm

import (
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"

	"github.com/edgecoder/edgecoder/ledger"
)

// modelLedger is what P7 says of money, as naively as can be: an account's balance
// is one number, what is held is added up from the holds, a chain is tried on a copy
// of everything, and nothing is forgotten but by its own time.
type modelLedger struct {
	policy    ledger.Policy
	accounts  map[string]*modelAccount
	holds     []modelHold
	used      []modelID
	floorMs   int64
	closed    []TimeRange
	reports   []modelReport
	weights   map[int64]map[string]int64
	smoothed  *big.Rat // load index; nil before the first epoch
	finalised []int64  // every one
}

type modelAccount struct {
	ledger.Account
	balance int64
}

type modelHold struct {
	id            ledger.ID
	debit, credit string
	amount        int64
	expiresMs     int64
}

type modelID struct {
	by        string // whose id it is
	id        ledger.ID
	content   string
	index     uint64
	clockMs   int64
	forgotten bool
}

type modelReport struct {
	ledger.Report
	weight    int64
	expiresMs int64
	verdict   ReportVerdict
	index     uint64
	clockMs   int64
}

func newModelLedger() *modelLedger {
	return &modelLedger{accounts: map[string]*modelAccount{}, weights: map[int64]map[string]int64{}}
}

// copied shares nothing with the original.
func (m *modelLedger) copied() *modelLedger {
	c := *m
	c.accounts = map[string]*modelAccount{}
	for id, a := range m.accounts {
		b := *a
		c.accounts[id] = &b
	}
	c.holds, c.used = slices.Clone(m.holds), slices.Clone(m.used)
	return &c
}

func (m *modelLedger) held(account string) (sum int64) {
	for _, h := range m.holds {
		if h.debit == account {
			sum += h.amount
		}
	}
	return sum
}

// advance: an id is forgotten when the whole second of its time has left the window.
func (m *modelLedger) advance(clockMs int64) {
	for i := range m.used {
		u := &m.used[i]
		lastOfSecond := u.id.TimeMs()/1000*1000 + 999
		if !u.forgotten && lastOfSecond < clockMs-m.policy.IDWindowMs {
			u.forgotten = true
			m.floorMs = max(m.floorMs, lastOfSecond)
		}
	}
}

func (m *modelLedger) setBack(wasMs, toMs, nonceFloorMs int64) {
	m.reports = slices.DeleteFunc(m.reports, func(r modelReport) bool { return r.expiresMs < wasMs })
	for i := range m.reports {
		keep := m.policy.ReportKeepMs
		if m.reports[i].verdict != ReportPending {
			keep = m.policy.IDWindowMs
		}
		m.reports[i].expiresMs = min(m.reports[i].expiresMs, toMs+keep)
	}
	floor := max(nonceFloorMs, toMs+60_000)
	m.closed = append(m.closed, TimeRange{FromMs: floor + 1, ToMs: m.floorMs})
	m.floorMs = floor
	now := toMs / 3_600_000 * 3_600_000
	for _, ahead := range slices.Sorted(maps.Keys(m.weights)) {
		if ahead <= now {
			continue
		}
		weights, name := m.weights[ahead], now
		delete(m.weights, ahead)
		for m.weights[name] != nil || m.wasClosed(name) {
			name += 3_600_000
		}
		m.weights[name] = weights
	}
}

func (m *modelLedger) wasClosed(window int64) bool { return slices.Contains(m.finalised, window) }

// release ends the holds whose time has come.
func (m *modelLedger) release(clockMs int64) {
	m.holds = slices.DeleteFunc(m.holds, func(h modelHold) bool { return clockMs >= h.expiresMs })
}

// believeLedger takes over what is no movement of money, and holds it to the rules
// that it must not break.
func (m *model) believeLedger(l logged, body any) {
	led := m.ledger
	switch b := body.(type) {
	case LedgerPolicySet:
		if b.IfVersion == 0 {
			for _, a := range ledger.SystemAccounts() {
				led.accounts[a.ID] = &modelAccount{Account: a}
			}
		}
		led.policy = b.Policy
		led.policy.Version = b.IfVersion + 1
	case LedgerAccountSet:
		if led.policy.Version == 0 {
			led.policy = ledger.DefaultPolicy()
			for _, a := range ledger.SystemAccounts() {
				led.accounts[a.ID] = &modelAccount{Account: a}
			}
		}
		a := led.accounts[b.ID]
		if a == nil {
			a = &modelAccount{}
			led.accounts[b.ID] = a
		}
		if a.balance-led.held(b.ID) < b.Floor {
			m.t.Fatalf("index %d: %s with %d is given a floor of %d", l.index, b.ID, a.balance, b.Floor)
		}
		a.Account = ledger.Account(b)
	case LedgerEpochClose:
		m.closeEpoch(l, b)
	}
}

type modelCaller struct {
	code            Code
	replay          bool // the very request came before
	name            string
	operator, admin bool
}

// ledgerCaller is who asks; an agent's request is admitted, once.
func (m *model) ledgerCaller(l logged, c LedgerCaller) modelCaller {
	if c.AgentID != "" && c.TokenID != "" {
		return modelCaller{code: CodeInvalid}
	}
	if c.AgentID != "" {
		claim, limit, n := Claim{AgentID: c.AgentID, Key: c.Key, TimestampMs: c.TimestampMs, Nonce: c.Nonce, Tag: c.Tag, Self: true}, m.policy.SelfLimit(), int64(0)
		for _, at := range m.asked[c.AgentID] {
			if at >= m.clockMs-limit.WindowMs {
				n++
			}
		}
		code, first := m.expectClaim(claim, n >= limit.Requests)
		if code == CodeOK && first == nil {
			m.admitted(l, claim)
		}
		return modelCaller{code: code, replay: first != nil, name: "agent:" + c.AgentID}
	}
	t := m.tokens[c.TokenID]
	if t == nil || !m.inForce(t) {
		return modelCaller{code: CodeUnauthorized}
	}
	return modelCaller{code: CodeOK, name: "token:" + c.TokenID, operator: t.role == RoleOperator || t.role == RoleAdmin, admin: t.role == RoleAdmin}
}

func (c modelCaller) owns(a *modelAccount) bool {
	switch a.Kind {
	case ledger.KindAgent:
		return c.name == "agent:"+a.Owner
	case ledger.KindService:
		return c.name == "token:"+a.Owner
	}
	return false
}

func (c modelCaller) mayDebit(a *modelAccount) bool {
	return c.admin || c.owns(a) || c.operator && a.Kind != ledger.KindSystem
}

func (m *model) followLedgerBatch(l logged, b LedgerBatch) {
	if !l.res.OK() && l.cmd.Idem == nil {
		m.t.Fatalf("index %d: a batch is %s: %s", l.index, l.res.Code, l.res.Detail)
	}
	if l.cmd.Idem != nil && len(l.res.Ledger) == 0 {
		return // under a key: it was not decided, or before
	}
	m.ledger.release(m.clockMs)
	var callers []modelCaller
	for _, c := range b.Callers {
		callers = append(callers, m.ledgerCaller(l, c))
	}
	for from := 0; from < len(b.Entries); {
		to := from + 1
		for to < len(b.Entries) && b.Entries[to-1].Linked && b.Entries[to].Caller == b.Entries[from].Caller {
			to++
		}
		want := m.ledgerChain(l.index, b, callers, from, to)
		for i, w := range want {
			got := l.res.Ledger[from+i]
			if got.Field = ""; got != w {
				m.t.Fatalf("index %d, entry %d, %+v: answered %+v, the model says %+v", l.index, from+i, b.Entries[from+i], got, w)
			}
		}
		from = to
	}
}

// ledgerChain returns the answers to a chain, and makes the ledger what it makes of it.
func (m *model) ledgerChain(index uint64, b LedgerBatch, callers []modelCaller, from, to int) []LedgerResult {
	out := make([]LedgerResult, to-from)
	repeated, forgotten := 0, false
	for i := from; i < to; i++ {
		e := b.Entries[i]
		if int(e.Caller) >= len(callers) || callers[e.Caller].code != CodeOK {
			continue
		}
		by := callers[e.Caller].name
		forgotten = forgotten || m.ledgerID(m.ledger, by, e.ID) == CodeIDExpired
		if u := m.ledger.find(by, e.ID); u != nil && u.content == content(b, e) {
			out[i-from] = LedgerResult{Code: CodeOK, Index: u.index, ClockMs: u.clockMs, Repeated: true}
			repeated++
		}
	}
	if repeated == to-from {
		return out
	}
	trial := m.ledger.copied()
	fill := func(code Code) {
		for i := range out {
			out[i] = LedgerResult{Code: code, Index: index, ClockMs: m.clockMs}
		}
	}
	if forgotten && to-from > 1 {
		fill(CodeIDExpired)
		return out
	}
	for i := from; i < to; i++ {
		if code := m.ledgerEntry(trial, index, b, callers, i, to); code != CodeOK {
			fill(CodeLinkedFailed)
			out[i-from].Code = code
			return out
		}
	}
	fill(CodeOK)
	m.ledger = trial
	return out
}

func (m *modelLedger) find(by string, id ledger.ID) *modelID {
	for i := range m.used {
		if u := &m.used[i]; u.by == by && u.id == id && !u.forgotten {
			return u
		}
	}
	return nil
}

func content(b LedgerBatch, e LedgerEntry) string {
	e.Linked = false
	name := func(i uint16) string {
		if int(i) < len(b.Accounts) {
			return b.Accounts[i]
		}
		return ""
	}
	caller := b.Callers[e.Caller]
	text := fmt.Sprint(caller.TokenID, "/", caller.AgentID, e.Op, e.Amount, e.ExpiresMs, e.Hold, e.Ref)
	if e.Op == LedgerTransfer || e.Op == LedgerHold {
		text += fmt.Sprintf("%q%q", name(e.Debit), name(e.Credit))
	}
	return text
}

// ledgerID is the word on an id that was not used with this content before.
func (m *model) ledgerID(led *modelLedger, by string, id ledger.ID) Code {
	at := id.TimeMs()
	shut := slices.ContainsFunc(led.closed, func(r TimeRange) bool { return r.FromMs <= at && at <= r.ToMs })
	switch {
	case id == ledger.ID{}:
		return CodeInvalid
	case led.find(by, id) != nil:
		return CodeConflict
	case at <= led.floorMs, m.clockMs-at > led.policy.IDWindowMs, shut:
		return CodeIDExpired
	case at-m.clockMs > 60_000:
		return CodeIDAhead
	}
	return CodeOK
}

func (m *model) ledgerEntry(led *modelLedger, index uint64, b LedgerBatch, callers []modelCaller, i, end int) Code {
	e := b.Entries[i]
	if int(e.Caller) >= len(callers) {
		return CodeUnauthorized
	}
	caller := callers[e.Caller]
	if caller.code != CodeOK {
		return caller.code
	}
	if e.Linked && i+1 == end {
		return CodeInvalid
	}
	if code := m.ledgerID(led, caller.name, e.ID); code != CodeOK {
		return code
	}
	if caller.replay {
		return CodeReplay
	}
	if strings.ContainsRune(e.Ref, '\n') {
		return CodeInvalid
	}
	code := CodeOK
	if e.Op == LedgerTransfer || e.Op == LedgerHold {
		code = m.moveOrHold(led, caller, b, e)
	} else {
		code = m.endHold(led, caller, e)
	}
	if code == CodeOK {
		led.used = append(led.used, modelID{by: caller.name, id: e.ID, content: content(b, e), index: index, clockMs: m.clockMs})
	}
	return code
}

func (m *model) moveOrHold(led *modelLedger, caller modelCaller, b LedgerBatch, e LedgerEntry) Code {
	if int(e.Debit) >= len(b.Accounts) || int(e.Credit) >= len(b.Accounts) || e.Amount < 1 || e.Amount > 1<<53-1 {
		return CodeInvalid
	}
	debit, credit := led.accounts[b.Accounts[e.Debit]], led.accounts[b.Accounts[e.Credit]]
	switch {
	case debit == nil, credit == nil:
		return CodeNotFound
	case debit == credit:
		return CodeInvalid
	case !caller.mayDebit(debit):
		return CodeForbidden
	case debit.Frozen:
		return CodeAccountFrozen
	}
	switch {
	case debit.balance-led.held(debit.ID)-e.Amount < debit.Floor:
		return CodeInsufficient
	case e.Op == LedgerTransfer && credit.balance+e.Amount > 1<<53-1:
		return CodeOverflow
	case e.Op == LedgerHold && (e.ExpiresMs <= m.clockMs || e.ExpiresMs > m.clockMs+led.policy.HoldMaxMs):
		return CodeInvalid
	case e.Op == LedgerHold && slices.ContainsFunc(led.holds, func(h modelHold) bool { return h.id == e.ID }):
		return CodeConflict
	}
	if e.Op == LedgerHold {
		led.holds = append(led.holds, modelHold{id: e.ID, debit: debit.ID, credit: credit.ID, amount: e.Amount, expiresMs: e.ExpiresMs})
		return CodeOK
	}
	debit.balance -= e.Amount
	credit.balance += e.Amount
	return CodeOK
}

func (m *model) endHold(led *modelLedger, caller modelCaller, e LedgerEntry) Code {
	at := slices.IndexFunc(led.holds, func(h modelHold) bool { return h.id == e.Hold })
	if at < 0 {
		return CodeNotFound
	}
	h := led.holds[at]
	if h.expiresMs <= m.clockMs {
		return CodeHoldExpired
	}
	if e.Op == LedgerPost && e.Amount == 0 {
		e.Amount = h.amount
	}
	debit, credit := led.accounts[h.debit], led.accounts[h.credit]
	if e.Op == LedgerVoid {
		if !caller.mayDebit(debit) && !caller.owns(credit) {
			return CodeForbidden
		}
		led.holds = slices.Delete(led.holds, at, at+1)
		return CodeOK
	}
	switch {
	case !caller.mayDebit(debit):
		return CodeForbidden
	case e.Amount < 1 || e.Amount > h.amount:
		return CodeInvalid
	case debit.Frozen:
		return CodeAccountFrozen
	case credit.balance+e.Amount > 1<<53-1:
		return CodeOverflow
	}
	led.holds = slices.Delete(led.holds, at, at+1)
	debit.balance -= e.Amount
	credit.balance += e.Amount
	return CodeOK
}

// checkLedger compares every balance, and holds the promise itself: zero in all,
// nobody below the floor.
func (m *model) checkLedger(s *State) error {
	var sum int64
	for id, want := range m.ledger.accounts {
		a, ok := s.LedgerAccount(id)
		held := m.ledger.held(id)
		if !ok || a.Account != want.Account || a.Balance != want.balance || a.Held != held {
			return fmt.Errorf("account %s is %+v, want %+v with %d held", id, a, want, held)
		}
		if a.Balance-a.Held < a.Floor {
			return fmt.Errorf("account %s is below its floor: %+v", id, a)
		}
		sum += a.Balance
	}
	if sum != 0 {
		return fmt.Errorf("all accounts have %d together", sum)
	}
	remembered := 0
	for _, u := range m.ledger.used {
		if !u.forgotten {
			remembered++
		}
	}
	if sizes := s.Sizes(); sizes["ledger_accounts"] != len(m.ledger.accounts) || sizes["ledger_ids"] != remembered || sizes["ledger_holds"] != len(m.ledger.holds) {
		return fmt.Errorf("%v, want %d accounts, %d ids, %d holds", sizes, len(m.ledger.accounts), remembered, len(m.ledger.holds))
	}
	return nil
}
