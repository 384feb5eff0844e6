package api

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

// signedAsk is a request that an agent signs for the ledger of a cluster.
func (a *agent) signedAsk(cluster, path string, atMs int64, body any) ask {
	text := string(must(json.Marshal(body)))
	signed := must(crypto.SignRequest(a.key, a.id, http.MethodPost, client.LedgerPath(cluster, path), []byte(text), atMs, must(crypto.NewUUID(rand.Reader))))
	out := ask{method: http.MethodPost, path: path, body: text, header: map[string]string{}}
	for _, h := range signed.Headers() {
		out.header[h[0]] = h[1]
	}
	return out
}

// rich is an agent with a million on its account.
func (f *fixture) rich(id string) *agent {
	f.t.Helper()
	a := f.agent(id, fsm.AgentActive)
	f.account(client.AccountRequest{ID: id, Kind: "agent", Owner: id})
	f.wantOK(f.post(fsm.RoleAdmin, "/v1/ledger/transfers", client.TransferRequest{Debit: ledger.Issuance, Credit: id, Amount: 1_000_000}))
	return a
}

// An agent moves what is its own by its signature alone, once, and nothing else.
func TestAgentsSignTransfers(t *testing.T) {
	f := ledgerFixture(t)
	a := f.rich("payer")
	const path = "/v1/ledger/transfers"
	req := client.TransferRequest{ID: f.ledgerID(1), Debit: a.id, Credit: "b", Amount: 10}
	signed := a.signedAsk(clusterID, path, testClock, req)
	first := f.wantOK(f.do(signed))
	for range 3 { // whoever captured it moves nothing
		if again := f.wantOK(f.do(signed)); !again.Repeated || again.Index != first.Index {
			t.Errorf("%+v", again)
		}
	}
	f.wantBalance(a.id, 999_990, 0)
	other := req
	other.ID, other.Debit, other.Credit = f.ledgerID(2), "b", a.id
	f.wantProblem(f.do(a.signedAsk(clusterID, path, testClock, other)), client.CodeForbidden, "", "debit")
	other.ID = ""
	f.wantProblem(f.do(a.signedAsk(clusterID, path, testClock, other)), client.CodeInvalid, "", "id")
	keyed := a.signedAsk(clusterID, path, testClock, req)
	keyed.header[client.HeaderIdempotencyKey] = "k"
	f.wantProblem(f.do(keyed), client.CodeInvalid, "", client.HeaderIdempotencyKey)

	changed := a.signedAsk(clusterID, path, testClock, req)
	changed.body = `{"id":"` + f.ledgerID(3) + `","debit":"payer","credit":"b","amount":99}`
	stranger := &agent{id: a.id, key: must(crypto.GenerateKey(rand.Reader))}
	for name, tt := range map[string]struct {
		ask    ask
		reason string
	}{
		"of another cluster": {a.signedAsk("elsewhere", path, testClock, req), client.VerdictInvalidSignature},
		"of another route":   {a.signedAsk(clusterID, "/v1/ledger/holds", testClock, req), ""},
		"with another body":  {changed, client.VerdictInvalidSignature},
		"with another key":   {stranger.signedAsk(clusterID, path, testClock, req), client.VerdictInvalidSignature},
		"of an hour ago":     {a.signedAsk(clusterID, path, testClock-3_600_000, req), client.VerdictTimestampSkew},
	} {
		t.Run(name, func(t *testing.T) {
			f.t = t
			if tt.reason == "" { // signed for one route, sent to another
				tt.ask.path, tt.reason = path, client.VerdictInvalidSignature
			}
			f.wantProblem(f.do(tt.ask), client.CodeUnauthorized, tt.reason, "")
		})
	}
	f.t = t
	f.node.mustApply(f.actor(), fsm.AgentSetState{AgentID: a.id, State: fsm.AgentSuspended})
	req.ID = f.ledgerID(4)
	f.wantProblem(f.do(a.signedAsk(clusterID, path, testClock, req)), client.CodeForbidden, client.VerdictAgentNotActive, "")
	f.wantBalance(a.id, 999_990, 0)
}

