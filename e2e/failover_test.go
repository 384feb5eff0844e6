package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

const (
	// failoverMedian is what a failover may take by default, and failoverLongest
	// what the worst of twenty may on a machine that does other things too.
	failoverMedian  = time.Second
	failoverLongest = maxGap
)

// TestFailover kills the leader with SIGKILL again and again while clients of
// every node ask for admissions, and prints how long those of the surviving
// nodes went without one. EDGECODER_FAILOVER is how often: `make failover`.
func TestFailover(t *testing.T) {
	kills, err := strconv.Atoi(os.Getenv("EDGECODER_FAILOVER"))
	if err != nil || kills <= 0 {
		t.Skip("measures times, which only a quiet machine gives (CI has TestRunMembership and the kills of e2e): set EDGECODER_FAILOVER=20, or run `make failover`")
	}
	m := up(t)
	pulses := m.pulses()
	var gaps []time.Duration
	for i := range kills {
		victim := m.leader()
		m.flows(pulses)
		logs := m.markLogs(victim)
		at := time.Now()
		m.kill(victim)
		gap, each := time.Duration(0), []string(nil)
		for _, p := range pulses {
			if p.node == victim {
				continue
			}
			m.eventually("traffic flows again at "+p.node, func() bool { return p.since(at.Add(time.Millisecond)) > 20 })
			gap = max(gap, p.longest())
			each = append(each, fmt.Sprintf("%s %d", p.node, p.longest().Milliseconds()))
		}
		gaps = append(gaps, gap)
		t.Logf("kill %2d, of %s: %4d ms without an admission (%s); %s", i+1, victim, gap.Milliseconds(), strings.Join(each, ", "), logs.parts(at))
		if gap > failoverMedian {
			t.Log(logs.lines())
		}
		m.restart(victim)
	}
	slices.Sort(gaps)
	median, longest := gaps[len(gaps)/2], gaps[len(gaps)-1]
	t.Logf("%d leader kills: median %d ms, longest %d ms without an admission at a surviving node", kills, median.Milliseconds(), longest.Milliseconds())
	if median > failoverMedian || longest > failoverLongest {
		t.Errorf("median %s, at most %s; longest %s, at most %s", median, failoverMedian, longest, failoverLongest)
	}
}

// pulse is a client of one node that asks for one admission after the other.
type pulse struct {
	node string

	mu   sync.Mutex
	done []time.Time // of each admission since reset
	last time.Time
	gap  time.Duration
	bad  map[string]int // answers other than an admission, by code
}

// pulses starts one for each node; they end with the test.
func (m *mesh) pulses() []*pulse {
	ctx, cancel := context.WithCancel(m.t.Context())
	var all sync.WaitGroup
	m.t.Cleanup(func() { cancel(); all.Wait() })
	var out []*pulse
	for _, name := range m.names() {
		p := &pulse{node: name, bad: map[string]int{}}
		a, cl := m.agent("pulse-"+name), m.client(m.verifier, 1, name)
		out = append(out, p)
		all.Go(func() {
			for k := 0; ctx.Err() == nil; k++ {
				p.beat(ctx, m, cl, a.request(m.t, fmt.Sprintf("%s-%d", name, k)))
			}
		})
	}
	return out
}

// flows waits until clients of every node, also of one that was just started
// again, get admissions, and begins to measure.
func (m *mesh) flows(pulses []*pulse) {
	m.t.Helper()
	for _, p := range pulses {
		p.reset()
		m.eventually("traffic flows at "+p.node, func() bool { return p.since(time.Time{}) > 20 })
	}
	for _, p := range pulses {
		p.reset()
	}
}

// beat asks until the request is decided.
func (p *pulse) beat(ctx context.Context, m *mesh, cl *client.Client, r client.AdmissionRequest) {
	for ctx.Err() == nil {
		got, err := cl.Admit(ctx, r)
		if err == nil {
			if got.Verdict != client.VerdictAdmitted {
				m.t.Errorf("honest request refused: %+v", got)
			}
			p.beatAt(time.Now())
			return
		}
		if ctx.Err() == nil {
			p.mu.Lock()
			p.bad[codeOf(err)]++
			p.mu.Unlock()
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond): // a server that is down refuses at once
		}
	}
}

// codeOf is the code of a client's error.
func codeOf(err error) string {
	if e := (*client.Error)(nil); errors.As(err, &e) {
		return e.Code
	}
	return fmt.Sprint(err)
}

func (p *pulse) beatAt(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.last.IsZero() {
		p.gap = max(p.gap, now.Sub(p.last))
	}
	p.last = now
	p.done = append(p.done, now)
}

func (p *pulse) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gap, p.done = 0, nil
	clear(p.bad)
}

func (p *pulse) longest() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gap
}

// failures returns what was answered instead of an admission since reset, by code.
func (p *pulse) failures() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.bad)
}

// since counts the admissions from a moment on.
func (p *pulse) since(at time.Time) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, _ := slices.BinarySearchFunc(p.done, at, time.Time.Compare)
	return len(p.done) - i
}

// logMarks are where the logs of servers ended.
type logMarks map[string]int

func (m *mesh) markLogs(but string) logMarks {
	marks := logMarks{}
	for _, n := range m.cluster.Record().Nodes {
		if info, err := os.Stat(n.Log); err == nil && n.Name != but {
			marks[n.Log] = int(info.Size())
		}
	}
	return marks
}

// lines is what the servers said since.
func (l logMarks) lines() string {
	var out strings.Builder
	for file, mark := range l {
		if text, err := os.ReadFile(file); err == nil {
			fmt.Fprintf(&out, "--- %s\n%s", file, text[mark:])
		}
	}
	return out.String()
}

// parts tells from the servers' own logs when the first of them stood for
// election, when one won, and when it began to decide.
func (l logMarks) parts(from time.Time) string {
	events := []struct{ what, line string }{
		{"candidate", "entering candidate state"}, {"elected", "election won"}, {"open", "the term is open"}}
	first := map[string]time.Duration{}
	for file, mark := range l {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text[mark:])) {
			stamp, _, _ := strings.Cut(strings.TrimPrefix(line, "time="), " ")
			at, err := time.Parse(time.RFC3339Nano, stamp)
			for _, e := range events {
				if took, seen := first[e.what]; err == nil && strings.Contains(line, e.line) && (!seen || at.Sub(from) < took) {
					first[e.what] = at.Sub(from)
				}
			}
		}
	}
	var out []string
	for _, e := range events {
		out = append(out, fmt.Sprintf("%s after %d ms", e.what, first[e.what].Milliseconds()))
	}
	return strings.Join(out, ", ")
}
