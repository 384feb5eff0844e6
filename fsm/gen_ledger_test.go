package fsm

import (
	"fmt"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/ledger"
)

var (
	genAccounts = []string{"a", "b", "c", "shop", "x", ledger.Issuance, ledger.Reserve}
	genAmounts  = []int64{1, 7, 100, 100, 999_999, 1_000_000, 0, -1, ledger.MaxMicro}
	genRefs     = []string{"", "ref"}
	genMostly   = []LedgerCaller{{TokenID: "operator"}, {TokenID: "admin"}, {TokenID: "verifier"}, {AgentID: "a"}, {AgentID: "b"}}
)

// drawLedger draws a command of the ledger: few accounts, ids and amounts, so that
// they meet.
func (w *world) drawLedger(t *rapid.T, actor Actor, by func(string) Actor) (Actor, any) {
	switch rapid.IntRange(0, 9).Draw(t, "ledger kind") {
	default:
		if chance(t, "same holds", 6) {
			return actor, w.drawSameHolds(t)
		}
		return actor, w.drawLedgerBatch(t)
	case 0:
		return by("operator"), w.drawAccount(t)
	case 1:
		return by("admin"), w.drawLedgerPolicy(t)
	case 2, 3:
		return actor, w.drawReports(t)
	case 4:
		return by("operator"), w.drawConfirm(t)
	case 5:
		window := ledger.WindowOf(w.s.ClockMs()) - ledger.EpochMs
		if oldest, open := w.s.OldestEpoch(); open {
			window = oldest.WindowMs
		}
		return by("admin"), LedgerEpochClose{WindowMs: window, Load: ledger.Load{Queued: pick(t, "queued", []int64{0, 3, 1_000, -1}), Agents: 2, CPU: 4, GPU: 1}}
	}
}

// drawOfLedger draws the next command of a world in which little else goes on. Hours pass now and then.
func (w *world) drawOfLedger(t *rapid.T, i int) Command {
	step := pick(t, "step", []int64{0, 0, 1, 500, 1_000, 1_000, 5_000})
	var actor Actor
	var body any
	var idem *Idempotency
	switch rapid.IntRange(0, 13).Draw(t, "what") {
	case 9:
		return w.draw(t, i)
	case 10, 11, 12, 13: // one operation under a key
		b := w.drawLedgerBatch(t)
		b.Entries = b.Entries[:min(1, len(b.Entries))]
		if w.sameEnds > w.s.ClockMs() && chance(t, "as they end", 2) {
			b = w.transferOf("a", "shop", 2_000_000)
			step, w.sameEnds = w.sameEnds-w.s.ClockMs(), 0
		}
		actor, body, idem = Actor{TokenID: "operator"}, b, &Idempotency{Key: crypto.Hash{9, byte(i)}, Body: crypto.Hash{1}}
	case 7, 8:
		if chance(t, "an hour", 3) {
			step = ledger.EpochMs
		}
		body = Tick{Term: w.s.Meta().TickTerm + 1, Voters: 1, Walls: walls(w.s.ClockMs()+step, 0), Mark: chance(t, "mark", 2)}
	default:
		actor, body = w.drawLedger(t, Actor{TokenID: "operator"}, func(usual string) Actor { return Actor{TokenID: usual} })
	}
	cmd, err := New(actor, body)
	if err != nil {
		t.Fatalf("new: %v", err)
	}
	cmd.AtMs, cmd.Idem = w.s.ClockMs()+step, idem
	return cmd
}

// drawOfLedgerAtAnyTime is drawOfLedger with a clock that jumps ahead by hours now and
// then, and is set back.
func (w *world) drawOfLedgerAtAnyTime(t *rapid.T, i int) Command {
	hours := pick(t, "hours", []int64{1, 2, 5, 30, 40 * 24}) * ledger.EpochMs
	var body any
	at := w.s.ClockMs()
	switch rapid.IntRange(0, 24).Draw(t, "clock") {
	case 0, 1:
		at += hours
		body = Tick{Term: w.s.Meta().TickTerm + 1, Voters: 1, Walls: walls(at, 0), Mark: chance(t, "mark", 2)}
	case 2, 3:
		at = max(worldStart, at-hours)
		body = ClockRecover{Voters: 1, Walls: walls(at, 0), Reason: "set back"}
	default:
		return w.drawOfLedger(t, i)
	}
	cmd, err := New(admin, body)
	if err != nil {
		t.Fatal(err)
	}
	cmd.AtMs = at
	return cmd
}

