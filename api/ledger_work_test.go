package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
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

// A payer sees what waits for its word, page by page, and confirms that and nothing else.
func TestPayersSeeWhatTheyConfirm(t *testing.T) {
	f := ledgerFixture(t)
	worker, payer := f.rich("worker"), f.rich("payer")
	const path = "/v1/ledger/contributions"
	var works []client.Contribution
	for n := range byte(3) {
		work := f.contribution(worker, 50+n)
		work.Payer = payer.id
		works = append(works, must(client.SignContribution(worker.key, clusterID, work)))
	}
	if w := f.report(append(works, f.contribution(worker, 60))...); w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var seen []client.ContributionName
	for after := ""; ; {
		page := getInto[client.PendingContributions](f, fsm.RoleOperator, path+"?payer=payer&limit=2&after="+url.QueryEscape(after))
		for _, c := range page.Contributions {
			seen = append(seen, c.ContributionName)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if len(seen) != 3 || seen[0] != must(works[0].Name()) || seen[2] != must(works[2].Name()) {
		t.Fatalf("%+v of %+v", seen, works)
	}
	signed := must(crypto.SignRequest(payer.key, payer.id, http.MethodGet, client.LedgerPath(clusterID, path), nil, testClock, "nonce-1"))
	own := ask{method: http.MethodGet, path: path + "?payer=payer", header: map[string]string{}}
	for _, h := range signed.Headers() {
		own.header[h[0]] = h[1]
	}
	if w := f.do(own); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), seen[1].Sum) {
		t.Errorf("the payer itself: %d %s", w.Code, w.Body)
	}
	own.path = path + "?payer=worker"
	f.wantProblem(f.do(own), client.CodeForbidden, "", "payer")
	f.wantProblem(f.do(ask{method: http.MethodGet, path: path + "?payer=payer", token: f.tokens[fsm.RoleVerifier]}), client.CodeForbidden, "", "payer")
	f.wantProblem(f.do(ask{method: http.MethodGet, path: path + "?payer=payer&after=x", token: f.tokens[fsm.RoleOperator]}), client.CodeInvalid, "", "after")

	other := seen[0]
	other.Sum = seen[1].Sum
	var out client.LedgerResults
	w := f.post(fsm.RoleOperator, path+"/confirm", client.ContributionVerdict{Reports: []client.ContributionName{other, seen[1]}})
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || len(out.Results) != 2 || out.Results[0].Code != string(fsm.CodeConflict) || out.Results[0].Field != "sum" || !out.Results[1].OK() {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, text := range []string{"a/b/" + seen[0].ID + "/" + seen[0].Sum, seen[0].String()} {
		if name, err := client.ParseContributionName(text); err != nil || name.String() != text {
			t.Errorf("%q is read as %+v, %v", text, name, err)
		}
	}
	for _, text := range []string{"", "/", "//", "a/" + seen[0].Sum, "a/" + seen[0].ID + "/00"} {
		if name, err := client.ParseContributionName(text); err == nil {
			t.Errorf("%q is read as %+v", text, name)
		}
	}
}
