package cmd

import (
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
)

// TestWaitForEnforcement: the change is printed whatever comes of the wait, and the exit status tells.
func TestWaitForEnforcement(t *testing.T) {
	lag := client.Enforcement{Epoch: 1, Size: 7, Coordinators: 3, Edges: 2, EnforcedBy: client.EnforcedBy{Coordinators: 2, Edges: 1},
		Members: []client.Enforcing{{Name: "e-slow", Role: "edge", State: "alive", ChainSize: 6}}}
	done := client.Enforcement{Epoch: 1, Size: 7, Coordinators: 3, Edges: 2, EnforcedBy: client.EnforcedBy{Coordinators: 3, Edges: 2}, Members: []client.Enforcing{}}
	asked := 0
	f := newFakeAPI(t, map[string]reply{
		"POST /v1/blacklist":            always(client.BlacklistChange{EventID: "e-1", Size: 7}),
		"DELETE /v1/blacklist/agents/a": always(client.BlacklistChange{EventID: "e-2", Size: 7}),
		"GET /v1/blacklist/enforcement": func(call) any {
			if asked++; asked > 2 {
				return done
			}
			return lag
		},
	})
	pointAt(t, f)
	r := runArgs(t, "", "blacklist", "add", "a", "--reason", "x", "--wait", "all")
	if r.status != exitDone || asked != 3 || !strings.Contains(r.out, "banned") || !strings.Contains(r.err, "2 of 3 coordinators and 1 of 2 edges") || !strings.Contains(r.err, "2 of 2 edges") {
		t.Errorf("%d questions, %+v", asked, r)
	}
	asked = 0
	if r := runArgs(t, "", "blacklist", "lift", "a", "--reason", "x", "--wait", "quorum", "--format", "json"); r.status != exitDone || !strings.Contains(r.out, `"enforcement"`) || asked != 3 {
		t.Errorf("%d questions, %+v", asked, r)
	}
	asked = -1 << 30
	r = runArgs(t, "", "--timeout", "1s", "blacklist", "add", "a", "--reason", "x", "--wait", "all")
	if r.status != exitUnknown || !strings.Contains(r.out, "e-slow") || !strings.Contains(r.out, "banned") || !strings.Contains(r.err, "it is done, but not enforced as asked") {
		t.Errorf("%+v", r)
	}
	before := f.count()
	if r := runArgs(t, "", "blacklist", "add", "a", "--reason", "x", "--wait", "some"); r.status != exitUsage || f.count() != before {
		t.Errorf("%+v", r)
	}
}
