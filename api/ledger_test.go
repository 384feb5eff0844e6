package api

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
	"github.com/edgecoder/edgecoder/ledger/walk"
)

// MoveLedger implements Mover on the fake node.
func (n *fakeNode) MoveLedger(_ context.Context, batch fsm.LedgerBatch) ([]fsm.LedgerResult, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proposeErr != nil {
		return nil, n.proposeErr
	}
	res, err := n.apply(must(fsm.New(fsm.Actor{NodeID: "node-1"}, batch)))
	if n.loseAnswer {
		return nil, &client.Error{Code: client.CodeUnknownOutcome, Detail: "leadership was lost"}
	}
	if err == nil && !res.OK() {
		return nil, refusal(res)
	}
	return res.Ledger, err
}

// SignOrdering implements OrderingSigner on the fake node.
func (n *fakeNode) SignOrdering(r *ledger.OrderingRecord) string {
	return b64(ed25519.Sign(n.key, []byte(r.Hash)))
}

// ledgerFixture has an open ledger: accounts a and b of agents, shop of the verifier's
// token, a million micro-credits on each.
func ledgerFixture(t testing.TB) *fixture {
	f := newFixtureAt(t, fsm.LevelLedger)
	for _, id := range []string{"a", "b"} {
		f.agent(id, fsm.AgentActive)
		f.account(client.AccountRequest{ID: id, Kind: "agent", Owner: id})
	}
	f.account(client.AccountRequest{ID: "shop", Kind: "service", Owner: f.tokenID(fsm.RoleVerifier)})
	for _, id := range []string{"a", "b", "shop"} {
		f.wantOK(f.post(fsm.RoleAdmin, "/v1/ledger/transfers", client.TransferRequest{Debit: ledger.Issuance, Credit: id, Amount: 1_000_000}))
	}
	return f
}

func (f *fixture) tokenID(r fsm.Role) string { return must(crypto.ParseTokenText(f.tokens[r])).ID }

func (f *fixture) post(r fsm.Role, path string, body any) *httptest.ResponseRecorder {
	f.t.Helper()
	return f.do(ask{method: http.MethodPost, path: path, token: f.tokens[r], body: body})
}

func (f *fixture) account(req client.AccountRequest) {
	f.t.Helper()
	if w := f.post(fsm.RoleOperator, "/v1/ledger/accounts", req); w.Code != http.StatusCreated {
		f.t.Fatalf("account %s: %d %s", req.ID, w.Code, w.Body)
	}
}

func (f *fixture) wantOK(w *httptest.ResponseRecorder) client.LedgerResult {
	f.t.Helper()
	var out client.LedgerResult
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != http.StatusOK || !out.OK() || out.Index == 0 || (out.Finality == client.FinalityCheckpointed) != out.Repeated { // the fake node checkpoints at once
		f.t.Fatalf("%d %s", w.Code, w.Body)
	}
	return out
}

func (f *fixture) wantProblem(w *httptest.ResponseRecorder, code, reason, field string) client.Problem {
	f.t.Helper()
	var p client.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Code != code || p.Reason != reason || p.Field != field || w.Code != client.StatusOf(code) {
		f.t.Fatalf("%d %s, want %s of %s (%s)", w.Code, w.Body, code, field, reason)
	}
	return p
}

func getInto[T any](f *fixture, r fsm.Role, path string) (out T) {
	f.t.Helper()
	w := f.do(ask{method: http.MethodGet, path: path, token: f.tokens[r]})
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != http.StatusOK {
		f.t.Fatalf("GET %s: %d %s", path, w.Code, w.Body)
	}
	return out
}

func (f *fixture) wantBalance(id string, balance, held int64) {
	f.t.Helper()
	a := getInto[client.Account](f, fsm.RoleViewer, "/v1/ledger/accounts/"+id)
	if a.Balance != balance || a.Held != held || a.Available != balance-held-a.Floor {
		f.t.Fatalf("%+v, want %d with %d held", a, balance, held)
	}
}

func (f *fixture) ledgerID(n byte) string {
	return ledger.NewID(testClock, [10]byte{9: n}).String()
}

