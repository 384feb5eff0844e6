package ledger

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/edgecoder/edgecoder/crypto/golden"
)

func TestAdd(t *testing.T) {
	for _, tt := range []struct {
		a, b, sum int64
		ok        bool
	}{
		{1, 2, 3, true}, {MaxMicro, 0, MaxMicro, true}, {MaxMicro, -MaxMicro, 0, true}, {MaxMicro - 1, 1, MaxMicro, true}, {MaxMicro, 1, 0, false},
		{-MaxMicro, -1, 0, false}, {MaxMicro + 1, -1, 0, false}, {1, math.MaxInt64, 0, false}, {math.MinInt64, math.MinInt64, 0, false}, {math.MinInt64, math.MaxInt64, 0, false},
	} {
		if sum, ok := Add(tt.a, tt.b); sum != tt.sum || ok != tt.ok {
			t.Errorf("%d + %d = %d, %t", tt.a, tt.b, sum, ok)
		}
	}
}

func TestIDs(t *testing.T) {
	const text = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f" // RFC 9562 appendix A.6, of 2022-02-22T19:22:22Z
	id, err := ParseID(text)
	if err != nil || id.TimeMs() != 1_645_557_742_000 || id.String() != text {
		t.Errorf("%s of %d, %v", id, id.TimeMs(), err)
	}
	for _, bad := range []string{"", text[1:], text + "0", "017F22E2-79B0-7CC3-98C4-DC0C0C07398F", "017f22e2-79b0-4cc3-98c4-dc0c0c07398f",
		"017f22e2-79b0-7cc3-18c4-dc0c0c07398f", "017f22e2079b0-7cc3-98c4-dc0c0c07398f", "g17f22e2-79b0-7cc3-98c4-dc0c0c07398f", "{17f22e2-79b0-7cc3-98c4-dc0c0c07398}"} {
		if id, err := ParseID(bad); err == nil {
			t.Errorf("%q reads as %s", bad, id)
		}
	}
	named, err := NamedID(1_645_557_742_123, "invoice 7")
	again, _ := NamedID(1_645_557_742_123, "invoice 7")
	other, _ := NamedID(1_645_557_742_123, "invoice 8")
	if err != nil || named.Fault() != "" || named.TimeMs() != 1_645_557_742_123 || named != again || named == other || named.String() != "017f22e2-7a2b-83e5-8a87-114e263bd31e" {
		t.Errorf("%s of %d, %v; another name %s", named, named.TimeMs(), err, other)
	}
	for _, at := range []int64{-1, 1 << 48} {
		if _, err := NamedID(at, "x"); err == nil {
			t.Errorf("the time %d has an id", at)
		}
	}
	if _, err := NamedID(0, ""); err == nil {
		t.Error("no name has an id")
	}
	last, err := NamedID(1<<48-1, "x")
	if err != nil || last.TimeMs() != 1<<48-1 {
		t.Errorf("%d, %v", last.TimeMs(), err)
	}
}

func micro(f float64) int64 { return int64(math.Round(f * Micro)) }

// The formulas give the figures of the reference; a share may be a millionth less,
// because it rounds down.
func TestIssuanceReferenceVectors(t *testing.T) {
	var v struct {
		LoadIndex []struct {
			Input     struct{ QueuedTasks, ActiveAgents, CPUCapacity, GPUCapacity int64 }
			LoadIndex float64
		}
		Smoothing []struct {
			Previous            *float64
			Current, Alpha, Out float64
		}
		DailyPool   []struct{ LoadIndex, DailyPoolTokens float64 }
		Allocations struct {
			DailyPoolTokens float64
			Shares          []struct{ WeightedContribution float64 }
			Result          []struct{ WeightedContribution, IssuedTokens float64 }
		}
	}
	var sections map[string]json.RawMessage
	golden.Load(t, &sections)
	if err := json.Unmarshal(sections["economyMath"], &v); err != nil {
		t.Fatal(err)
	}
	if len(v.LoadIndex) == 0 || len(v.Smoothing) == 0 || len(v.DailyPool) == 0 || len(v.Allocations.Result) == 0 {
		t.Fatal("vectors are missing")
	}
	p := DefaultPolicy()
	for _, c := range v.LoadIndex {
		l := Load{Queued: c.Input.QueuedTasks, Agents: c.Input.ActiveAgents, CPU: c.Input.CPUCapacity, GPU: c.Input.GPUCapacity}
		if got := l.Index(); got != micro(c.LoadIndex) {
			t.Errorf("%+v has the index %d, the reference %v", l, got, c.LoadIndex)
		}
	}
	for _, c := range v.Smoothing {
		before := int64(0)
		if c.Previous != nil {
			before = micro(*c.Previous)
		}
		p.AlphaMicro = micro(c.Alpha)
		if got := p.Smooth(before, micro(c.Current)); got != micro(c.Out) {
			t.Errorf("%d and %v smoothed are %d, by the reference %v", before, c.Current, got, c.Out)
		}
	}
	for _, c := range v.DailyPool {
		if got := p.Pool(micro(c.LoadIndex)); got != micro(c.DailyPoolTokens)/24 {
			t.Errorf("at %v an hour issues %d, by the reference %v a day", c.LoadIndex, got, c.DailyPoolTokens)
		}
	}
	var total float64
	for _, s := range v.Allocations.Shares {
		total += s.WeightedContribution
	}
	pool := micro(v.Allocations.DailyPoolTokens) / 24
	for _, r := range v.Allocations.Result {
		if got := Share(pool, micro(r.WeightedContribution), micro(total)); micro(r.IssuedTokens)-got < 0 || micro(r.IssuedTokens)-got > 1 {
			t.Errorf("%v of %v earns %d, by the reference %v", r.WeightedContribution, total, got, r.IssuedTokens)
		}
	}
}

