package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/limit"
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
		w := f.report(tt.work)
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || len(out.Results) != 1 || out.Results[0].Code != string(tt.code) {
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

// A report stands in a call once, and each costs its agent one of its budget: what is
// written stays for ever.
func TestReportsArePaidForOneByOne(t *testing.T) {
	f := ledgerFixture(t)
	worker := f.agent("worker", fsm.AgentActive)
	f.account(client.AccountRequest{ID: "worker", Kind: "agent", Owner: "worker"})
	before := len(f.node.proposals)
	one := f.contribution(worker, 1)
	f.wantProblem(f.report(f.contribution(worker, 2), one, one), client.CodeInvalid, "", "reports[2].id")
	if n := len(f.node.proposals) - before; n != 0 {
		t.Errorf("%d entries of a call that is refused", n)
	}
	f.server.reported = limit.NewRates[named](f.server.cfg.Now, reportsPerSecond, 3, selfEntries)
	if w := f.report(one, f.contribution(worker, 2)); w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	f.wantProblem(f.report(f.contribution(worker, 3), f.contribution(worker, 4)), client.CodeRateLimited, "", "")
	if w := f.report(f.contribution(worker, 3)); w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}