// P7: the same id moves money once, whatever became of the first answer, and so does
// the same idempotency key.
func TestP7LedgerTransferOnce(t *testing.T) {
	f := ledgerFixture(t)
	req := client.TransferRequest{ID: f.ledgerID(1), Debit: "a", Credit: "b", Amount: 10, Ref: "invoice 7"}
	f.node.loseAnswer = true
	p := f.wantProblem(f.post(fsm.RoleOperator, "/v1/ledger/transfers", req), client.CodeUnknownOutcome, "", "")
	if p.ClaimID != req.ID {
		t.Errorf("the problem names %q, not the id to ask again with", p.ClaimID)
	}
	f.node.loseAnswer = false
	if out := f.wantOK(f.post(fsm.RoleOperator, "/v1/ledger/transfers", req)); !out.Repeated || out.ID != req.ID {
		t.Errorf("%+v", out)
	}
	f.wantBalance("a", 999_990, 0)
	req.Amount = 11
	f.wantProblem(f.post(fsm.RoleOperator, "/v1/ledger/transfers", req), client.CodeConflict, "", "id")

	named := client.TransferRequest{ID: "invoice 8", TimestampMs: testClock, Debit: "a", Credit: "b", Amount: 5}
	first := f.wantOK(f.post(fsm.RoleOperator, "/v1/ledger/transfers", named))
	if again := f.wantOK(f.post(fsm.RoleOperator, "/v1/ledger/transfers", named)); !again.Repeated || again.ID != first.ID || again.Index != first.Index {
		t.Errorf("by name: %+v, first %+v", again, first)
	}

	keyed := func(key string, amount int64) *httptest.ResponseRecorder {
		return f.do(ask{method: http.MethodPost, path: "/v1/ledger/transfers", token: f.tokens[fsm.RoleOperator], header: map[string]string{"Idempotency-Key": key},
			body: client.TransferRequest{TimestampMs: testClock, Debit: "a", Credit: "b", Amount: amount}})
	}
	one := f.wantOK(keyed("k", 100))
	if two := f.wantOK(keyed("k", 100)); !two.Repeated || two.ID != one.ID || two.Index != one.Index {
		t.Errorf("under a key: %+v, first %+v", two, one)
	}
	f.wantProblem(keyed("k", 101), client.CodeConflict, "", "")
	f.wantProblem(keyed("poor", 9_000_000), client.CodeConflict, client.LedgerInsufficient, "amount")
	f.wantBalance("a", 999_990-5-100, 0)
}

func TestLedgerRefusals(t *testing.T) {
	f := ledgerFixture(t)
	for name, tt := range map[string]struct {
		role                fsm.Role
		req                 client.TransferRequest
		code, reason, field string
	}{
		"poor":             {fsm.RoleOperator, client.TransferRequest{Debit: "a", Credit: "b", Amount: 1_000_001}, client.CodeConflict, client.LedgerInsufficient, "amount"},
		"of another":       {fsm.RoleVerifier, client.TransferRequest{Debit: "a", Credit: "b", Amount: 1}, client.CodeForbidden, "", "debit"},
		"issuance":         {fsm.RoleOperator, client.TransferRequest{Debit: ledger.Issuance, Credit: "b", Amount: 1}, client.CodeForbidden, "", "debit"},
		"no account":       {fsm.RoleOperator, client.TransferRequest{Debit: "x", Credit: "b", Amount: 1}, client.CodeInvalid, "unknown_account", "debit"},
		"no amount":        {fsm.RoleOperator, client.TransferRequest{Debit: "a", Credit: "b"}, client.CodeInvalid, "", "amount"},
		"to itself":        {fsm.RoleOperator, client.TransferRequest{Debit: "a", Credit: "a", Amount: 1}, client.CodeInvalid, "", "credit"},
		"old id":           {fsm.RoleOperator, client.TransferRequest{ID: ledger.NewID(testClock-700_000, [10]byte{}).String(), Debit: "a", Credit: "b", Amount: 1}, client.CodeConflict, client.LedgerIDExpired, "id"},
		"id of tomorrow":   {fsm.RoleOperator, client.TransferRequest{ID: ledger.NewID(testClock+90_000, [10]byte{}).String(), Debit: "a", Credit: "b", Amount: 1}, client.CodeInvalid, client.LedgerIDAhead, "id"},
		"id of no time":    {fsm.RoleOperator, client.TransferRequest{ID: "x", Debit: "a", Credit: "b", Amount: 1}, client.CodeInvalid, "", "id"},
		"time without id":  {fsm.RoleOperator, client.TransferRequest{TimestampMs: testClock, Debit: "a", Credit: "b", Amount: 1}, client.CodeInvalid, "", "id"},
		"no debit account": {fsm.RoleOperator, client.TransferRequest{Credit: "b", Amount: 1}, client.CodeInvalid, "", "debit"},
		"viewer":           {fsm.RoleViewer, client.TransferRequest{Debit: "a", Credit: "b", Amount: 1}, client.CodeForbidden, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f.t = t
			f.wantProblem(f.post(tt.role, "/v1/ledger/transfers", tt.req), tt.code, tt.reason, tt.field)
		})
	}
	f.t = t
	f.wantOK(f.post(fsm.RoleVerifier, "/v1/ledger/transfers", client.TransferRequest{Debit: "shop", Credit: "a", Amount: 3}))
	f.wantBalance("a", 1_000_003, 0)
}