// A paying agent sets aside, posts, voids and confirms by its signature.
func TestAgentsSignHoldsAndConfirmations(t *testing.T) {
	f := ledgerFixture(t)
	payer, worker := f.rich("payer"), f.rich("worker")
	send := func(path string, body any) *httptest.ResponseRecorder {
		t.Helper()
		return f.do(payer.signedAsk(clusterID, path, testClock, body))
	}
	for n := range byte(2) {
		f.wantOK(send("/v1/ledger/holds", client.HoldRequest{ID: f.ledgerID(10 + n), Debit: payer.id, Credit: worker.id, Amount: 100, TTLMs: 60_000}))
	}
	f.wantOK(send("/v1/ledger/holds/"+f.ledgerID(10)+"/post", client.HoldEnd{ID: f.ledgerID(12), Amount: 40}))
	f.wantOK(send("/v1/ledger/holds/"+f.ledgerID(11)+"/void", client.HoldEnd{ID: f.ledgerID(13)}))
	f.wantBalance(payer.id, 999_960, 0)

	work := f.contribution(worker, 20)
	work.Payer = payer.id
	work = must(client.SignContribution(worker.key, clusterID, work))
	if w := f.report(work); w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	verdict := client.ContributionVerdict{Reports: []client.ContributionName{must(work.Name())}}
	var out client.LedgerResults
	w := f.do(worker.signedAsk(clusterID, "/v1/ledger/contributions/confirm", testClock, verdict))
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || len(out.Results) != 1 || out.Results[0].Code != string(fsm.CodeForbidden) {
		t.Errorf("a worker confirms its own work: %d %s", w.Code, w.Body)
	}
	verdict.Reject = true // the payer's right under every policy
	w = send("/v1/ledger/contributions/confirm", verdict)
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || len(out.Results) != 1 || !out.Results[0].OK() {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// The Go client signs each try anew, for the ledger and the route that it asks.
func TestClientAsAgent(t *testing.T) {
	a := &agent{id: "payer", key: must(crypto.GenerateKey(rand.Reader))}
	nonces := map[string]bool{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := must(io.ReadAll(r.Body))
		signed, err := crypto.ParseSignedRequest(r.Method, client.LedgerPath("cluster-1", r.URL.EscapedPath()), r.Header.Get)
		if err != nil || !signed.MatchesBody(body) || !crypto.Verify(crypto.PublicOf(a.key), signed.Canonical(), signed.Signature[:]) || r.Header.Get("Authorization") != "" {
			t.Errorf("%v: %v", r.Header, err)
		}
		if nonces[signed.Nonce] = true; len(nonces) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(`{"code":"ok"}`))
	}))
	defer srv.Close()
	c := must(client.New(client.Config{Addrs: []string{srv.URL}, Token: "not for this"}))
	if _, err := c.PostHold(t.Context(), "h", client.HoldEnd{}, client.AsAgent(a.id, a.key, "cluster-1")); err != nil || len(nonces) != 2 {
		t.Errorf("%v after %d tries", err, len(nonces))
	}
}

// An agent signs a batch as it signs one transfer; its body is a stranger's until then.
func TestAgentsSignBatches(t *testing.T) {
	f := ledgerFixture(t)
	a := f.rich("payer")
	const path = "/v1/ledger/transfers/batch"
	batch := client.LedgerBatch{Entries: []client.LedgerEntry{
		{ID: f.ledgerID(1), Debit: a.id, Credit: "b", Amount: 10},
		{ID: f.ledgerID(2), Debit: "b", Credit: a.id, Amount: 1},
		{ID: f.ledgerID(3), Op: client.OpHold, Debit: a.id, Credit: "b", Amount: 5, TTLMs: 60_000},
	}}
	signed := a.signedAsk(clusterID, path, testClock, batch)
	for try, refused := range []fsm.Code{fsm.CodeForbidden, fsm.CodeReplay} { // what it was refused it never gets later
		var out client.LedgerResults
		w := f.do(signed)
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || len(out.Results) != 3 {
			t.Fatalf("try %d: %d %s", try, w.Code, w.Body)
		}
		for i, want := range []fsm.Code{fsm.CodeOK, refused, fsm.CodeOK} {
			if r := out.Results[i]; r.Code != string(want) || r.Repeated != (try == 1 && r.OK()) {
				t.Errorf("try %d, entry %d: %+v, want %s", try, i, r, want)
			}
		}
	}
	f.wantBalance(a.id, 999_990, 5)
	batch.Entries[0].ID = ""
	f.wantProblem(f.do(a.signedAsk(clusterID, path, testClock, batch)), client.CodeInvalid, "", "entries[0].id")
	changed := signed
	changed.body = strings.Replace(signed.body.(string), `"amount":10`, `"amount":99`, 1)
	f.wantProblem(f.do(changed), client.CodeUnauthorized, client.VerdictInvalidSignature, "")

	large := client.LedgerBatch{}
	for i := range client.MaxLedgerBatch {
		large.Entries = append(large.Entries, client.LedgerEntry{ID: f.ledgerID(byte(i)), Debit: a.id, Credit: "b", Amount: 1})
	}
	if w := f.do(a.signedAsk(clusterID, path, testClock, large)); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of a stranger over 64 KiB: %d %.200s", w.Code, w.Body)
	}
	if w := f.post(fsm.RoleAdmin, path, large); w.Code == http.StatusRequestEntityTooLarge {
		t.Errorf("the same with a token: %d %.200s", w.Code, w.Body)
	}
}

// What an agent signed and was refused moves its money at no time, whoever captured it.
func TestP7RefusedTransferIsNotReplayed(t *testing.T) {
	f := ledgerFixture(t)
	a := f.rich("payer")
	const path = "/v1/ledger/transfers"
	req := client.TransferRequest{ID: f.ledgerID(1), Debit: a.id, Credit: "b", Amount: 2_000_000}
	captured := a.signedAsk(clusterID, path, testClock, req)
	f.wantProblem(f.do(captured), client.CodeConflict, client.LedgerInsufficient, "amount")
	f.wantOK(f.post(fsm.RoleAdmin, "/v1/ledger/transfers", client.TransferRequest{Debit: ledger.Issuance, Credit: a.id, Amount: 3_000_000}))
	for range 2 {
		f.wantProblem(f.do(captured), client.CodeUnauthorized, client.VerdictReplay, "")
	}
	f.wantOK(f.do(a.signedAsk(clusterID, path, testClock, req))) // signed anew, the same id
	if again := f.wantOK(f.do(captured)); !again.Repeated {
		t.Errorf("%+v", again)
	}
	f.wantBalance(a.id, 2_000_000, 0)
}
