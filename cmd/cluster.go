package cmd

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/cluster"
)

// defaultClusterDir is where `cluster` commands work when not told.
const defaultClusterDir = ".edgecoder"

func dataFlag() cli.Flag {
	return &cli.StringFlag{Name: "data", Value: defaultClusterDir, EnvVars: []string{"EDGECODER_CLUSTER_DIR"}, Usage: "`DIR` that holds the cluster"}
}

func (p *program) clusterCommand() *cli.Command {
	return &cli.Command{
		Name: "cluster", Usage: "several real server processes on this machine, on loopback",
		Subcommands: []*cli.Command{
			{
				Name: "up", Usage: "bring a cluster up, a new one or the stopped one of DIR",
				UsageText: "edgecoder cluster up [--nodes 3] [--data DIR] [--base-port P] [--detach]",
				Description: "Writes DIR/cluster.json and DIR/env once every node is a voter and knows the leader.\n" +
					"Without --detach it stays, and Ctrl-C stops all servers.\n\n" +
					"Examples:\n  edgecoder cluster up\n  edgecoder cluster up --nodes 5 --data /tmp/five --detach\n  . /tmp/five/env && edgecoder status",
				Flags: []cli.Flag{
					dataFlag(),
					&cli.IntFlag{Name: "nodes", Value: 3, Usage: "how many servers, 1 to 7"},
					&cli.IntFlag{Name: "base-port", Usage: "node i uses `P`+10*i and the two ports after it, i from 0; without it free ports are chosen"},
					&cli.BoolFlag{Name: "detach", Usage: "return when the cluster is ready; the servers go on"},
				},
				Action: p.clusterUp,
			},
			{
				Name: "down", Usage: "stop all servers and keep their data",
				UsageText:   "edgecoder cluster down [--data DIR] [--purge]",
				Description: "Examples:\n  edgecoder cluster down\n  edgecoder cluster down --data /tmp/five --purge",
				Flags:       []cli.Flag{dataFlag(), &cli.BoolFlag{Name: "purge", Usage: "remove their data as well, for ever"}},
				Action:      p.clusterDown,
			},
			{
				Name: "status", Usage: "what runs, and what each node says",
				UsageText:   "edgecoder cluster status [--data DIR]",
				Description: "Exit status 3 when no node leads.\n\nExample:\n  edgecoder cluster status --format json",
				Flags:       []cli.Flag{dataFlag()}, Action: p.clusterStatus,
			},
			{
				Name: "start", Usage: "start a stopped or killed server with its old data",
				UsageText:   "edgecoder cluster start NAME [--data DIR]",
				Description: "Returns when the server answers that it is ready.\n\nExample:\n  edgecoder cluster start node2",
				Flags:       []cli.Flag{dataFlag()}, Action: p.clusterStart,
			},
			{
				Name: "stop", Usage: "stop one server",
				UsageText:   "edgecoder cluster stop NAME [--kill] [--data DIR]",
				Description: "Examples:\n  edgecoder cluster stop node2\n  edgecoder cluster stop node2 --kill",
				Flags:       []cli.Flag{dataFlag(), &cli.BoolFlag{Name: "kill", Usage: "with SIGKILL: it gets no chance to clean up"}},
				Action:      p.clusterStop,
			},
			p.clusterRestartCommand(),
		},
	}
}

func (p *program) clusterUp(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	if _, err := formatOf(c); err != nil {
		return err // before servers run
	}
	o := cluster.Options{Dir: c.String("data"), BasePort: c.Int("base-port"), Detach: c.Bool("detach"), Progress: p.say}
	if p.given["nodes"] {
		if o.Nodes = c.Int("nodes"); o.Nodes < 1 || o.Nodes > cluster.MaxNodes {
			return usagef("--nodes %d: want 1 to %d", o.Nodes, cluster.MaxNodes)
		}
	}
	started := p.now()
	up, err := cluster.Up(c.Context, o)
	if err != nil {
		return err
	}
	p.say("ready after %s", p.now().Sub(started).Round(100*time.Millisecond))
	if err := p.printUp(c, up); err != nil || o.Detach {
		return err
	}
	return p.untilStopped(c.Context, up)
}

// printUp tells how to use the new cluster.
func (p *program) printUp(c *cli.Context, up *cluster.Cluster) error {
	rec := up.Record()
	if format, err := formatOf(c); err != nil {
		return err
	} else if format == formatJSON {
		return writeJSON(p.out, rec)
	}
	fmt.Fprintf(p.out, "cluster ready\n\n")
	t := &table{now: p.now()}
	for _, n := range rec.Nodes {
		t.row("  "+n.Name, n.API, fmt.Sprintf("pid %d", n.PID))
	}
	if err := t.write(p.out, false); err != nil {
		return err
	}
	fmt.Fprintf(p.out, readyText, shellWord(up.Dir()+"/env"), shellWord(up.Dir()), shellWord(p.self), where(c.Bool("detach")))
	if c.Bool("detach") {
		fmt.Fprintf(p.out, "The servers go on in the background. Stop them with: %s cluster down --data %s\n", shellWord(p.self), shellWord(up.Dir()))
		return nil
	}
	_, err := fmt.Fprintf(p.out, "Ctrl-C stops the cluster; its data stays in %s.\n", up.Dir())
	return err
}

func where(detached bool) string {
	if detached {
		return "Try it"
	}
	return "Try it in another terminal"
}

