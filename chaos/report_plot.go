package chaos

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
)

// Plots are drawn on a canvas of plotWidth by plotHeight units that the page
// stretches to the width of the screen or paper; texts stand beside it in HTML,
// so that they keep their size.
const (
	plotWidth  = 1000.0
	plotHeight = 100.0
	maxBuckets = 240
)

// axis maps time to the canvas and to buckets.
type axis struct {
	end    int64
	bucket int64 // at least a second
	n      int
}

func newAxis(run *judge.Run) axis {
	end := run.About.TrafficNS
	for i := range run.Ops {
		end = max(end, run.Ops[i].EndNS)
	}
	for _, e := range run.Timeline {
		end = max(end, e.AtNS, e.EndNS)
	}
	end = max(end, int64(time.Second))
	width := int64(time.Second) * ((end/int64(time.Second))/maxBuckets + 1)
	return axis{end: end, bucket: width, n: int(end/width) + 1}
}

func (a axis) x(ns int64) float64 { return round(plotWidth * float64(ns) / float64(a.end)) }

func round(v float64) float64 { return math.Round(v*100) / 100 }

// tick is a label at a place in percent.
type tick struct {
	At    float64
	Label string
}

const maxTicks = 8

// ticks labels the time axis at round times.
func (a axis) ticks() []tick {
	every := time.Second
	for _, d := range []time.Duration{1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 43_200} {
		if every = d * time.Second; time.Duration(a.end)/every < maxTicks {
			break
		}
	}
	var out []tick
	for at := time.Duration(0); int64(at) < a.end && len(out) < maxTicks; at += every {
		out = append(out, tick{At: round(a.x(int64(at)) / plotWidth * 100), Label: at.String()})
	}
	return out
}

// band is a stretch of time on a lane.
type band struct {
	X, W         float64
	Class, Title string
}

func (a axis) band(from, to int64, class, title string) band {
	x := a.x(from)
	return band{X: x, W: math.Max(round(a.x(to)-x), 1.5), Class: class, Title: title}
}

// lane is one node over time: the faults that hit it above, what it was below.
type lane struct {
	Label  string
	Faults []band
	States []band
}

func lanes(run *judge.Run, x axis) []lane {
	out := make([]lane, len(run.About.Nodes))
	for i, node := range run.About.Nodes {
		out[i].Label = node
		for _, e := range run.Timeline {
			if !e.Fault || e.Error != "" || !(slices.Contains(e.Nodes, node) || len(e.Nodes) == 0) {
				continue
			}
			end := e.EndNS
			if end == 0 {
				end = x.end
			}
			title := fmt.Sprintf("%s %s, %s to %s", e.What, e.Params, sec(e.AtNS), sec(end))
			out[i].Faults = append(out[i].Faults, x.band(e.AtNS, end, "fault "+e.What, title))
		}
		out[i].States = stateBands(run, node, x)
	}
	return out
}

// sight is what was seen of a node at one moment.
type sight struct {
	at           int64
	class, title string
}

// stateBands joins the answers to the status questions into bands.
func stateBands(run *judge.Run, node string, x axis) []band {
	var seen []sight
	for i := range run.Ops {
		op := &run.Ops[i]
		if op.Kind != judge.KindStatus || op.Node != node {
			continue
		}
		switch {
		case op.Outcome != judge.OK:
			seen = append(seen, sight{op.StartNS, "silent", "no answer"})
		case op.Status.State == "leader":
			seen = append(seen, sight{op.StartNS, fmt.Sprintf("leader t%d", op.Status.Term%6), fmt.Sprintf("leader in term %d", op.Status.Term)})
		default:
			seen = append(seen, sight{op.StartNS, op.Status.State, fmt.Sprintf("%s in term %d", op.Status.State, op.Status.Term)})
		}
	}
	slices.SortFunc(seen, func(a, b sight) int { return int(a.at - b.at) })
	var out []band
	for i := 0; i < len(seen); {
		j := i + 1
		for j < len(seen) && seen[j].class == seen[i].class && seen[j].title == seen[i].title {
			j++
		}
		end := seen[j-1].at
		if j < len(seen) {
			end = seen[j].at
		}
		out = append(out, x.band(seen[i].at, end, seen[i].class, fmt.Sprintf("%s, %s to %s", seen[i].title, sec(seen[i].at), sec(end))))
		i = j
	}
	return out
}

// minGap is what the plots mark as a gap.
const minGap = int64(time.Second)

