package chaos

import (
	"context"
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/chaos/judge"
	"github.com/edgecoder/edgecoder/client"
)

// finalTries is how often a node is asked for all its accounts at one length of
// its records: a hold that ends meanwhile makes them longer.
const finalTries = 10

// ledgerFinal is a node's last word on its ledger.
func ledgerFinal(ctx context.Context, c *client.Client) *judge.LedgerFinal {
	f, err := askLedger(ctx, c)
	if err != nil {
		return &judge.LedgerFinal{Error: err.Error()}
	}
	return f
}

func askLedger(ctx context.Context, c *client.Client) (*judge.LedgerFinal, error) {
	f := &judge.LedgerFinal{}
	for try := 0; ; try++ {
		before, err := c.Ledger(ctx)
		if err != nil {
			return nil, err
		}
		if f.Accounts, err = allAccounts(ctx, c); err != nil {
			return nil, err
		}
		after, err := c.Ledger(ctx)
		if err != nil {
			return nil, err
		}
		if f.Size, f.Head = after.Size, after.Head; before.Size == after.Size {
			break
		}
		if try == finalTries {
			return nil, fmt.Errorf("the ledger grew in each of %d tries to read it", finalTries)
		}
	}
	for from := uint64(1); from <= f.Size; {
		page, err := c.LedgerRecords(ctx, from, "", client.Page("", 1000))
		if err != nil {
			return nil, err
		}
		for _, r := range page.Records {
			if r.Seq <= f.Size {
				f.Records = append(f.Records, r.Data)
			}
		}
		if from = page.Next; from == 0 {
			break
		}
	}
	verified, err := c.VerifyLedger(ctx)
	if err != nil {
		return nil, fmt.Errorf("have the node verify its ledger: %w", err)
	}
	if f.Verdict = "ok"; !verified.OK {
		f.Verdict = fmt.Sprintf("%+v", verified.Fault)
	}
	return f, nil
}

func allAccounts(ctx context.Context, c *client.Client) (all []client.Account, err error) {
	for after := ""; ; {
		page, err := c.Accounts(ctx, client.Page(after, 1000))
		if err != nil {
			return nil, err
		}
		all = append(all, page.Accounts...)
		if after = page.Next; after == "" {
			return all, nil
		}
	}
}

// shareRecords leaves out what an earlier node has shown to the byte: an hour's
// records are some 100 MiB.
func shareRecords(finals []judge.Final) {
	for i := range finals {
		for j := range i {
			if a, b := finals[i].Ledger, finals[j].Ledger; a != nil && b != nil && len(a.Records) > 0 && slices.Equal(a.Records, b.Records) {
				a.Records, a.SameAs = nil, finals[j].Node
				break
			}
		}
	}
}
