package judge

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// TestJudge holds that a saved run is judged as it was, and again the same.
func TestJudge(t *testing.T) {
	s := newStory()
	s.ban("a", 0, 5, 10)
	s.claim(6, 9, "n", "c1", admitted(11, 7))
	s.run.Timeline = []Event{{AtNS: 5, What: "kill", Fault: true, Nodes: []string{"n1"}}}
	s.finals()
	dir := t.TempDir()
	if err := s.run.Save(dir); err != nil {
		t.Fatal(err)
	}
	first, err := Judge(dir)
	if err != nil {
		t.Fatal(err)
	}
	if first.Result != Fail {
		t.Errorf("judged %s, want fail", first.Result)
	}
	var saved Verdict
	if err := readJSON(t.Context(), filepath.Join(dir, VerdictFile), &saved); err != nil || saved.Result != Fail {
		t.Errorf("the saved verdict is %q, %v", saved.Result, err)
	}
	loaded, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := mustJSON(t, loaded.Ops), mustJSON(t, s.run.Ops); !bytes.Equal(got, want) {
		t.Errorf("the history changed on its way:\n%s\n%s", got, want)
	}
	again := Decide(loaded, DefaultLimits())
	for i := range again.Checks {
		if !reflect.DeepEqual(again.Checks[i].Findings, first.Checks[i].Findings) {
			t.Errorf("%s was judged differently the second time", again.Checks[i].Name)
		}
	}
}

// TestTornHistory holds that half a history is no history.
func TestTornHistory(t *testing.T) {
	s := newStory()
	s.claim(0, 5, "n", "c1", admitted(10, 1))
	s.claim(6, 9, "n", "c2", denied(client.VerdictReplay))
	dir := t.TempDir()
	if err := s.run.Save(dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, HistoryFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text[:len(text)-20], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Judge(dir); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a torn history gave %v", err)
	}
}

// TestOutOfTime holds that a search without an end is a doubt, not a pass.
func TestOutOfTime(t *testing.T) {
	s := newStory()
	for i := range 30 { // nothing tells what became of them
		s.unknownBan("a", 0, 1, false)
		_ = i
	}
	for i := range 40 {
		s.read("a", int64(2+i), int64(2+i), i%2 == 0, true)
	}
	s.read("a", 0, 1000, true, true)
	s.run.Finals = []Final{}
	v := Decide(&s.run, Limits{Linear: time.Nanosecond})
	for _, c := range v.Checks {
		if c.Name == "bans hold" && c.Result != Undecided {
			t.Errorf("judged %s, want undecided", c.Result)
		}
	}
}

// TestShrinking holds that all findings together have one budget to be made short.
func TestShrinking(t *testing.T) {
	lie := func(limit time.Duration) int {
		s := newStory()
		s.ban("a", 0, 1, 10)
		for i := range int64(20) {
			s.read("a", 2+i, 3+i, i != 7, true)
		}
		s.finals()
		v := Decide(&s.run, Limits{Linear: time.Minute, Shrink: limit})
		for _, c := range v.Checks {
			if c.Name == "bans hold" && len(c.Findings) == 1 {
				return len(c.Findings[0].Ops)
			}
		}
		t.Fatal("the lie was not found")
		return 0
	}
	if short, long := lie(time.Minute), lie(time.Nanosecond); short != 2 || long != 21 {
		t.Errorf("%d operations with time to shrink, %d without, want 2 and 21", short, long)
	}
}

func TestOutcomes(t *testing.T) {
	for code, want := range map[string]Outcome{
		"": OK, client.CodeUnknownOutcome: Unknown, client.CodeInternal: Unknown, "never heard of": Unknown,
		client.CodeUnavailable: Refused, client.CodeConflict: Refused, client.CodeDiskFull: Refused, client.CodeOverloaded: Refused,
	} {
		if got := OutcomeOf(code); got != want {
			t.Errorf("%q is %s, want %s", code, got, want)
		}
	}
}

func TestGaps(t *testing.T) {
	s := newStory()
	for _, end := range []int64{10, 20, 30, 530, 540, 900} {
		s.claim(end-5, end, time.Duration(end).String(), "c", admitted(uint64(end), end))
	}
	s.claim(600, 700, "x", "c", denied(client.VerdictRateLimited)) // no success
	ms := int64(time.Millisecond)
	s.run.About.TrafficNS = 1000 * ms
	s.run.Timeline = []Event{
		{AtNS: 25 * ms, What: "kill", Fault: true}, {AtNS: 600 * ms, What: "pause", Fault: true},
		{AtNS: 700 * ms, What: "failed", Fault: true, Error: "no"}, {AtNS: 800 * ms, What: "mark"},
	}
	g := measureGaps(&s.run)
	want := Gaps{
		Longest:  Gap{FromNS: 30 * ms, ToNS: 530 * ms},
		PerFault: []Gap{{FromNS: 30 * ms, ToNS: 530 * ms, Fault: "kill"}, {FromNS: 540 * ms, ToNS: 900 * ms, Fault: "pause"}},
		Faults:   Spread{N: 2, P50: 360 * ms, P99: 500 * ms, Max: 500 * ms},
		Latency:  Spread{N: 6, P50: 5 * ms, P99: 5 * ms, Max: 5 * ms},
	}
	if !reflect.DeepEqual(g, want) {
		t.Errorf("got  %+v\nwant %+v", g, want)
	}
	if none := measureGaps(&Run{}); !reflect.DeepEqual(none, Gaps{}) {
		t.Errorf("an empty run has gaps %+v", none)
	}
}

