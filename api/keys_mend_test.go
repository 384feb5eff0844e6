package api

import (
	"crypto/rand"
	"net/url"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// TestP5RevokedKeySpeaksOnNoMesh: nor is it shown as the agent's; one that retires
// speaks until its overlap ends.
func TestP5RevokedKeySpeaksOnNoMesh(t *testing.T) {
	f, a := keyFixture(t)
	says := func(key crypto.PrivateKey, status int, text string) {
		t.Helper()
		wantIngest(t, f.ingest(f.gossip(key, a.id, "capability_announce", f.node.nowMs, 60_000, `{}`)), status, text)
	}
	shown := func() client.Agent {
		return decodeReply[client.Agent](t, f.admin("GET", "/v1/agents/"+url.PathEscape(a.id), nil), 200)
	}
	next := &agent{id: a.id, key: must(crypto.GenerateKey(rand.Reader))}
	f.node.mustApply(f.actor(), fsm.KeyScheduleSet{Subject: "agent", Schedule: fsm.Schedule{OverlapMs: fsm.MinOverlapMs}})
	decodeReply[client.KeysChanged](t, f.do(ask{method: "POST", path: a.path("/rotate"), body: a.rotation(f, next.key, 0)}), 200)
	says(a.key, 200, "")
	says(next.key, 200, "")
	f.passes(2*fsm.DefaultSkewMs + 1)
	says(a.key, 400, "invalid_signature")
	if got := shown(); got.KeyID != crypto.PublicOf(next.key).KeyID() || got.KeyState != "" {
		t.Errorf("%+v", got)
	}
	f.node.mustApply(f.actor(), fsm.KeyRevoke{Subject: "agent/" + a.id, Key: crypto.PublicOf(next.key).Fingerprint(), Reason: "stolen"})
	says(next.key, 400, "invalid_signature")
	if got := shown(); got.KeyID != "" || got.PublicKey != "" || got.KeyState != client.KeyRevoked {
		t.Errorf("after the revocation it is shown as %+v", got)
	}
}

// TestP8CapturedOrderReadsNothing: an order is answered for ever, so that who gave
// it learns that it was heard; what the keys are then is for who shows a token.
func TestP8CapturedOrderReadsNothing(t *testing.T) {
	f, a := keyFixture(t)
	req := a.rotation(f, must(crypto.GenerateKey(rand.Reader)), 0)
	replay := func(token string) client.KeysChanged {
		return decodeReply[client.KeysChanged](t, f.do(ask{method: "POST", path: a.path("/rotate"), token: token, body: req}), 200)
	}
	replay("")
	if again := replay(""); !again.Repeated || len(again.Keys.Keys) != 2 {
		t.Errorf("its owner asks again at once: %+v", again)
	}
	f.passes(fsm.DefaultSkewMs + 1)
	if again := replay(""); !again.Repeated || len(again.Keys.Keys) != 0 || again.KeyID != "" {
		t.Errorf("out of the window a stranger reads %+v", again)
	}
	if again := replay(f.tokens[fsm.RoleOperator]); len(again.Keys.Keys) != 2 {
		t.Errorf("an operator reads %+v", again)
	}
}

// TestScheduleUpdateAtAFollower: a member that is absent stays as it is in the
// version that the caller read, though this replica is behind.
func TestScheduleUpdateAtAFollower(t *testing.T) {
	f, _ := keyFixture(t)
	const hour = int64(3_600_000)
	f.node.mustApply(f.actor(), fsm.KeyScheduleSet{Subject: "gossip", Schedule: fsm.Schedule{PeriodMs: 720 * hour, OverlapMs: hour, LeadMs: hour}})
	f.node.held = true
	f.node.mustApply(f.actor(), fsm.KeyScheduleSet{Subject: "gossip", IfVersion: 1, Schedule: fsm.Schedule{PeriodMs: 720 * hour, OverlapMs: 48 * hour, LeadMs: hour}})
	got := decodeReply[client.KeyScheduleSet](t, f.do(ask{method: "PUT", path: "/v1/keys/gossip/schedule", token: f.tokens[fsm.RoleAdmin],
		header: map[string]string{"If-Match": "2"}, body: `{"period_ms":5184000000}`}), 200)
	if got.OverlapMs != 48*hour || got.Version != 3 {
		t.Errorf("%+v", got)
	}
}
