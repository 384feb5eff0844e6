package cmd

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
)

func (p *program) peersCommand() *cli.Command {
	return &cli.Command{
		Name: "peers", Usage: "the coordinators, as the replicated state knows them",
		UsageText: "edgecoder peers [remove NAME]",
		Description: "HEALTH, HEARD (its last answer) and BEHIND (log entries, then) are as the node that answers sees them: ask each with --addr.\n\n" +
			"Examples:\n  edgecoder peers\n  edgecoder peers remove node3",
		Flags:  []cli.Flag{strongFlag()},
		Action: p.peersList,
		Subcommands: []*cli.Command{{
			Name: "remove", Usage: "remove a coordinator for ever; its id never comes back",
			UsageText: "edgecoder peers remove NAME-OR-ID [--compromised]",
			Description: "Examples:\n  edgecoder peers remove node3\n  edgecoder peers remove node3 --compromised\n\n" +
				"From then on no member talks to it, its certificate opens nothing, and it signs no event that others accept.\n" +
				"--compromised marks it so in the records and revokes, in the same entry of the log, every token that was made through\n" +
				"it or under such a token, and with them the edges that joined so; the answer names them, and the coordinators that joined\n" +
				"so, which stay. A token that was only shown to it, as by a client that calls it, is not among them: replace those.\n" +
				"The same entry ends, without an overlap, the gossip key and the cluster CA, whose keys the node held; the others go on\n" +
				"with new ones. Clients that do not follow a server's ca.pem need it anew: copy it from a server's data directory. Keep\n" +
				"the node off the cluster's network. It must not lead when you remove it: stop it first, or transfer leadership.",
			Flags:  []cli.Flag{&cli.BoolFlag{Name: "compromised", Usage: "somebody else may hold its keys"}},
			Action: p.peersRemove,
		}},
	}
}

func (p *program) peersList(c *cli.Context) error {
	_, api, err := p.ask(c)
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
	t.row("NAME", "STATE", "ROLE", "SUFFRAGE", "HEALTH", "HEARD", "BEHIND", "VERSION", "SIGNS AS", "API", "JOINED", "ID")
	for _, r := range peers.Peers {
		heard, lag := "-", "-"
		if r.LastContactMs != nil {
			heard = roughly(time.Duration(*r.LastContactMs)*time.Millisecond) + " ago"
		}
		if r.Lag != nil {
			lag = number(*r.Lag)
		}
		t.row(r.Name, r.State, orDash(r.Role), orDash(r.Suffrage), orDash(cmp.Or(r.Health, r.Reason)), heard, lag, orDash(r.Version), orDash(r.PeerID), orDash(r.API), t.when(r.JoinedMs), r.ID)
	}
}

func (p *program) peersRemove(c *cli.Context) error {
	args, api, err := p.ask(c, "NAME")
	if err != nil {
		return err
	}
	removed, err := api.RemovePeer(c.Context, args[0], c.Bool("compromised"))
	if err != nil {
		return err
	}
	if c.Bool("compromised") {
		p.say("its id, its vote and its signing key are refused now; keep it off the cluster's network: %s", saysEnded(removed.Ended))
	}
	if t := removed.Tokens; t != nil {
		p.say("%s", saysRevoked(t))
	}
	return p.emit(c, removed, func(t *table) { t.row(args[0], "removed", removed.ID, "index "+number(removed.Index)) })
}

// saysEnded tells which keys went with a compromised coordinator.
func saysEnded(e *client.KeysEnded) string {
	if e == nil || len(e.Keys) == 0 {
		return "no gossip key or CA key ended with it. Unless they were replaced since it left, those that it held are in use, as in a cluster below feature level 7"
	}
	return "the keys that it knew are revoked, the others go on with new ones: " + strings.Join(e.Keys, ", ") + saysVoided(e)
}

// saysVoided tells that tokens went with a CA.
func saysVoided(e *client.KeysEnded) string {
	if e == nil || e.JoinTokens == 0 {
		return ""
	}
	return fmt.Sprintf("; %d tokens for joins and enrolments named the CA that is revoked and went with it: make new ones (edgecoder token create)", e.JoinTokens)
}

// saysRevoked tells which tokens went with a compromised coordinator.
func saysRevoked(t *client.TokensRevoked) string {
	out := fmt.Sprintf("revoked %d tokens that were made through it", t.Count)
	if len(t.IDs) > 0 {
		out += ": " + strings.Join(t.IDs, ", ")
	}
	if more := t.Count - len(t.IDs); more > 0 {
		out += fmt.Sprintf(" and %d more (edgecoder token list)", more)
	}
	if t.Kept != "" {
		out += "; " + t.Kept + ", which you are using, was made through it too and is in force: make another and revoke it"
	}
	if len(t.Joined) > 0 {
		out += "; these coordinators joined through it, or under such a token, and are still members: " + strings.Join(t.Joined, ", ") + ": remove those that you do not know"
	}
	return out
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
