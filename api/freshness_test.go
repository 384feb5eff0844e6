package api

import (
	"fmt"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// TestRevokedTokenReadsNothingNewer: a replica that lags lets a token in that was
// revoked since, and answers from nothing that reflects the revocation.
func TestRevokedTokenReadsNothingNewer(t *testing.T) {
	for _, how := range []string{"?level=strong", "?min_index=%d"} {
		f := newFixture(t)
		text := f.makeToken(fsm.RoleViewer, -1)
		f.node.held = true
		f.node.mustApply(f.actor(), fsm.TokenRevoke{ID: must(crypto.ParseTokenText(text)).ID})
		if rec := f.do(ask{method: "GET", path: "/v1/policy", token: text}); rec.Code != 200 {
			t.Errorf("a read as of before: %d", rec.Code)
		}
		if how != "?level=strong" {
			how = fmt.Sprintf(how, f.node.index)
		}
		rec := f.do(ask{method: "GET", path: "/v1/policy" + how, token: text})
		wantProblem(t, rec, client.CodeUnauthorized, "")
	}
}
