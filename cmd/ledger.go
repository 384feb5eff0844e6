package cmd

import (
	"errors"
	"math/big"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/ledger"
)

// amountHelp tells how amounts are written.
const amountHelp = "AMOUNT is micro-credits, a whole number, or credits with cr behind them: 1500000 and 1.5cr are the same."

// idFlags name an operation, and who asks for it if no token does.
func idFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "agent", Usage: "`ID` of an agent that signs instead of a token, for its own accounts"},
		&cli.StringFlag{Name: "key", Usage: "`FILE` with the agent's private key"}, passphraseFlag(),
		clusterFlag(),
		&cli.StringFlag{Name: "id", Usage: "`UUID` of version 7 of the operation: the same id moves money once; one is made if absent"},
		&cli.StringFlag{Name: "ref", Usage: "what it is for; it stays in the records"},
	}
}

// clusterFlag names the cluster that an agent signs for. It is never asked for: a server
// that lies would have the signature count in another one.
func clusterFlag() cli.Flag {
	return &cli.StringFlag{Name: "cluster", Usage: "`ID` of the cluster that the agent signs for: what is signed means nothing in any other"}
}

func (p *program) ledgerCommand() *cli.Command {
	return &cli.Command{
		Name: "ledger", Usage: "accounts, what moves between them, and the records that prove it",
		Subcommands: []*cli.Command{
			{
				Name: "status", Usage: "what the ledger comes to",
				UsageText: "edgecoder ledger status", Description: "Example:\n  edgecoder ledger status",
				Flags: []cli.Flag{strongFlag()}, Action: p.ledgerStatus,
			},
			{
				Name: "policy", Usage: "print the policy of the ledger, or change members of it",
				UsageText: "edgecoder ledger policy [KEY=VALUE]…",
				Description: "Examples:\n  edgecoder ledger policy\n  edgecoder ledger policy id_window_ms=30000 confirm=operator\n\n" +
					"KEY is a name that is printed; confirm is payer, operator or nobody. A change needs an admin's token, and opens a ledger that is not open.",
				Flags: []cli.Flag{strongFlag()}, Action: p.ledgerPolicy,
			},
			{
				Name: "accounts", Usage: "all accounts and what is on them",
				UsageText: "edgecoder ledger accounts", Description: "Example:\n  edgecoder ledger accounts --format json",
				Flags: []cli.Flag{strongFlag()}, Action: p.ledgerAccounts,
			},
			p.ledgerAccountCommand(),
			{
				Name: "balance", Usage: "one account",
				UsageText: "edgecoder ledger balance ACCOUNT", Description: "Example:\n  edgecoder ledger balance shop",
				Flags: []cli.Flag{strongFlag()}, Action: p.ledgerBalance,
			},
			{
				Name: "transfer", Usage: "move an amount between accounts",
				UsageText: "edgecoder ledger transfer DEBIT CREDIT AMOUNT [--ref TEXT] [--id UUID]",
				Description: "Examples:\n  edgecoder ledger transfer shop worker-1 1.5cr --ref 'invoice 7'\n  edgecoder ledger transfer @issuance shop 1000000\n\n" + amountHelp +
					"\nAfter an unknown outcome repeat it with the --id that is printed. What @issuance gives is new; that takes an admin.\n" +
					"With --agent, --key and --cluster an agent signs it, without a token. The cluster's id is in the agent's join command, and in `edgecoder ledger status`.",
				Flags: idFlags(), Action: p.ledgerTransfer,
			},
			{
				Name: "hold", Usage: "set an amount aside for an account",
				UsageText:   "edgecoder ledger hold DEBIT CREDIT AMOUNT [--for 10m] [--ref TEXT] [--id UUID]",
				Description: "Example:\n  edgecoder ledger hold shop worker-1 2cr --for 1h\n\n" + amountHelp + "\nThe id that is printed names the hold for `ledger post` and `ledger void`.",
				Flags:       append(idFlags(), &cli.StringFlag{Name: "for", Value: "10m", Usage: "`LIFE` of the hold: 90s, 24h, 7d"}), Action: p.ledgerHold,
			},
			{
				Name: "post", Usage: "move what a hold set aside, or a part of it; the rest is free again",
				UsageText: "edgecoder ledger post HOLD [--amount AMOUNT] [--ref TEXT] [--id UUID]", Description: "Example:\n  edgecoder ledger post 0197… --amount 1cr\n\n" + amountHelp,
				Flags: append(idFlags(), &cli.StringFlag{Name: "amount", Usage: "`AMOUNT`, all of the hold if absent"}), Action: p.ledgerPost,
			},
			{
				Name: "void", Usage: "give back what a hold set aside",
				UsageText: "edgecoder ledger void HOLD [--ref TEXT] [--id UUID]", Description: "Example:\n  edgecoder ledger void 0197…",
				Flags: idFlags(), Action: p.ledgerVoid,
			},
			p.ledgerReportCommand(),
			{
				Name: "contributions", Usage: "reports of work that wait for the verdict of an account's owner",
				UsageText: "edgecoder ledger contributions PAYER", Description: "Example:\n  edgecoder ledger contributions shop\n\nPAYER is the account that the work was done for.",
				Flags: []cli.Flag{strongFlag()}, Action: p.ledgerContributions,
			},
			p.ledgerConfirmCommand(),
			{
				Name: "epochs", Usage: "hours whose contributions are not paid yet, and those that were paid last",
				UsageText: "edgecoder ledger epochs", Description: "Example:\n  edgecoder ledger epochs",
				Flags: []cli.Flag{strongFlag()}, Action: p.ledgerEpochs,
			},
			p.ledgerHistoryCommand(), p.ledgerVerifyCommand(), p.ledgerCheckpointCommand(),
		},
	}
}

