package cmd

import (
	"time"

	"github.com/urfave/cli/v2"
)

func (p *program) clusterRestartCommand() *cli.Command {
	return &cli.Command{
		Name: "restart", Usage: "restart all servers, one at a time",
		UsageText: "edgecoder cluster restart [--binary FILE] [--data DIR]",
		Description: "The leader comes last. Each server must be ready, a voter, and as far as the others before the next one stops,\n" +
			"so the cluster serves throughout. All must run when it begins; it ends at the first that does not come back.\n\n" +
			"Examples:\n  edgecoder cluster restart\n  edgecoder cluster restart --binary /usr/local/bin/edgecoder-0.6",
		Flags: []cli.Flag{dataFlag(), &cli.StringFlag{Name: "binary", Usage: "`FILE` that servers run from now on; without it they run the one they ran"}},
		Action: func(c *cli.Context) error {
			if _, err := operands(c); err != nil {
				return err
			}
			loaded, err := p.loadCluster(c)
			if err != nil {
				return err
			}
			loaded.Detach(true) // the servers must outlive this command
			started := p.now()
			if err := loaded.Restart(c.Context, c.String("binary")); err != nil {
				return err
			}
			p.say("restarted within %s", p.now().Sub(started).Round(100*time.Millisecond))
			view := clusterView{ClusterID: loaded.Record().ClusterID, Dir: loaded.Dir(), Nodes: loaded.Status(c.Context)}
			return p.emit(c, view, func(t *table) { drawCluster(t, view.Nodes) })
		},
	}
}
