package e2e

import (
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// agentOrders: the agent names its next key by an order that the current one signs. The
// leader is killed when the order was sent, the one after it before the key begins.
func (r *rotations) agentOrders() {
	t, m, subject := r.t, r.m, "agent/"+r.old.id
	t.Helper()
	key, err := crypto.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r.young = agent{r.old.id, key}
	now := time.Now()
	begin := now.Add(agentLead)
	order := client.SignRotation(m.cluster.Record().ClusterID, subject, r.old.key, key, begin.UnixMilli(), now.UnixMilli())
	victim, sent := m.leader(), make(chan error, 1)
	go func() {
		_, err := m.any("").RotateKey(t.Context(), subject, order)
		sent <- err
	}()
	m.kill(victim)
	if err := <-sent; err != nil {
		t.Logf("the order is sent once more, as its agent does: %v", err)
		m.eventually("the order is taken", func() bool {
			_, err := m.any("").RotateKey(t.Context(), subject, order)
			return err == nil
		})
	}
	m.restart(victim)
	r.refusedEverywhere(r.young, "before it begins")
	r.load.flows("beside the next key")
	r.waitUntil(begin.Add(-time.Second))
	if state := r.stateOf(subject, keyID(r.young)); state != client.KeyNext {
		t.Fatalf("the next key is %s already: this machine took %s for one restart", state, time.Since(now))
	}
	victim = m.leader()
	m.kill(victim)
	r.waitUntil(begin)
	m.eventually("the next key is active", func() bool { return r.stateOf(subject, keyID(r.young)) == client.KeyActive })
	r.load.use(r.young)
	m.restart(victim)
	r.load.flows("with the new key")
	for _, name := range m.names() { // in the overlap
		if got := r.verdict(name, r.old); got.Verdict != client.VerdictAdmitted {
			t.Errorf("%s refuses the retiring key in its overlap: %+v", name, got)
		}
	}
}

// waitUntil waits for a time that windows of keys are about.
func (r *rotations) waitUntil(at time.Time) {
	r.t.Helper()
	r.m.eventually("it is "+at.Format(time.TimeOnly), func() bool { return time.Now().After(at) })
}

// agentOldKeyEnds waits for the end of the overlap: from then on nobody takes the old key.
func (r *rotations) agentOldKeyEnds() {
	r.t.Helper()
	r.m.eventually("the agent's old key is over", func() bool { return r.stateOf("agent/"+r.old.id, keyID(r.old)) == client.KeyRetired })
	r.refusedEverywhere(r.old, "after its end")
}

// agentRevoked: from the answer on no node takes the key.
func (r *rotations) agentRevoked() {
	r.t.Helper()
	_, err := r.admin.RevokeKey(r.t.Context(), "agent/"+r.old.id, client.RevokeKeyRequest{KeyID: keyID(r.young), Reason: "the test is over"})
	if err != nil {
		r.t.Fatal(err)
	}
	r.refusedEverywhere(r.young, "that was revoked")
}

func (r *rotations) stateOf(subject, keyID string) string {
	k, err := r.admin.Keys(r.t.Context(), subject)
	if i := slices.IndexFunc(k.Keys, func(k client.Key) bool { return k.KeyID == keyID }); err == nil && i >= 0 {
		return k.Keys[i].State
	}
	return ""
}

// refusedEverywhere: a request that is signed with a key outside of its window.
func (r *rotations) refusedEverywhere(a agent, when string) {
	r.t.Helper()
	for _, name := range r.m.names() {
		if got := r.verdict(name, a); got.Code != client.VerdictKeyExpired {
			r.t.Errorf("%s, of a request with key %s %s: %+v", name, keyID(a), when, got)
		}
	}
}

// verdict is what a node says of a request that was signed just now.
func (r *rotations) verdict(name string, a agent) (got client.Admission) {
	r.t.Helper()
	request, cl := a.request(r.t, "probe-"+client.NewClaimID()), r.m.client(r.m.verifier, 1, name)
	r.m.eventually(name+" decides", func() (decided bool) {
		var err error
		got, err = cl.Admit(r.t.Context(), request)
		return err == nil
	})
	return got
}

// rotated is a coordinator whose signing key was rotated: its ids, and both keys.
type rotated struct {
	name, subject string
	before, after client.Key
}

// coordinatorAsked has the leader rotate its own signing key and kills it in the middle:
// when it was asked, or when its next key is announced and it does not sign with it yet.
// It comes back and goes on with the one next key.
func (r *rotations) coordinatorAsked(announced bool) rotated {
	t, m := r.t, r.m
	t.Helper()
	var leads client.Peer
	m.eventually("a leader that was not rotated yet", func() bool {
		peers, err := r.admin.Peers(t.Context())
		name := m.leader()
		i := slices.IndexFunc(peers.Peers, func(p client.Peer) bool { return p.Name == name })
		if err != nil || i < 0 {
			return false
		}
		leads = peers.Peers[i]
		k, err := r.admin.Keys(t.Context(), "coordinator/"+leads.ID)
		if err == nil && len(k.Keys) > 1 {
			_, err = r.admin.TransferLeader(t.Context(), "")
		}
		return err == nil && len(k.Keys) == 1
	})
	out := rotated{name: leads.Name, subject: "coordinator/" + leads.ID}
	asked, err := r.admin.RotateKey(t.Context(), out.subject, client.RotateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	out.before = asked.Keys.Keys[0]
	if announced {
		m.eventually(out.name+" announces its next key", func() bool { return r.nextOf(&out) })
	}
	m.kill(out.name)
	known := out.after
	m.restart(out.name)
	m.eventually(out.name+" goes on with its next key", func() bool { return r.nextOf(&out) })
	if announced && out.after.KeyID != known.KeyID {
		t.Errorf("%s announced %s and goes on with %s", out.name, known.KeyID, out.after.KeyID)
	}
	m.eventually(out.name+" signs with it", func() bool {
		who, err := m.client("", 1, out.name).Identity(t.Context())
		return err == nil && who.PeerID == out.after.PeerID
	})
	r.load.flows("after the rotation of " + out.name)
	return out
}

// nextOf finds the key that came after a coordinator's first one.
func (r *rotations) nextOf(c *rotated) bool {
	k, err := r.admin.Keys(r.t.Context(), c.subject)
	if err != nil || len(k.Keys) < 2 {
		return false
	}
	if len(k.Keys) > 2 || k.Keys[0].KeyID != c.before.KeyID {
		r.t.Fatalf("%s made more than one next key: %+v", c.name, k.Keys)
	}
	c.after = k.Keys[1]
	return true
}

// signs has a coordinator lead, whose new key signs what is banned then.
func (r *rotations) signs(c rotated) {
	r.t.Helper()
	r.lead(c.name)
	r.m.eventually("a ban while "+c.name+" leads", func() bool {
		_, err := r.admin.Ban(r.t.Context(), banOf(fmt.Sprintf("outlaw-of-%s-%s", c.name, client.NewClaimID())))
		return err == nil
	})
}

// lead has a server lead.
func (r *rotations) lead(name string) {
	r.t.Helper()
	r.m.eventually(name+" leads", func() bool {
		_, err := r.admin.TransferLeader(r.t.Context(), name)
		return err == nil && r.m.leader() == name
	})
}
