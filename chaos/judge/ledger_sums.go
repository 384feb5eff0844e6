package judge

import (
	"slices"

	"github.com/edgecoder/edgecoder/client"
)

// checkBooks holds P7 for each node's records and accounts: the records follow
// one another, every rule held at each of them, no id moved money twice, no account
// is below its floor, the sum of all is zero, and what the node calls its balances is
// what its records come to. All nodes have the same records as far as both go.
func checkBooks(c *court) {
	expected := slices.Contains(c.run.About.Expect, KindMove)
	for _, node := range c.run.About.Nodes {
		f := c.run.ledgerOf(node)
		switch {
		case f == nil && expected:
			c.doubt(nil, "%s gave no last word on its ledger: %s", node, c.run.whyNoFinal(node))
		case f != nil && f.Error != "":
			c.doubt(nil, "%s gave no last word on its ledger: %s", node, f.Error)
		case f != nil:
			checkBook(c, node, f)
		}
	}
	checkSameBooks(c)
}

func (r *Run) ledgerOf(node string) *LedgerFinal {
	for i := range r.Finals {
		if r.Finals[i].Node == node {
			return r.Finals[i].Ledger
		}
	}
	return nil
}

func checkBook(c *court, node string, f *LedgerFinal) {
	b := c.books.byNode[node]
	c.Examined += len(b.records)
	if b.node == node { // else they were told already
		for _, fault := range b.faults {
			c.fail(nil, "%s: %s", node, fault)
		}
	}
	if b.broken {
		return // what follows is wrong, too
	}
	if sum := b.sum(); sum != 0 {
		c.fail(nil, "%s: the records make %d out of nothing", node, sum)
	}
	if n := len(b.records); f.Size != uint64(n) {
		c.fail(nil, "%s calls itself %d records long and has %d", node, f.Size, n)
	} else if n > 0 && f.Head != b.records[n-1].hash {
		c.fail(nil, "%s: the head is %.12s, the newest record has the hash %.12s", node, f.Head, b.records[n-1].hash)
	}
	if f.Verdict != "ok" {
		c.fail(nil, "%s says of its own records: %s", node, f.Verdict)
	}
	if b.strange {
		c.doubt(nil, "%s has records of contributions or epochs, of which this judge knows nothing", node)
		return
	}
	checkBalances(c, node, b, f.Accounts)
}

func checkBalances(c *court, node string, b *ledgerBook, listed []client.Account) {
	sum, seen := int64(0), map[string]bool{}
	for _, a := range listed {
		sum += a.Balance
		if seen[a.ID] {
			c.fail(nil, "%s lists the account %s twice", node, a.ID)
		}
		seen[a.ID] = true
		have := b.accounts[a.ID]
		if have == nil {
			c.fail(nil, "%s lists the account %s, of which no record tells", node, a.ID)
			continue
		}
		if now := have.last(); a.Balance != now.balance || a.Held != now.held || a.Floor != have.floor || a.Available != now.available() {
			c.fail(nil, "%s shows %d (%d held, %d available, floor %d) on %s, its records come to %d (%d held, %d available, floor %d)",
				node, a.Balance, a.Held, a.Available, a.Floor, a.ID, now.balance, now.held, now.available(), have.floor)
		}
		if a.Available < 0 {
			c.fail(nil, "%s: %s is below its floor: %d available", node, a.ID, a.Available)
		}
	}
	if sum != 0 {
		c.fail(nil, "%s: the sum of all accounts is %d, not zero", node, sum)
	}
	if len(listed) > 0 && len(listed) != len(b.accounts) {
		c.fail(nil, "%s lists %d accounts, its records tell of %d", node, len(listed), len(b.accounts))
	}
}

// checkSameBooks holds that one node's records are the beginning of another's: a
// hold that ends by itself may make one longer while the nodes are asked.
func checkSameBooks(c *court) {
	all := c.books.longest
	for _, node := range c.run.About.Nodes {
		b := c.books.byNode[node]
		if b == nil || b == all {
			continue
		}
		for i := range b.records {
			if b.records[i].hash != all.records[i].hash {
				c.failAs("P4", nil, "record %d differs: %s has %.12s, %s has %.12s", i+1, node, b.records[i].hash, all.node, all.records[i].hash)
				break
			}
		}
	}
}
