package cmd

import (
	"context"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
)

func (p *program) ledgerTransfer(c *cli.Context) error {
	args, err := operands(c, "DEBIT", "CREDIT", "AMOUNT")
	if err != nil {
		return err
	}
	n, err := amount("AMOUNT", args[2])
	if err != nil {
		return err
	}
	return p.operate(c, "moved", func(ctx context.Context, api *client.Client, opts ...client.Option) (client.LedgerResult, error) {
		return api.Transfer(ctx, client.TransferRequest{ID: c.String("id"), Debit: args[0], Credit: args[1], Amount: n, Ref: c.String("ref")}, opts...)
	})
}

func (p *program) ledgerHold(c *cli.Context) error {
	args, err := operands(c, "DEBIT", "CREDIT", "AMOUNT")
	if err != nil {
		return err
	}
	n, err := amount("AMOUNT", args[2])
	if err != nil {
		return err
	}
	life, err := parseDuration("for", c.String("for"))
	if err != nil {
		return err
	}
	return p.operate(c, "held", func(ctx context.Context, api *client.Client, opts ...client.Option) (client.LedgerResult, error) {
		return api.Hold(ctx, client.HoldRequest{ID: c.String("id"), Debit: args[0], Credit: args[1], Amount: n, TTLMs: life.Milliseconds(), Ref: c.String("ref")}, opts...)
	})
}

func (p *program) ledgerPost(c *cli.Context) error {
	args, err := operands(c, "HOLD")
	if err != nil {
		return err
	}
	end := client.HoldEnd{ID: c.String("id"), Ref: c.String("ref")}
	if text := c.String("amount"); text != "" {
		if end.Amount, err = amount("--amount", text); err != nil {
			return err
		}
		if end.Amount <= 0 {
			return usagef("--amount %q: want more than nothing; `edgecoder ledger void` gives a hold back", text)
		}
	}
	return p.operate(c, "posted", func(ctx context.Context, api *client.Client, opts ...client.Option) (client.LedgerResult, error) {
		return api.PostHold(ctx, args[0], end, opts...)
	})
}

func (p *program) ledgerVoid(c *cli.Context) error {
	args, err := operands(c, "HOLD")
	if err != nil {
		return err
	}
	return p.operate(c, "voided", func(ctx context.Context, api *client.Client, opts ...client.Option) (client.LedgerResult, error) {
		return api.VoidHold(ctx, args[0], client.HoldEnd{ID: c.String("id"), Ref: c.String("ref")}, opts...)
	})
}

// operate has one operation done and prints what became of it.
func (p *program) operate(c *cli.Context, what string, do func(context.Context, *client.Client, ...client.Option) (client.LedgerResult, error)) error {
	agent, cluster := c.String("agent"), c.String("cluster")
	if (agent == "") != (c.String("key") == "") || (agent == "") != (cluster == "") {
		return usagef("an agent signs with --agent ID, --key FILE and --cluster ID, all three")
	}
	api, err := p.connect(c, credential(agent == ""))
	if err != nil {
		return err
	}
	var opts []client.Option
	if agent != "" {
		key, err := p.readKey("key", c.String("key"), c.String("passphrase-file"))
		if err != nil {
			return err
		}
		defer clear(key)
		opts = append(opts, client.AsAgent(agent, key, cluster))
	}
	out, err := do(c.Context, api, opts...)
	if err != nil {
		return sameID(err)
	}
	return p.emit(c, out, func(t *table) { drawResult(t, what, out) })
}

func drawResult(t *table, what string, r client.LedgerResult) {
	t.row(what, r.ID)
	if r.Repeated {
		t.row("note", "an earlier try did it")
	}
	if r.Code != client.LedgerOK {
		t.row("refused", r.Code)
		t.row("because", r.Detail)
	}
	t.row("finality", orDash(r.Finality))
	t.row("index", number(r.Index))
}