// gapBands are the stretches of at least a second without a success while
// traffic ran.
func gapBands(run *judge.Run, x axis) []band {
	ends := []int64{0}
	for i := range run.Ops {
		if run.Ops[i].Succeeded() && run.Ops[i].EndNS <= run.About.TrafficNS {
			ends = append(ends, run.Ops[i].EndNS)
		}
	}
	ends = append(ends, run.About.TrafficNS)
	slices.Sort(ends)
	var out []band
	for i := 1; i < len(ends); i++ {
		if ends[i]-ends[i-1] >= minGap {
			out = append(out, x.band(ends[i-1], ends[i], "gap", fmt.Sprintf("no success for %s, from %s", ms(ends[i]-ends[i-1]), sec(ends[i-1]))))
		}
	}
	return out
}

// bar is a stacked piece of a column.
type bar struct {
	X, Y, W, H float64
	Class      string
}

// line is a curve.
type line struct{ Class, Path string }

// plot is a picture over time.
type plot struct {
	Ticks []tick // from the top
	Bars  []bar
	Lines []line
}

var rateClasses = []string{"success", "answered", "refused", "unknown"}

// ratePlot stacks operations per second: successes, other answers, refusals,
// unknown outcomes. Status polls are not traffic.
func ratePlot(run *judge.Run, x axis) plot {
	counts := make([][4]float64, x.n)
	for i := range run.Ops {
		op := &run.Ops[i]
		if op.Kind == judge.KindStatus {
			continue
		}
		class := 1
		switch {
		case op.Succeeded():
			class = 0
		case op.Outcome == judge.Refused:
			class = 2
		case op.Outcome == judge.Unknown:
			class = 3
		}
		counts[op.EndNS/x.bucket][class] += 1 / time.Duration(x.bucket).Seconds()
	}
	top := 1.0
	for _, c := range counts {
		top = math.Max(top, c[0]+c[1]+c[2]+c[3])
	}
	p := plot{Ticks: []tick{{0, fmt.Sprintf("%.0f/s", top)}, {50, fmt.Sprintf("%.0f/s", top/2)}, {100, "0"}}}
	for i, c := range counts {
		left, right := x.x(int64(i)*x.bucket), x.x(min(int64(i+1)*x.bucket, x.end))
		y := plotHeight
		for class, n := range c {
			if n == 0 {
				continue
			}
			h := n / top * plotHeight
			y -= h
			p.Bars = append(p.Bars, bar{X: left, Y: round(y), W: round(right - left), H: round(h), Class: rateClasses[class]})
		}
	}
	return p
}

// Latencies are shown on a logarithmic scale of four decades.
const (
	fastest = float64(time.Millisecond)
	decades = 4.0
)

// latencyPlot draws percentiles of the successes of each bucket.
func latencyPlot(run *judge.Run, x axis) plot {
	took := make([][]int64, x.n)
	for i := range run.Ops {
		if op := &run.Ops[i]; op.Succeeded() {
			took[op.EndNS/x.bucket] = append(took[op.EndNS/x.bucket], op.EndNS-op.StartNS)
		}
	}
	p := plot{Ticks: []tick{{0, "10s"}, {25, "1s"}, {50, "100ms"}, {75, "10ms"}, {100, "1ms"}}}
	for _, curve := range []struct {
		class string
		of    func(judge.Spread) int64
	}{
		{"max", func(s judge.Spread) int64 { return s.Max }},
		{"p99", func(s judge.Spread) int64 { return s.P99 }},
		{"p50", func(s judge.Spread) int64 { return s.P50 }},
	} {
		var path strings.Builder
		pen := "M"
		for i := range took {
			if len(took[i]) == 0 {
				pen = "M" // no success, no line
				continue
			}
			at := min(int64(i)*x.bucket+x.bucket/2, x.end)
			fmt.Fprintf(&path, "%s%g %g ", pen, x.x(at), latencyY(curve.of(judge.SpreadOf(took[i]))))
			if pen == "M" { // a point of its own is still to be seen
				fmt.Fprintf(&path, "l0.01 0 ")
			}
			pen = "L"
		}
		p.Lines = append(p.Lines, line{Class: curve.class, Path: strings.TrimSpace(path.String())})
	}
	return p
}

func latencyY(ns int64) float64 {
	share := math.Log10(math.Max(float64(ns), fastest)/fastest) / decades
	return round(plotHeight * (1 - math.Min(share, 1)))
}
