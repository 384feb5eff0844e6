package cmd

import (
	"context"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/ledger"
)

func (p *program) ledgerStatus(c *cli.Context) error {
	_, api, err := p.ask(c)
	if err != nil {
		return err
	}
	out, err := api.Ledger(c.Context, freshness(c)...)
	if err != nil {
		return err
	}
	return p.emit(c, out, func(t *table) {
		if !out.Open {
			t.row("ledger", "not open: the first account opens it (edgecoder ledger account)")
			return
		}
		t.row("cluster", out.ClusterID, "what agents sign for")
		t.row("origin", out.Origin, "where it was opened")
		t.row("records", number(out.Size))
		t.row("checkpointed", number(out.Checkpointed), "of them a majority vouches for")
		t.row("up to index", number(out.CheckpointedIndex))
		t.row("head", out.Head)
		t.row("in circulation", money(out.Circulation))
		t.row("owed", money(out.Owed), "of that by accounts that may owe")
		t.row("accounts", number(out.Accounts))
		t.row("holds", number(out.Holds))
		t.row("reports", number(out.Reports))
		t.row("finality", out.Finality)
		t.row("index", number(out.Index))
	})
}

func drawLedgerPolicy(t *table, now client.LedgerPolicy) {
	t.row("version", number(now.Version))
	t.row("id_window_ms", number(now.IDWindowMs), "how old the id of an operation may be")
	t.row("hold_max_ms", number(now.HoldMaxMs), "longest life of a hold")
	t.row("report_keep_ms", number(now.ReportKeepMs), "how long a contribution waits to be confirmed")
	t.row("confirm", now.Confirm, "who confirms contributions, besides operators")
	t.row("base_daily_micro", number(now.BaseDailyMicro), "issued a day at a load index of one or less")
	t.row("min_daily_micro", number(now.MinDailyMicro), "at least")
	t.row("max_daily_micro", number(now.MaxDailyMicro), "at most")
	t.row("load_slope_micro", number(now.LoadSlopeMicro), "growth with each whole load index above one, millionths")
	t.row("smoothing_micro", number(now.SmoothingMicro), "weight of the newest load index, millionths")
	t.row("max_weight_micro", number(now.MaxWeightMicro), "most that one account counts in an epoch, millionths of a second")
}

func (p *program) ledgerAccounts(c *cli.Context) error {
	_, api, err := p.ask(c)
	if err != nil {
		return err
	}
	all := client.Accounts{Accounts: []client.Account{}}
	for after := ""; ; {
		page, err := api.Accounts(c.Context, append(freshness(c), client.Page(after, pageSize))...)
		if err != nil {
			return err
		}
		all.Accounts = append(all.Accounts, page.Accounts...)
		all.Index, all.Finality = page.Index, page.Finality
		if page.Next == "" || page.Next == after {
			break
		}
		after = page.Next
	}
	return p.emit(c, all, func(t *table) {
		t.row("ACCOUNT", "KIND", "OWNER", "BALANCE", "HELD", "AVAILABLE", "FLOOR", "STATE")
		for _, a := range all.Accounts {
			t.row(a.ID, a.Kind, orDash(a.Owner), money(a.Balance), money(a.Held), money(a.Available), money(a.Floor), accountState(a))
		}
	})
}

func accountState(a client.Account) string {
	if a.Frozen {
		return "frozen"
	}
	return "open"
}

func (p *program) ledgerBalance(c *cli.Context) error {
	args, api, err := p.ask(c, "ACCOUNT")
	if err != nil {
		return err
	}
	out, err := api.Account(c.Context, args[0], freshness(c)...)
	if err != nil {
		return err
	}
	return p.emit(c, out, func(t *table) { drawAccount(t, out) })
}

func drawAccount(t *table, a client.Account) {
	t.row("account", a.ID)
	t.row("owner", a.Kind+" "+orDash(a.Owner))
	t.row("balance", money(a.Balance), number(a.Balance))
	t.row("held", money(a.Held), number(a.Held))
	t.row("available", money(a.Available), number(a.Available))
	t.row("floor", money(a.Floor), number(a.Floor))
	t.row("state", accountState(a))
	t.row("finality", a.Finality)
	t.row("index", number(a.Index))
}

