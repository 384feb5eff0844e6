package node

import (
	"testing"

	"github.com/edgecoder/edgecoder/fsm"
)

// TestNoNodeForwardsSharedKeys: the leader makes them, and decides when they begin.
func TestNoNodeForwardsSharedKeys(t *testing.T) {
	for name, tc := range map[string]struct {
		body any
		want bool
	}{
		"the next CA":           {fsm.KeyPrepare{Subject: "ca"}, true},
		"the next gossip key":   {fsm.KeyPrepare{Subject: "gossip"}, true},
		"a switch":              {fsm.KeySwitch{Subject: "gossip"}, true},
		"its own next key":      {fsm.KeyPrepare{Subject: "coordinator/n1"}, false},
		"its word for a key":    {fsm.KeyReady{Subject: "gossip"}, false},
		"an agent's next key":   {fsm.KeyPrepare{Subject: "agent/a"}, false},
		"an admin's revocation": {fsm.KeyRevoke{Subject: "ca"}, false},
	} {
		cmd, err := fsm.New(fsm.Actor{NodeID: "n1"}, tc.body)
		if err != nil {
			t.Fatal(err)
		}
		if got := preparesShared(cmd); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
		if tc.want && (&Node{}).mayPropose("n1", cmd) == nil {
			t.Errorf("%s is taken from a follower", name)
		}
	}
	cmd, err := fsm.New(fsm.Actor{NodeID: "n1"}, fsm.KeyPrepare{})
	if err != nil {
		t.Fatal(err)
	}
	if cmd.Body = []byte{0xff}; !preparesShared(cmd) {
		t.Error("what nobody can read is taken")
	}
}
