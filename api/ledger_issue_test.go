package api

import (
	"errors"
	"maps"
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
