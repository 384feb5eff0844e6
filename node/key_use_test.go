package node

import (
	"crypto/rand"
	"slices"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// TestUsesOfARetiringKeyAreKnownEverywhere: who signed with it at any node is told by
// each node, one that does not answer is named, and one that ends soon is an alarm.
func TestUsesOfARetiringKeyAreKnownEverywhere(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	c.eventually("key schedules", func() bool { level, _ := c.nodes[0].clusterLevel(); return level >= fsm.LevelKeys })
	verifier := c.token("verifier", -1)
	old := c.enroll(0, "agent-1")
	young := agent{id: old.id, key: newTestKey(t)}
	order := client.SignRotation(c.nodes[0].id.ClusterID, "agent/agent-1", old.key, young.key, 0, time.Now().UnixMilli())
	changed, err := c.client(1, "").RotateKey(t.Context(), "agent/agent-1", order)
	if err != nil {
		t.Fatal(err)
	}
	uses := func(at int) client.Keys {
		k, err := c.client(at, c.admin).Keys(t.Context(), "agent/agent-1", client.MinIndex(changed.Index))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	if k := uses(2); len(k.Uses) != 0 || len(k.Unreachable) != 0 {
		t.Fatalf("uses before there are any: %+v", k)
	}
	for i := range c.nodes {
		for _, a := range []agent{old, young} {
			if got, err := c.client(i, verifier).Admit(t.Context(), a.request(t, rand.Text())); err != nil || got.Verdict != client.VerdictAdmitted {
				t.Fatalf("at node %d: %+v, %v", i, got, err)
			}
		}
	}
	for i := range c.nodes {
		var at []string
		for _, u := range uses(i).Uses {
			if u.KeyID != crypto.PublicOf(old.key).KeyID() || u.By == "" || u.Count == 0 || u.LastMs == 0 {
				t.Errorf("node %d tells %+v", i, u)
			}
			at = append(at, u.Node)
		}
		for _, n := range c.nodes {
			if !slices.Contains(at, n.id.NodeID) {
				t.Errorf("node %d does not know what %s saw: %v", i, n.cfg.Name, at)
			}
		}
	}
	gone := c.nodes[2].id.NodeID
	_ = c.nodes[2].shutdown()
	c.nodes[2] = nil
	if k := uses(0); len(k.Unreachable) != 1 || k.Unreachable[0].Node != gone || len(k.Uses) != 2 {
		t.Errorf("with one node away: %+v", k)
	}
}

// TestRetiringKeyThatIsStillUsedIsAnAlarm: once a key, in the second half of its
// overlap and at most a day ahead of its end.
func TestRetiringKeyThatIsStillUsedIsAnAlarm(t *testing.T) {
	const hour = 3_600_000
	for name, tt := range map[string]struct {
		begin, until, now int64
		want              bool
	}{
		"no end":                       {0, 0, 5 * hour, false},
		"the first half":               {0, 4 * hour, 2*hour - 1, false},
		"the second half":              {0, 4 * hour, 2 * hour, true},
		"more than a day ahead":        {0, 100 * hour, 76*hour - 1, false},
		"a day ahead":                  {0, 100 * hour, 76 * hour, true},
		"a successor that begins late": {98 * hour, 100 * hour, 98 * hour, false},
	} {
		if got := endsSoon(fsm.Key{NotAfterMs: tt.until}, fsm.Key{NotBeforeMs: tt.begin}, tt.now); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	u := &keyUses{}
	for i := range 3 * maxKeyUses {
		key := crypto.Sum([]byte{byte(i), byte(i >> 8)})
		if !u.warn(key) || u.warn(key) {
			t.Fatalf("key %d is not warned about once", i)
		}
		if len(u.warned) > maxKeyUses {
			t.Fatalf("%d keys are remembered", len(u.warned))
		}
	}
}

// TestAlarmAboutAKeyInUse: the node that sees the request writes it down.
func TestAlarmAboutAKeyInUse(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	n := c.nodes[0]
	key := crypto.PublicOf(newTestKey(t))
	ring := fsm.Ring{{Public: key, NotAfterMs: 10_000}, {Public: crypto.PublicOf(newTestKey(t)), NotBeforeMs: 1}}
	n.warnOfUse(ring, ring[1], keyUser{subject: "agent/agent-1", by: "t1", key: key.Fingerprint()}, 9_000)
	c.wantEvent(0, "key_retiring_used", "WARN", "subject", "agent/agent-1", "key_id", key.KeyID(), "by", "t1", "until_ms", "10000")
}

// TestToldUsesAreBounded: what another node tells is not taken on trust.
func TestToldUsesAreBounded(t *testing.T) {
	good := toldUse{KeyID: "0011223344556677", By: "t1"}
	for name, reply := range map[string]keyUsesReply{
		"too many":   {Uses: slices.Repeat([]toldUse{good}, maxToldUses+1)},
		"no key":     {Uses: []toldUse{{By: "t1"}}},
		"a bad user": {Uses: []toldUse{{KeyID: "0011223344556677", By: "a\nb"}}},
	} {
		if reply.fault() == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if err := (keyUsesReply{Uses: []toldUse{good, {KeyID: good.KeyID}}}).fault(); err != nil {
		t.Error(err)
	}
}
