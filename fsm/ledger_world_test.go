package fsm

import (
	"bytes"
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/ledger"
)

// ledgerWorld has an open ledger, active agents with an account each of their own
// name, an account of the verifier's token, and credits on all of them.
func ledgerWorld(t rapid.TB, agents ...string) *world {
	t.Helper()
	w := genesisWorld(t)
	w.openLedger(agents...)
	return w
}

func (w *world) openLedger(agents ...string) {
	w.t.Helper()
	w.must(w.do(admin, LedgerPolicySet{Policy: ledger.DefaultPolicy()}))
	w.must(w.do(operator, LedgerAccountSet{ID: "shop", Kind: ledger.KindService, Owner: "verifier"}))
	w.wantEntry(w.issue("shop", 1_000_000), CodeOK)
	for _, id := range agents {
		if !w.s.hasAgent(id) {
			w.enroll(id)
		}
		w.must(w.do(operator, LedgerAccountSet{ID: id, Kind: ledger.KindAgent, Owner: id}))
		w.wantEntry(w.issue(id, 1_000_000), CodeOK)
	}
}

// idAt is an id of a time; n tells ids of one time apart.
func idAt(timeMs int64, n int) ledger.ID {
	var id ledger.ID
	binary.BigEndian.PutUint64(id[:8], uint64(timeMs)<<16)
	id[6] = 0x70
	id[8] = 0x80
	binary.BigEndian.PutUint32(id[12:], uint32(n))
	return id
}

// newID is an id of now that nobody has yet.
func (w *world) newID() ledger.ID { w.ids++; return idAt(w.wallMs, w.ids) }

// move is an operator's batch of one transfer.
func (w *world) transferOf(from, to string, amount int64) LedgerBatch {
	return LedgerBatch{Callers: []LedgerCaller{{TokenID: "operator"}}, Accounts: []string{from, to},
		Entries: []LedgerEntry{{Op: LedgerTransfer, ID: w.newID(), Debit: 0, Credit: 1, Amount: amount}}}
}

func (w *world) holdOf(from, to string, amount, lifeMs int64) LedgerBatch {
	b := w.transferOf(from, to, amount)
	b.Entries[0].Op, b.Entries[0].ExpiresMs = LedgerHold, w.s.ClockMs()+lifeMs
	return b
}

func (w *world) endOf(op LedgerOp, hold ledger.ID, amount int64) LedgerBatch {
	return LedgerBatch{Callers: []LedgerCaller{{TokenID: "operator"}}, Entries: []LedgerEntry{{Op: op, ID: w.newID(), Hold: hold, Amount: amount}}}
}

// issue makes credits out of nothing, as an admin may.
func (w *world) issue(to string, amount int64) LedgerResult {
	w.t.Helper()
	b := w.transferOf(ledger.Issuance, to, amount)
	b.Callers[0].TokenID = "admin"
	return w.entry(b)
}

// by has an agent ask, by a request that it signs at the time of the first id.
func by(agent string, b LedgerBatch) LedgerBatch {
	b.Callers = []LedgerCaller{signedBy(agent, b.Entries[0].ID)}
	return b
}

// signedBy is a request of an agent: its time and its nonce are those of an id.
func signedBy(agent string, id ledger.ID) LedgerCaller {
	return LedgerCaller{AgentID: agent, Key: keyRef(agent), TimestampMs: id.TimeMs(), Nonce: id.String(), Tag: ClaimTag(id)}
}

// entries applies a batch and returns the answers.
func (w *world) entries(b LedgerBatch) []LedgerResult {
	w.t.Helper()
	res := w.must(w.do(Actor{NodeID: "n0"}, b))
	if len(res.Ledger) != len(b.Entries) {
		w.t.Fatalf("%d answers to %d entries", len(res.Ledger), len(b.Entries))
	}
	return res.Ledger
}

// entry is the answer to the first entry.
func (w *world) entry(b LedgerBatch) LedgerResult { w.t.Helper(); return w.entries(b)[0] }

func (w *world) wantEntry(got LedgerResult, code Code) LedgerResult {
	w.t.Helper()
	if got.Code != code {
		w.t.Fatalf("answered %+v, want %s", got, code)
	}
	return got
}

// wantCodes holds the answers to a batch against codes.
func (w *world) wantCodes(b LedgerBatch, want ...Code) []LedgerResult {
	w.t.Helper()
	got := w.entries(b)
	for i := range want {
		if got[i].Code != want[i] {
			w.t.Fatalf("entry %d answered %+v, want %s", i, got[i], want[i])
		}
	}
	return got
}

// wantMoney holds an account's balance and what is held of it against figures.
func (w *world) wantMoney(id string, balance, held int64) {
	w.t.Helper()
	a, ok := w.s.LedgerAccount(id)
	if !ok || a.Balance != balance || a.Held != held {
		w.t.Fatalf("account %s has %d with %d held (there: %t), want %d and %d", id, a.Balance, a.Held, ok, balance, held)
	}
}

// workOf is a report by an agent that the shop pays.
func (w *world) workOf(agent string, durationMs int64) ledger.SignedReport {
	r := ledger.Report{ID: w.newID(), AgentID: agent, Account: agent, Payer: "shop", Task: "task", Class: ledger.ClassCPU, DurationMs: durationMs, OK: true}
	return r.Sign(privateKey(agent), w.s.Meta().ClusterID)
}

func (w *world) report(r ...ledger.SignedReport) []LedgerResult {
	w.t.Helper()
	return w.must(w.do(Actor{NodeID: "n0"}, LedgerReports{Reports: r})).Ledger
}

