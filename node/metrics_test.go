package node

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/edgecoder/edgecoder/client"
)

func TestMetricsOfANode(t *testing.T) {
	c := newTrio(t, 1)
	a := c.enroll(0, "agent-1")
	verifier := c.token("verifier", -1)
	registry := prometheus.NewRegistry()
	registry.MustRegister(c.nodes[0].Collectors()...)
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	before := histogramCount(t, registry, "edgecoder_admission_batch_claims")
	if got, err := c.client(0, verifier).Admit(t.Context(), a.request(t, "nonce-1")); err != nil || got.Verdict != client.VerdictAdmitted {
		t.Fatalf("%+v, %v", got, err)
	}
	if after := histogramCount(t, registry, "edgecoder_admission_batch_claims"); after != before+1 {
		t.Errorf("batches went from %d to %d", before, after)
	}
	for _, name := range []string{"edgecoder_commit_duration_seconds", "edgecoder_apply_duration_seconds", "edgecoder_propose_duration_seconds"} {
		if histogramCount(t, registry, name) == 0 {
			t.Errorf("%s saw nothing", name)
		}
	}
	c.eventually("the leader looked at the keys", func() bool { return strings.Contains(gathered(t, registry), "edgecoder_keys{") })
	text := gathered(t, registry)
	for _, want := range []string{"edgecoder_leader 1", "edgecoder_leader_known 1", "edgecoder_ready 1", "edgecoder_diverged 0", "edgecoder_recovery_epoch 1",
		"edgecoder_leader_changes_total 1", `edgecoder_gossip_members{state="alive"} 1`, `edgecoder_state_rows{collection="nonces"} 1`,
		`edgecoder_queue_length_max{queue="admissions"} 16384`, `edgecoder_history_records{stream="blacklist"} 0`} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "agent-1") {
		t.Error("an agent id is in the metrics")
	}
	for name := range series {
		if strings.HasPrefix(name, "edgecoder_backup") || name == "edgecoder_snapshot_timestamp_seconds" || name == "edgecoder_peer_clock_offset_seconds" {
			continue // not on one node without a schedule
		}
		if !strings.Contains(text, "\n"+name) && !strings.HasPrefix(text, name) {
			t.Errorf("%s is announced and never told", name)
		}
	}
}

func histogramCount(t *testing.T, g prometheus.Gatherer, name string) uint64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

// gathered writes counters and gauges one a line, as `name{label="value"} value`.
func gathered(t *testing.T, g prometheus.Gatherer) string {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			name := f.GetName()
			if len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			fmt.Fprintf(&out, "%s %v\n", name, m.GetGauge().GetValue()+m.GetCounter().GetValue())
		}
	}
	return out.String()
}
