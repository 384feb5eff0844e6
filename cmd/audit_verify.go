package cmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
)

func (p *program) auditVerifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "check a node's own audit log, offline: every line and the chain through all files",
		UsageText: "edgecoder audit verify DIR | --data-dir DIR [--head SEQ:HASH | --cluster]",
		Description: "Examples:\n  edgecoder audit verify --data-dir /var/lib/edgecoder\n  edgecoder audit verify ./copy/audit --head 4711:9f86d0…\n" +
			"  edgecoder audit verify --data-dir /var/lib/edgecoder --cluster\n\n" +
			"DIR is the directory audit in a data directory, or a copy of it. Every edited byte and every line that was dropped, added or swapped is found,\n" +
			"and the first bad line is named. Whether lines are missing at the end no chain can show, nor whether all of it was made anew: give a head that was\n" +
			"noted elsewhere with --head, or with --cluster ask what the cluster remembers of this node's log (GET /v1/audit/heads), also of one that is stopped or\n" +
			"removed. Point --addr at another node: what one says of its own log is its own word.\n" +
			"A crash can leave half a line at the end: that is reported too, until the node has started again and written a line about it.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data-dir", Usage: "data `DIR` of the node, instead of the log's own directory"},
			&cli.StringFlag{Name: "head", Usage: "`SEQ:HASH` of a line that must be there"},
			&cli.BoolFlag{Name: "cluster", Usage: "ask the cluster of --addr where this node's log ended"},
		},
		Action: p.auditVerify,
	}
}

// auditView is the JSON of `audit verify`.
type auditView struct {
	Verified bool `json:"verified"`
	// HeadFrom is "cluster", "node", "given" or "none": that of the node alone is its
	// own word, and none leaves open whether the end is missing.
	HeadFrom string `json:"head_from"`
	// HeadSeq is the line of that head: newer ones can be missing unseen, as those of a
	// node's last seconds.
	HeadSeq uint64              `json:"head_seq,omitempty"`
	Lost    []client.AuditPlace `json:"lost,omitempty"` // ends that the cluster remembers and the log lost
	audit.Report
}

func (p *program) auditVerify(c *cli.Context) error {
	dir, err := auditDir(c)
	if err != nil {
		return err
	}
	if _, err := formatOf(c); err != nil {
		return err
	}
	view := auditView{HeadFrom: "none"}
	want, err := p.auditHeads(c, dir, &view)
	if err != nil {
		return err
	}
	view.Report, err = audit.Verify(dir, want...)
	if errors.Is(err, fs.ErrNotExist) {
		return usagef("there is no audit log in %s: %w", dir, err)
	}
	if err != nil {
		return err
	}
	view.addLosses()
	view.Verified = len(view.Faults) == 0
	if err := p.emit(c, view, func(t *table) { drawAuditView(t, view) }); err != nil {
		return err
	}
	if !view.Verified {
		return refusedf("NOT verified: %w", &view.Faults[0])
	}
	return nil
}

// addLosses makes faults of the ends that the cluster remembers and the log lost,
// as long as the log has lines of that time.
func (v *auditView) addLosses() {
	for _, l := range v.Lost {
		if l.AtMs >= v.FirstMs {
			v.Faults = append(v.Faults, audit.Fault{Seq: l.Seq, Kind: audit.FaultLost,
				Detail: fmt.Sprintf("the log ended with %d:%s once, and on %s the cluster found that it does not hold that any more", l.Seq, l.Hash, time.UnixMilli(l.AtMs).UTC().Format(time.RFC3339))})
		}
	}
}

// auditDir returns the directory that the command line names.
func auditDir(c *cli.Context) (string, error) {
	args, err := operands(c, "[DIR]")
	if err != nil {
		return "", err
	}
	data := c.String("data-dir")
	switch {
	case data != "" && len(args) > 0:
		return "", usagef("give DIR or --data-dir, not both")
	case data != "":
		return audit.Dir(data), nil
	case len(args) == 0:
		return "", usagef("give the directory of a log, or --data-dir; see `%s --help`", c.Command.HelpName)
	}
	return args[0], nil
}