func (p *program) ledgerEpochs(c *cli.Context) error {
	_, api, err := p.ask(c)
	if err != nil {
		return err
	}
	out, err := api.Epochs(c.Context, freshness(c)...)
	if err != nil {
		return err
	}
	return p.emit(c, out, func(t *table) {
		t.row("EPOCH", "STATE", "ACCOUNTS", "SECONDS", "LOAD", "POOL", "RECORD", "FINALITY")
		for _, e := range out.Open {
			t.row(t.when(e.WindowMs), "open", number(e.Accounts), millionths(e.Weight), "-", "-", "-", "-")
		}
		for _, e := range out.Closed {
			t.row(t.when(e.WindowMs), "paid", number(e.Accounts), millionths(e.Weight), millionths(e.LoadMicro), money(e.Pool), number(e.Seq), e.Finality)
		}
	})
}

// ledgerContributions prints all pages: a payer has to see what it is asked for.
func (p *program) ledgerContributions(c *cli.Context) error {
	args, api, err := p.ask(c, "PAYER")
	if err != nil {
		return err
	}
	all := client.PendingContributions{Contributions: []client.PendingContribution{}}
	for after := ""; ; {
		page, err := api.Contributions(c.Context, args[0], append(freshness(c), client.Page(after, pageSize))...)
		if err != nil {
			return err
		}
		all.Contributions, all.Index = append(all.Contributions, page.Contributions...), page.Index
		if page.Next == "" || page.Next == after {
			break
		}
		after = page.Next
	}
	return p.emit(c, all, func(t *table) {
		t.row("TASK", "SECONDS", "CLASS", "RESULT", "ACCOUNT", "REPORT")
		for _, w := range all.Contributions {
			result := "done"
			if !w.OK {
				result = "failed"
			}
			t.row(w.Task, millionths(w.Weight), w.Class, result, w.Account, w.String())
		}
	})
}

func (p *program) ledgerHistoryCommand() *cli.Command {
	return &cli.Command{
		Name: "history", Usage: "the statement of an account, or the newest records; or all records into a file",
		UsageText: "edgecoder ledger history [ACCOUNT] [--last N] | --export FILE",
		Description: "Examples:\n  edgecoder ledger history shop\n  edgecoder ledger history --last 20\n  edgecoder ledger history --export ledger.export\n\n" +
			"The export holds every record from the first on; `edgecoder ledger verify FILE` verifies it anywhere, without a cluster.",
		Flags: []cli.Flag{
			strongFlag(),
			&cli.Uint64Flag{Name: "last", Value: 50, Usage: "print the newest `N`"},
			&cli.Uint64Flag{Name: "from", Usage: "look from record `SEQ` on: of a long ledger that is quicker"},
			&cli.StringFlag{Name: "export", Usage: "write all records to `FILE`, which must not exist yet"},
		},
		Action: p.ledgerHistory,
	}
}

// maxStatement bounds the rows of a statement: what a page of a terminal never has.
const maxStatement = 100_000

