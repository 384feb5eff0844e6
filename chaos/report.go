package chaos

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
)

// Names of what Report makes.
const (
	ReportFile  = "report.html"
	SummaryFile = "summary.txt"
)

//go:embed report.html.tmpl
var reportText string

var reportPage = template.Must(template.New("report").Parse(reportText))

// judgeTimeout bounds the judging of a run, with its reading and drawing.
const judgeTimeout = 10 * time.Minute

// Report judges a saved run, again if need be, and writes its report, unless ctx
// ends first.
func Report(ctx context.Context, dir string) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	run, err := judge.LoadContext(ctx, dir)
	if err != nil {
		return Result{}, fmt.Errorf("load the run: %w", err)
	}
	verdict, err := judge.DecideContext(ctx, run, judge.DefaultLimits())
	if err != nil {
		return Result{}, err
	}
	if err := judge.SaveVerdict(dir, verdict); err != nil {
		return Result{}, err
	}
	return writeReport(ctx, dir, run, verdict)
}

// writeReport shows a run and its verdict as one page and as plain text.
func writeReport(ctx context.Context, dir string, run *judge.Run, v judge.Verdict) (Result, error) {
	res := Result{Dir: dir, Verdict: v, Report: filepath.Join(dir, ReportFile)}
	page, err := draw(ctx, run, v)
	if err != nil {
		return Result{}, err
	}
	res.Summary = Summary(run, v)
	return res, errors.Join(replaceFile(filepath.Join(dir, SummaryFile), []byte(res.Summary)), replaceFile(res.Report, page))
}

// draw makes the page; when ctx ends first, it is not waited for.
func draw(ctx context.Context, run *judge.Run, v judge.Verdict) ([]byte, error) {
	var page bytes.Buffer
	done := make(chan error, 1)
	go func() {
		defer func() {
			if broke := recover(); broke != nil {
				done <- fmt.Errorf("%v\n%s", broke, debug.Stack())
			}
		}()
		done <- reportPage.Execute(&page, newPage(run, v))
	}()
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("draw the report: %w", ctx.Err())
	case err := <-done:
		if err != nil {
			return nil, fmt.Errorf("draw the report: %w", err)
		}
		return page.Bytes(), nil
	}
}

// page is what the template shows.
type page struct {
	About       judge.About
	Verdict     judge.Verdict
	Headline    string
	When        string
	Environment []row
	Counts      []countRow
	Faults      []faultRow
	Gaps        []row
	Axis        []tick
	Lanes       []lane
	Rate        plot
	Latency     plot
	GapBands    []band
}

type row struct{ Name, Value string }

type countRow struct {
	Kind judge.Kind
	judge.Rows
}

type faultRow struct{ At, What, Nodes, Lasted, Gap, Note string }

func newPage(run *judge.Run, v judge.Verdict) page {
	x := newAxis(run)
	p := page{About: run.About, Verdict: v, Headline: headline(run, v), When: time.UnixMilli(run.About.StartedMs).UTC().Format(time.RFC3339),
		Axis: x.ticks(), Lanes: lanes(run, x), Rate: ratePlot(run, x), Latency: latencyPlot(run, x), GapBands: gapBands(run, x), Gaps: gapRows(v.Gaps),
		Faults: faultRows(run, v.Gaps)}
	for _, name := range slices.Sorted(maps.Keys(run.About.Environment)) {
		p.Environment = append(p.Environment, row{name, run.About.Environment[name]})
	}
	p.Environment = append(p.Environment, row{"seed", fmt.Sprint(run.About.Seed)}, row{"operations", fmt.Sprint(len(run.Ops))})
	for _, kind := range slices.Sorted(maps.Keys(v.Counts)) {
		p.Counts = append(p.Counts, countRow{kind, v.Counts[kind]})
	}
	return p
}

