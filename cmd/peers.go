package cmd

import (
	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
)

func (p *program) peersCommand() *cli.Command {
	return &cli.Command{
		Name: "peers", Usage: "the coordinators, as the replicated state knows them",
		UsageText:   "edgecoder peers [remove NAME]",
		Description: "Examples:\n  edgecoder peers\n  edgecoder peers remove node3",
		Flags:       []cli.Flag{strongFlag()},
		Action:      p.peersList,
		Subcommands: []*cli.Command{{
			Name: "remove", Usage: "remove a coordinator for ever; its id never comes back",
			UsageText: "edgecoder peers remove NAME-OR-ID [--compromised]",
			Description: "Examples:\n  edgecoder peers remove node3\n  edgecoder peers remove node3 --compromised\n\n" +
				"With --compromised the cluster also ends what the node held, so that a thief of its disk gains nothing.",
			Flags:  []cli.Flag{&cli.BoolFlag{Name: "compromised", Usage: "somebody else may hold its keys"}},
			Action: p.peersRemove,
		}},
	}
}

func (p *program) peersList(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	peers, err := api.Peers(c.Context, freshness(c)...)
	if err != nil {
		return err
	}
	return p.emit(c, peers, func(t *table) { drawPeers(t, peers) })
}

func drawPeers(t *table, peers client.Peers) {
	t.row("NAME", "STATE", "SUFFRAGE", "ROLE", "SIGNS AS", "API", "JOINED", "ID")
	for _, r := range peers.Peers {
		t.row(r.Name, r.State, orDash(r.Suffrage), r.Role, orDash(r.PeerID), orDash(r.API), t.when(r.JoinedMs), r.ID)
	}
}

func (p *program) peersRemove(c *cli.Context) error {
	args, err := operands(c, "NAME")
	if err != nil {
		return err
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	removed, err := api.RemovePeer(c.Context, args[0], c.Bool("compromised"))
	if err != nil {
		return err
	}
	return p.emit(c, removed, func(t *table) { t.row(args[0], "removed", removed.ID, "index "+number(removed.Index)) })
}

func (p *program) leaderCommand() *cli.Command {
	return &cli.Command{
		Name: "leader", Usage: "who leads",
		Subcommands: []*cli.Command{{
			Name: "transfer", Usage: "hand leadership over, to a named node or the most caught-up voter",
			UsageText:   "edgecoder leader transfer [NAME]",
			Description: "Examples:\n  edgecoder leader transfer\n  edgecoder leader transfer node2",
			Action:      p.leaderTransfer,
		}},
	}
}

func (p *program) leaderTransfer(c *cli.Context) error {
	args, err := operands(c, "[NAME]")
	if err != nil {
		return err
	}
	to := ""
	if len(args) > 0 {
		to = args[0]
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	done, err := api.TransferLeader(c.Context, to)
	if err != nil {
		return err
	}
	return p.emit(c, done, func(t *table) {
		switch {
		case done.Name != "":
			t.row("leadership handed over", "to "+done.Name, done.Node)
		case done.Node != "":
			t.row("leadership handed over", "to "+done.Node)
		default:
			t.row("leadership handed over", "the new leader is not known here yet: `edgecoder status` will tell")
		}
	})
}
