package client

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

// step is a step that tells a ring.
func step(index uint64, action, keyID, by string, ring ...KeyWindow) KeyStep {
	return KeyStep{Seq: index, Index: index, Action: action, Actor: EventActor{TokenID: action}, Fields: map[string]string{"key_id": keyID, "by": by}, Changed: ring != nil, Ring: ring}
}

func TestPastKeys(t *testing.T) {
	join := KeyStep{Index: 1, Action: "coordinator_join", Actor: EventActor{TokenID: "t"}, Fields: map[string]string{"name": "n"}}
	a, b := KeyWindow{KeyID: "a", UntilMs: 9}, KeyWindow{KeyID: "b", NotBeforeMs: 5}
	revoked := a
	revoked.RevokedAt = 4
	for name, tt := range map[string]struct {
		steps []KeyStep
		now   []Key
		want  []PastKey
	}{
		"nothing happened": {[]KeyStep{join}, []Key{{KeyID: "a", PublicKey: "PEM"}},
			[]PastKey{{KeyWindow: KeyWindow{KeyID: "a"}, PublicKey: "PEM", How: "coordinator_join", Actor: join.Actor, Index: 1, Steps: []uint64{1}}}},
		"from before the records": {nil, []Key{{KeyID: "b", NotBeforeMs: 5, Index: 3, Predecessor: "a"}},
			[]PastKey{{KeyWindow: b, Index: 3, Predecessor: "a"}}},
		"rotated": {[]KeyStep{join, step(2, "key_prepare", "b", "a", a, b)}, nil,
			[]PastKey{{KeyWindow: a, How: "coordinator_join", Actor: join.Actor, Index: 1, Steps: []uint64{1, 2}},
				{KeyWindow: b, How: "key_prepare", Actor: EventActor{TokenID: "key_prepare"}, Predecessor: "a", Index: 2, Steps: []uint64{2}}}},
		"the first change is a revocation": {[]KeyStep{join, step(4, "key_revoke", "a", "", revoked)}, nil,
			[]PastKey{{KeyWindow: revoked, How: "coordinator_join", Actor: join.Actor, Index: 1, RevokedBy: EventActor{TokenID: "key_revoke"}, Steps: []uint64{1, 4}}}},
		"forgotten": {[]KeyStep{join, step(2, "key_prepare", "b", "a", a, b), step(6, "key_windows", "", "", b)}, nil,
			[]PastKey{{KeyWindow: a, How: "coordinator_join", Actor: join.Actor, Index: 1, GoneAt: 6, Steps: []uint64{1, 2, 6}},
				{KeyWindow: b, How: "key_prepare", Actor: EventActor{TokenID: "key_prepare"}, Predecessor: "a", Index: 2, Steps: []uint64{2}}}},
		"the owner is gone, and its key is revoked after that": {[]KeyStep{
			step(1, "agent_enroll", "a", ""), step(3, "agent_revoked", "", ""), step(4, "key_revoke", "a", "", revoked)}, nil,
			[]PastKey{{KeyWindow: revoked, How: "agent_enroll", Actor: EventActor{TokenID: "agent_enroll"}, Index: 1, RevokedBy: EventActor{TokenID: "key_revoke"}, GoneAt: 3, Steps: []uint64{1, 3, 4}}}},
	} {
		got := PastKeys(tt.steps, tt.now)
		is, _ := json.Marshal(got)
		want, _ := json.Marshal(tt.want)
		if !slices.Equal(is, want) {
			t.Errorf("%s:\n%s, want\n%s", name, is, want)
		}
	}
}

// TestKeyPastNeedsOneHistory: pages of before and after a restore make no history.
func TestKeyPastNeedsOneHistory(t *testing.T) {
	for name, second := range map[string]KeyHistory{"another epoch": {Epoch: 2}, "a page that leads nowhere": {Epoch: 1, Next: 5}} {
		calls := 0
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			page := KeyHistory{Epoch: 1, Next: 5}
			if calls++; r.URL.Query().Get("from") == "5" {
				page = second
			}
			_ = json.NewEncoder(w).Encode(page)
		}))
		c, err := New(Config{Addrs: []string{srv.URL}, Token: "t", Attempts: 1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.KeyPast(t.Context(), "ca"); err == nil || err.(*Error).Code != CodeConflict || calls != 2 {
			t.Errorf("%s: %v after %d calls", name, err, calls)
		}
		srv.Close()
	}
}
