package chaos

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
)

// Names of what WriteReport makes.
const (
	ReportFile  = "report.html"
	SummaryFile = "summary.txt"
)

//go:embed report.html.tmpl
var reportText string

var reportPage = template.Must(template.New("report").Parse(reportText))

// WriteReport judges nothing: it shows the saved run and its verdict as one
// page and as plain text, and returns the page's path.
func WriteReport(dir string) (string, error) {
	run, err := judge.Load(dir)
	if err != nil {
		return "", err
	}
	verdict, err := loadVerdict(dir)
	if err != nil {
		return "", err
	}
	var page bytes.Buffer
	if err := reportPage.Execute(&page, newPage(run, verdict)); err != nil {
		return "", fmt.Errorf("draw the report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, SummaryFile), []byte(Summary(run, verdict)), 0o600); err != nil {
		return "", err
	}
	path := filepath.Join(dir, ReportFile)
	return path, os.WriteFile(path, page.Bytes(), 0o600)
}

func loadVerdict(dir string) (v judge.Verdict, err error) {
	text, err := os.ReadFile(filepath.Join(dir, judge.VerdictFile))
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal(text, &v)
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

// Summary is the verdict for a terminal.
func Summary(run *judge.Run, v judge.Verdict) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s (seed %d)\n%s\n\n", run.About.Scenario, strings.ToUpper(string(v.Result)), run.About.Seed, headline(run, v))
	for _, c := range v.Checks {
		fmt.Fprintf(&b, "  %-12s %-2s  %-34s %d examined\n", c.Result, c.Promise, c.Name, c.Examined)
	}
	b.WriteString("\n")
	for _, r := range gapRows(v.Gaps) {
		fmt.Fprintf(&b, "  %s: %s\n", r.Name, r.Value)
	}
	fmt.Fprintf(&b, "  agreement after healing: %t (%s)\n", run.About.Healed, run.About.HealDetail)
	for _, c := range v.Checks {
		for _, f := range c.Findings {
			fmt.Fprintf(&b, "\n%s [%s] %s: %s\n", strings.ToUpper(string(f.Result)), f.Promise, c.Name, f.What)
			for _, line := range f.Evidence {
				fmt.Fprintf(&b, "    %s\n", line)
			}
		}
		if c.Unshown > 0 {
			fmt.Fprintf(&b, "\n… and %d more findings of %q\n", c.Unshown, c.Name)
		}
	}
	for _, e := range run.Timeline {
		what := "not injected"
		if e.Busy {
			what = "not tried"
		}
		if e.Fault && e.Error != "" {
			fmt.Fprintf(&b, "\n%s: %s at %s: %s\n", what, e.What, sec(e.AtNS), e.Error)
		}
	}
	return b.String()
}
