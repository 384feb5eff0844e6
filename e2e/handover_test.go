package e2e

import (
	"os"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// TestLeadershipHandedOver: `leader transfer` gets a definite answer from any
// node, also under traffic; and a rolling restart, in which each server in turn
// is the leader and gets SIGTERM, costs the clients of the others nothing but a
// moment: no admission of theirs is refused, unavailable or unknown.
func TestLeadershipHandedOver(t *testing.T) {
	m := up(t)
	pulses := m.pulses()
	for _, asked := range m.names() {
		before := m.leader()
		got, err := m.client(m.admin, 1, asked).TransferLeader(t.Context(), "")
		if err != nil || got.Name == "" || got.Name == before {
			t.Errorf("%s asked to move leadership away from %s: %+v, %v", asked, before, got, err)
		}
		m.leads(asked, got.Name)
		wanted := m.other(got.Name, asked)
		if got, err = m.client(m.admin, 1, asked).TransferLeader(t.Context(), wanted); err != nil || got.Name != wanted {
			t.Errorf("%s asked to have %s lead: %+v, %v", asked, wanted, got, err)
		}
		if got, err = m.client(m.admin, 1, asked).TransferLeader(t.Context(), wanted); err != nil || got.Name != wanted {
			t.Errorf("%s asked once more: %+v, %v", asked, got, err)
		}
		m.leads(asked, wanted)
	}
	if _, err := m.any(m.admin).TransferLeader(t.Context(), "nobody"); client.StatusOf(codeOf(err)) != 404 {
		t.Errorf("a transfer to nobody: %v", err)
	}
	turns := m.names()
	if os.Getenv("EDGECODER_FAILOVER") == "" {
		turns = turns[:1] // `make failover` takes the time for all
	}
	for _, name := range turns {
		if _, err := m.any(m.admin).TransferLeader(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		m.sigterm(pulses, name)
	}
}

// leads waits until the asked node says who leads.
func (m *mesh) leads(asked, want string) {
	m.t.Helper()
	m.eventually(asked+" sees "+want+" lead", func() bool {
		st, err := m.client(m.admin, 1, asked).Status(m.t.Context())
		return err == nil && st.Leader != nil && st.Leader.Name == want
	})
}

// other returns a node that is neither of two, or the second.
func (m *mesh) other(leader, asked string) string {
	for _, n := range m.names() {
		if n != leader && n != asked {
			return n
		}
	}
	return asked
}

// sigterm stops a leader gently and starts it again, and holds what the clients
// of the other nodes saw meanwhile.
func (m *mesh) sigterm(pulses []*pulse, leader string) {
	m.t.Helper()
	m.flows(pulses)
	at := time.Now()
	if err := m.cluster.Stop(m.t.Context(), leader, false); err != nil {
		m.t.Fatalf("stop %s: %v", leader, err)
	}
	took := time.Since(at)
	for _, p := range pulses {
		if p.node == leader {
			continue
		}
		m.eventually("traffic flows again at "+p.node, func() bool { return p.since(at.Add(took)) > 20 })
		if bad := p.failures(); len(bad) > 0 {
			m.t.Errorf("%s stopped; clients of %s saw %v", leader, p.node, bad)
		}
		m.t.Logf("SIGTERM to %s, which led and took %d ms to end: %d ms without an admission at %s", leader, took.Milliseconds(), p.longest().Milliseconds(), p.node)
		if gap := p.longest(); gap > maxGap {
			m.t.Errorf("no admission for %s at %s, at most %s", gap, p.node, maxGap)
		}
	}
	m.restart(leader)
}
