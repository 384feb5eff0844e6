package fsm

import "github.com/edgecoder/edgecoder/ledger"

// withLedger has everything happen that LevelLedger brought: policy, accounts,
// transfers alone and linked, holds and their ends, reports and their verdicts, an
// epoch that is paid, and a clock that is set back.
func (w *world) withLedger() *world {
	w.raiseTo(LevelLedger)
	w.want(w.do(leader, w.transferOf("ledger-a", "ledger-b", 1)), CodeConflict) // it is not open
	w.openLedger("ledger-a", "ledger-b")
	w.goldenMoney()
	w.goldenHolds()
	w.goldenWork()
	return w.goldenSetBack()
}

// raiseTo has every member know a level and the leader raise it.
func (w *world) raiseTo(level uint32) {
	w.t.Helper()
	for _, n := range w.s.Coordinators() {
		w.must(w.do(Actor{NodeID: n.ID}, CoordinatorUpdate{ID: n.ID, API: n.API, Raft: n.Raft, Gossip: n.Gossip, Level: level, Version: "v6"}))
	}
	w.must(w.do(leader, LevelRaise{From: w.s.Meta().Level, To: level, Version: "v6"}))
}

func (w *world) goldenMoney() {
	w.want(w.do(operator, LedgerAccountSet{ID: "debtor", Kind: ledger.KindAgent, Owner: "ledger-a", Floor: -50}), CodeForbidden)
	w.must(w.do(admin, LedgerAccountSet{ID: "debtor", Kind: ledger.KindAgent, Owner: "ledger-a", Floor: -50}))
	paid := w.transferOf("ledger-a", "ledger-b", 250)
	paid.Entries[0].Ref = "invoice-ü"
	w.wantCodes(paid, CodeOK)
	w.wantCodes(paid, CodeOK)
	paid.Entries[0].Amount++
	w.wantCodes(paid, CodeConflict)
	w.wantCodes(by("ledger-a", w.transferOf("ledger-a", "shop", 9)), CodeProfileRefused) // nothing was admitted
	w.setPolicy(func(p *Policy) { p.AgentProfiles = map[string]ProfileRule{"ledger-a": ProfilesAny} })
	signed := by("ledger-a", w.transferOf("ledger-a", "shop", 10_000_000))
	w.wantCodes(signed, CodeInsufficient)
	signed.Entries[0].Amount = 1
	w.wantCodes(signed, CodeReplay)
	w.wantCodes(by("ledger-a", w.transferOf("ledger-a", "shop", 9)), CodeOK)
	w.wantCodes(by("ledger-a", w.transferOf("shop", "ledger-a", 9)), CodeForbidden)
	w.wantCodes(w.transferOf("ledger-a", "ledger-b", 10_000_000), CodeInsufficient)
	w.wantCodes(w.transferOf("nobody", "ledger-b", 1), CodeNotFound)
	chain := w.transferOf("ledger-a", "ledger-b", 5)
	chain.Entries = append(chain.Entries, w.transferOf("ledger-a", "ledger-b", 10_000_000).Entries[0])
	chain.Entries[0].Linked = true
	w.wantCodes(chain, CodeLinkedFailed, CodeInsufficient)
	chain.Entries[1].Amount = 6
	w.wantCodes(chain, CodeOK, CodeOK)
	w.must(w.do(operator, LedgerAccountSet{ID: "ledger-b", Kind: ledger.KindAgent, Owner: "ledger-b", Frozen: true}))
	w.wantCodes(w.transferOf("ledger-b", "ledger-a", 1), CodeAccountFrozen)
	w.must(w.do(operator, LedgerAccountSet{ID: "ledger-b", Kind: ledger.KindAgent, Owner: "ledger-b"}))
}

func (w *world) goldenHolds() {
	var ids []ledger.ID
	for range 3 {
		b := w.holdOf("ledger-a", "ledger-b", 100, 5_000)
		w.wantCodes(b, CodeOK)
		ids = append(ids, b.Entries[0].ID)
	}
	w.wantCodes(w.endOf(LedgerPost, ids[0], 60), CodeOK)
	w.wantCodes(w.endOf(LedgerVoid, ids[1], 0), CodeOK)
	w.wantCodes(w.endOf(LedgerVoid, ids[1], 0), CodeNotFound)
	w.pass(5_000)
	w.wantCodes(w.endOf(LedgerPost, ids[2], 1), CodeNotFound)
	w.mark()
}

func (w *world) goldenWork() {
	a, b, idle := w.workOf("ledger-a", 1_000), w.workOf("ledger-b", 3_333), w.workOf("ledger-b", 9_000)
	w.report(a, b, idle, a)
	w.wantEntry(w.confirm(operator, a.Report.ID)[0], CodeOK)
	w.wantEntry(w.confirm(operator, b.Report.ID)[0], CodeOK)
	w.must(w.do(Actor{TokenID: string(RoleVerifier)}, LedgerConfirm{Reports: w.names(idle.Report.ID), Reject: true}))
	epoch, _ := w.s.OldestEpoch()
	w.want(w.do(leader, LedgerEpochClose{WindowMs: epoch.WindowMs}), CodeConflict)
	w.pass(ledger.EpochMs)
	w.must(w.do(operator, LedgerAccountSet{ID: "ledger-b", Kind: ledger.KindAgent, Owner: "ledger-b", Frozen: true})) // its share is withheld
	closed := LedgerEpochClose{WindowMs: epoch.WindowMs, Load: ledger.Load{Queued: 40, Agents: 4, CPU: 8, GPU: 2}}
	w.must(w.do(leader, closed))
	w.want(w.do(leader, closed), CodeConflict)
	w.must(w.do(operator, LedgerAccountSet{ID: "ledger-b", Kind: ledger.KindAgent, Owner: "ledger-b"}))
	p := ledger.DefaultPolicy()
	p.IDWindowMs, p.Confirm = 60_000, ledger.ConfirmNobody
	w.must(w.do(admin, LedgerPolicySet{IfVersion: 1, Policy: p}))
	w.report(w.workOf("ledger-a", 777))
	w.mark()
}

// goldenSetBack: under the recovery epoch ids of before are refused, unless remembered.
func (w *world) goldenSetBack() *world {
	before := w.transferOf("ledger-a", "ledger-b", 1)
	w.wantCodes(before, CodeOK)
	to := w.wallMs - 5_000
	w.must(w.doAt(to, admin, nil, ClockRecover{Voters: 1, Walls: walls(to, 0), Reason: "set back"}))
	w.wallMs = to
	w.wantCodes(before, CodeOK) // its first answer
	w.wantCodes(w.transferOf("ledger-a", "ledger-b", 1), CodeIDExpired)
	w.pass(2 * DefaultSkewMs)
	w.wantCodes(w.transferOf("ledger-a", "ledger-b", 1), CodeOK)
	w.mark()
	w.soundLedger()
	return w
}