func (w *world) drawAccount(t *rapid.T) LedgerAccountSet {
	b := LedgerAccountSet{ID: pick(t, "account", genAccounts), Kind: ledger.KindAgent, Floor: pick(t, "floor", []int64{0, 0, 0, -50, 10})}
	b.Owner, b.Frozen = b.ID, chance(t, "freeze", 4)
	if b.ID == "shop" {
		b.Kind, b.Owner = ledger.KindService, "verifier"
	}
	return b
}

func (w *world) drawLedgerPolicy(t *rapid.T) LedgerPolicySet {
	book, _ := w.s.LedgerBook()
	p := ledger.DefaultPolicy()
	p.IDWindowMs = pick(t, "id window", []int64{10_000, 10_000, 60_000, 600_000, 0})
	p.HoldMaxMs, p.ReportKeepMs = pick(t, "hold life", []int64{5_000, 60_000}), pick(t, "report life", []int64{5_000, 7_200_000})
	p.MaxWeight = pick(t, "weight", []int64{p.MaxWeight, 5_000_000, 1_500_000})
	p.Confirm = pick(t, "confirm", []ledger.Confirm{ledger.ConfirmPayer, ledger.ConfirmOperator, ledger.ConfirmNobody})
	return LedgerPolicySet{IfVersion: book.Policy.Version - uint64(rapid.IntRange(0, 1).Draw(t, "stale policy")), Policy: p}
}

// drawID draws an id whose time may be anywhere about the window.
func (w *world) drawID(t *rapid.T) ledger.ID {
	at := w.s.ClockMs()/1_000*1_000 + 1_000
	if chance(t, "another time", 8) {
		at += pick(t, "id time", []int64{-1_000, -5_000, -10_000, -12_000, -61_000, 58_000, 61_000, -3_600_000})
	}
	if chance(t, "no id", 40) {
		return ledger.ID{}
	}
	return idAt(at, rapid.IntRange(0, 12).Draw(t, "id"))
}

// drawPending draws a hold that is pending, or one that never was.
func (w *world) drawPending(t *rapid.T) ledger.ID {
	keys := w.s.ledger.holds.sortedKeys()
	if len(keys) == 0 || chance(t, "no hold", 6) {
		return w.drawID(t)
	}
	return ledger.ID([]byte(pick(t, "hold", keys)))
}

func (w *world) drawCaller(t *rapid.T) LedgerCaller {
	if !chance(t, "any caller", 4) {
		if by := pick(t, "usual caller", genMostly); by.AgentID == "" {
			return by
		} else {
			return w.drawSigned(t, by.AgentID, by.AgentID)
		}
	}
	if chance(t, "by a token", 2) {
		return LedgerCaller{TokenID: pick(t, "caller", []string{"operator", "operator", "admin", "verifier", "viewer", "t1", "none"})}
	}
	agent := pick(t, "by agent", genAgents)
	return w.drawSigned(t, agent, pick(t, "by key", []string{agent, agent, agent, "b"}))
}

// drawSigned draws a request that an agent signs, now and then one that came before.
func (w *world) drawSigned(t *rapid.T, agent, key string) LedgerCaller {
	w.ids++
	at, nonce := w.s.ClockMs(), w.ids
	if chance(t, "request again", 6) {
		at, nonce = at/10_000*10_000, rapid.IntRange(0, 2).Draw(t, "request")
	}
	if chance(t, "signed long ago", 40) {
		at -= 3_600_000
	}
	return LedgerCaller{AgentID: agent, Key: keyRef(key), TimestampMs: at, Nonce: fmt.Sprint("ledger-", nonce), Tag: ClaimTag{byte(at / 10_000), byte(nonce), 1}}
}

