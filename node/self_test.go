package node

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/api"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// P1 and W2 through real nodes: what an agent asks for itself is decided once for
// the whole cluster, and a key is changed from any node, by the newest key alone.
func TestP1W2AgentsAskForThemselvesAtAnyNode(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	a := c.enroll(0, "agent-1")
	ask := func(i int, r client.AdmissionRequest) fsm.ClaimResult {
		t.Helper()
		signed, err := crypto.ParseSignedRequest(r.Method, r.Path, func(name string) string { return r.Headers[strings.ToLower(name)] })
		if err != nil {
			t.Fatal(err)
		}
		out := c.nodes[i].Admit(t.Context(), []api.AdmitRequest{{Signed: signed, TokenID: fsm.SelfCaller, ClaimID: "self"}})
		if out[0].Err != nil {
			t.Fatalf("node %d: %v", i, out[0].Err)
		}
		return out[0].Result
	}
	r := a.request(t, "nonce-1")
	first := ask(0, r)
	if first.Code != fsm.CodeOK || first.Repeated {
		t.Fatalf("%+v", first)
	}
	for i := range c.nodes {
		if got := ask(i, r); got.Code != fsm.CodeOK || !got.Repeated || got.Index != first.Index {
			t.Errorf("an identical retry at node %d: %+v", i, got)
		}
		if got, err := c.client(i, c.token("verifier", -1)).Admit(t.Context(), r); err != nil || got.Code != client.VerdictReplay {
			t.Errorf("the same request for a service at node %d: %+v, %v", i, got, err)
		}
	}
	next, err := crypto.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rekey := func(i int, by crypto.PublicKey) fsm.Result {
		t.Helper()
		cmd, err := fsm.New(fsm.Actor{}, fsm.AgentRekey{AgentID: a.id, By: by.Fingerprint(), PublicKey: crypto.PublicOf(next), TimestampMs: c.nodes[i].clockMs()})
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.nodes[i].Propose(t.Context(), cmd)
		if err != nil {
			t.Fatalf("node %d: %v", i, err)
		}
		return res
	}
	if res := rekey(1, crypto.PublicOf(next)); res.Code != fsm.CodeConflict {
		t.Errorf("by a key of nobody: %+v", res)
	}
	for i := range c.nodes {
		if res := rekey(i, crypto.PublicOf(a.key)); !res.OK() || res.Repeated != (i > 0) {
			t.Errorf("node %d: %+v", i, res)
		}
	}
	renewed := agent{id: a.id, key: next}
	for i := range c.nodes {
		for what, r := range map[string]client.AdmissionRequest{"new": renewed.request(t, "new-"+c.cfgs[i].Name), "old": a.request(t, "old-"+c.cfgs[i].Name)} {
			if got := ask(i, r); got.Code != fsm.CodeOK {
				t.Errorf("node %d, %s key: %+v", i, what, got)
			}
		}
	}
}
