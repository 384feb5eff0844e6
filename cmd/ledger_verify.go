package cmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/ledger"
	"github.com/edgecoder/edgecoder/ledger/walk"
)

func (p *program) ledgerVerifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "walk all records of an export file, or of the node that answers, and recompute every balance",
		UsageText: "edgecoder ledger verify [FILE] [--trust FILE [--checkpoint FILE]] [--cluster ID] [--head SEQ:HASH]",
		Description: "Examples:\n  edgecoder ledger verify ledger.export\n  edgecoder ledger verify ledger.export --trust cosigners.txt\n  edgecoder ledger verify ledger.export --head 4711:9f86d0…\n  edgecoder ledger verify\n\n" +
			"With FILE (`edgecoder ledger history --export`) nothing is asked of anybody: hashes, the chain, signatures of contributions, every rule, the shares of every\n" +
			"epoch and all balances are worked out from the records alone. Whether it is your ledger, and not missing its end, they cannot show. An export carries the\n" +
			"newest checkpoint: with --trust (who cosigns, see `blacklist cosigners`) the records must be those that a majority of coordinators vouches for in it, or in\n" +
			"that of --checkpoint, and the time at which they did is printed: what came later may be missing. Or name the cluster in which it was opened, and a head that\n" +
			"was noted elsewhere. Without FILE the node that answers does the same to what it has, and compares its balances.\n" +
			"The first bad record is named, and the exit status is 1.",
		Flags: []cli.Flag{
			strongFlag(), trustFlag(),
			&cli.StringFlag{Name: "checkpoint", Usage: "`FILE` with a checkpoint that the records must have, instead of the one that the export carries"},
			&cli.StringFlag{Name: "cluster", Usage: "`ID` of the cluster in which the ledger was opened, which must be the file's"},
			&cli.StringFlag{Name: "head", Usage: "`SEQ:HASH` of a record that must be there"},
		},
		Action: p.ledgerVerify,
	}
}

// ledgerView is the JSON of `ledger verify FILE`.
type ledgerView struct {
	Verified bool                `json:"verified"`
	Origin   string              `json:"origin"`
	Records  uint64              `json:"records"` // that are good
	Head     string              `json:"head"`
	Accounts int                 `json:"accounts"`
	Issued   int64               `json:"circulation"`
	HeadFrom string              `json:"head_from"` // "checkpoint", "given", or "file": then nothing says whether the end is missing
	TookMs   int64               `json:"took_ms"`
	Fault    *client.LedgerFault `json:"fault,omitempty"`

	Checkpoint *checkpointView `json:"checkpoint,omitempty"` // with --trust: that a majority vouches for
}

// Where the end of the records is known from.
const (
	headFromFile       = "file"
	headFromGiven      = "given"
	headFromCheckpoint = "checkpoint"
)

func (p *program) ledgerVerify(c *cli.Context) error {
	args, err := operands(c, "[FILE]")
	if err != nil {
		return err
	}
	if _, err := formatOf(c); err != nil {
		return err
	}
	if len(args) == 0 {
		return p.verifyNode(c)
	}
	end, err := exportEndOf(c)
	if err != nil {
		return err
	}
	f, err := os.Open(args[0])
	if err != nil {
		return usagef("%w", err)
	}
	defer f.Close()
	view := ledgerView{HeadFrom: headFromFile}
	began := p.now()
	fault := p.verifyExport(c, f, &view, &end)
	view.TookMs = p.now().Sub(began).Milliseconds()
	if err := c.Context.Err(); err != nil {
		return err
	}
	view.Verified = fault == nil
	if bad := (*ledger.RecordError)(nil); errors.As(fault, &bad) {
		view.Fault = &client.LedgerFault{Seq: bad.Seq, Code: bad.Code, Detail: bad.Detail}
		if bad.Kind != 0 {
			view.Fault.Kind = bad.Kind.String()
		}
	} else if fault != nil {
		view.Fault = &client.LedgerFault{Seq: view.Records + 1, Code: "bad_export", Detail: fault.Error()}
	}
	if err := p.emit(c, view, func(t *table) { drawLedgerView(t, view) }); err != nil {
		return err
	}
	if v := view.Checkpoint; fault == nil && v != nil && view.Records > max(v.Size, end.seq) {
		p.say("note: the last %d records are newer than the checkpoint: they rest on the file alone; hold them to a later one with --checkpoint FILE, or to a head with --head", view.Records-max(v.Size, end.seq))
	}
	if fault != nil {
		return refusedf("%s is not verified: %w", args[0], fault)
	}
	return nil
}

