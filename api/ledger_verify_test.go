package api

import (
	"net/http"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

// What was verified is not walked again for a while, unless it is another history.
func TestVerifiedLedgerIsWalkedOn(t *testing.T) {
	f := ledgerFixture(t)
	verify := func() client.LedgerVerified {
		t.Helper()
		v := getInto[client.LedgerVerified](f, fsm.RoleViewer, "/v1/ledger/verify")
		if !v.OK {
			t.Fatalf("%+v", v)
		}
		return v
	}
	first := verify()
	f.wantOK(f.post(fsm.RoleAdmin, "/v1/ledger/transfers", client.TransferRequest{Debit: "a", Credit: "b", Amount: 1}))
	if second := verify(); first.From != 1 || second.From != first.Records+1 || second.Records != first.Records+1 {
		t.Errorf("from %d to %d, then from %d to %d", first.From, first.Records, second.From, second.Records)
	}
	other := ledger.NewVerifier(clusterID)
	f.server.walked.v = other // it ends elsewhere
	if v := verify(); v.From != 1 {
		t.Errorf("another walk was believed: %+v", v)
	}
	f.server.walked.began = f.server.walked.began.Add(-verifiedFor)
	if v := verify(); v.From != 1 {
		t.Errorf("an old walk was believed: %+v", v)
	}
}

// One token takes neither the slot for ever nor the copies of all accounts.
func TestVerifyHasABudget(t *testing.T) {
	f := ledgerFixture(t)
	f.server.cfg.Now = time.Now
	var w int
	for range verifiesBurst + 1 {
		w = f.do(ask{method: http.MethodGet, path: "/v1/ledger/verify", token: f.tokens[fsm.RoleMesh]}).Code
	}
	if w != http.StatusTooManyRequests {
		t.Errorf("the last one was answered %d", w)
	}
	if v := getInto[client.LedgerVerified](f, fsm.RoleViewer, "/v1/ledger/verify"); !v.OK {
		t.Errorf("another token: %+v", v)
	}
}
