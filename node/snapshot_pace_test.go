package node

import (
	"fmt"
	"testing"

	"github.com/edgecoder/edgecoder/client"
)

// TestSnapshotsByRecords: a snapshot is taken after so many records, however few
// entries of the log there were; raft's own pace stays as it was.
func TestSnapshotsByRecords(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	n, cl := c.nodes[0], c.client(0, c.admin)
	usual := n.raft.ReloadableConfig()
	p := &snapshotPace{every: 100, records: allRecords(n.machine.History())}
	due := func(want int) {
		t.Helper()
		if err := n.snapshotIfDue(p); err != nil {
			t.Fatal(err)
		}
		kept, err := n.store.Snapshots.List()
		if err != nil || len(kept) != want {
			t.Fatalf("%d snapshots, want %d, %v", len(kept), want, err)
		}
	}
	due(0)
	if _, err := cl.SetAccount(t.Context(), client.AccountRequest{ID: "a", Kind: "agent", Owner: "x"}); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		batch := client.LedgerBatch{}
		for range 100 { // one entry of the log, or a few
			batch.Entries = append(batch.Entries, client.LedgerEntry{ID: client.NewLedgerID(), Debit: "@issuance", Credit: "a", Amount: 1})
		}
		out, err := cl.MoveLedger(t.Context(), batch)
		if err != nil || !out.Results[99].OK() {
			t.Fatalf("%+v, %v", out, err)
		}
		due(round + 1)
		due(round + 1) // not again for the same records
	}
	if now := n.raft.ReloadableConfig(); now != usual {
		t.Errorf("raft's pace is %+v, it was %+v", now, usual)
	}
	if trailing, err := n.trailingNow(); err != nil || trailing != leastTrailing {
		t.Errorf("%d entries stay, %v", trailing, err)
	}
	if err := n.shutdown(); err != nil {
		t.Fatal(err)
	}
	c.start(0)
	c.eventually("it serves again", c.allReady)
	if a, err := c.client(0, c.admin).Account(t.Context(), "a"); err != nil || a.Balance != 200 {
		t.Errorf("after a restart: %s, %v", fmt.Sprintf("%+v", a), err)
	}
}
