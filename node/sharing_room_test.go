package node

import (
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// TestFullRingKeepsNoStolenKey: a key that all share is revoked also when its
// successor has no room: the oldest key in its overlap makes it.
func TestFullRingKeepsNoStolenKey(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 1)
	c.eventually("the key is on record", func() bool { return !c.activeKey(gossipSubject).IsZero() })
	ring := func() (r fsm.Ring) {
		c.nodes[0].machine.Read(func(s *fsm.State) { r, _ = s.KeyRing(gossipSubject) })
		return r
	}
	for len(ring()) < fsm.MaxRingKeys {
		before := c.activeKey(gossipSubject)
		if res := c.asAdmin(fsm.KeyRotate{Subject: gossipSubject.String()}); !res.OK() {
			t.Fatalf("%+v", res)
		}
		c.eventually("the next key is active", func() bool { k := c.activeKey(gossipSubject); return !k.IsZero() && k != before })
	}
	stolen, oldest := crypto.PublicKey(c.activeKey(gossipSubject)), ring()[0].Public
	if res := c.asAdmin(fsm.KeyRevoke{Subject: gossipSubject.String(), Key: stolen.Fingerprint(), Reason: "stolen"}); !res.OK() {
		t.Fatalf("%+v", res)
	}
	for _, k := range ring() {
		if gone := k.Public == stolen || k.Public == oldest; gone != (k.RevokedAt != 0) {
			t.Errorf("the key %s was revoked at %d", k.Public.KeyID(), k.RevokedAt)
		}
	}
}
