package api

import (
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

func TestRecoverClock(t *testing.T) {
	f := newFixture(t)
	before := decodeReply[client.Clocks](t, f.admin("GET", "/v1/recover/clock", nil), 200)
	if before.Epoch != 1 || before.ClockMs != testClock || len(before.Voters) != 2 {
		t.Errorf("clocks: %+v", before)
	}
	wantProblem(t, f.admin("POST", "/v1/recover/clock", nil), client.CodeConflict, "")
	f.node.nowMs -= 3_600_000
	got := decodeReply[client.ClockRecovered](t, f.withKey("POST", "/v1/recover/clock", "k", client.ClockRecovery{Reason: "it ran ahead"}), 200)
	if got.Epoch != 2 || got.ClockMs != f.node.nowMs || got.AdmissionsFromMs <= got.ClockMs || got.Index == 0 || got.Repeated {
		t.Errorf("recovered: %+v", got)
	}
	again := decodeReply[client.ClockRecovered](t, f.withKey("POST", "/v1/recover/clock", "k", client.ClockRecovery{Reason: "it ran ahead"}), 200)
	if !again.Repeated || again.Index != got.Index || again.Epoch != 2 {
		t.Errorf("again: %+v", again)
	}
	wantProblem(t, f.withKey("POST", "/v1/recover/clock", "k", client.ClockRecovery{Reason: "another"}), client.CodeConflict, "")
	for body, code := range map[string]string{
		`{"reason":1}`: client.CodeInvalid, `{"reasons":"x"}`: client.CodeInvalid, `[`: client.CodeInvalid,
	} {
		if rec := f.admin("POST", "/v1/recover/clock", body); rec.Code != client.StatusOf(code) {
			t.Errorf("%s: %d %s", body, rec.Code, rec.Body)
		}
	}
	f.node.nowMs -= 3_600_000
	long := client.ClockRecovery{Reason: strings.Repeat("x", fsm.MaxReasonBytes+1)}
	wantProblem(t, f.admin("POST", "/v1/recover/clock", long), client.CodeTooLarge, "reason")
}
