package node

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// copyOf returns the state as another replica has it.
func (l *loneState) copyOf() *fsm.State {
	l.t.Helper()
	var live bytes.Buffer
	if err := l.machine.Freeze().Write(&live); err != nil {
		l.t.Fatal(err)
	}
	s, _, err := fsm.ReadSnapshot(&live)
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// TestRecoveryRisk: the tokens that are in force again are listed, and what a
// newer copy that is left aside knows of them.
func TestRecoveryRisk(t *testing.T) {
	t.Parallel()
	l := newLoneState(t)
	admin := fsm.Actor{TokenID: "admin"}
	for id, role := range map[string]fsm.Role{"stolen": fsm.RoleAdmin, "op": fsm.RoleOperator, "verify": fsm.RoleVerifier, "join": fsm.RoleCoordinator} {
		l.apply(admin, fsm.TokenCreate{ID: id, Role: role, Uses: -1, Label: "of " + id})
	}
	chosen := &candidate{SurvivingCopy: SurvivingCopy{NodeID: "n0", LastIndex: l.index}, state: l.copyOf()}
	l.apply(admin, fsm.TokenRevoke{ID: "stolen"})
	newer := &candidate{SurvivingCopy: SurvivingCopy{NodeID: "n1", Name: "newer", LastIndex: l.index}, state: l.copyOf()}
	risk := riskOf(chosen, []*candidate{newer, chosen, {SurvivingCopy: SurvivingCopy{LastIndex: l.index + 1}}})
	var ids []string
	for _, k := range risk.Tokens {
		ids = append(ids, k.ID)
	}
	if strings.Join(ids, " ") != "admin op stolen" || risk.OtherTokens != 1 {
		t.Errorf("%v and %d others", ids, risk.OtherTokens)
	}
	if len(risk.Known) != 1 || risk.Known[0].Name != "newer" || strings.Join(risk.Known[0].TokensRevoked, " ") != "stolen" {
		t.Errorf("%+v", risk.Known)
	}
	if back := riskOf(newer, []*candidate{newer, chosen}); len(back.Tokens) != 2 || len(back.Known) != 0 {
		t.Errorf("%+v", back)
	}
}

// recoverRevokesTokens: killed between its steps and asked again, the next start
// shows the one token that stays, and no other opens anything.
func (c *lostTrio) recoverRevokesTokens(t *testing.T) {
	o := c.options(2)
	o.LoseAcknowledged, o.RevokeTokens = true, true
	for _, at := range []string{"history written", "snapshot stands"} {
		stopped := o
		stopped.step = func(name string) error {
			if name == at {
				return errKilled
			}
			return nil
		}
		r := open(t, stopped)
		if risk := r.Plan().Risk; risk == nil || len(risk.Tokens) == 0 {
			t.Fatalf("%+v", risk)
		}
		if _, err := r.Execute(); !errors.Is(err, errKilled) {
			t.Fatalf("it was to be cut off: %v", err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	done := execute(t, o)
	if !done.Finished || done.AdminToken == "" {
		t.Fatalf("%+v", done)
	}
	c.start(2)
	text := c.nodes[2].FirstAdminToken()
	if !strings.Contains(text, done.AdminToken) {
		t.Fatal("the start does not show the new token")
	}
	c.eventually("it leads alone", func() bool { return c.nodes[2].Ready() == nil })
	for _, old := range []string{c.admin, c.verifier} {
		if _, err := c.client(2, old).Status(t.Context()); code(err) != client.CodeUnauthorized {
			t.Errorf("an old token: %v", err)
		}
	}
	if _, err := c.client(2, text).CreateToken(t.Context(), client.TokenRequest{Role: "operator"}); err != nil {
		t.Error(err)
	}
}

// TestPlanNamesTheKeysItBrings: who restores an older state is told whose keys
// change with it, and to which.
func TestPlanNamesTheKeysItBrings(t *testing.T) {
	l := newLoneState(t)
	admin := fsm.Actor{TokenID: "admin"}
	l.apply(admin, fsm.TokenCreate{ID: "enrol", Role: fsm.RoleAgent, Uses: -1})
	for _, id := range []string{"a", "b", "c"} {
		l.apply(fsm.Actor{TokenID: "enrol"}, fsm.AgentEnroll{AgentID: id, PublicKey: agentKey(t, id)})
		l.apply(admin, fsm.AgentSetState{AgentID: id, State: fsm.AgentActive})
	}
	backup := l.copyOf()
	old, next := agentKey(t, "a"), agentKey(t, "n")
	l.apply(fsm.Actor{}, fsm.AgentRekey{AgentID: "a", By: old.Fingerprint(), PublicKey: next, TimestampMs: standingStart + int64(l.index)})
	l.apply(admin, fsm.AgentSetState{AgentID: "b", State: fsm.AgentSuspended})
	present := l.copyOf()
	u := fsm.Compare(backup, present)
	var got []client.AgentChange
	for _, a := range u.AgentsOther {
		got = append(got, changeOf(backup, a))
	}
	want := []client.AgentChange{
		{AgentID: "a", State: "active", Then: "active", NewKeys: true, KeyID: next.KeyID(), ThenKeyID: old.KeyID()},
		{AgentID: "b", State: "suspended", Then: "active"},
	}
	if !slices.Equal(got, want) || rekeyed(backup, u.AgentsOther) != 1 {
		t.Errorf("%+v, %d with other keys", got, rekeyed(backup, u.AgentsOther))
	}
}
