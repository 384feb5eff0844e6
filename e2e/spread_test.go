package e2e

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

const (
	// spreadBans is how many bans are measured one after the other.
	spreadBans = 40
	// spreadLook is between two looks at who enforces: what the figures are good to.
	spreadLook = 5 * time.Millisecond
	// spreadIdle is for how long a pool is measured that has nothing to tell.
	spreadIdle = time.Minute
)

// TestSpreadReal measures, in three coordinators and EDGECODER_SPREAD_REAL edges, each a process of its own on loopback, how long a ban takes to be enforced by
// every edge, and what all of them say when there is no news: `make spread-real`.
func TestSpreadReal(t *testing.T) {
	edges, err := strconv.Atoi(os.Getenv("EDGECODER_SPREAD_REAL"))
	if err != nil || edges < 1 {
		t.Skip("thirty processes for three minutes, more than CI has: set EDGECODER_SPREAD_REAL=27, or run `make spread-real`")
	}
	m := up(t)
	all := m.startEdges(t, edges)
	t.Logf("%d coordinators, %d edges, load average %s", len(m.names()), edges, loadAverage())
	m.logIdle(t, edges)
	cl := m.client(m.admin, 20, m.leader())
	var enforced, acknowledged []time.Duration
	for i := range spreadBans {
		agent := fmt.Sprintf("bad-%d", i)
		took, ack := m.banAndWatch(t, cl, agent, edges)
		enforced, acknowledged = append(enforced, took...), append(acknowledged, ack)
		for _, e := range all {
			if code := e.code(agent); code != client.AllowedBlacklisted {
				t.Errorf("an edge that enforces the ban of %s says %q", agent, code)
			}
		}
	}
	t.Logf("%d edges, %d bans, from the request on: acknowledged %s; the leader knows that an edge enforces it %s; load average %s", edges, spreadBans,
		quantiles(acknowledged), quantiles(enforced), loadAverage())
}

// startEdges starts edges, a few at a time, and waits until the coordinators see each of them enforce the whole list.
func (m *mesh) startEdges(t *testing.T, n int) (all []*edgeProcess) {
	t.Helper()
	for i := range n {
		e := m.edge(t, fmt.Sprintf("edge%d", i))
		all = append(all, e)
		e.start("EDGECODER_JOIN_TOKEN=" + m.token("edge"))
		m.eventually("the edge lets agents through", func() bool { return e.code("good") == client.AllowedOK })
	}
	m.eventually("the coordinators see every edge", func() bool {
		got, err := m.any(m.admin).Enforcement(t.Context(), 0, "", 0)
		return err == nil && got.Edges == n && got.Meets(client.EnforcedAll)
	})
	return all
}

// banAndWatch bans an agent and returns when the leader heard of each edge that it enforces it, and when the ban was acknowledged, both since the request was sent.
func (m *mesh) banAndWatch(t *testing.T, cl *client.Client, agent string, edges int) (enforced []time.Duration, acknowledged time.Duration) {
	t.Helper()
	ban := client.BanRequest{AgentID: agent, ReasonCode: crypto.ReasonManualReview, Reason: "a test", EvidenceSHA256: crypto.Sum(nil).String(), ReporterID: "tester"}
	start := time.Now()
	change, err := cl.Ban(t.Context(), ban)
	if err != nil {
		t.Fatal(err)
	}
	acknowledged = time.Since(start)
	seen := map[string]bool{}
	for deadline := start.Add(30 * time.Second); len(seen) < edges; time.Sleep(spreadLook) {
		got, err := cl.Enforcement(t.Context(), change.Size, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Since(start)
		for _, row := range got.Members {
			if row.Role == "edge" && row.Enforces && !seen[row.ID] {
				seen[row.ID] = true
				enforced = append(enforced, at)
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("after 30 s %d of %d edges enforce the ban of %s", len(seen), edges, agent)
		}
	}
	return enforced, acknowledged
}

// logIdle tells what crosses loopback in a minute without news: everything, raft and headers too, and everybody else's on this machine, unless the test has a
// network namespace of its own.
func (m *mesh) logIdle(t *testing.T, edges int) {
	t.Helper()
	before, known := loopbackBytes()
	if !known {
		t.Log("idle: this system does not tell what crosses loopback")
		return
	}
	processors := m.serverSeconds()
	time.Sleep(spreadIdle)
	after, _ := loopbackBytes()
	t.Logf("idle: %.0f bytes a member and second on loopback, headers and raft included; coordinators %.1f %% of a processor each",
		float64(after-before)/spreadIdle.Seconds()/float64(edges+len(m.names())), 100*(m.serverSeconds()-processors)/spreadIdle.Seconds()/float64(len(m.names())))
}

func (m *mesh) serverSeconds() float64 { servers, _ := m.processors(); return servers }

// loopbackBytes is what the loopback interface of this network namespace has carried, where the system tells.
func loopbackBytes() (n uint64, known bool) {
	text, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if name, counts, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "lo" {
			n, err := strconv.ParseUint(strings.Fields(counts)[0], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

func quantiles(of []time.Duration) string {
	slices.Sort(of)
	at := func(q float64) time.Duration { return of[int(q*float64(len(of)-1))].Round(time.Millisecond) }
	return fmt.Sprintf("p50 %v p99 %v max %v", at(0.5), at(0.99), at(1))
}