// auditHeads returns the heads that the log must hold, none when none is given.
func (p *program) auditHeads(c *cli.Context, dir string, view *auditView) ([]audit.Head, error) {
	text := c.String("head")
	switch {
	case text != "" && c.Bool("cluster"):
		return nil, usagef("give --head or --cluster, not both")
	case text != "":
		head, err := audit.ParseHead(text)
		if err != nil {
			return nil, usagef("--head: %w", err)
		}
		view.HeadFrom, view.HeadSeq = "given", head.Seq
		return []audit.Head{head}, nil
	case !c.Bool("cluster"):
		return nil, nil
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return nil, err
	}
	node, err := auditNode(dir)
	if err != nil {
		return nil, err
	}
	return p.clusterHeads(c, api, node, view)
}

// clusterHeads returns what the cluster knows of a node's log and, if it answers,
// the node's own word, which is newer.
func (p *program) clusterHeads(c *cli.Context, api *client.Client, node string, view *auditView) ([]audit.Head, error) {
	heads, err := api.AuditHeads(c.Context)
	if err != nil {
		return nil, err
	}
	for _, m := range heads.Unreachable {
		if m.Node == node {
			p.say("node %s, whose log this is, gave no answer: %s", node, m.Detail)
		}
	}
	for _, h := range heads.Heads {
		if h.Node != node {
			continue
		}
		var want []audit.Head
		if h.Seq > 0 {
			view.HeadFrom, view.HeadSeq = "node", h.Seq
			want = append(want, audit.Head{Seq: h.Seq, Hash: h.Hash})
		}
		if h.Known != nil {
			view.HeadFrom, view.HeadSeq = "cluster", h.Known.Seq
			want = append(want, audit.Head{Seq: h.Known.Seq, Hash: h.Known.Hash})
		}
		view.Lost = h.Lost
		return want, nil
	}
	for _, m := range heads.Unreachable {
		if m.Node == node {
			return nil, unknownf("the cluster knows of no end of the log of node %s, and the node gave no answer: %s", node, m.Detail)
		}
	}
	return nil, refusedf("the log is of node %q, which is no member of this cluster: give the right directory, or --addr", node)
}

// auditNode reads whose log it is. The walk tells of what does not verify, once
// more with the head.
func auditNode(dir string) (string, error) {
	report, err := audit.Verify(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", usagef("there is no audit log in %s: %w", dir, err)
	}
	if err != nil {
		return "", err
	}
	return report.Node, nil
}

// auditEnds says how far the end was checked, by auditView.HeadFrom.
var auditEnds = map[string][2]string{
	"none":    {"not checked", "lines may be missing behind it: --head or --cluster"},
	"given":   {"checked until line %d", "against the head that was given"},
	"node":    {"checked until line %d", "against the node's own word alone: the cluster knows nothing of its log yet"},
	"cluster": {"checked until line %d", "against what the cluster knows of it, which is some seconds old: newer lines can be missing unseen"},
}

func drawAuditView(t *table, v auditView) {
	verdict := "verified"
	if !v.Verified {
		verdict = "NOT verified"
	}
	t.row("audit log", verdict)
	t.row("node", orDash(v.Node))
	t.row("lines", number(v.Lines), fmt.Sprintf("seq %d to %d in %d files", v.First, v.Last, v.Files))
	t.row("newest", t.when(v.LastMs))
	t.row("head", fmt.Sprintf("%d:%s", v.Last, v.Head))
	end := auditEnds[v.HeadFrom]
	if v.HeadFrom != "none" {
		end[0] = fmt.Sprintf(end[0], v.HeadSeq)
	}
	t.row("end", end[0], end[1])
	for _, f := range v.Faults {
		t.row("fault", f.Error())
	}
}

// writeJSONLine prints a value as one line, for streams.
func writeJSONLine(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(cleanJSON(text), '\n'))
	return err
}