// TestSilenceToTheEnd holds that a cluster that never answers again is one
// long gap.
func TestSilenceToTheEnd(t *testing.T) {
	s := newStory()
	s.claim(0, 10, "n", "c", admitted(1, 1))
	s.claim(20, 5000, "n2", "c", unknown)
	s.run.About.TrafficNS = int64(9 * time.Second)
	if got := measureGaps(&s.run).Longest.Length(); got != 8990*time.Millisecond {
		t.Errorf("the longest gap is %s, want 8.99s", got)
	}
}

func TestBadLines(t *testing.T) {
	good := `{"id":1,"client":0,"kind":"ban_read","node":"n1","start_ns":1,"end_ns":2,"wall_ms":3,"outcome":"ok","ban_read":{"agent":"a","in_force":true}}`
	if ops, err := ReadHistory(strings.NewReader(good + "\n\n")); err != nil || len(ops) != 1 {
		t.Fatalf("a good line: %v", err)
	}
	for name, line := range map[string]string{
		"a member nobody knows": strings.Replace(good, `"client"`, `"clients"`, 1),
		"a kind nobody knows":   strings.Replace(good, `"kind":"ban_read"`, `"kind":"transfer"`, 1),
		"the body of another":   strings.Replace(good, `"kind":"ban_read"`, `"kind":"ban"`, 1),
		"no body":               strings.Replace(good, `,"ban_read":{"agent":"a","in_force":true}`, ``, 1),
		"ends before it starts": strings.Replace(good, `"end_ns":2`, `"end_ns":0`, 1),
		"an odd outcome":        strings.Replace(good, `"ok"`, `"fine"`, 1),
		"no id":                 strings.Replace(good, `"id":1`, `"id":0`, 1),
		"twice":                 good + "\n" + good,
		"text behind it":        good + " x",
		"no JSON":               "hello",
	} {
		if _, err := ReadHistory(strings.NewReader(line)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzReadHistory holds that what is read can be written and read the same,
// and that every verdict over it comes without a panic.
func FuzzReadHistory(f *testing.F) {
	s := newStory()
	s.ban("a", 0, 5, 10)
	s.lift("a", 6, 7, 11)
	s.claim(6, 9, "n", "c1", admitted(11, 7))
	s.setPolicy(0, 5, 1, 7, nil)
	s.readPolicy(6, 7, 2, 7, true)
	s.read("a", 6, 9, true, false)
	s.seen("n1", 1, "leader", client.Mark{Index: 5, Digest: "x"})
	s.add(8, 9, Op{Kind: KindBansRead, BansRead: &BansRead{Size: 1, Agents: []string{"a"}, Complete: true}})
	s.add(8, 9, Op{Kind: KindChainRead, ChainRead: &ChainRead{Size: 1}})
	s.add(8, 9, Op{Kind: KindCheckpoint, Checkpoint: &Checkpoint{Size: 1}})
	var all bytes.Buffer
	for i := range s.run.Ops {
		if err := WriteOp(&all, &s.run.Ops[i]); err != nil {
			f.Fatal(err)
		}
		f.Add(mustLine(f, &s.run.Ops[i]))
	}
	f.Add(all.Bytes())
	s.finals()
	f.Fuzz(func(t *testing.T, text []byte) {
		ops, err := ReadHistory(bytes.NewReader(text))
		if err != nil {
			return
		}
		var out bytes.Buffer
		for i := range ops {
			if err := WriteOp(&out, &ops[i]); err != nil {
				t.Fatalf("read, but not to be written: %v", err)
			}
		}
		again, err := ReadHistory(&out)
		if err != nil || !bytes.Equal(mustJSON(t, ops), mustJSON(t, again)) {
			t.Fatalf("changed on its way: %v", err)
		}
		run := s.run
		run.Ops = ops
		Decide(&run, Limits{Linear: 10 * time.Millisecond})
	})
}

func mustLine(f *testing.F, op *Op) []byte {
	var b bytes.Buffer
	if err := WriteOp(&b, op); err != nil {
		f.Fatal(err)
	}
	return b.Bytes()
}
