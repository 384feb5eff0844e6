package node

import (
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// TestFullRingKeepsNoStolenKey: the active CA or gossip key is revoked also when its
// successor has no room: the oldest key in its overlap makes it.
func TestFullRingKeepsNoStolenKey(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 1)
	c.eventually("the keys are on record", func() bool { return !c.activeKey(gossipSubject).IsZero() && !c.activeKey(caSubject).IsZero() })
	ring := func(of fsm.Subject) (r fsm.Ring) {
		c.nodes[0].machine.Read(func(s *fsm.State) { r, _ = s.KeyRing(of) })
		return r
	}
	for _, of := range []fsm.Subject{gossipSubject, caSubject} {
		for len(ring(of)) < fsm.MaxRingKeys {
			before := c.activeKey(of)
			if res := c.asAdmin(fsm.KeyRotate{Subject: of.String()}); !res.OK() {
				t.Fatalf("%s: %+v", of, res)
			}
			c.eventually("the next key is active", func() bool { k := c.activeKey(of); return !k.IsZero() && k != before })
		}
		stolen, oldest := crypto.PublicKey(c.activeKey(of)), ring(of)[0].Public
		if res := c.asAdmin(fsm.KeyRevoke{Subject: of.String(), Key: stolen.Fingerprint(), Reason: "stolen"}); !res.OK() {
			t.Fatalf("%s: %+v", of, res)
		}
		for _, k := range ring(of) {
			if gone := k.Public == stolen || k.Public == oldest; gone != (k.RevokedAt != 0) {
				t.Errorf("%s: the key %s was revoked at %d", of, k.Public.KeyID(), k.RevokedAt)
			}
		}
	}
}
