package chaos

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
	"github.com/edgecoder/edgecoder/client"
)

// sampleRun is a small run with a broken promise and hostile texts.
func sampleRun() judge.Run {
	second := int64(time.Second)
	run := judge.Run{About: judge.About{Scenario: "sample <script>alert(1)</script>", Description: "a \"sample\" & more", Seed: 7,
		StartedMs: 1_800_000_000_000, TrafficNS: 10 * second, Nodes: []string{"node1", "node2"}, Healed: true, HealDetail: "after 1s",
		Policy:      &judge.PolicyRead{Version: 1, Policy: judge.Policy{RateLimit: client.RateLimit{Requests: 100, WindowMs: 1000}, MaxSkewMs: 120_000}},
		Environment: map[string]string{"cpus": "2"}}}
	add := func(start, end int64, op judge.Op) {
		op.ID, op.StartNS, op.EndNS = int64(len(run.Ops)+1), start, end
		if op.Outcome == "" {
			op.Outcome = judge.OK
		}
		run.Ops = append(run.Ops, op)
	}
	for i := range int64(40) {
		if i > 12 && i < 24 {
			continue // a gap
		}
		at := i * second / 4
		add(at, at+second/100, judge.Op{Kind: judge.KindClaim, Node: "node1", Claim: &judge.Claim{Key: "k", Agent: "a", Nonce: "n", TimestampMs: 1_800_000_000_000,
			ClaimID: "c", Verdict: "admitted", Code: "ok", Index: uint64(i + 1), ClockMs: 1_800_000_000_000 + i}})
	}
	add(3*second, 5*second, judge.Op{Kind: judge.KindClaim, Node: "node2", Outcome: judge.Unknown, Code: "unknown_outcome", Claim: &judge.Claim{Nonce: "<b>"}})
	for i, state := range []string{"leader", "leader", "follower", "candidate"} {
		add(int64(i)*2*second, int64(i)*2*second+1, judge.Op{Kind: judge.KindStatus, Node: "node1", Status: &judge.Status{NodeID: "1", State: state, Term: uint64(1 + i/2)}})
	}
	add(8*second, 9*second, judge.Op{Kind: judge.KindStatus, Node: "node2", Outcome: judge.Refused, Code: "unavailable", Status: &judge.Status{}})
	run.Timeline = []judge.Event{
		{AtNS: 3 * second, EndNS: 6 * second, What: "kill", Fault: true, Nodes: []string{"node1"}, Params: json.RawMessage(`{"target":"leader"}`)},
		{AtNS: 7 * second, What: "partition", Fault: true, Error: "skipped: needs root"},
	}
	return run
}

func writeSample(t *testing.T) (dir, page string) {
	t.Helper()
	dir = t.TempDir()
	run := sampleRun()
	if err := run.Save(dir); err != nil {
		t.Fatal(err)
	}
	res, err := Report(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(res.Report)
	if err != nil {
		t.Fatal(err)
	}
	return dir, string(text)
}

// TestReport holds that the page stands alone, escapes what it shows, and
// shows faults, terms, gaps, findings and the seed.
func TestReport(t *testing.T) {
	_, page := writeSample(t)
	for _, want := range []string{"leader in term 1", "follower in term 2", "no answer", "kill {&#34;target&#34;:&#34;leader&#34;}, 3.0 s to 6.0 s", "no success for",
		"admitted more than once", "seed 7", "skipped: needs root", `class="word fail"`, "cpus", "claims admitted once"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	if strings.Contains(page, "<script") {
		t.Error("a text of the run became a script of the page")
	}
	if m := regexp.MustCompile(`(?i)(src|href)\s*=|url\(|@import|https?://`).FindString(page); m != "" {
		t.Errorf("the page refers to something outside: %q", m)
	}
	if strings.Contains(page, "ZgotmplZ") || strings.Contains(page, "NaN") || strings.Contains(page, "Inf") {
		t.Error("the page has a value that could not be shown")
	}
}

// TestReportsDrawings holds that every drawing is well-formed and inside its canvas.
func TestReportsDrawings(t *testing.T) {
	_, page := writeSample(t)
	drawings := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(page, -1)
	if len(drawings) != 4 {
		t.Fatalf("%d drawings, want two lanes and two plots", len(drawings))
	}
	for i, d := range drawings {
		dec := xml.NewDecoder(strings.NewReader(d))
		shapes := 0
		for {
			token, err := dec.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("drawing %d: %v", i, err)
			}
			if e, ok := token.(xml.StartElement); ok && (e.Name.Local == "rect" || e.Name.Local == "path") {
				shapes++
			}
		}
		if shapes == 0 {
			t.Errorf("drawing %d is empty", i)
		}
	}
}

func TestSummary(t *testing.T) {
	dir, _ := writeSample(t)
	text, err := os.ReadFile(filepath.Join(dir, SummaryFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"FAIL (seed 7)", "fail         P1  claims admitted once", "FAIL [P1]", "not injected: partition", "longest time without a success"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

// TestEmptyReport holds that a run in which nothing happened can be shown.
func TestEmptyReport(t *testing.T) {
	dir := t.TempDir()
	run := judge.Run{About: judge.About{Scenario: "empty"}}
	if err := run.Save(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Report(t.Context(), dir); err != nil {
		t.Error(err)
	}
}

// TestFreshMarks holds that a mark is recorded once a node, and again when it
// changes.
func TestFreshMarks(t *testing.T) {
	r, err := newRecorder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	see := func(node string, marks ...client.Mark) int {
		op := r.ask(judge.Op{Kind: judge.KindStatus, Node: node, Status: &judge.Status{Digests: marks}}, func(*judge.Op) error { return nil })
		return len(op.Status.Digests)
	}
	one, other := client.Mark{Index: 1, Digest: "a"}, client.Mark{Index: 1, Digest: "b"}
	if a, b, c, d := see("n1", one), see("n1", one), see("n2", one), see("n1", other); a != 1 || b != 0 || c != 1 || d != 1 {
		t.Errorf("recorded %d %d %d %d marks, want 1 0 1 1", a, b, c, d)
	}
	if err := r.close(); err != nil || r.ops != 4 {
		t.Errorf("%d operations, %v", r.ops, err)
	}
}
