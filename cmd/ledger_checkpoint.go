package cmd

import (
	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

func (p *program) ledgerCheckpointCommand() *cli.Command {
	return &cli.Command{
		Name: "checkpoint", Usage: "the newest checkpoint of the ledger that a majority of coordinators cosigned",
		UsageText: "edgecoder ledger checkpoint [--trust FILE] [--out FILE]",
		Description: "A checkpoint is a signed note (c2sp.org/tlog-checkpoint): how many records there are, and the root of the tree over them.\n" +
			"Keep it: no later one may contradict it. What rests on records that it holds has the finality checkpointed.\n\n" +
			"Examples:\n  edgecoder ledger checkpoint\n  edgecoder ledger checkpoint --trust cosigners.txt --out today.note",
		Flags: []cli.Flag{trustFlag(), outFlag()},
		Action: func(c *cli.Context) error {
			return p.showCheckpoint(c, checkpoint.LogLedger, "records", (*client.Client).LedgerCheckpoint)
		},
	}
}