func (p *program) ledgerHistory(c *cli.Context) error {
	args, err := operands(c, "[ACCOUNT]")
	if err != nil {
		return err
	}
	last := c.Uint64("last")
	if last < 1 || last > maxStatement {
		return usagef("--last %d: want 1 to %d", last, maxStatement)
	}
	account, export := "", c.String("export")
	if len(args) > 0 {
		account = args[0]
	}
	if export != "" && (account != "" || c.IsSet("last") || c.IsSet("from")) {
		return usagef("--export writes all records: give it without ACCOUNT, --last and --from")
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	if export != "" {
		return p.exportLedger(c, api, export)
	}
	out, err := statement(c.Context, api, account, c.Uint64("from"), last, freshness(c))
	if err != nil {
		return err
	}
	return p.emit(c, out, func(t *table) { drawHistory(t, out, account) })
}

// statementStep is how many records are looked at between two looks at whether there
// are enough: what a node looks at for one page.
const statementStep = 20_000

// statement returns the newest records, of an account if one is named. It looks from the
// end backwards, step by step: of an account in use the newest ones are near.
func statement(ctx context.Context, api *client.Client, account string, from, last uint64, opts []client.Option) (client.LedgerRecords, error) {
	out := client.LedgerRecords{Records: []client.LedgerRecord{}}
	sum, err := api.Ledger(ctx, opts...)
	if err != nil {
		return out, err
	}
	step, least := uint64(statementStep), max(from, 1)
	if account == "" {
		step = last
	}
	out.Size, out.Head, out.Finality, out.Checkpointed = sum.Size, sum.Head, sum.Finality, sum.Checkpointed
	for end := sum.Size; end >= least && uint64(len(out.Records)) < last; {
		begin := least
		if end-least >= step {
			begin = end - step + 1
		}
		older, err := recordsBetween(ctx, api, account, begin, end, opts)
		if err != nil {
			return out, err
		}
		out.Records = append(older, out.Records...)
		end = begin - 1
	}
	if n := uint64(len(out.Records)); n > last {
		out.Records = out.Records[n-last:]
	}
	return out, nil
}

// recordsBetween returns the records from one to another, of an account if one is named.
func recordsBetween(ctx context.Context, api *client.Client, account string, from, to uint64, opts []client.Option) ([]client.LedgerRecord, error) {
	all := []client.LedgerRecord{}
	for from <= to {
		page, err := api.LedgerRecords(ctx, from, account, append(opts[:len(opts):len(opts)], client.Page("", pageSize))...)
		if err != nil {
			return nil, err
		}
		for _, r := range page.Records {
			if r.Seq <= to {
				all = append(all, r)
			}
		}
		if page.Next <= from {
			break
		}
		from = page.Next
	}
	return all, nil
}

func drawHistory(t *table, out client.LedgerRecords, account string) {
	t.row("SEQ", "TIME", "WHAT", "FROM", "TO", "AMOUNT", "BALANCE", "REF")
	for _, r := range out.Records {
		t.row(number(r.Seq), t.when(r.AtMs), r.Kind, orDash(r.Debit), orDash(r.Credit+r.Account), signedAmount(r, account), balanceAfter(r, account), orDash(r.Ref+r.Detail))
	}
}

// signedAmount is what a record means for an account: what leaves it is below zero.
func signedAmount(r client.LedgerRecord, account string) string {
	switch {
	case r.Kind == "confirm" || r.Kind == "report":
		return millionths(r.Weight) + "s"
	case r.Amount == 0:
		return "-"
	case account != "" && r.Debit == account && r.Kind != "hold":
		return money(-r.Amount)
	}
	return money(r.Amount)
}

// balanceAfter is the balance of the account that is asked about, else of both.
func balanceAfter(r client.LedgerRecord, account string) string {
	switch {
	case account != "" && r.Debit == account && r.DebitBalance != nil:
		return money(*r.DebitBalance)
	case account != "" && r.Credit == account && r.CreditBalance != nil:
		return money(*r.CreditBalance)
	case account == "" && r.DebitBalance != nil && r.CreditBalance != nil:
		return money(*r.DebitBalance) + " " + money(*r.CreditBalance)
	case r.DebitHeld != nil && (account == "" || r.Debit == account):
		return "held " + money(*r.DebitHeld)
	}
	return "-"
}

func (p *program) exportLedger(c *cli.Context, api *client.Client, path string) error {
	if err := isFree(path); err != nil {
		return err
	}
	var size int64
	err := intoFile(path, false, func(f *os.File) error {
		if err := api.ExportLedger(c.Context, f, freshness(c)...); err != nil {
			return err
		}
		info, err := f.Stat()
		if err == nil {
			size = info.Size()
		}
		return err
	})
	if err != nil {
		return err
	}
	view := struct {
		File  string `json:"file"`
		Bytes int64  `json:"bytes"`
	}{path, size}
	return p.emit(c, view, func(t *table) {
		t.row("export", path)
		t.row("bytes", number(size))
		t.row("verify it with", "edgecoder ledger verify "+shellWord(path))
	})
}

// millionths prints a number that is counted in millionths.
func millionths(n int64) string { return ledger.Credits(n) }