func TestLedgerHolds(t *testing.T) {
	f := ledgerFixture(t)
	hold := func(ttl int64) string {
		return f.wantOK(f.post(fsm.RoleOperator, "/v1/ledger/holds", client.HoldRequest{Debit: "a", Credit: "b", Amount: 100, TTLMs: ttl})).ID
	}
	whole, part, none := hold(60_000), hold(60_000), hold(60_000)
	f.wantBalance("a", 1_000_000, 300)
	f.wantOK(f.post(fsm.RoleOperator, "/v1/ledger/holds/"+whole+"/post", nil))
	f.wantOK(f.post(fsm.RoleOperator, "/v1/ledger/holds/"+part+"/post", client.HoldEnd{Amount: 30}))
	f.wantOK(f.post(fsm.RoleOperator, "/v1/ledger/holds/"+none+"/void", client.HoldEnd{Ref: "not done"}))
	f.wantBalance("a", 1_000_000-130, 0)
	f.wantProblem(f.post(fsm.RoleOperator, "/v1/ledger/holds/"+none+"/void", nil), client.CodeNotFound, "", "hold")
	for _, req := range []client.HoldRequest{{Debit: "a", Credit: "b", Amount: 1}, {Debit: "a", Credit: "b", Amount: 1, TTLMs: 5, ExpiresAtMs: 5}, {Debit: "a", Credit: "b", Amount: 1, TTLMs: -5}} {
		if w := f.post(fsm.RoleOperator, "/v1/ledger/holds", req); w.Code != http.StatusUnprocessableEntity {
			t.Errorf("%+v: %d %s", req, w.Code, w.Body)
		}
	}
}