func (w *world) confirm(by Actor, ids ...ledger.ID) []LedgerResult {
	w.t.Helper()
	return w.must(w.do(by, LedgerConfirm{Reports: w.names(ids...)})).Ledger
}

// names are those of the reports with such ids that the state has.
func (w *world) names(ids ...ledger.ID) (out []ReportName) {
	for _, id := range ids {
		name := ReportName{AgentID: "a", ID: id}
		for _, r := range w.s.ledger.reports.m {
			if r.ID == id {
				name = r.name()
			}
		}
		out = append(out, name)
	}
	return out
}

func (r *PendingReport) name() ReportName {
	return ReportName{AgentID: r.AgentID, ID: r.ID, Sum: r.Sum()}
}

// soundLedger holds P7: whatever happened, the money adds up, and an auditor who has
// nothing but the records comes to the same balances.
func (w *world) soundLedger() {
	w.t.Helper()
	soundLedger(w.t, w.s, w.history)
}

func soundLedger(t rapid.TB, s *State, h History) {
	t.Helper()
	if err := s.ledgerFaults(); err != nil {
		t.Fatal(err)
	}
	book, open := s.LedgerBook()
	v := ledger.NewVerifier(book.Origin)
	for _, r := range recordsOf(t, h, StreamLedger) {
		if err := v.Add(r.Data); err != nil {
			t.Fatalf("the records do not verify: %v", err)
		}
	}
	if !open {
		return
	}
	if err := v.Finish(book.Size, book.Head); err != nil {
		t.Fatal(err)
	}
	live := s.LedgerLive()
	live.Refuses = s.LedgerRefuses
	if err := v.Compare(live); err != nil {
		t.Fatal(err)
	}
}

// The encoding by hand is the general one, and nothing else decodes.
func TestLedgerBatchEncoding(t *testing.T) {
	b := goldenLedgerBatch()
	data, err := b.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	var back LedgerBatch
	if err := Decode(data, &back); err != nil || !sameEncoding(b, back) {
		t.Fatalf("%+v comes back as %+v: %v", b, back, err)
	}
	if general, err := Encode(b); err != nil || !bytes.Equal(general, data) {
		t.Errorf("the general encoder makes other bytes: %v", err)
	}
	for i := range data {
		for bit := range 8 {
			damaged := bytes.Clone(data)
			damaged[i] ^= 1 << bit
			var other LedgerBatch
			if err := other.UnmarshalCBOR(damaged); err != nil {
				continue
			}
			again, err := other.MarshalCBOR()
			if err != nil || !bytes.Equal(again, damaged) {
				t.Fatalf("byte %d: a second spelling is read", i)
			}
		}
		var cut LedgerBatch
		if err := cut.UnmarshalCBOR(data[:i]); err == nil {
			t.Fatalf("cut at %d it is read", i)
		}
	}
	if _, err := (LedgerBatch{Entries: []LedgerEntry{{Op: 9}}}).MarshalCBOR(); err == nil {
		t.Error("an unknown operation is written")
	}
}

func goldenLedgerBatch() LedgerBatch {
	return LedgerBatch{
		Callers:  []LedgerCaller{{TokenID: "operator"}, {AgentID: "agent-ünï", Key: keyRef("a"), TimestampMs: worldStart, Nonce: "nonce-ü", Tag: ClaimTag{9}}},
		Accounts: []string{"a", "b-ünï", "@issuance"},
		Entries: []LedgerEntry{
			{Op: LedgerTransfer, ID: idAt(worldStart, 1), Ref: "invoice 7", Debit: 0, Credit: 1, Amount: 1_000_000, Linked: true},
			{Op: LedgerHold, ID: idAt(worldStart, 2), Debit: 2, Credit: 300, Amount: ledger.MaxMicro, ExpiresMs: worldStart + 5},
			{Op: LedgerPost, Caller: 1, ID: idAt(worldStart, 3), Hold: idAt(worldStart, 2), Amount: -1},
			{Op: LedgerVoid, Caller: 1, ID: idAt(worldStart, 4), Hold: idAt(worldStart, 2)},
		},
	}
}

func goldenReport() ledger.SignedReport {
	r := ledger.Report{ID: idAt(worldStart, 5), AgentID: "agent-ünï", Account: "a", Payer: "b", Task: "t", Class: ledger.ClassGPU, DurationMs: 5_000}
	return r.Sign(privateKey("a"), "cluster")
}

// goldenLedger has the ledger's commands for goldenBodies.
func goldenLedger() map[string]any {
	policy := ledger.DefaultPolicy()
	policy.Confirm = ledger.ConfirmOperator
	return map[string]any{
		"ledger_policy_set":  LedgerPolicySet{IfVersion: 1, Policy: policy},
		"ledger_account_set": LedgerAccountSet{ID: "b-ünï", Kind: ledger.KindService, Owner: "t1", Floor: -5, Frozen: true},
		"ledger_batch":       goldenLedgerBatch(),
		"ledger_reports":     LedgerReports{Reports: []ledger.SignedReport{goldenReport()}},
		"ledger_confirm":     LedgerConfirm{By: LedgerCaller{AgentID: "x", Key: crypto.Hash{1}, TimestampMs: worldStart, Nonce: "n", Tag: ClaimTag{1}}, Reports: []ReportName{{AgentID: "ünï", ID: idAt(worldStart, 5), Sum: crypto.Hash{7}}}, Reject: true},
		"ledger_epoch_close": LedgerEpochClose{WindowMs: ledger.WindowOf(worldStart), Load: ledger.Load{Queued: 1, Agents: 2, CPU: 3, GPU: 4}},
	}
}