const readyText = `
%[4]s:
  . %[1]s
  %[3]s status
  %[3]s agent keygen --out agent-1.key
  %[3]s agent enroll --key agent-1.key --agent agent-1
  %[3]s agent approve agent-1
  %[3]s sign --key agent-1.key --agent agent-1 POST /tasks | %[3]s admit --method POST --path /tasks
  %[3]s cluster stop node1 --kill --data %[2]s

`

// untilStopped keeps a foreground cluster until Ctrl-C, then stops it. A
// second Ctrl-C kills what still runs.
func (p *program) untilStopped(ctx context.Context, up *cluster.Cluster) error {
	if !signal.Ignored(syscall.SIGHUP) { // nohup wants it to stay so
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
		defer stop()
	}
	<-ctx.Done()
	p.say("stopping the cluster; once more Ctrl-C kills it")
	down, stop := onSecondSignal()
	defer stop()
	if err := up.Down(down); err != nil {
		return err
	}
	p.say("stopped; `%s cluster up --data %s` starts it again", p.self, shellWord(up.Dir()))
	return nil
}

// onSecondSignal returns a context that a signal ends which is no echo of the
// one that came just now.
func onSecondSignal() (context.Context, func()) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	first := time.Now()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
				if time.Since(first) >= signalEcho {
					cancel()
				}
			}
		}
	}()
	return ctx, func() { signal.Stop(signals); cancel() }
}

// loadCluster opens the cluster that --data names.
func (p *program) loadCluster(c *cli.Context) (*cluster.Cluster, error) {
	if _, err := formatOf(c); err != nil {
		return nil, err
	}
	loaded, err := cluster.Load(c.String("data"))
	if err != nil {
		return nil, usagef("%w", err)
	}
	loaded.Progress(p.say)
	return loaded, nil
}

func (p *program) clusterDown(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	loaded, err := p.loadCluster(c)
	if err != nil {
		return err
	}
	if err := loaded.Down(c.Context); err != nil {
		return err
	}
	view := downView{Dir: loaded.Dir(), Purged: c.Bool("purge")}
	if view.Purged {
		if err := loaded.Purge(c.Context); err != nil {
			return err
		}
		p.say("stopped and removed")
	} else {
		p.say("stopped; the data stays in %s", view.Dir)
	}
	if c.String("format") == formatJSON {
		return writeJSON(p.out, view)
	}
	return nil
}

// downView is the JSON of `cluster down`; people have read it already.
type downView struct {
	Dir    string `json:"dir"`
	Purged bool   `json:"purged"` // its data is gone
}

func (p *program) clusterStart(c *cli.Context) error {
	return p.changeNode(c, func(loaded *cluster.Cluster, name string) error {
		loaded.Detach(true) // it must outlive this command
		return loaded.Start(c.Context, name)
	})
}

func (p *program) clusterStop(c *cli.Context) error {
	return p.changeNode(c, func(loaded *cluster.Cluster, name string) error {
		return loaded.Stop(c.Context, name, c.Bool("kill"))
	})
}

// changeNode starts or stops one node and prints what became of it.
func (p *program) changeNode(c *cli.Context, change func(*cluster.Cluster, string) error) error {
	args, err := operands(c, "NAME")
	if err != nil {
		return err
	}
	loaded, err := p.loadCluster(c)
	if err != nil {
		return err
	}
	if _, err := loaded.Node(args[0]); err != nil {
		return usagef("%w", err)
	}
	if err := change(loaded, args[0]); err != nil {
		return err
	}
	n, err := loaded.Node(args[0])
	if err != nil {
		return err
	}
	return p.emit(c, n, func(t *table) {
		if n.PID == 0 {
			t.row(n.Name, "stopped")
			return
		}
		t.row(n.Name, "running", fmt.Sprintf("pid %d", n.PID), n.API)
	})
}

// clusterView is the JSON of `cluster status`.
type clusterView struct {
	ClusterID string               `json:"cluster_id"`
	Dir       string               `json:"dir"`
	Nodes     []cluster.NodeStatus `json:"nodes"`
}

func (p *program) clusterStatus(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	loaded, err := p.loadCluster(c)
	if err != nil {
		return err
	}
	view := clusterView{ClusterID: loaded.Record().ClusterID, Dir: loaded.Dir(), Nodes: loaded.Status(c.Context)}
	if err := p.emit(c, view, func(t *table) { drawCluster(t, view.Nodes) }); err != nil {
		return err
	}
	for _, n := range view.Nodes {
		if n.State == "leader" {
			return nil
		}
	}
	return unknownf("no node leads: `edgecoder cluster up --data %s` starts what is stopped", shellWord(loaded.Dir()))
}

func drawCluster(t *table, nodes []cluster.NodeStatus) {
	t.row("NAME", "PID", "RUNNING", "STATE", "TERM", "APPLIED", "DIGEST", "API")
	for _, n := range nodes {
		switch {
		case !n.Running:
			t.row(n.Name, "-", "stopped", "-", "-", "-", "-", n.API)
		case n.State == "":
			t.row(n.Name, number(n.PID), "running", "no answer", "-", "-", "-", n.Error)
		default:
			t.row(n.Name, number(n.PID), "running", n.State, number(n.Term), number(n.AppliedIndex), digestAt(n.Digest, n.DigestIndex), n.API)
		}
	}
}

// digestAt prints a digest with the index it belongs to: two are comparable
// only at the same one.
func digestAt(digest string, index uint64) string {
	if digest == "" {
		return "-"
	}
	return short(digest) + "@" + number(index)
}
