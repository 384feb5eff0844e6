package e2e

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// TestP5RotationUnderKills rotates the gossip key and the CA of real servers under
// load and kills the leader in the middle of each: no request is refused for it,
// every server ends on the new keys, the one that was away too, clients of before
// go on through the overlap, and those that follow their CA file beyond it.
func TestP5RotationUnderKills(t *testing.T) {
	if os.Getenv("EDGECODER_ROTATION") == "" {
		t.Skip("takes half a minute, most of it waiting for overlaps to end (TestP5Rotation… in node does the same in one process): set EDGECODER_ROTATION=1, or run `make rotation`")
	}
	m := up(t)
	admin := m.any(m.admin)
	ctx := t.Context()
	before := map[string]string{}
	m.eventually("the keys are on record", func() bool {
		for _, subject := range []string{"gossip", "ca"} {
			k, err := admin.Keys(ctx, subject)
			if err != nil || k.KeyID == "" {
				return false
			}
			before[subject] = k.KeyID
		}
		return true
	})
	oldCA, err := os.ReadFile(m.cluster.Record().CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pulses := m.pulses()
	m.flows(pulses)
	overlap, none := (15 * time.Second).Milliseconds(), int64(0)
	for _, subject := range []string{"gossip", "ca"} {
		now, err := admin.KeySchedule(ctx, subject)
		if err == nil {
			_, err = admin.SetKeySchedule(ctx, subject, now.Version, client.KeyScheduleUpdate{PeriodMs: &none, OverlapMs: &overlap, LeadMs: &none})
		}
		if err != nil {
			t.Fatal(err)
		}
		victim := m.leader()
		if _, err := admin.RotateKey(ctx, subject, client.RotateRequest{}); err != nil {
			t.Fatal(err)
		}
		m.kill(victim)
		m.eventually(subject+" is switched to by the next leader", func() bool { return m.active(subject, before[subject], victim) })
		if subject == "ca" {
			if !m.answers(t, oldCA) {
				t.Error("a client of before the rotation is not answered in the overlap")
			}
		}
		m.restart(victim)
		m.eventually("the one that was away goes by it too", func() bool { return m.active(subject, before[subject], "") })
	}
	for _, subject := range []string{"gossip", "ca"} {
		m.eventually("the old key of "+subject+" is over", func() bool {
			k, err := admin.Keys(ctx, subject)
			return err == nil && slices.ContainsFunc(k.Keys, func(k client.Key) bool { return k.KeyID == before[subject] && k.State == client.KeyRetired })
		})
	}
	m.eventually("the CA file holds the new CA alone", func() bool {
		cas, err := admin.CAs(ctx)
		text, readErr := os.ReadFile(m.cluster.Record().CAFile)
		return err == nil && readErr == nil && len(cas.CAs) == 1 && string(text) == cas.Bundle()
	})
	m.eventually("servers show certificates of the new CA alone", func() bool { return !m.answers(t, oldCA) })
	m.flows(pulses) // clients that began with the old CA, and no other verdict than admitted ever
	m.eventually("all servers gossip", func() bool {
		for _, name := range m.names() {
			list, err := m.client(m.admin, 1, name).Members(ctx)
			if err != nil || len(list.Members) != 3 || slices.ContainsFunc(list.Members, func(member client.Member) bool { return member.State != "alive" }) {
				return false
			}
		}
		return true
	})
	m.agree()
}

// active tells whether all nodes but one say that another key than before is active,
// and that all nodes that are up hold it.
func (m *mesh) active(subject, before, but string) bool {
	for _, name := range m.names() {
		if name == but {
			continue
		}
		k, err := m.client(m.admin, 1, name).Keys(m.t.Context(), subject)
		if err != nil || k.KeyID == "" || k.KeyID == before {
			return false
		}
	}
	return true
}

// answers tells whether a server answers a client that trusts just these CAs.
func (m *mesh) answers(t *testing.T, ca []byte) bool {
	t.Helper()
	var addrs []string
	for _, n := range m.cluster.Record().Nodes {
		addrs = append(addrs, n.API)
	}
	c, err := client.New(client.Config{Addrs: addrs, CAPEM: ca, Token: m.admin, Attempts: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Policy(t.Context())
	return err == nil
}
