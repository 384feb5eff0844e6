package cmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

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
			"noted elsewhere with --head, or with --cluster let the running node itself say where its log ended (GET /v1/audit/heads), before it is stopped.\n" +
			"A crash can leave half a line at the end: that is reported too, until the node has started again and written a line about it.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data-dir", Usage: "data `DIR` of the node, instead of the log's own directory"},
			&cli.StringFlag{Name: "head", Usage: "`SEQ:HASH` of a line that must be there"},
			&cli.BoolFlag{Name: "cluster", Usage: "ask the cluster of --addr where this node's log ends"},
		},
		Action: p.auditVerify,
	}
}

// auditView is the JSON of `audit verify`.
type auditView struct {
	Verified bool   `json:"verified"`
	HeadFrom string `json:"head_from"` // "none" leaves open whether the end is missing
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
	want, err := p.auditHead(c, dir, &view)
	if err != nil {
		return err
	}
	view.Report, err = audit.Verify(dir, want)
	if errors.Is(err, fs.ErrNotExist) {
		return usagef("there is no audit log in %s: %w", dir, err)
	}
	if err != nil {
		return err
	}
	view.Verified = len(view.Faults) == 0
	if err := p.emit(c, view, func(t *table) { drawAuditView(t, view) }); err != nil {
		return err
	}
	if !view.Verified {
		return refusedf("NOT verified: %w", &view.Faults[0])
	}
	return nil
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

// auditHead returns the head that the log must hold, nil when none is given.
func (p *program) auditHead(c *cli.Context, dir string, view *auditView) (*audit.Head, error) {
	text := c.String("head")
	switch {
	case text != "" && c.Bool("cluster"):
		return nil, usagef("give --head or --cluster, not both")
	case text != "":
		head, err := audit.ParseHead(text)
		if err != nil {
			return nil, usagef("--head: %w", err)
		}
		view.HeadFrom = "given"
		return &head, nil
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
	view.HeadFrom = "cluster"
	return p.clusterHead(c, api, node)
}

func (p *program) clusterHead(c *cli.Context, api *client.Client, node string) (*audit.Head, error) {
	heads, err := api.AuditHeads(c.Context)
	if err != nil {
		return nil, err
	}
	for _, h := range heads.Heads {
		if h.Node == node {
			return &audit.Head{Seq: h.Seq, Hash: h.Hash}, nil
		}
	}
	for _, m := range heads.Unreachable {
		if m.Node == node {
			return nil, unknownf("node %s, whose log this is, gave no answer: %s", node, m.Detail)
		}
	}
	return nil, refusedf("the log is of node %q, which is no member of this cluster: give the right directory, or --addr", node)
}

// auditNode reads whose log it is. The walk tells of what does not verify, once
// more with the head.
func auditNode(dir string) (string, error) {
	report, err := audit.Verify(dir, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return "", usagef("there is no audit log in %s: %w", dir, err)
	}
	if err != nil {
		return "", err
	}
	return report.Node, nil
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
	if v.HeadFrom == "none" {
		t.row("end", "not checked", "lines may be missing behind it: --head or --cluster")
	} else {
		t.row("end", "checked", "the head was "+v.HeadFrom)
	}
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