// verifyExport walks a file and fills view.
func (p *program) verifyExport(c *cli.Context, f *os.File, view *ledgerView, end *exportEnd) error {
	var size int64
	if info, err := f.Stat(); err == nil {
		size = info.Size()
	}
	bar := p.newBar(size)
	defer bar.end()
	e, err := ledger.ReadExport(&counting{f, &bar.read})
	if err != nil {
		return err
	}
	view.Origin = e.ClusterID()
	if err := end.begin(e, view); err != nil {
		return err
	}
	v, err := walk.Records(c.Context, view.Origin, end.watch(e.Records()), bar.at)
	view.Records, view.Head, view.Accounts = v.Seq(), v.Head().String(), v.Accounts()
	view.Issued = v.Circulation()
	if err == nil {
		err = v.Finish(v.Seq(), e.Head())
	}
	if err != nil {
		return err
	}
	if end.hash != "" && end.tree == nil {
		view.HeadFrom = headFromGiven
	}
	return end.check(v.Seq())
}

func drawLedgerView(t *table, view ledgerView) {
	if view.Verified {
		t.row("ledger", "verified")
	} else {
		t.row("ledger", "NOT verified")
	}
	if f := view.Fault; f != nil {
		t.row("first bad record", number(f.Seq), f.Kind)
		t.row("fault", f.Code)
		t.row("detail", f.Detail)
	}
	t.row("origin", orDash(view.Origin))
	t.row("good records", number(view.Records))
	t.row("head", orDash(view.Head))
	t.row("head from", view.HeadFrom)
	if v := view.Checkpoint; v != nil {
		t.row("cosigned", number(v.Size), "records, by "+strings.Join(v.Cosigned, " ")+" at "+t.when(v.AtMs))
	}
	t.row("accounts", number(view.Accounts))
	t.row("in circulation", money(view.Issued))
	t.row("took", fmt.Sprint((time.Duration(view.TookMs) * time.Millisecond)))
}

// verifyNode asks the node that answers. It takes as long as its records take.
func (p *program) verifyNode(c *cli.Context) error {
	for _, name := range []string{"cluster", "head", "trust", "checkpoint"} {
		if c.IsSet(name) {
			return usagef("--%s is for an export file: name one", name)
		}
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	out, err := api.VerifyLedger(c.Context, freshness(c)...)
	if err != nil {
		return err
	}
	if err := p.emit(c, out, func(t *table) {
		if out.OK {
			t.row("ledger", "verified")
		} else {
			t.row("ledger", "NOT verified")
		}
		if f := out.Fault; f != nil {
			t.row("first bad record", number(f.Seq), f.Kind)
			t.row("fault", f.Code)
			t.row("detail", f.Detail)
		}
		t.row("good records", number(out.Records))
		t.row("head", out.Head)
		t.row("accounts", number(out.Accounts))
		t.row("took", fmt.Sprint(millis(out.TookMs)))
		t.row("index", number(out.Index))
	}); err != nil {
		return err
	}
	if !out.OK {
		return refusedf("the ledger of the node that answers does not verify: compare it with the others (`edgecoder ledger verify --addr URL` of each), and look at `edgecoder status`")
	}
	return nil
}

// counting counts what is read, for another goroutine.
type counting struct {
	in io.Reader
	n  *atomic.Int64
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// bar shows on a terminal how far a long verification came.
type bar struct {
	out    io.Writer // nil: nobody looks
	size   int64
	read   atomic.Int64
	now    func() time.Time
	began  time.Time
	shown  time.Time
	length int // of the line that stands there
}

const barWidth = 30

func (p *program) newBar(size int64) *bar {
	b := &bar{size: size, now: p.now, began: p.now()}
	if isTerminal(p.err) {
		b.out = p.err
	}
	return b
}

// at shows how many records are good, a few times a second.
func (b *bar) at(good uint64) {
	now := b.now()
	if b.out == nil || now.Sub(b.shown) < 200*time.Millisecond {
		return
	}
	b.shown = now
	part := min(1, float64(b.read.Load())/float64(max(1, b.size)))
	full := int(part * barWidth)
	line := fmt.Sprintf("[%s%s] %3.0f %%  %d records, %.0f a second", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), part*100, good,
		float64(good)/max(0.001, now.Sub(b.began).Seconds()))
	fmt.Fprintf(b.out, "\r%-*s", b.length, line)
	b.length = len(line)
}

// end takes the bar away: the result says the rest.
func (b *bar) end() {
	if b.length > 0 {
		fmt.Fprintf(b.out, "\r%*s\r", b.length, "")
	}
}