func (p *program) ledgerAccountCommand() *cli.Command {
	return &cli.Command{
		Name: "account", Usage: "make an account, or change its floor and whether it is frozen",
		UsageText: "edgecoder ledger account ID --kind agent|service --owner OWNER [--floor AMOUNT] [--frozen]",
		Description: "Examples:\n  edgecoder ledger account worker-1 --kind agent --owner worker-1\n  edgecoder ledger account shop --kind service --owner TOKEN-ID\n" +
			"  edgecoder ledger account worker-1 --kind agent --owner worker-1 --frozen\n\n" +
			"The owner is an agent, or the id of an API token (`edgecoder token list`); kind and owner stay for ever. A floor below zero lets the account owe, and takes\n" +
			"an admin. The first account opens the ledger.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "kind", Value: ledger.KindAgent.String(), Usage: "`KIND` of the owner: agent or service"},
			&cli.StringFlag{Name: "owner", Usage: "`OWNER` of the account; the account's id if absent"},
			&cli.StringFlag{Name: "floor", Value: "0", Usage: "`AMOUNT` below which nothing may leave it"},
			&cli.BoolFlag{Name: "frozen", Usage: "nothing may leave it at all"},
		},
		Action: p.ledgerAccount,
	}
}

func (p *program) ledgerReportCommand() *cli.Command {
	return &cli.Command{
		Name: "report", Usage: "sign and hand in a report of work that an agent did",
		UsageText: "edgecoder ledger report --key FILE --agent ID --payer ACCOUNT --task TASK --duration TIME --cluster ID [--account ACCOUNT] [--class cpu|gpu] [--failed]",
		Description: "Example:\n  edgecoder ledger report --key worker.key --agent worker-1 --payer shop --task build-7 --duration 90s --cluster 0197…\n\n" +
			"The agent's signature is the credential. The report counts once the payer or an operator\n" +
			"confirms it (`edgecoder ledger confirm`), and is paid at the end of the hour in which that happens.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "key", Usage: "`FILE` with the agent's private key"}, passphraseFlag(),
			&cli.StringFlag{Name: "agent", Usage: "`ID` of the agent that signs"},
			&cli.StringFlag{Name: "account", Usage: "`ACCOUNT` of the agent that earns; the agent's id if absent"},
			&cli.StringFlag{Name: "payer", Usage: "`ACCOUNT` of whoever the work was for"},
			&cli.StringFlag{Name: "task", Usage: "`TASK` that was done"},
			&cli.StringFlag{Name: "class", Value: ledger.ClassCPU.String(), Usage: "`CLASS` of resource: cpu or gpu"},
			&cli.StringFlag{Name: "duration", Usage: "`TIME` that it took: 90s, 2h"},
			&cli.BoolFlag{Name: "failed", Usage: "the work did not succeed"},
			clusterFlag(),
			&cli.StringFlag{Name: "id", Usage: "`UUID` of version 7 of the report; one is made if absent"},
		},
		Action: p.ledgerReport,
	}
}

func (p *program) ledgerConfirmCommand() *cli.Command {
	return &cli.Command{
		Name: "confirm", Usage: "have reports of work count, or reject them",
		UsageText: "edgecoder ledger confirm REPORT… [--reject]", Description: "Examples:\n  edgecoder ledger confirm worker-1/0197…/5c1f…\n  edgecoder ledger confirm worker-1/0197…/5c1f… --reject\n\n" +
			"REPORT is AGENT/ID/SUM, as `edgecoder ledger contributions` prints it: it names what stands in the report, and nothing else is confirmed.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "reject", Usage: "they never count"}}, Action: p.ledgerConfirm,
	}
}

// amount reads micro-credits, or credits with cr behind them.
func amount(what, text string) (int64, error) {
	credits, whole := strings.CutSuffix(text, "cr")
	n, ok := new(big.Rat).SetString(credits)
	if !ok || strings.ContainsAny(credits, "eE/") {
		return 0, usagef("%s %q: want micro-credits such as 1500000, or credits such as 1.5cr", what, text)
	}
	if whole {
		n.Mul(n, big.NewRat(ledger.Micro, 1))
	}
	if !n.IsInt() || !n.Num().IsInt64() {
		return 0, usagef("%s %q: no whole number of micro-credits, or beyond all bounds", what, text)
	}
	return n.Num().Int64(), nil
}

// money prints an amount for people: credits, and the micro-credits that programs use.
func money(micro int64) string { return ledger.Credits(micro) + "cr" }

// sameID has people repeat an operation under its own id.
func sameID(err error) error {
	if e := (*client.Error)(nil); errors.As(err, &e) && e.ClaimID != "" {
		return &hintedError{err, "repeat it under the same id, so that it moves money once: --id " + shellWord(e.ClaimID)}
	}
	return err
}
