package cmd

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
)

var somePolicy = client.Policy{
	Version: 7, RateLimit: client.RateLimit{Requests: 30, WindowMs: 60_000}, MaxSkewMs: 120_000,
	Overrides:         map[string]client.RateLimit{"a": {Requests: 1, WindowMs: 1000}, "b=c": {Requests: 2, WindowMs: 2000}},
	SignatureProfiles: "any", AgentProfiles: map[string]string{"a": "any"},
}

func TestPolicyUpdate(t *testing.T) {
	for _, tt := range []struct{ words, want string }{
		{"rate_limit.requests=5", `{"rate_limit":{"requests":5,"window_ms":60000}}`},
		{"rate_limit.window_ms=5 rate_limit.requests=6", `{"rate_limit":{"requests":6,"window_ms":5}}`},
		{"max_skew_ms=9 auto_approve=true", `{"max_skew_ms":9,"auto_approve":true}`},
		{"auto_approve=false", `{"auto_approve":false}`},
		{"overrides.x=5/1000", `{"overrides":{"a":{"requests":1,"window_ms":1000},"b=c":{"requests":2,"window_ms":2000},"x":{"requests":5,"window_ms":1000}}}`},
		{"overrides.a=off overrides.b=c=off", `{"overrides":{}}`},
		{"signature_profiles=rfc9421", `{"signature_profiles":"rfc9421"}`},
		{"agent_profiles.b=c=rfc9421", `{"agent_profiles":{"a":"any","b=c":"rfc9421"}}`},
		{"agent_profiles.a=off signature_profiles=any", `{"signature_profiles":"any","agent_profiles":{}}`},
		{"unsigned_agents.phone=0011", `{"unsigned_agents":{"phone":"0011"}}`},
		{"unsigned_agents.phone=off", `{"unsigned_agents":{}}`},
		{"overrides.b=c=off", `{"overrides":{"a":{"requests":1,"window_ms":1000}}}`},
	} {
		change, err := parsePolicy(strings.Fields(tt.words))
		if err != nil {
			t.Errorf("%q: %v", tt.words, err)
			continue
		}
		var got, want client.PolicyUpdate
		got = change.update(somePolicy)
		if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, want %+v", tt.words, got, want)
		}
	}
	if len(somePolicy.Overrides) != 2 || len(somePolicy.AgentProfiles) != 1 {
		t.Error("the policy that was read was changed")
	}
}

func TestPolicyWordsRefused(t *testing.T) {
	for _, words := range []string{
		"x", "=1", "max_skew_ms=", "max_skew_ms=-1", "max_skew_ms=1.5", "max_skew_ms=0", "auto_approve=maybe", "rate_limit=1",
		"overrides.=1/1", "overrides.a=1", "overrides.a=1/0", "overrides.a=x/1", "max_skew_ms=1 max_skew_ms=2",
		"signature_profiles=", "signature_profiles=five-header", "signature_profiles=off", "agent_profiles.=any", "unsigned_agents.=x", "unsigned_agents.a=", "legacy_mesh_token=edgc_secret", "agent_profiles.a=yes", "agent_profiles=any",
	} {
		if _, err := parsePolicy(strings.Fields(words)); exitStatus(err) != exitUsage {
			t.Errorf("%q: %v", words, err)
		}
	}
}

func TestPolicySetReadsAgainAfterAConflict(t *testing.T) {
	for _, conflicts := range []int{0, 1, 2} {
		reads, writes := 0, 0
		f := newFakeAPI(t, map[string]reply{
			"GET /v1/policy": func(call) any { reads++; p := somePolicy; p.Version += uint64(reads); return p },
			"PUT /v1/policy": func(c call) any {
				if writes++; writes <= conflicts {
					return &client.Error{Code: client.CodeConflict, Detail: "another version"}
				}
				if got := strings.Trim(c.header.Get("If-Match"), `"`); got != number(7+reads) {
					t.Errorf("If-Match %s after %d reads", got, reads)
				}
				return somePolicy
			},
		})
		pointAt(t, f)
		r := runArgs(t, "", "policy", "set", "max_skew_ms=5000")
		want := exitDone
		if conflicts == 2 {
			want = exitRefused
		}
		if r.status != want {
			t.Errorf("%d conflicts: %+v", conflicts, r)
		}
	}
}

func TestTokenCreatePrintsTheSecretAlone(t *testing.T) {
	secret := testToken(t, "coordinator")
	f := newFakeAPI(t, map[string]reply{
		"POST /v1/tokens": always(client.Token{ID: "t1", Token: secret, Role: "coordinator", UsesLeft: 1, ExpiresMs: testNowMs + 1000, JoinCommand: "EDGECODER_JOIN_TOKEN=x edgecoder server --join g"}),
	})
	pointAt(t, f)
	r := runArgs(t, "", "token", "create", "--role", "coordinator", "--ttl", "2d", "--uses", "3")
	wantStatus(t, r, exitDone)
	if r.out != secret+"\n" || !strings.Contains(r.err, "EDGECODER_JOIN_TOKEN=x edgecoder server --join g") {
		t.Errorf("%+v", r)
	}
	var req client.TokenRequest
	if err := json.Unmarshal([]byte(f.asked("POST /v1/tokens")[0].body), &req); err != nil || req.TTLMs != 48*3_600_000 || req.Uses != 3 {
		t.Errorf("%v, %+v", err, req)
	}
}
