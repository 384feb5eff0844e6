package api

import (
	"net/http"
	"testing"

	"github.com/edgecoder/edgecoder/client"
)

func TestEnforcementIsWaitedFor(t *testing.T) {
	f := newFixture(t)
	f.letStreamsLast()
	looks := 0
	f.node.enforced = func(size uint64) client.Enforcement {
		looks++
		out := client.Enforcement{Epoch: 1, Size: size, Members: []client.Enforcing{}}
		if size == 0 {
			out.Size = 9
		}
		for range 3 {
			out.Count(client.Enforcing{Role: "coordinator", Enforces: true})
		}
		for i := range 4 {
			out.Count(client.Enforcing{Role: "edge", Enforces: i < looks})
		}
		return out
	}
	ask := func(query string) client.Enforcement {
		t.Helper()
		looks = 0
		return decodeReply[client.Enforcement](t, f.admin("GET", "/v1/blacklist/enforcement"+query, nil), http.StatusOK)
	}
	if out := ask(""); looks != 1 || out.Size != 9 || out.EnforcedBy.Edges != 1 || out.Meets(client.EnforcedQuorum) {
		t.Errorf("%d looks, %+v", looks, out)
	}
	if out := ask("?size=5&need=quorum&wait_ms=5000"); looks != 3 || out.Size != 5 || !out.Meets(client.EnforcedQuorum) || out.Meets(client.EnforcedAll) {
		t.Errorf("%d looks, %+v", looks, out)
	}
	if out := ask("?size=5&need=all&wait_ms=5000"); looks != 4 || !out.Meets(client.EnforcedAll) {
		t.Errorf("%d looks, %+v", looks, out)
	}
	if ask("?need=all"); looks != 1 {
		t.Errorf("%d looks without a time to wait", looks)
	}
	for query, field := range map[string]string{"?size=x": "size", "?need=most": "need", "?need=all&wait_ms=5001": "wait_ms"} {
		wantProblem(t, f.admin("GET", "/v1/blacklist/enforcement"+query, nil), client.CodeInvalid, field)
	}
}
