package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

// What rests on records that no checkpoint holds is committed and no more.
func TestLedgerFinality(t *testing.T) {
	f := ledgerFixture(t)
	sum := getInto[client.Ledger](f, fsm.RoleViewer, "/v1/ledger")
	for _, tt := range []struct {
		unsealed uint64
		want     string
	}{{0, client.FinalityCheckpointed}, {1, client.FinalityCommitted}} {
		f.node.unsealed = tt.unsealed
		got := []string{getInto[client.Ledger](f, fsm.RoleViewer, "/v1/ledger").Finality,
			getInto[client.Account](f, fsm.RoleViewer, "/v1/ledger/accounts/a").Finality,
			getInto[client.Accounts](f, fsm.RoleViewer, "/v1/ledger/accounts?limit=2").Accounts[1].Finality,
			getInto[client.LedgerRecords](f, fsm.RoleMesh, "/v1/ledger/records").Finality}
		for i := range got {
			if got[i] != tt.want {
				t.Errorf("%d records behind the checkpoint, answer %d: %s, want %s", tt.unsealed, i, got[i], tt.want)
			}
		}
	}
	page := getInto[client.LedgerRecords](f, fsm.RoleMesh, fmt.Sprintf("/v1/ledger/records?limit=%d", sum.Size-1))
	if page.Finality != client.FinalityCheckpointed || page.Checkpointed != sum.Size-1 {
		t.Errorf("the page before the last record: %+v", page.Finality)
	}
}

// The checkpoint is of the ledger's own log.
func TestLedgerCheckpoint(t *testing.T) {
	f := ledgerFixture(t)
	w := f.do(ask{method: http.MethodGet, path: "/v1/ledger/checkpoint", token: f.tokens[fsm.RoleMesh]})
	note, err := checkpoint.ParseNote(w.Body.Bytes())
	if err != nil || w.Code != http.StatusOK || note.Checkpoint.Origin.Log != checkpoint.LogLedger || note.Checkpoint.Size != getInto[client.Ledger](f, fsm.RoleViewer, "/v1/ledger").Size {
		t.Errorf("%d %s: %v", w.Code, w.Body, err)
	}
}

// TestExportCarriesCheckpoint: whoever gets the file can tell which of its records a
// majority vouches for.
func TestExportCarriesCheckpoint(t *testing.T) {
	f := ledgerFixture(t)
	w := f.do(ask{method: http.MethodGet, path: "/v1/ledger/export", token: f.tokens[fsm.RoleMesh]})
	e, err := ledger.ReadExport(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	note, err := checkpoint.ParseNote(e.Note())
	if err != nil || note.Checkpoint.Origin.Log != checkpoint.LogLedger {
		t.Fatalf("%s: %v", e.Note(), err)
	}
	var edge checkpoint.Frontier
	for data, err := range e.Records() {
		if err != nil {
			t.Fatal(err)
		}
		if edge.Size() < note.Checkpoint.Size {
			edge.Append(checkpoint.LeafHash(data))
		}
	}
	if edge.Size() != note.Checkpoint.Size {
		t.Errorf("%d records, the checkpoint is of %d", edge.Size(), note.Checkpoint.Size)
	}
	if ledger.MaxExportNote != checkpoint.MaxNoteBytes {
		t.Error("a note that is allowed may not be exported")
	}
}

// TestResultFinality: a transfer is committed when it is answered; asked again it says
// whether a checkpoint holds it by now, all of the entry of the log that it was in.
func TestResultFinality(t *testing.T) {
	f := ledgerFixture(t)
	const path = "/v1/ledger/transfers/batch"
	batch := client.LedgerBatch{Entries: []client.LedgerEntry{
		{ID: f.ledgerID(1), Debit: ledger.Issuance, Credit: "a", Amount: 1}, {ID: f.ledgerID(2), Debit: ledger.Issuance, Credit: "a", Amount: 2}}}
	ask := func(want string, repeated bool) {
		t.Helper()
		var out client.LedgerResults
		w := f.post(fsm.RoleAdmin, path, batch)
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || len(out.Results) != 2 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		sum := getInto[client.Ledger](f, fsm.RoleViewer, "/v1/ledger")
		for _, r := range out.Results {
			if r.Finality != want || r.Repeated != repeated || repeated && (r.Index <= sum.CheckpointedIndex) != (want == client.FinalityCheckpointed) {
				t.Errorf("%d records behind the checkpoint, index %d of %d: %+v, want %s", f.node.unsealed, r.Index, sum.CheckpointedIndex, r, want)
			}
		}
	}
	ask(client.FinalityCommitted, false)
	ask(client.FinalityCheckpointed, true)
	for f.node.unsealed = 1; f.node.unsealed <= 3; f.node.unsealed++ { // half of the entry; none of it
		ask(client.FinalityCommitted, true)
	}
}
