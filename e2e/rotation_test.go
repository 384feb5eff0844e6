package e2e

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

const (
	// rotationOverlap of every key: above the least that a schedule takes, twice
	// fsm.KeySettleMs, and long enough for a leader to be killed in it.
	rotationOverlap = 15 * time.Second
	// rotationSkew is the window of signed requests, which an agent's overlap is never
	// shorter than.
	rotationSkew = 15 * time.Second
	// agentLead is how far ahead an agent orders its next key: time to kill a leader, to
	// start it again, and to kill the next one before that key begins.
	agentLead = 30 * time.Second
)

// TestP5RotationUnderKills rotates an agent's key, those of coordinators, the gossip
// key and the CA of real servers, while clients sign at all nodes and bans are made,
// and kills the leader in the middle of each: no request is refused for it, no key
// verifies outside its window, every server ends on the new keys, the one that was away
// too, clients of before go on through the overlap, those that follow their CA file
// beyond it, and the chain verifies from genesis with the keys that the API serves.
func TestP5RotationUnderKills(t *testing.T) {
	if os.Getenv("EDGECODER_ROTATION") == "" {
		t.Skip("takes two minutes, most of it waiting for windows to begin and to end (TestP5Rotation… in node does the same in one process): set EDGECODER_ROTATION=1, or run `make rotation`")
	}
	r := beginRotations(t)
	r.agentOrders()
	first := r.coordinatorAsked(false)
	second := r.coordinatorAsked(true)
	r.agentOldKeyEnds()
	r.shared("gossip", false)
	r.shared("ca", true)
	r.sharedEnded("gossip")
	r.oldCAEnded()
	r.signs(first)
	r.signs(second)
	r.end()
	r.agentRevoked()
	r.judgeChain(first, second)
	r.judgeKeyFiles()
	r.m.agree()
}

// rotations is one run: a cluster under load, and what its keys were before.
type rotations struct {
	t     *testing.T
	m     *mesh
	admin *client.Client
	load  *signing
	old   agent             // as the rotated agent was enrolled
	young agent             // with its next key
	first map[string]string // key id that was active before, by subject
	oldCA []byte            // CA file of before
}

func beginRotations(t *testing.T) *rotations {
	m := up(t)
	r := &rotations{t: t, m: m, admin: m.any(m.admin), first: map[string]string{}}
	skew := rotationSkew.Milliseconds()
	p, err := r.admin.Policy(t.Context())
	if err == nil {
		_, err = r.admin.SetPolicy(t.Context(), p.Version, client.PolicyUpdate{MaxSkewMs: &skew})
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"gossip", "ca"} {
		m.eventually("the key of "+subject+" is on record", func() bool {
			k, err := r.admin.Keys(t.Context(), subject)
			r.first[subject] = k.KeyID
			return err == nil && k.KeyID != ""
		})
	}
	for _, subject := range []string{"agent", "coordinator", "gossip", "ca"} {
		r.onlyWhenAsked(subject)
	}
	if r.oldCA, err = os.ReadFile(m.cluster.Record().CAFile); err != nil {
		t.Fatal(err)
	}
	r.old = m.agent("rotor")
	r.load = m.sign(r.old)
	r.load.flows("before any rotation")
	return r
}

// onlyWhenAsked has the keys of a kind rotated on demand, with a short overlap.
func (r *rotations) onlyWhenAsked(kind string) {
	r.t.Helper()
	overlap, none := rotationOverlap.Milliseconds(), int64(0)
	now, err := r.admin.KeySchedule(r.t.Context(), kind)
	if err == nil {
		_, err = r.admin.SetKeySchedule(r.t.Context(), kind, now.Version, client.KeyScheduleUpdate{PeriodMs: &none, OverlapMs: &overlap, LeadMs: &none})
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// shared rotates what all servers share and kills the leader that was asked, which comes
// back in the overlap, or beyond it, when nobody takes what it holds any more.
func (r *rotations) shared(subject string, beyond bool) {
	r.t.Helper()
	m, before := r.m, r.first[subject]
	if beyond {
		r.lead(m.names()[1]) // the CA file that clients follow is that of the first
	}
	victim := m.leader()
	if _, err := r.admin.RotateKey(r.t.Context(), subject, client.RotateRequest{}); err != nil {
		r.t.Fatal(err)
	}
	m.kill(victim)
	m.eventually(subject+" is switched to by the next leader", func() bool { return m.active(subject, before, victim) })
	if subject == "ca" && !m.answers(r.t, r.oldCA) {
		r.t.Error("a client of before the rotation is not answered in the overlap")
	}
	if beyond {
		r.sharedEnded(subject)
	}
	m.restart(victim)
	m.eventually("the one that was away goes by it too", func() bool { return m.active(subject, before, "") })
	r.load.flows("after the rotation of " + subject)
}

func (r *rotations) sharedEnded(subject string) {
	r.t.Helper()
	r.m.eventually("the old key of "+subject+" is over", func() bool {
		k, err := r.admin.Keys(r.t.Context(), subject)
		return err == nil && slices.ContainsFunc(k.Keys, func(k client.Key) bool { return k.KeyID == r.first[subject] && k.State == client.KeyRetired })
	})
}

// oldCAEnded: nobody shows a certificate of the old CA any more, clients that began
// with it and follow their file go on, and all servers gossip.
func (r *rotations) oldCAEnded() {
	r.t.Helper()
	m := r.m
	m.eventually("the CA file holds the new CA alone", func() bool {
		cas, err := r.admin.CAs(r.t.Context())
		text, readErr := os.ReadFile(m.cluster.Record().CAFile)
		return err == nil && readErr == nil && len(cas.CAs) == 1 && string(text) == cas.Bundle()
	})
	m.eventually("servers show certificates of the new CA alone", func() bool { return !m.answers(r.t, r.oldCA) })
	r.load.flows("after the old CA")
	m.eventually("all servers gossip", func() bool {
		for _, name := range m.names() {
			list, err := m.client(m.admin, 1, name).Members(r.t.Context())
			if err != nil || len(list.Members) != 3 || slices.ContainsFunc(list.Members, func(member client.Member) bool { return member.State != "alive" }) {
				return false
			}
		}
		return true
	})
}

// end stops the load, which has failed the test if anything was refused.
func (r *rotations) end() {
	r.t.Helper()
	r.load.end()
	for _, a := range []agent{r.old, r.young} {
		if r.load.byKey[keyID(a)] == 0 {
			r.t.Errorf("no request was signed with key %s: the test proves nothing of it", keyID(a))
		}
	}
	if r.load.banned == 0 {
		r.t.Error("no ban was made: the test proves nothing of the chain")
	}
	r.t.Logf("admitted by key %v, %d bans, %d requests without an answer in %s (a node was down)", r.load.byKey, r.load.banned, r.load.undecided, signingPatience)
}

// active tells whether all nodes but one say that another key than before is active;
// judgeKeyFiles looks at what they hold.
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