// headline says in one sentence what came of the run.
func headline(run *judge.Run, v judge.Verdict) string {
	faults := 0
	for _, e := range run.Timeline {
		if e.Fault && e.Error == "" {
			faults++
		}
	}
	what := map[judge.Result]string{
		judge.Pass: "every promise was kept", judge.Fail: "a promise was broken", judge.Undecided: "it cannot be decided whether every promise was kept",
	}[v.Result]
	return fmt.Sprintf("Under %d faults and %d operations on %d nodes, %s.", faults, len(run.Ops), len(run.About.Nodes), what)
}

func gapRows(g judge.Gaps) []row {
	rows := []row{
		{"longest time without a success", fmt.Sprintf("%s, from %s to %s", ms(int64(g.Longest.Length())), sec(g.Longest.FromNS), sec(g.Longest.ToNS))},
		{"latency of successes", spread(g.Latency)},
	}
	if g.Faults.N > 0 {
		rows = append(rows, row{"longest time without a success after each fault", spread(g.Faults)})
	}
	return rows
}

func spread(s judge.Spread) string {
	return fmt.Sprintf("p50 %s, p99 %s, max %s (of %d)", ms(s.P50), ms(s.P99), ms(s.Max), s.N)
}

func faultRows(run *judge.Run, g judge.Gaps) []faultRow {
	var rows []faultRow
	next := 0
	for _, e := range slices.SortedFunc(slices.Values(run.Timeline), func(a, b judge.Event) int { return int(a.AtNS - b.AtNS) }) {
		r := faultRow{At: sec(e.AtNS), What: strings.TrimSpace(e.What + " " + string(e.Params)), Nodes: strings.Join(e.Nodes, ", "), Note: strings.TrimSpace(e.Error + " " + e.Note)}
		if e.EndNS > e.AtNS {
			r.Lasted = sec(e.EndNS - e.AtNS)
		}
		if e.Fault && e.Error == "" && next < len(g.PerFault) && e.AtNS < run.About.TrafficNS {
			r.Gap = ms(int64(g.PerFault[next].Length()))
			next++
		}
		rows = append(rows, r)
	}
	return rows
}

func ms(ns int64) string {
	if d := time.Duration(ns); d >= 10*time.Millisecond {
		return d.Round(time.Millisecond).String()
	}
	return time.Duration(ns).Round(10 * time.Microsecond).String()
}

func sec(ns int64) string { return fmt.Sprintf("%.1f s", time.Duration(ns).Seconds()) }

// Summary is the verdict for a terminal. Texts of the run cannot drive it, nor
// begin a line of their own.
func Summary(run *judge.Run, v judge.Verdict) string {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(plainLine(format, args...)) }
	line("%s: %s (seed %d)", run.About.Scenario, strings.ToUpper(string(v.Result)), run.About.Seed)
	line("%s", headline(run, v))
	line("")
	for _, c := range v.Checks {
		line("  %-12s %-2s  %-34s %d examined", c.Result, c.Promise, c.Name, c.Examined)
	}
	line("")
	for _, r := range gapRows(v.Gaps) {
		line("  %s: %s", r.Name, r.Value)
	}
	line("  agreement after healing: %t (%s)", run.About.Healed, run.About.HealDetail)
	for _, c := range v.Checks {
		summarize(line, c)
	}
	for _, e := range run.Timeline {
		what := "not injected"
		if e.Busy {
			what = "not tried"
		}
		if e.Fault && e.Error != "" {
			line("")
			line("%s: %s at %s: %s", what, e.What, sec(e.AtNS), e.Error)
		}
	}
	return b.String()
}

func summarize(line func(format string, args ...any), c judge.Check) {
	for _, f := range c.Findings {
		line("")
		line("%s [%s] %s: %s", strings.ToUpper(string(f.Result)), f.Promise, c.Name, f.What)
		for _, evidence := range f.Evidence {
			line("    %s", evidence)
		}
	}
	if c.Unshown > 0 {
		line("")
		line("… and %d more findings of %q", c.Unshown, c.Name)
	}
}
