package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// TestKeyAlarmsAreBounded: of many agents that do not rotate some have an alarm of
// their own and one counts all of them, each once a day.
func TestKeyAlarmsAreBounded(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	n := c.nodes[0]
	w := &keyWatch{active: map[fsm.Subject]string{}, alarms: map[string]time.Time{}}
	walk := func(agents int) {
		w.own = 0
		w.forgetOld()
		var got count
		for i := range agents {
			st := fsm.KeyStanding{Subject: fsm.AgentSubject(fmt.Sprintf("agent-%05d", i)), Pending: -1, DueMs: 1, AskMs: 1,
				Ring: fsm.Ring{{Public: crypto.PublicKey(crypto.Sum(fmt.Append(nil, i)))}}}
			n.lookAt(w, st, 2, &got)
		}
		n.alarmAgents(w, got)
	}
	for range 3 {
		walk(3 * maxAgentAlarms)
	}
	if len(w.alarms) != maxAgentAlarms+1 {
		t.Errorf("%d alarms", len(w.alarms))
	}
	c.wantEvent(0, "key_expired", audit.LevelCritical, "subject", "agent", "expired", fmt.Sprint(3*maxAgentAlarms))
	for alarm := range w.alarms {
		w.alarms[alarm] = time.Now().Add(-keyAlarmAgain)
	}
	walk(1)
	if len(w.alarms) != 1 {
		t.Errorf("a day later, with one agent: %d alarms", len(w.alarms))
	}
}

// TestKeyUsesAreBounded: who used a key lately is remembered, however many others
// did before.
func TestKeyUsesAreBounded(t *testing.T) {
	u := &keyUses{}
	who := func(i int) keyUser { return keyUser{subject: fmt.Sprint("agent/", i)} }
	for i := range 10 * maxKeyUses {
		u.note(who(i), int64(i))
		u.note(who(0), int64(i))
		if len(u.young)+len(u.old) > maxKeyUses {
			t.Fatalf("%d users are remembered", len(u.young)+len(u.old))
		}
	}
	if got := u.of("agent/0"); len(got) != 1 || got[0].Count != 10*maxKeyUses+1 || got[0].LastMs != 10*maxKeyUses-1 {
		t.Errorf("%+v", got)
	}
	last := 10*maxKeyUses - 1
	if len(u.of(who(last).subject)) != 1 || len(u.of(who(1).subject)) != 0 {
		t.Error("the last one is forgotten, or the first one not")
	}
}
