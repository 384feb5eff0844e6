package api

import (
	"errors"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

// lastIssue returns what the audit log has of the newest issue.
func (f *fixture) lastIssue() AuditEvent {
	f.t.Helper()
	for i := len(f.node.audited) - 1; i >= 0; i-- {
		if e := f.node.audited[i]; e.Type == "ledger_issue" {
			return e
		}
	}
	f.t.Fatal("no issue is in the audit log")
	return AuditEvent{}
}

func (f *fixture) wantIssue(code string, want map[string]string) {
	f.t.Helper()
	e := f.lastIssue()
	got := map[string]string{}
	for name := range want {
		got[name] = e.Details[name]
	}
	if !maps.Equal(got, want) || e.Code != code {
		f.t.Errorf("the audit log has %s of %v, want %s of %v", e.Code, e.Details, code, want)
	}
}

// A hold on the cluster's own account issues when it is posted, by whatever name it
// is asked for: that leaves a trace or is not done.
func TestPostedIssueIsAudited(t *testing.T) {
	f := ledgerFixture(t)
	id := f.ledgerID(1)
	f.wantOK(f.post(fsm.RoleAdmin, "/v1/ledger/holds", client.HoldRequest{ID: id, Debit: ledger.Issuance, Credit: "a", Amount: 5_000_000, TTLMs: 60_000}))
	f.wantIssue("ok", map[string]string{"taken": "0", "done": "1"})
	post := client.HoldEnd{ID: f.ledgerID(2), Amount: 4_000_000}
	f.node.auditErr = errors.New("no space left")
	for _, hold := range []string{id, f.ledgerID(9)} { // of one that is not known here nobody can say whose it is
		f.wantProblem(f.post(fsm.RoleAdmin, "/v1/ledger/holds/"+hold+"/post", post), client.CodeUnavailable, "audit", "")
	}
	f.wantBalance("a", 1_000_000, 0)
	f.node.auditErr = nil
	f.wantOK(f.post(fsm.RoleAdmin, "/v1/ledger/holds/"+id+"/post", post))
	f.wantIssue("ok", map[string]string{"taken": "4000000", "done": "1", "accounts": "@issuance a"})
	f.wantBalance("a", 5_000_000, 0)
}

// The audit log has the sums of what took effect, whatever stands first.
func TestBatchIssueIsAudited(t *testing.T) {
	f := ledgerFixture(t)
	batch := client.LedgerBatch{Entries: []client.LedgerEntry{
		{ID: f.ledgerID(1), Debit: "a", Credit: "b", Amount: 1},
		{ID: f.ledgerID(2), Debit: ledger.Issuance, Credit: "b", Amount: 9_000_000},
		{ID: f.ledgerID(3), Debit: ledger.Issuance, Credit: "b", Amount: 700},
		{ID: f.ledgerID(4), Debit: "b", Credit: ledger.Issuance, Amount: 60},
		{ID: f.ledgerID(5), Debit: ledger.Reserve, Credit: "b", Amount: 1_000}, // there is nothing on it
	}}
	send := func() *httptest.ResponseRecorder { return f.post(fsm.RoleAdmin, "/v1/ledger/transfers/batch", batch) }
	f.node.loseAnswer = true
	f.wantProblem(send(), client.CodeUnknownOutcome, "", "")
	f.wantIssue(client.CodeUnknownOutcome, map[string]string{"asked_taken": "9001700", "asked_given_back": "60", "entries": "5", "taken": ""})
	f.node.loseAnswer = false
	batch.Entries = append(batch.Entries, client.LedgerEntry{ID: f.ledgerID(6), Debit: ledger.Issuance, Credit: "b", Amount: 40})
	if w := send(); w.Code != http.StatusOK {
		t.Fatal(w.Body)
	}
	f.wantIssue("ok", map[string]string{"taken": "40", "given_back": "0", "done": "1", "done_before": "4", "accounts": "@issuance @reserve a b"})
}

// What an operation is asked for under a key carries its time: when the key is
// forgotten the id still stands for it.
func TestP7KeyedTransferCarriesItsTime(t *testing.T) {
	f := ledgerFixture(t)
	keyed := func(key string, req client.TransferRequest) *httptest.ResponseRecorder {
		return f.do(ask{method: http.MethodPost, path: "/v1/ledger/transfers", token: f.tokens[fsm.RoleOperator], header: map[string]string{"Idempotency-Key": key}, body: req})
	}
	f.wantProblem(keyed("k", client.TransferRequest{Debit: "a", Credit: "b", Amount: 1}), client.CodeInvalid, "", "id")
	named := client.TransferRequest{TimestampMs: testClock, Debit: "a", Credit: "b", Amount: 7}
	one, other := f.wantOK(keyed("k", named)), f.wantOK(keyed("other", named))
	if one.ID == other.ID || ledgerTime(t, one.ID) != testClock {
		t.Errorf("ids %s and %s of two keys", one.ID, other.ID)
	}
	again := named // the same id without the key: what a key that was forgotten comes to
	again.TimestampMs, again.ID = 0, one.ID
	if out := f.wantOK(f.post(fsm.RoleOperator, "/v1/ledger/transfers", again)); !out.Repeated {
		t.Errorf("%+v", out)
	}
	f.wantBalance("a", 1_000_000-14, 0)
}

func ledgerTime(t *testing.T, id string) int64 {
	t.Helper()
	parsed, err := ledger.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.TimeMs()
}

// A batch ends with its own chain.
func TestTrailingLinkIsRefused(t *testing.T) {
	f := ledgerFixture(t)
	batch := client.LedgerBatch{Entries: []client.LedgerEntry{
		{ID: f.ledgerID(1), Debit: "a", Credit: "b", Amount: 1, Linked: true},
		{ID: f.ledgerID(2), Debit: "a", Credit: "b", Amount: 1, Linked: true}}}
	f.wantProblem(f.post(fsm.RoleOperator, "/v1/ledger/transfers/batch", batch), client.CodeInvalid, "", "entries[1].linked")
	f.wantBalance("a", 1_000_000, 0)
}

// What an operator takes from anybody's account is in the audit log, or is not done; what
// somebody moves of its own is in the records alone.
func TestTakenFromOthersIsAudited(t *testing.T) {
	f := ledgerFixture(t)
	take := client.TransferRequest{Debit: "a", Credit: "shop", Amount: 1_000}
	f.node.auditErr = errors.New("no space left")
	f.wantProblem(f.post(fsm.RoleOperator, "/v1/ledger/transfers", take), client.CodeUnavailable, "audit", "")
	f.wantBalance("a", 1_000_000, 0)
	f.wantOK(f.post(fsm.RoleVerifier, "/v1/ledger/transfers", client.TransferRequest{Debit: "shop", Credit: "a", Amount: 3}))
	f.node.auditErr = nil
	f.node.audited = nil
	f.wantOK(f.post(fsm.RoleVerifier, "/v1/ledger/transfers", client.TransferRequest{Debit: "shop", Credit: "a", Amount: 3}))
	if len(f.node.audited) != 0 {
		t.Errorf("what a token moves of its own: %+v", f.node.audited)
	}
	f.wantOK(f.post(fsm.RoleOperator, "/v1/ledger/transfers", take))
	if e := f.node.audited[len(f.node.audited)-1]; e.Type != "ledger_take" || e.Level != auditWarn || e.Details["of_others"] != "1000" || e.Details["accounts"] != "a shop" || e.Code != "ok" {
		t.Errorf("%+v", e)
	}
}

// To let an account owe is to issue: the audit log has the figures, and the circulation
// counts what is owed.
func TestOwedMoneyIsAudited(t *testing.T) {
	f := ledgerFixture(t)
	const fortune = int64(9_000_000)
	owner := f.tokenID(fsm.RoleVerifier)
	debtor := func(floor int64) *httptest.ResponseRecorder {
		return f.post(fsm.RoleAdmin, "/v1/ledger/accounts", client.AccountRequest{ID: "debtor", Kind: "service", Owner: owner, Floor: floor})
	}
	f.account(client.AccountRequest{ID: "debtor", Kind: "service", Owner: owner})
	before := getInto[client.Ledger](f, fsm.RoleViewer, "/v1/ledger")
	f.node.auditErr = errors.New("no space left")
	f.wantProblem(debtor(-fortune), client.CodeUnavailable, "audit", "")
	f.node.auditErr = nil
	if w := debtor(-fortune); w.Code != http.StatusCreated {
		t.Fatal(w.Body)
	}
	f.wantIssue("ok", map[string]string{"floor_was": "0", "floor_now": "-9000000", "subject": "debtor"})
	f.wantOK(f.post(fsm.RoleVerifier, "/v1/ledger/transfers", client.TransferRequest{Debit: "debtor", Credit: "a", Amount: fortune - 5}))
	now := getInto[client.Ledger](f, fsm.RoleViewer, "/v1/ledger")
	if now.Owed != fortune-5 || now.Circulation != before.Circulation+fortune-5 {
		t.Errorf("%d is owed, %d in circulation, %d before", now.Owed, now.Circulation, before.Circulation)
	}
	f.node.audited = nil
	if w := debtor(-fortune + 1); w.Code != http.StatusCreated {
		t.Fatal(w.Body)
	}
	if e := f.node.audited[0]; e.Type != "ledger_account" {
		t.Errorf("a floor that rises: %+v", e)
	}
}

// Amounts that no account can have are refused before they are summed up.
func TestAmountsAreBounded(t *testing.T) {
	f := ledgerFixture(t)
	for _, amount := range []int64{math.MaxInt64, ledger.MaxMicro + 1, -1, 0} {
		b := client.LedgerBatch{Entries: []client.LedgerEntry{{ID: f.ledgerID(1), Debit: ledger.Issuance, Credit: "b", Amount: amount}}}
		f.wantProblem(f.post(fsm.RoleAdmin, "/v1/ledger/transfers/batch", b), client.CodeInvalid, "", "entries[0].amount")
	}
}
