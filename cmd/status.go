package cmd

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
)

func strongFlag() cli.Flag {
	return &cli.BoolFlag{Name: "strong", Usage: "reflect every write acknowledged before the call, at the price of asking the leader"}
}

// freshness returns the read options that the flags ask for.
func freshness(c *cli.Context) []client.Option {
	if c.Bool("strong") {
		return []client.Option{client.Strong()}
	}
	return nil
}

func (p *program) statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "what the node that answers knows of itself and the cluster",
		UsageText:   "edgecoder status [--addr URL]",
		Description: "Examples:\n  edgecoder status\n  edgecoder status --addr https://127.0.0.1:4301 --format json",
		Flags:       []cli.Flag{strongFlag()},
		Action: func(c *cli.Context) error {
			if _, err := operands(c); err != nil {
				return err
			}
			api, err := p.connect(c, withToken)
			if err != nil {
				return err
			}
			s, err := api.Status(c.Context, freshness(c)...)
			if err != nil {
				return err
			}
			return p.emit(c, s, func(t *table) { drawStatus(t, s) })
		},
	}
}

func drawStatus(t *table, s client.Status) {
	leader := "none known"
	if s.Leader != nil {
		leader = s.Leader.Name + "  " + s.Leader.API
	}
	t.row("node", s.Node.Name+"  "+s.Node.ID)
	t.row("state", s.State)
	t.row("leader", leader)
	t.row("cluster", s.ClusterID)
	t.row("term", number(s.Term))
	t.row("committed", number(s.CommitIndex))
	t.row("applied", number(s.AppliedIndex))
	t.row("digest", digestAt(s.Digest, s.DigestIndex))
	t.row("epoch", epochText(s.Epoch, s.Recovery))
	for _, r := range s.Rivals {
		t.row("RIVAL", fmt.Sprintf("%s at %s serves recovery %s of this cluster: stop one side for good (`edgecoder recover --retire`)", r.Name, r.API, r.Recovery))
	}
	for _, k := range s.KeyAlarms {
		t.row("KEY", fmt.Sprintf("%s is %s: see `edgecoder keys show %s`", k.Subject, k.State, k.Subject))
	}
	for _, w := range s.Warnings {
		t.row("WARNING", w.Detail+" (server "+w.Node+")")
	}
	t.row("clock", t.when(s.ClockMs))
	t.row("clock skew", fmt.Sprintf("%d ms", s.ClockSkewMs))
	if m := s.Manifest; m != nil {
		t.row("manifest", orDash(m.Version)+" of "+m.Name+", "+m.State+", until "+t.when(m.ExpiresMs))
	}
	if b := s.Backup; b != nil {
		t.row("backup", backupText(t, *b))
	}
	if d := s.Disk; d != nil {
		t.row("disk", diskText(*d))
	}
	for _, l := range s.Logs {
		drawLog(t, l)
	}
	for _, v := range s.Voters {
		t.row("voter", serverText(v))
	}
	for _, v := range s.NonVoters {
		t.row("non-voter", serverText(v))
	}
	t.row("version", fmt.Sprintf("%s, feature level %d", s.Version, s.FeatureLevel))
	for _, w := range s.LevelWaits {
		t.row("upgrade", fmt.Sprintf("feature level %d waits: %s", s.SupportedLevel, levelWaitText(w)))
	}
}

// drawLog shows how far a majority vouches for a log, and what is wrong with it.
func drawLog(t *table, l client.LogStatus) {
	text := "none yet"
	if l.Root != "" {
		text = fmt.Sprintf("%d of %d records, root %s, cosigned by %d of set %d, %s", l.Size, l.Records, short(l.Root), l.Cosigned, l.Set, t.when(l.AtMs))
	}
	t.row("checkpoint", l.Log+": "+text)
	if l.Withheld != "" {
		t.row("WITHHELD", "this node cosigns nothing: "+l.Withheld)
	}
	if l.ForkedWhy != "" {
		t.row("FORKED", "this node does not serve: "+l.ForkedWhy)
	}
}

// levelWaitText says why a member holds the feature level back.
func levelWaitText(w client.LevelWait) string {
	switch w.Reason {
	case client.LevelSilent:
		return w.Name + " does not answer"
	case client.LevelRecord:
		return w.Name + " has not yet said of itself that it was upgraded"
	}
	return fmt.Sprintf("%s runs version %s, which knows %d: upgrade it", w.Name, w.Version, w.Level)
}

// serverText is a server of the cluster with its clock as last measured.
func serverText(v client.Server) string {
	clock := "clock not heard lately"
	if v.ClockSkewMs != nil {
		clock = fmt.Sprintf("clock %+d ms", *v.ClockSkewMs)
	}
	return v.Name + "  " + v.Address + "  " + clock
}

// backupText tells when the last scheduled backup was, or why there is none.
func backupText(t *table, b client.BackupStatus) string {
	text := "none yet"
	if b.LastIndex > 0 {
		text = fmt.Sprintf("index %d, %s", b.LastIndex, t.when(b.LastMs))
	}
	if b.Error != "" {
		text += "; FAILED: " + b.Error
	}
	return text
}

// diskText tells of a disk what an operator looks for.
func diskText(d client.Disk) string {
	text := fmt.Sprintf("%d MiB free, %d MiB in reserve, a write takes %.1f ms", d.FreeBytes>>20, d.ReserveBytes>>20, d.WriteMs)
	if d.Low {
		text += "; FULL: this node takes no writes"
	}
	return text
}

func (p *program) membersCommand() *cli.Command {
	return &cli.Command{
		Name: "members", Usage: "who is here, as gossip sees it",
		UsageText:   "edgecoder members",
		Description: "Example:\n  edgecoder members --format json",
		Action: func(c *cli.Context) error {
			if _, err := operands(c); err != nil {
				return err
			}
			api, err := p.connect(c, withToken)
			if err != nil {
				return err
			}
			m, err := api.Members(c.Context)
			if err != nil {
				return err
			}
			return p.emit(c, m, func(t *table) { drawMembers(t, m) })
		},
	}
}

func drawMembers(t *table, m client.Members) {
	t.row("NAME", "STATE", "SINCE", "ROLE", "API", "RAFT", "GOSSIP", "CHAIN", "ID")
	for _, r := range m.Members {
		t.row(r.Name, r.State, t.when(r.SinceMs), r.Role, orDash(r.API), orDash(r.Raft), orDash(r.Gossip), number(r.ChainSize)+":"+short(r.ChainHead), r.ID)
	}
}

// epochText shows an epoch with the recovery that it belongs to, if there was one.
func epochText(epoch uint64, recovery string) string {
	if recovery == "" {
		return number(epoch)
	}
	return number(epoch) + "  (recovery " + recovery + ")"
}
