package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/ledger"
)

const (
	benchAccounts = 64
	benchCredits  = 1_000_000 * ledger.Micro // on each account: no load spends it
	// maxBenchClients: each holds a connection.
	maxBenchClients = 1024
)

func (p *program) benchLedgerCommand() *cli.Command {
	return &cli.Command{
		Name: "ledger", Usage: "transfers a second, one by one and in batches",
		UsageText: "edgecoder bench ledger [--clients 1,64,256] [--batch 1,1024] [--duration 10s]",
		Description: "Example:\n  edgecoder bench ledger --clients 64 --batch 1,1024 --duration 30s\n\n" +
			"It needs an admin's token. It makes 64 accounts that begin with bench-, issues credits to them, moves these about through all addresses of --addr, and\n" +
			"gives them back at the end; the accounts and the records stay for ever, so it is for a cluster that is yours to load. Batches fill the table of ids\n" +
			"within a minute unless the window is narrow: `edgecoder ledger policy id_window_ms=10000` first.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "clients", Value: "1,64,256", Usage: "`N,N…` clients at a time, one run each"},
			&cli.StringFlag{Name: "batch", Value: "1,1024", Usage: "`N,N…` transfers in a call, one run each"},
			&cli.DurationFlag{Name: "duration", Value: 10 * time.Second, Usage: "`TIME` of each run"},
		},
		Action: p.benchLedger,
	}
}

func (p *program) benchLedger(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	clients, err := counts("clients", c.String("clients"), maxBenchClients)
	if err != nil {
		return err
	}
	batches, err := counts("batch", c.String("batch"), client.MaxLedgerBatch)
	if err != nil {
		return err
	}
	life := c.Duration("duration")
	if life < 100*time.Millisecond || life > time.Hour {
		return usagef("--duration %s: want 100ms to 1h", life)
	}
	most := 1
	for _, n := range clients {
		most = max(most, n)
	}
	apis, err := p.benchClients(c, most)
	if err != nil {
		return err
	}
	accounts, err := openBench(c.Context, apis[0])
	if err != nil {
		return err
	}
	report := benchReport{What: "TRANSFERS"}
	for _, batch := range batches {
		for _, n := range clients {
			p.say("%d clients, %d in a call, %s …", n, batch, life)
			report.Runs = append(report.Runs, load(n, batch, life, p.now, func(worker int, t *tally) {
				transferOnce(c.Context, apis[worker], accounts, batch, t)
			}))
			if err := c.Context.Err(); err != nil {
				return err
			}
		}
	}
	if err := closeBench(c.Context, apis[0], accounts); err != nil {
		p.say("warning: the credits of the benchmark were not all given back: %v", err)
	}
	return p.emit(c, report, func(t *table) { drawBench(t, report) })
}

// openBench makes the accounts of one benchmark and puts credits on them.
func openBench(ctx context.Context, api *client.Client) ([]string, error) {
	accounts := make([]string, benchAccounts)
	name := client.NewLedgerID()
	for i := range accounts {
		accounts[i] = fmt.Sprintf("bench-%s-%d", name, i)
		if _, err := api.SetAccount(ctx, client.AccountRequest{ID: accounts[i], Kind: ledger.KindService.String(), Owner: "bench"}); err != nil {
			return nil, err
		}
	}
	batch := client.LedgerBatch{Linked: true}
	for _, id := range accounts {
		batch.Entries = append(batch.Entries, client.LedgerEntry{Debit: ledger.Issuance, Credit: id, Amount: benchCredits, Ref: "bench"})
	}
	return accounts, allMoved(api.MoveLedger(ctx, batch))
}

func allMoved(out client.LedgerResults, err error) error {
	for _, r := range out.Results {
		if !r.OK() {
			err = cmp.Or(err, error(&client.Error{Code: client.CodeConflict, Reason: r.Code, Detail: r.Detail}))
		}
	}
	return err
}

// closeBench gives the credits back.
func closeBench(ctx context.Context, api *client.Client, accounts []string) error {
	batch := client.LedgerBatch{}
	for _, id := range accounts {
		a, err := api.Account(ctx, id, client.Strong())
		if err != nil {
			return err
		}
		if a.Available > 0 {
			batch.Entries = append(batch.Entries, client.LedgerEntry{Debit: id, Credit: ledger.Issuance, Amount: a.Available, Ref: "bench"})
		}
	}
	return allMoved(api.MoveLedger(ctx, batch))
}

// transferOnce makes one call of the load.
func transferOnce(ctx context.Context, api *client.Client, accounts []string, batch int, t *tally) {
	n := int(t.done+t.refused) % len(accounts)
	pair := func(i int) (string, string) {
		from := (n + i) % len(accounts)
		return accounts[from], accounts[(from+1+i%7)%len(accounts)]
	}
	var err error
	if batch == 1 {
		from, to := pair(0)
		if _, err = api.Transfer(ctx, client.TransferRequest{Debit: from, Credit: to, Amount: 1}); err == nil {
			t.done++
		}
	} else {
		b := client.LedgerBatch{Entries: make([]client.LedgerEntry, batch)}
		for i := range b.Entries {
			from, to := pair(i)
			b.Entries[i] = client.LedgerEntry{Debit: from, Credit: to, Amount: 1}
		}
		var out client.LedgerResults
		out, err = api.MoveLedger(ctx, b)
		for _, r := range out.Results {
			if r.OK() {
				t.done++
			} else {
				t.refused++
				t.first = cmp.Or(t.first, errors.New(r.Code))
			}
		}
	}
	if err != nil {
		t.undecided++
		t.first = cmp.Or(t.first, err)
	}
}