func TestLedgerBatches(t *testing.T) {
	f := ledgerFixture(t)
	entry := func(n byte, amount int64) client.LedgerEntry {
		return client.LedgerEntry{ID: f.ledgerID(n), Debit: "a", Credit: "b", Amount: amount}
	}
	send := func(b client.LedgerBatch) (out client.LedgerResults) {
		w := f.post(fsm.RoleOperator, "/v1/ledger/transfers/batch", b)
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != http.StatusOK || len(out.Results) != len(b.Entries) {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		return out
	}
	codes := func(r client.LedgerResults) (out []string) {
		for _, x := range r.Results {
			out = append(out, x.Code)
		}
		return out
	}
	for name, tt := range map[string]struct {
		b    client.LedgerBatch
		want []string
	}{
		"each by itself": {client.LedgerBatch{Entries: []client.LedgerEntry{entry(1, 5), entry(2, 5_000_000), entry(3, 5)}}, []string{"ok", client.LedgerInsufficient, "ok"}},
		"linked":         {client.LedgerBatch{Linked: true, Entries: []client.LedgerEntry{entry(4, 5), entry(5, 5_000_000)}}, []string{client.LedgerLinkedFailed, client.LedgerInsufficient}},
		"all of them":    {client.LedgerBatch{Linked: true, Entries: []client.LedgerEntry{entry(6, 5), entry(7, 5)}}, []string{"ok", "ok"}},
	} {
		if got := codes(send(tt.b)); !equalStrings(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
	f.wantBalance("a", 1_000_000-20, 0)
	f.wantProblem(f.post(fsm.RoleOperator, "/v1/ledger/transfers/batch", client.LedgerBatch{Entries: []client.LedgerEntry{{Debit: "a", Credit: "b", Amount: 1}}}), client.CodeInvalid, "", "entries[0].id")
	f.wantProblem(f.post(fsm.RoleOperator, "/v1/ledger/transfers/batch", client.LedgerBatch{Entries: make([]client.LedgerEntry, client.MaxLedgerBatch+1)}), client.CodeTooLarge, "", "entries")
	f.wantProblem(f.post(fsm.RoleOperator, "/v1/ledger/transfers/batch", client.LedgerBatch{Entries: []client.LedgerEntry{{Op: "steal", ID: f.ledgerID(1)}}}), client.CodeInvalid, "", "entries[0].op")
}

func equalStrings(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// contribution is work of an agent that the shop pays.
func (f *fixture) contribution(a *agent, n byte) client.Contribution {
	return must(client.SignContribution(a.key, clusterID, client.Contribution{ID: f.ledgerID(n), AgentID: a.id, Account: a.id, Payer: "shop", Task: "t", Class: "cpu", DurationMs: 1_000, OK: true}))
}

func TestLedgerContributions(t *testing.T) {
	f := ledgerFixture(t)
	a := f.agent("worker", fsm.AgentActive)
	f.account(client.AccountRequest{ID: "worker", Kind: "agent", Owner: "worker"})
	if w := f.do(ask{method: http.MethodPut, path: "/v1/ledger/policy", token: f.tokens[fsm.RoleAdmin], header: map[string]string{"If-Match": "1"}, body: `{"confirm":"payer"}`}); w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	work := f.contribution(a, 1)
	report := func(reports ...client.Contribution) *httptest.ResponseRecorder {
		return f.do(ask{method: http.MethodPost, path: "/v1/ledger/contributions", body: client.ContributionReports{Reports: reports}})
	}
	forged := f.contribution(a, 4)
	forged.DurationMs = 9_000
	f.wantProblem(report(work, forged), client.CodeUnauthorized, client.VerdictInvalidSignature, "reports[1].signature")
	stranger := f.contribution(&agent{id: "worker", key: must(crypto.GenerateKey(rand.Reader))}, 2)
	var out client.LedgerResults
	f.wantProblem(report(work, stranger), client.CodeUnauthorized, client.VerdictUnknownAgent, "reports[1].public_key")
	proposed := len(f.node.proposals)
	other := f.contribution(a, 3)
	other.Payer = "nobody"
	other = must(client.SignContribution(a.key, clusterID, other))
	w := report(work, other)
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || len(out.Results) != 2 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if r := out.Results; !r[0].OK() || r[1].OK() {
		t.Errorf("%+v", r)
	}
	if w := report(work); len(f.node.proposals) != proposed+1 || !strings.Contains(w.Body.String(), `"repeated":true`) {
		t.Errorf("a repeated report: %d proposals, %s", len(f.node.proposals)-proposed, w.Body)
	}
	for _, role := range []fsm.Role{fsm.RoleVerifier, fsm.RoleOperator} { // the payer, and then it was confirmed
		w := f.post(role, "/v1/ledger/contributions/confirm", client.ContributionVerdict{Reports: []client.ContributionName{must(work.Name())}})
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || !out.Results[0].OK() {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	if e := getInto[client.Epochs](f, fsm.RoleViewer, "/v1/ledger/epochs"); len(e.Open) != 1 || e.Open[0].WindowMs != ledger.WindowOf(testClock) || e.Open[0].Accounts != 1 {
		t.Errorf("%+v", e)
	}
	f.node.nowMs += ledger.EpochMs
	f.node.mustApply(fsm.Actor{}, fsm.Tick{Term: 1, Voters: 1, Walls: []fsm.VoterWall{{NodeID: "node-1", WallMs: f.node.nowMs}}})
	f.node.mustApply(fsm.Actor{NodeID: "node-1"}, fsm.LedgerEpochClose{WindowMs: ledger.WindowOf(testClock), Load: ledger.Load{Agents: 1, CPU: 1}})
	e := getInto[client.Epochs](f, fsm.RoleViewer, "/v1/ledger/epochs")
	if len(e.Open) != 0 || len(e.Closed) != 1 || e.Closed[0].Pool == 0 {
		t.Fatalf("%+v", e)
	}
	if a := getInto[client.Account](f, fsm.RoleViewer, "/v1/ledger/accounts/worker"); a.Balance != e.Closed[0].Pool {
		t.Errorf("%+v of a pool of %d", a, e.Closed[0].Pool)
	}
	if v := getInto[client.LedgerVerified](f, fsm.RoleViewer, "/v1/ledger/verify"); !v.OK || v.Fault != nil {
		t.Errorf("%+v", v)
	}
}

// TestLedgerRecordsPagedAndVerified: what a node tells of its ledger is enough for
// anybody to come to the same, and it finds what does not fit.
func TestLedgerRecordsPagedAndVerified(t *testing.T) {
	f := ledgerFixture(t)
	for range 5 {
		f.wantOK(f.post(fsm.RoleOperator, "/v1/ledger/transfers", client.TransferRequest{Debit: "a", Credit: "b", Amount: 7, Ref: "x"}))
	}
	sum := getInto[client.Ledger](f, fsm.RoleViewer, "/v1/ledger")
	var seen []client.LedgerRecord
	for from := uint64(1); from != 0; {
		page := getInto[client.LedgerRecords](f, fsm.RoleMesh, "/v1/ledger/records?limit=3&from="+jsonText(from))
		seen, from = append(seen, page.Records...), page.Next
	}
	if uint64(len(seen)) != sum.Size || seen[len(seen)-1].Hash != sum.Head || sum.Circulation != 3_000_000 || !sum.Open {
		t.Errorf("%d records, %+v", len(seen), sum)
	}
	if page := getInto[client.LedgerRecords](f, fsm.RoleViewer, "/v1/ledger/records?account=shop"); len(page.Records) != 2 {
		t.Errorf("of the shop: %+v", page.Records)
	}
	w := f.do(ask{method: http.MethodGet, path: "/v1/ledger/export", token: f.tokens[fsm.RoleMesh]})
	v, err := walk.Export(t.Context(), bytes.NewReader(w.Body.Bytes()), nil)
	if err != nil || v.Seq() != sum.Size {
		t.Errorf("the export: %v", err)
	}
	if v := getInto[client.LedgerVerified](f, fsm.RoleMesh, "/v1/ledger/verify"); !v.OK || v.Records != sum.Size || v.Head != sum.Head || v.Accounts != 5 {
		t.Errorf("%+v", v)
	}
	var book fsm.LedgerBook
	var live ledger.Live
	must(f.node.Read(t.Context(), ReadOptions{}, func(s *fsm.State) { book, _ = s.LedgerBook(); live = s.LedgerLive() }))
	live.Accounts[2].Balance++
	if out := must(f.server.walkLedger(t.Context(), book, live)); out.OK || out.Fault == nil || out.Fault.Code != ledger.FaultBalance {
		t.Errorf("another balance: %+v", out)
	}
	book.Head[0] ^= 1
	if out := must(f.server.walkLedger(t.Context(), book, live)); out.OK || out.Fault.Code != ledger.FaultHead {
		t.Errorf("another head: %+v", out)
	}
}

func TestLedgerPolicyChanges(t *testing.T) {
	f := newFixtureAt(t, fsm.LevelLedger)
	if p := getInto[client.LedgerPolicy](f, fsm.RoleViewer, "/v1/ledger/policy"); p.Version != 0 || p.Confirm != "operator" {
		t.Errorf("%+v", p)
	}
	put := func(version, body string) *httptest.ResponseRecorder {
		return f.do(ask{method: http.MethodPut, path: "/v1/ledger/policy", token: f.tokens[fsm.RoleAdmin], header: map[string]string{"If-Match": version}, body: body})
	}
	if w := put("0", `{"id_window_ms":30000,"confirm":"payer"}`); w.Code != http.StatusOK || w.Header().Get("ETag") != `"1"` {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	f.wantProblem(put("0", `{}`), client.CodeConflict, "", "version")
	f.wantProblem(put("1", `{"id_window_ms":1}`), client.CodeInvalid, "", "id_window_ms")
	f.wantProblem(put("1", `{"confirm":"me"}`), client.CodeInvalid, "", "confirm")
	if p := getInto[client.LedgerPolicy](f, fsm.RoleViewer, "/v1/ledger/policy"); p.Version != 1 || p.Confirm != "payer" || p.IDWindowMs != 30_000 || p.HoldMaxMs != ledger.DefaultPolicy().HoldMaxMs {
		t.Errorf("%+v", p)
	}
}

// TestWireLedgerOfExistingClients walks the chain as a client that knows WIRE.md 12
// does, page by page, from another place, and after a restore replaced it.
func TestWireLedgerOfExistingClients(t *testing.T) {
	f := ledgerFixture(t)
	batch := client.LedgerBatch{}
	for i := range 900 {
		batch.Entries = append(batch.Entries, client.LedgerEntry{ID: ledger.NewID(testClock, [10]byte{7: byte(i >> 8), 8: byte(i), 9: 200}).String(), Debit: "a", Credit: "b", Amount: 1})
	}
	for turn := range 3 {
		for i := range batch.Entries {
			batch.Entries[i].ID = ledger.NewID(testClock, [10]byte{6: byte(turn + 1), 7: byte(i >> 8), 8: byte(i)}).String()
		}
		if w := f.post(fsm.RoleOperator, "/v1/ledger/transfers/batch", batch); w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	mesh := func(path string) *httptest.ResponseRecorder {
		return f.do(ask{method: http.MethodGet, path: path, token: f.tokens[fsm.RoleMesh]})
	}
	page := func(from uint64) (out client.OrderingSnapshot) {
		w := mesh("/ledger/snapshot?from=" + jsonText(from))
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		return out
	}
	late := page(2_300) // before anything is known of the way there
	prev, seq, hashes := ledger.OrderingGenesis, uint64(0), map[uint64]string{}
	for from := uint64(1); from != 0; {
		p := page(from)
		for _, r := range p.Records {
			seq++
			if r.Sequence != seq || r.PrevHash != prev || !signedOrdering(f, r) {
				t.Fatalf("record %d: %+v", seq, r)
			}
			prev, hashes[seq] = r.Hash, r.Hash
		}
		if p.Proof == nil || p.Proof.Hash != prev || p.Proof.SignerPeerID != f.node.Identity().PeerID {
			t.Fatalf("%+v", p.Proof)
		}
		from = p.Next
	}
	if seq != late.Size || late.Records[0].PrevHash != hashes[2_299] || late.Records[0].Hash != hashes[2_300] {
		t.Errorf("%d of %d records; from 2300 on it begins %+v", seq, late.Size, late.Records[0])
	}
	f.server.ordering.places[1].record[0] ^= 1 // of a history that is gone
	f.server.ordering.places[1].hash = "of another history"
	if again := page(2_300); again.Records[0].Hash != hashes[2_300] {
		t.Error("a place of another history was taken")
	}
	if w := mesh("/ledger/verify"); w.Body.String() != `{"ok":true}`+"\n" {
		t.Errorf("%s", w.Body)
	}
	empty := newFixture(t)
	if w := empty.do(ask{method: http.MethodGet, path: "/ledger/snapshot", token: empty.tokens[fsm.RoleMesh]}); w.Body.String() != `{"records":[],"proof":null,"size":0}`+"\n" {
		t.Errorf("%s", w.Body)
	}
}

// signedOrdering checks hash and signature with nothing of package ledger.
func signedOrdering(f *fixture, r client.OrderingRecord) bool {
	text := `{"eventType":` + jsonText(r.EventType) + `,"taskId":` + jsonText(r.TaskID) + `,"actorId":` + jsonText(r.ActorID) + `,"sequence":` + jsonText(r.Sequence) +
		`,"issuedAtMs":` + jsonText(r.IssuedAtMs) + `,"prevHash":` + jsonText(r.PrevHash) + `,"payloadJson":` + jsonText(r.PayloadJSON) + `}`
	return crypto.Sum([]byte(text)).String() == r.Hash && ed25519.Verify(f.node.key.Public().(ed25519.PublicKey), []byte(r.Hash), must(base64.StdEncoding.DecodeString(r.Signature)))
}

// ledgerRoutes calls each route of the ledger through the Go client.
func ledgerRoutes(t *testing.T, f *fixture, c *client.Client) {
	t.Helper()
	ctx := t.Context()
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	p, err := c.LedgerPolicy(ctx)
	check("policy", err)
	_, err = c.SetLedgerPolicy(ctx, p.Version, client.LedgerPolicyUpdate{})
	check("set policy", err)
	w := f.agent("ledger-worker", fsm.AgentActive)
	_, err = c.SetAccount(ctx, client.AccountRequest{ID: w.id, Kind: "agent", Owner: w.id})
	check("account", err)
	_, err = c.SetAccount(ctx, client.AccountRequest{ID: "shop", Kind: "service", Owner: "t"})
	check("account", err)
	_, err = c.Transfer(ctx, client.TransferRequest{ID: f.ledgerID(90), Debit: ledger.Issuance, Credit: "shop", Amount: 100})
	check("transfer", err)
	for i, end := range []func(string) error{
		func(id string) error { _, err := c.PostHold(ctx, id, client.HoldEnd{ID: f.ledgerID(91)}); return err },
		func(id string) error { _, err := c.VoidHold(ctx, id, client.HoldEnd{ID: f.ledgerID(92)}); return err },
	} {
		h, err := c.Hold(ctx, client.HoldRequest{ID: f.ledgerID(byte(93 + i)), Debit: "shop", Credit: w.id, Amount: 1, TTLMs: 60_000})
		check("hold", err)
		check("end of a hold", end(h.ID))
	}
	_, err = c.MoveLedger(ctx, client.LedgerBatch{Entries: []client.LedgerEntry{{ID: f.ledgerID(95), Debit: "shop", Credit: w.id, Amount: 1}}})
	check("batch", err)
	work := f.contribution(w, 96)
	_, err = c.ReportContributions(ctx, client.ContributionReports{Reports: []client.Contribution{work}})
	check("report", err)
	_, err = c.Contributions(ctx, "shop")
	check("pending reports", err)
	_, err = c.ConfirmContributions(ctx, client.ContributionVerdict{Reports: []client.ContributionName{must(work.Name())}})
	check("confirm", err)
	_, err = c.Account(ctx, w.id)
	check("account", err)
	_, err = c.Accounts(ctx, client.Page("", 2))
	check("accounts", err)
	_, err = c.Ledger(ctx)
	check("ledger", err)
	_, err = c.Epochs(ctx)
	check("epochs", err)
	_, err = c.LedgerRecords(ctx, 1, "shop")
	check("records", err)
	_, err = c.LedgerCheckpoint(ctx)
	check("checkpoint", err)
	_, err = c.ProveLedgerInclusion(ctx, 1, 0)
	check("inclusion", err)
	_, err = c.ProveLedgerConsistency(ctx, 0, 1)
	check("consistency", err)
	v, err := c.VerifyLedger(ctx)
	if err != nil || !v.OK {
		t.Errorf("verify: %+v, %v", v, err)
	}
	var export bytes.Buffer
	check("export", c.ExportLedger(ctx, &export))
	_, err = walk.Export(ctx, &export, nil)
	check("the export", err)
	_, err = c.OrderingSnapshot(ctx, 1)
	check("ordering", err)
	o, err := c.OrderingVerify(ctx)
	if err != nil || !o.OK {
		t.Errorf("ordering: %+v, %v", o, err)
	}
}

// TestLedgerIsAudited: what is issued and what operators change leaves a trace; what
// somebody moves of its own is in the records alone.
func TestLedgerIsAudited(t *testing.T) {
	f := ledgerFixture(t)
	count := func(typ string) (n int) {
		for _, e := range f.node.audited {
			if e.Type == typ && e.Code == "ok" {
				n++
			}
		}
		return n
	}
	if count("ledger_account") != 3 || count("ledger_issue") != 3 {
		t.Errorf("%d accounts and %d issues are in the audit log", count("ledger_account"), count("ledger_issue"))
	}
	before := len(f.node.audited)
	f.wantOK(f.post(fsm.RoleVerifier, "/v1/ledger/transfers", client.TransferRequest{Debit: "shop", Credit: "b", Amount: 1}))
	if len(f.node.audited) != before {
		t.Errorf("a transfer of one's own is in the audit log: %+v", f.node.audited[before:])
	}
	f.post(fsm.RoleVerifier, "/v1/ledger/transfers", client.TransferRequest{Debit: "a", Credit: "b", Amount: 1})
	if len(f.node.audited) != before+1 || f.node.audited[before].Type != "access_denied" {
		t.Errorf("taking from another's account: %+v", f.node.audited[before:])
	}
	f.node.auditErr = &client.Error{Code: client.CodeDiskFull, Detail: "full"}
	if w := f.post(fsm.RoleAdmin, "/v1/ledger/transfers", client.TransferRequest{Debit: ledger.Issuance, Credit: "b", Amount: 1}); w.Code != http.StatusServiceUnavailable {
		t.Errorf("credits are issued without a trace: %d %s", w.Code, w.Body)
	}
	f.wantBalance("b", 1_000_001, 0)
}
