package api

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

func (f *fixture) scrape() string {
	f.t.Helper()
	rec := f.do(ask{method: "GET", path: "/metrics", token: f.tokens[fsm.RoleViewer]})
	if rec.Code != 200 || !strings.HasPrefix(rec.Header().Get("Content-Type"), "text/plain") {
		f.t.Fatalf("%d %v", rec.Code, rec.Header())
	}
	return rec.Body.String()
}

func TestMetricsFollowConventions(t *testing.T) {
	f := newFixture(t)
	problems, err := promlint.New(strings.NewReader(f.scrape())).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestMetricsCountWhatHappens(t *testing.T) {
	f := newFixture(t)
	a := f.agent("a-1", fsm.AgentActive)
	req := a.request(testClock, "body")
	verifier := f.tokens[fsm.RoleVerifier]
	value := func(name string) float64 {
		m := f.server.meter
		switch name, label, _ := strings.Cut(name, " "); name {
		case "admission":
			return testutil.ToFloat64(m.admissions[label])
		case "shed":
			return testutil.ToFloat64(m.shed[label])
		}
		return testutil.ToFloat64(m.answers[int(name[0]-'0')])
	}
	for _, step := range []struct {
		counts []string
		do     func()
	}{
		{[]string{"admission ok", "2"}, func() { f.do(ask{method: "POST", path: "/v1/admissions", token: verifier, body: req}) }},
		{[]string{"admission replay", "2"}, func() { f.do(ask{method: "POST", path: "/v1/admissions", token: verifier, body: req}) }},
		{[]string{"admission missing_headers"}, func() {
			f.do(ask{method: "POST", path: "/v1/admissions/batch", token: verifier, body: client.AdmissionBatch{Requests: []client.AdmissionRequest{{Method: "GET", Path: "/x"}}}})
		}},
		{[]string{"admission replay"}, func() {
			f.do(ask{method: "POST", path: "/v1/admissions/batch", token: verifier, body: client.AdmissionBatch{Requests: []client.AdmissionRequest{req}}})
		}},
		{[]string{"admission unavailable", "shed unavailable", "5"}, func() {
			f.node.admitErr = &client.Error{Code: client.CodeUnavailable}
			f.do(ask{method: "POST", path: "/v1/admissions", token: verifier, body: req})
		}},
		{[]string{"shed slots", "5"}, func() {
			f.fill(classPlain)
			f.do(ask{method: "GET", path: "/v1/agents", token: verifier})
			f.server.slots = newSlots()
		}},
		{[]string{"shed address_rate", "4"}, func() {
			for range guardBurst {
				f.server.guard.charge(parseAddress("198.51.100.1:1"))
			}
			f.do(ask{method: "GET", path: "/v1/agents", token: "x", from: "198.51.100.1:1"})
		}},
	} {
		before := map[string]float64{}
		for _, name := range step.counts {
			before[name] = value(name)
		}
		step.do()
		for _, name := range step.counts {
			if value(name) != before[name]+1 {
				t.Errorf("%v: %s moved by %v", step.counts, name, value(name)-before[name])
			}
		}
	}
	text := f.scrape()
	for _, line := range []string{`edgecoder_admissions_total{code="ok",node=""} 1`, `edgecoder_http_requests_in_flight{class="plain",node="",rank="work"} 1`,
		`edgecoder_guard_addresses{node=""} `, "process_resident_memory_bytes", "go_goroutines"} {
		if !strings.Contains(text, line) {
			t.Errorf("no %q in %s", line, text)
		}
	}
	if strings.Contains(text, "a-1") {
		t.Error("an agent id is in the metrics")
	}
}

// TestEveryVerdictIsCounted: a new code must not vanish.
func TestEveryVerdictIsCounted(t *testing.T) {
	m := newFixture(t).server.meter
	for _, code := range verdictCodes {
		if m.admissions[code] == nil {
			t.Errorf("%s is not counted", code)
		}
	}
	for _, e := range claimErrors {
		if m.admissions[e.Code] == nil {
			t.Errorf("%s is not counted", e.Code)
		}
	}
}
