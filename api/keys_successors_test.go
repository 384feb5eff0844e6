package api

import (
	"crypto/rand"
	"slices"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// TestP5RevocationSaysWhatItLeaves: a successor in use is named in the answer, and ends
// when the admin asks again with all of them.
func TestP5RevocationSaysWhatItLeaves(t *testing.T) {
	f, a := keyFixture(t)
	next := &agent{id: a.id, key: must(crypto.GenerateKey(rand.Reader))}
	f.node.mustApply(f.actor(), fsm.KeyScheduleSet{Subject: "agent", Schedule: fsm.Schedule{OverlapMs: fsm.MinOverlapMs}})
	decodeReply[client.KeysChanged](t, f.do(ask{method: "POST", path: a.path("/rotate"), body: a.rotation(f, next.key, 0)}), 200)
	name := []string{"agent/" + a.id + " " + crypto.PublicOf(next.key).KeyID()}
	req := client.RevokeKeyRequest{KeyID: crypto.PublicOf(a.key).KeyID(), Reason: "stolen"}
	got := decodeReply[client.KeysChanged](t, f.admin("POST", a.path("/revoke"), req), 200)
	if got.Ended == nil || !slices.Equal(got.Ended.Left, name) || f.verdict(next) != "ok" {
		t.Errorf("%+v", got)
	}
	req.WithSuccessors = true
	got = decodeReply[client.KeysChanged](t, f.admin("POST", a.path("/revoke"), req), 200)
	if got.Ended == nil || !slices.Equal(got.Ended.Keys, name) || len(got.Ended.Left) > 0 || f.verdict(next) != client.VerdictKeyExpired {
		t.Errorf("%+v", got)
	}
}
