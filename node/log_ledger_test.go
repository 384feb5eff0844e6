package node

import (
	"bytes"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

// TestLedgerIsALog: what moved is in a checkpoint that every node has and serves, by a majority, and its label says so.
// While money moves there is one a second at most.
func TestLedgerIsALog(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	c.openLedger(10_000, "a", "b")
	c.everyNodePassesOn() // reports of work too: their signatures are checked before anything is cosigned
	lead := c.nodes[c.leader()]
	l := lead.logs.named[checkpoint.LogLedger]
	began, sizes := time.Now(), map[uint64]bool{}
	for time.Since(began) < 2*ledgerPace {
		if _, err := c.client(0, c.admin).Transfer(t.Context(), client.TransferRequest{Debit: "a", Credit: "b", Amount: 1}); err != nil {
			t.Fatal(err)
		}
		if _, held, ok := l.Newest(lead.epochNow().origin(checkpoint.LogLedger)); ok {
			sizes[held.Size] = true
		}
	}
	if most := int(time.Since(began)/ledgerPace) + 2; len(sizes) > most {
		t.Errorf("%d checkpoints in %s, at most %d", len(sizes), time.Since(began), most)
	}
	size := uint64(0)
	for i := range c.nodes {
		cl := c.client(i, c.admin)
		c.eventually("all records are checkpointed", func() bool {
			sum, err := cl.Ledger(t.Context(), client.Strong())
			size = sum.Size
			return err == nil && sum.Checkpointed == sum.Size && sum.Finality == client.FinalityCheckpointed
		})
		a, err := cl.Account(t.Context(), "b", client.Strong())
		if err != nil || a.Finality != client.FinalityCheckpointed {
			t.Errorf("node %d: %+v, %v", i, a, err)
		}
		note, err := cl.LedgerCheckpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if o, err := c.nodes[i].epochNow().cosigners().OpenFinal(note); err != nil || o.Size != size || o.Origin.Log != checkpoint.LogLedger {
			t.Errorf("node %d: %+v, %v", i, o, err)
		}
		if p, err := cl.ProveLedgerInclusion(t.Context(), 1, size); err != nil || p.Size != size {
			t.Errorf("node %d: %+v, %v", i, p, err)
		}
		if bytes.Contains(note, []byte("/blacklist/")) {
			t.Errorf("node %d serves %s", i, note)
		}
	}
}

// TestUnsoundLedgerRecords: whoever cosigns looks at what a record says, and at what it follows.
func TestUnsoundLedgerRecords(t *testing.T) {
	n := &Node{machine: fsm.NewMachine(fsm.NewMemoryHistory(), nil)}
	record := func(seq uint64, change func(*ledger.Record), before *fsm.Record) fsm.Record {
		r := ledger.Record{Kind: ledger.KindPolicy, Seq: seq, Index: seq, AtMs: 1, Actor: "admin:t", Policy: new(ledger.Policy)}
		*r.Policy = ledger.DefaultPolicy()
		if before != nil {
			last, err := ledger.ParseRecord(before.Data)
			if err != nil {
				t.Fatal(err)
			}
			r.Prev = last.Hash
		}
		if change != nil {
			change(&r)
		}
		_, data := r.Append(nil)
		return fsm.Record{Stream: fsm.StreamLedger, Seq: seq, Index: seq, Data: data}
	}
	one := record(1, nil, nil)
	if err := n.checkLedgerRecord(&one, record(2, nil, &one)); err != nil {
		t.Fatal(err)
	}
	damaged := record(2, nil, &one)
	damaged.Data[len(damaged.Data)/2] ^= 1
	for name, r := range map[string]fsm.Record{
		"another place": record(2, func(r *ledger.Record) { r.Seq = 3 }, &one),
		"another link":  record(2, func(r *ledger.Record) { r.Prev[0] ^= 1 }, &one),
		"damaged":       damaged,
	} {
		if err := n.checkLedgerRecord(&one, r); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
	if err := n.checkLedgerRecord(nil, one); err == nil {
		t.Error("a first record of a ledger that is not open is taken")
	}
}
