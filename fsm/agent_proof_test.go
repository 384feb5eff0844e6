package fsm

import (
	"bytes"
	"strings"
	"testing"
)

// TestEnrolmentOfAnotherEncryptionKey: whoever saw an enrolment and was faster
// with another encryption key, or without the proof, is noticed by the agent.
func TestEnrolmentOfAnotherEncryptionKey(t *testing.T) {
	own := AgentEnroll{AgentID: "a", PublicKey: publicKey("a"), EncryptionKey: bytes.Repeat([]byte{9}, 32), EncryptionProof: bytes.Repeat([]byte{8}, 64)}
	for name, first := range map[string]AgentEnroll{
		"another key": {AgentID: "a", PublicKey: publicKey("a"), EncryptionKey: bytes.Repeat([]byte{1}, 32)},
		"no key":      {AgentID: "a", PublicKey: publicKey("a")},
		"no proof":    {AgentID: "a", PublicKey: publicKey("a"), EncryptionKey: own.EncryptionKey},
	} {
		w := genesisWorld(t)
		w.s.meta.v.Level = LevelClients
		w.must(w.do(enroller, first))
		if res := w.want(w.do(enroller, own), CodeConflict); res.Field != "encryption_key" || !strings.Contains(res.Detail, "another encryption key") {
			t.Errorf("%s: %+v", name, res)
		}
		if again := w.must(w.do(enroller, first)); !again.Repeated {
			t.Errorf("%s: the same again is %+v", name, again)
		}
	}
	w := genesisWorld(t)
	w.must(w.do(enroller, own))
	if a, _ := w.s.Agent("a"); !bytes.Equal(a.EncryptionProof, own.EncryptionProof) || w.s.NeedsLevel() != LevelClients {
		t.Errorf("%+v", a)
	}
	restored(t, snapshotOf(t, w.s, w.history))
	for _, proof := range [][]byte{{1}, bytes.Repeat([]byte{1}, 65)} {
		bad := own
		bad.AgentID, bad.PublicKey, bad.EncryptionProof = "b", publicKey("b"), proof
		w.want(w.do(enroller, bad), CodeInvalid)
	}
	w.want(w.do(enroller, AgentEnroll{AgentID: "b", PublicKey: publicKey("b"), EncryptionProof: own.EncryptionProof}), CodeInvalid)
	for proof, want := range map[string]uint32{"": 0, "x": LevelClients} {
		cmd, err := New(enroller, AgentEnroll{AgentID: "a", EncryptionProof: []byte(proof)})
		if err != nil || LevelOf(cmd) != want {
			t.Errorf("a proof %q needs level %d, want %d; %v", proof, LevelOf(cmd), want, err)
		}
	}
}