// The arithmetic holds at the ends of what the policy allows.
func TestIssuanceAtTheEnds(t *testing.T) {
	p := DefaultPolicy()
	p.MinDaily, p.BaseDaily, p.MaxDaily, p.SlopeMicro = MaxMicro, MaxMicro, MaxMicro, 10*Micro
	if field, fault := p.Fault(); fault != "" {
		t.Fatalf("%s: %s", field, fault)
	}
	if got := p.Pool(MaxLoadMicro); got != MaxMicro/24 {
		t.Errorf("the largest pool is %d", got)
	}
	if got := Share(MaxMicro, MaxMicro, MaxMicro); got != MaxMicro {
		t.Errorf("all of the largest pool is %d", got)
	}
	if got := Share(MaxMicro, 1, MaxMicro); got != 1 {
		t.Errorf("the smallest share is %d", got)
	}
	if got := (Load{Queued: MaxLoad, Agents: MaxLoad}).Index(); got != MaxLoadMicro {
		t.Errorf("the largest load is %d", got)
	}
	if got := (Load{CPU: MaxLoad, GPU: MaxLoad}).Index(); got != minLoadMicro {
		t.Errorf("the smallest load is %d", got)
	}
	for _, r := range []struct {
		Report
		weight int64
	}{{Report{Class: ClassCPU, DurationMs: 1_000, OK: true}, 1_000_000}, {Report{Class: ClassGPU, DurationMs: 1_500, OK: true}, 3_000_000},
		{Report{Class: ClassCPU, DurationMs: 1_000}, 450_000}, {Report{Class: ClassGPU, DurationMs: 1}, 900}} {
		if got := r.Weight(); got != r.weight {
			t.Errorf("%+v weighs %d", r.Report, got)
		}
	}
}

func TestPolicyBounds(t *testing.T) {
	for name, change := range map[string]func(*Policy){
		"id_window_ms": func(p *Policy) { p.IDWindowMs = MaxIDWindowMs + 1 }, "hold_max_ms": func(p *Policy) { p.HoldMaxMs = 0 },
		"report_keep_ms": func(p *Policy) { p.ReportKeepMs = -1 }, "confirm": func(p *Policy) { p.Confirm = 3 },
		"min_daily": func(p *Policy) { p.MinDaily = 23 }, "base_daily": func(p *Policy) { p.BaseDaily = p.MinDaily - 1 },
		"max_daily": func(p *Policy) { p.MaxDaily = p.BaseDaily - 1 }, "slope": func(p *Policy) { p.SlopeMicro = -1 }, "alpha": func(p *Policy) { p.AlphaMicro = 0 },
	} {
		p := DefaultPolicy()
		if field, fault := p.Fault(); fault != "" {
			t.Fatalf("the default: %s: %s", field, fault)
		}
		change(&p)
		if field, _ := p.Fault(); field != name {
			t.Errorf("%s: %q is at fault", name, field)
		}
	}
}

// Every member is signed: none can be exchanged, nor the report taken elsewhere.
func TestReportSignature(t *testing.T) {
	good := sampleReport(1)
	if field, fault := good.Report.Fault(); fault != "" || !good.Verify() {
		t.Fatalf("%s: %s", field, fault)
	}
	for name, change := range map[string]func(*Report){
		"id": func(r *Report) { r.ID[15] ^= 1 }, "agent": func(r *Report) { r.AgentID = "b" }, "account": func(r *Report) { r.Account = "b" },
		"payer": func(r *Report) { r.Payer = "a" }, "task": func(r *Report) { r.Task = "u" }, "class": func(r *Report) { r.Class = ClassGPU },
		"duration": func(r *Report) { r.DurationMs++ }, "ok": func(r *Report) { r.OK = !r.OK },
		"moved": func(r *Report) { r.AgentID, r.Account = r.AgentID+r.Account[:1], r.Account[1:] },
	} {
		other := good
		change(&other.Report)
		if other.Verify() || other.Report.Sum() == good.Report.Sum() {
			t.Errorf("another %s: the signature holds, or the content is the same", name)
		}
	}
	if good.ClusterID = "another cluster"; good.Verify() {
		t.Error("it counts in another cluster")
	}
}