func (w *world) drawLedgerBatch(t *rapid.T) LedgerBatch {
	b := LedgerBatch{Accounts: genAccounts}
	for range 3 {
		b.Callers = append(b.Callers, w.drawCaller(t))
	}
	for range rapid.IntRange(0, 6).Draw(t, "entries") {
		if len(b.Entries) > 0 && chance(t, "same entry", 6) {
			b.Entries = append(b.Entries, b.Entries[len(b.Entries)-1])
			continue
		}
		e := LedgerEntry{Caller: pick(t, "caller at", []uint16{0, 0, 0, 1, 2}), ID: w.drawID(t), Ref: pick(t, "ref", genRefs),
			Op: pick(t, "op", []LedgerOp{LedgerTransfer, LedgerHold, LedgerHold, LedgerPost, LedgerVoid}), Linked: chance(t, "linked", 4)}
		if chance(t, "odd", 20) {
			e.Caller, e.Ref = 3, "\n"
		}
		if e.Op == LedgerTransfer || e.Op == LedgerHold {
			e.Debit = pick(t, "debit", []uint16{0, 1, 3, 0, 1, 3, 2, 4, 5, 6, 7})
			e.Credit = pick(t, "credit", []uint16{0, 1, 3, 6, 2, 4, 5})
		} else {
			e.Hold = w.drawPending(t)
		}
		if e.Op != LedgerVoid {
			e.Amount = pick(t, "amount", genAmounts)
		}
		if e.Op == LedgerHold {
			e.ExpiresMs = w.s.ClockMs() + pick(t, "life", []int64{1_000, 5_000, 5_001, 30_000, 60_000, 1, 0})
		}
		b.Entries = append(b.Entries, e)
	}
	return b
}

// drawSameHolds is a hold that lasts beside one that is voided, and another caller's on its own
// account with the id and end of that: what is left of the voided one must not be taken for it by
// a call under a key that asks a for more than it has, just as they end.
func (w *world) drawSameHolds(t *rapid.T) LedgerBatch {
	at := w.s.ClockMs()/1_000*1_000 + 1_000
	id := func(n int) ledger.ID { return idAt(at, 20+4*rapid.IntRange(0, 3).Draw(t, "scene")+n) }
	ends := w.s.ClockMs() + pick(t, "ends", []int64{1_000, 1_000, 5_000})
	voided := id(0)
	w.sameEnds = ends
	hold := func(caller uint16, id ledger.ID, amount, endMs int64) LedgerEntry {
		return LedgerEntry{Op: LedgerHold, Caller: caller, ID: id, Debit: caller, Credit: 3, Amount: amount, ExpiresMs: endMs}
	}
	return LedgerBatch{Callers: genMostly[3:], Accounts: genAccounts, Entries: []LedgerEntry{
		hold(0, id(1), 1, w.s.ClockMs()+60_000), hold(0, voided, 1, ends), {Op: LedgerVoid, ID: id(2), Hold: voided},
		hold(1, voided, pick(t, "same amount", []int64{1, 900_000}), ends)}}
}

func (w *world) drawReports(t *rapid.T) LedgerReports {
	var b LedgerReports
	for range rapid.IntRange(0, 3).Draw(t, "reports") {
		agent := pick(t, "works", []string{"a", "a", "b", "b", "c"})
		r := ledger.Report{ID: w.drawID(t), AgentID: agent, Account: pick(t, "earns", []string{agent, agent, agent, "a", "shop"}), Payer: pick(t, "pays", []string{"shop", "shop", "a", "b", "x", ledger.Reserve}),
			Task: "task", Class: pick(t, "class", []ledger.Class{ledger.ClassCPU, ledger.ClassGPU}), DurationMs: pick(t, "duration", []int64{1, 1_000, 333, 0}), OK: chance(t, "succeeded", 2)}
		b.Reports = append(b.Reports, r.Sign(privateKey(agent), w.s.Meta().ClusterID))
	}
	return b
}

func (w *world) drawConfirm(t *rapid.T) LedgerConfirm {
	b := LedgerConfirm{Reject: chance(t, "reject", 4)}
	if chance(t, "by another", 2) {
		b.By = w.drawCaller(t)
		b.By.TokenID = "" // a token is the command's own
	}
	keys := w.s.ledger.reports.sortedKeys()
	for range rapid.IntRange(0, 3).Draw(t, "confirmations") {
		name := ReportName{AgentID: "a", ID: w.drawID(t)}
		if len(keys) > 0 {
			r, _ := w.s.ledger.reports.get(pick(t, "report", keys))
			name = r.name()
		}
		if chance(t, "another report", 10) {
			name.Sum[0]++
		}
		b.Reports = append(b.Reports, name)
	}
	return b
}

// openGenerated is the ledger that generated worlds begin with.
func (w *world) openGenerated() {
	w.t.Helper()
	w.openLedger("a", "b")
	p := ledger.DefaultPolicy()
	p.Confirm = ledger.ConfirmPayer
	p.IDWindowMs, p.HoldMaxMs, p.ReportKeepMs = 10_000, 60_000, 7_200_000
	w.must(w.do(admin, LedgerPolicySet{IfVersion: 1, Policy: p}))
	w.wallMs = w.s.ClockMs()
}