func (p *program) ledgerAccount(c *cli.Context) error {
	args, err := operands(c, "ID")
	if err != nil {
		return err
	}
	req := client.AccountRequest{ID: args[0], Kind: c.String("kind"), Owner: c.String("owner"), Frozen: c.Bool("frozen")}
	if req.Floor, err = amount("--floor", c.String("floor")); err != nil {
		return err
	}
	if req.Owner == "" {
		req.Owner = req.ID
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	out, err := api.SetAccount(c.Context, req)
	if err != nil {
		return err
	}
	return p.emit(c, out, func(t *table) { drawAccount(t, out) })
}

func (p *program) ledgerReport(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	for _, name := range []string{"key", "agent", "payer", "task", "duration", "cluster"} {
		if c.String(name) == "" {
			return usagef("--%s is missing; see `%s --help`", name, c.Command.HelpName)
		}
	}
	took, err := parseDuration("duration", c.String("duration"))
	if err != nil {
		return err
	}
	w := client.Contribution{ID: c.String("id"), AgentID: c.String("agent"), Account: c.String("account"), Payer: c.String("payer"), Task: c.String("task"),
		Class: c.String("class"), DurationMs: took.Milliseconds(), OK: !c.Bool("failed")}
	if w.ID == "" {
		w.ID = client.NewLedgerID()
	}
	if w.Account == "" {
		w.Account = w.AgentID
	}
	if _, err := w.Unsigned(); err != nil {
		return usagef("%w", err)
	}
	key, err := p.readKey("key", c.String("key"), c.String("passphrase-file"))
	if err != nil {
		return err
	}
	defer clear(key)
	api, err := p.connect(c, credential(false))
	if err != nil {
		return err
	}
	if w, err = client.SignContribution(key, c.String("cluster"), w); err != nil {
		return usagef("%w", err)
	}
	out, err := api.ReportContributions(c.Context, client.ContributionReports{Reports: []client.Contribution{w}})
	if err != nil {
		return hintFor(err, "the report is signed with another key than the cluster knows of the agent, or for another cluster")
	}
	return p.printResults(c, "reported", out)
}

func (p *program) ledgerConfirm(c *cli.Context) error {
	words, err := operands(c, "REPORT...")
	if err != nil {
		return err
	}
	verdict := client.ContributionVerdict{Reject: c.Bool("reject")}
	for _, word := range words {
		name, err := client.ParseContributionName(word)
		if err != nil {
			return usagef("%w; `edgecoder ledger contributions PAYER` prints them", err)
		}
		verdict.Reports = append(verdict.Reports, name)
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	out, err := api.ConfirmContributions(c.Context, verdict)
	if err != nil {
		return err
	}
	what := "confirmed"
	if c.Bool("reject") {
		what = "rejected"
	}
	return p.printResults(c, what, out)
}

// printResults prints the results of several, and refuses if one was refused.
func (p *program) printResults(c *cli.Context, what string, out client.LedgerResults) error {
	if err := p.emit(c, out, func(t *table) {
		for _, r := range out.Results {
			drawResult(t, what, r)
		}
	}); err != nil {
		return err
	}
	for _, r := range out.Results {
		if !r.OK() {
			return refusedf("%s was refused: %s: %s", r.ID, r.Code, r.Detail)
		}
	}
	return nil
}

// ledgerPolicyWords are the members of the policy that have a number.
func ledgerPolicyWords(u *client.LedgerPolicyUpdate) map[string]**int64 {
	return map[string]**int64{"id_window_ms": &u.IDWindowMs, "hold_max_ms": &u.HoldMaxMs, "report_keep_ms": &u.ReportKeepMs, "base_daily_micro": &u.BaseDailyMicro,
		"min_daily_micro": &u.MinDailyMicro, "max_daily_micro": &u.MaxDailyMicro, "load_slope_micro": &u.LoadSlopeMicro, "smoothing_micro": &u.SmoothingMicro,
		"max_weight_micro": &u.MaxWeightMicro}
}

func (p *program) ledgerPolicy(c *cli.Context) error {
	words, err := operands(c, "[KEY=VALUE...]")
	if err != nil {
		return err
	}
	var update client.LedgerPolicyUpdate
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		if key == "confirm" {
			update.Confirm = &value
			continue
		}
		to, known := ledgerPolicyWords(&update)[key]
		if !known {
			return usagef("%q: want KEY=VALUE with a name that `edgecoder ledger policy` prints", word)
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return usagef("%q: want a whole number", word)
		}
		*to = &n
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	opts := freshness(c)
	if len(words) > 0 {
		opts = []client.Option{client.Strong()}
	}
	now, err := api.LedgerPolicy(c.Context, opts...)
	if err == nil && len(words) > 0 {
		now, err = api.SetLedgerPolicy(c.Context, now.Version, update)
	}
	if err != nil {
		return err
	}
	return p.emit(c, now, func(t *table) { drawLedgerPolicy(t, now) })
}
