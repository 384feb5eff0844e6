package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

func (f *fixture) report(reports ...client.Contribution) *httptest.ResponseRecorder {
	f.t.Helper()
	return f.do(ask{method: http.MethodPost, path: "/v1/ledger/contributions", body: client.ContributionReports{Reports: reports}})
}

// What cannot take effect writes nothing into the log, whoever signed it.
func TestRefusedReportsWriteNoLog(t *testing.T) {
	f := ledgerFixture(t)
	suspended, worker := f.agent("idle", fsm.AgentSuspended), f.agent("worker", fsm.AgentActive)
	f.account(client.AccountRequest{ID: "worker", Kind: "agent", Owner: "worker"})
	unpaid := f.contribution(worker, 2)
	unpaid.Payer = "nobody"
	unpaid = must(client.SignContribution(worker.key, clusterID, unpaid))
	before := len(f.node.proposals)
	for _, tt := range []struct {
		work client.Contribution
		code fsm.Code
	}{{f.contribution(suspended, 1), fsm.CodeAgentNotActive}, {unpaid, fsm.CodeNotFound}} {
		var out client.LedgerResults
		w := f.report(tt.work, tt.work)
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || len(out.Results) != 2 || out.Results[1].Code != string(tt.code) {
			t.Fatalf("%d %s, want %s", w.Code, w.Body, tt.code)
		}
	}
	if n := len(f.node.proposals) - before; n != 0 {
		t.Errorf("%d entries were proposed of reports that are refused", n)
	}
	good := f.contribution(worker, 3)
	if w := f.report(unpaid, good); w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if sizes := f.node.leader.LedgerSizes(); len(f.node.proposals) != before+1 || sizes.Reports != 1 {
		t.Errorf("%d entries and %d reports of the one that is good", len(f.node.proposals)-before, sizes.Reports)
	}
}

// An agent has a budget of its own for what it writes; a report that was taken in
// costs it nothing.
func TestReportsArePaidForByTheirAgent(t *testing.T) {
	f := ledgerFixture(t)
	worker := f.agent("worker", fsm.AgentActive)
	f.account(client.AccountRequest{ID: "worker", Kind: "agent", Owner: "worker"})
	first := f.contribution(worker, 0)
	for range selfBurst + 10 {
		if w := f.report(first); w.Code != http.StatusOK {
			t.Fatalf("the same one: %d %s", w.Code, w.Body)
		}
	}
	for n := byte(1); n < selfBurst; n++ {
		if w := f.report(f.contribution(worker, n)); w.Code != http.StatusOK {
			t.Fatalf("report %d: %d %s", n, w.Code, w.Body)
		}
	}
	f.wantProblem(f.report(f.contribution(worker, selfBurst)), client.CodeRateLimited, "", "")
}
