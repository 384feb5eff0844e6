package node

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// The leader watches the keys of all subjects. It makes nobody's key and keeps
// nothing that a change of leader could lose: what is due, asked for, active or
// over is a function of the state and its clock. It says what happens.

const (
	// keyWatchTime is how often it looks: alarms are about hours.
	keyWatchTime = 2 * time.Second
	// agentWatchTime is how often it walks the agents, 100,000 at the most, and only
	// while a schedule asks them for anything.
	agentWatchTime = time.Minute
	// keyAlarmAgain is after how long an alarm that still holds is raised again.
	keyAlarmAgain = 24 * time.Hour
	// agentWalk is how many of them it reads at once: Apply waits for some
	// milliseconds, not for a second.
	agentWalk = 500
	// maxAgentAlarms bounds the agents that have an alarm of their own. Of more there is
	// one that counts them: a schedule that agents do not know of is one fault.
	maxAgentAlarms = 100
	// maxKeyAlarms bounds the alarms that a leader remembers, for a day each: those of
	// all subjects but agents, and of some thousand agents. Further ones are counted.
	maxKeyAlarms = 10_000
)

// keyWatch is what a leader remembers while it leads; its loop owns it.
type keyWatch struct {
	active map[fsm.Subject]string    // key id that was active when it last looked; agents apart
	alarms map[string]time.Time      // when an alarm was last raised, by what and about whom
	own    int                       // alarms of single agents in this walk
	agents time.Time                 // when the agents were last walked
	counts map[fsm.SubjectKind]count // of the last look
}

// count is how the keys of a kind stand.
type count struct{ due, overdue, expired int }

// watchKeys follows the keys for one term.
func (n *Node) watchKeys(ctx context.Context, l *leadership) {
	w := &keyWatch{active: map[fsm.Subject]string{}, alarms: map[string]time.Time{}}
	for pause(ctx, keyWatchTime) {
		select {
		case <-l.ready:
			n.lookAtKeys(w)
		default:
		}
	}
}

// lookAtKeys is one look at all keys.
func (n *Node) lookAtKeys(w *keyWatch) {
	var standings []fsm.KeyStanding
	var clock int64
	walkAgents := time.Since(w.agents) >= agentWatchTime
	n.machine.Read(func(s *fsm.State) {
		if s.Meta().Level < fsm.LevelKeys {
			return
		}
		clock = s.ClockMs()
		standings = clusterKeys(s, clock)
	})
	if walkAgents && clock > 0 {
		w.agents, w.own = time.Now(), 0
		w.forgetOld()
		standings = append(standings, n.agentsDue(clock)...)
	}
	counts := map[fsm.SubjectKind]count{fsm.SubjectAgent: w.counts[fsm.SubjectAgent]}
	if walkAgents {
		delete(counts, fsm.SubjectAgent)
	}
	for _, st := range standings {
		c := counts[st.Subject.Kind]
		n.lookAt(w, st, clock, &c)
		counts[st.Subject.Kind] = c
	}
	if walkAgents {
		n.alarmAgents(w, counts[fsm.SubjectAgent])
	}
	w.counts = counts
	n.meter.keys.Store(&counts)
}

// agentsDue reads how the keys of agents stand that are due, in the order of ids.
func (n *Node) agentsDue(clock int64) (out []fsm.KeyStanding) {
	var ids []string
	n.machine.Read(func(s *fsm.State) { ids = s.AgentsToAsk() })
	slices.Sort(ids)
	for some := range slices.Chunk(ids, agentWalk) {
		n.machine.Read(func(s *fsm.State) {
			for _, id := range some {
				if st, due := s.AgentDue(id, clock); due {
					out = append(out, st)
				}
			}
		})
	}
	return out
}

func (n *Node) lookAt(w *keyWatch, st fsm.KeyStanding, clock int64, c *count) {
	if st.Subject.Kind != fsm.SubjectAgent {
		n.tellSwitch(w, st)
	}
	if st.Due(clock) {
		c.due++
	}
	switch {
	case st.Expired(clock):
		c.expired++
		n.alarmKey(w, "key_expired", audit.LevelCritical, st)
	case st.Overdue(clock):
		c.overdue++
		n.alarmKey(w, "key_rotation_overdue", audit.LevelWarn, st)
	}
}

// tellSwitch notes that another key is active than when this leader last looked.
// What was active when it began to lead is where it begins.
func (n *Node) tellSwitch(w *keyWatch, st fsm.KeyStanding) {
	now := ""
	if st.Active >= 0 {
		now = st.Ring[st.Active].Public.KeyID()
	}
	was, known := w.active[st.Subject]
	w.active[st.Subject] = now
	if known && was != now && now != "" {
		n.note("key_rotation", audit.LevelInfo, "ok", map[string]string{"subject": st.Subject.String(), "step": "active", "key_id": now, "before": was})
	}
}

// alarmKey raises an alarm about a subject's keys, and again after a day.
func (n *Node) alarmKey(w *keyWatch, typ, level string, st fsm.KeyStanding) {
	if st.Subject.Kind == fsm.SubjectAgent {
		if w.own++; w.own > maxAgentAlarms {
			return // alarmAgents counts it
		}
	}
	if !w.raise(typ + " " + st.Subject.String()) {
		return
	}
	details := map[string]string{"subject": st.Subject.String(), "due_ms": strconv.FormatInt(st.DueMs, 10)}
	if st.Active >= 0 {
		details["key_id"] = st.Ring[st.Active].Public.KeyID()
	}
	if st.Asked != nil {
		details["asked_ms"] = strconv.FormatInt(st.Asked.AtMs, 10)
	}
	n.log.Warn("a key waits for its successor", "event", typ, "subject", st.Subject.String(), "due_ms", st.DueMs)
	n.note(typ, level, typ, details)
}

// alarmAgents raises one alarm about all agents, if a walk found more than have one
// of their own.
func (n *Node) alarmAgents(w *keyWatch, c count) {
	typ, level := "key_rotation_overdue", audit.LevelWarn
	if c.expired > 0 {
		typ, level = "key_expired", audit.LevelCritical
	}
	if w.own <= maxAgentAlarms || !w.raise(typ+" "+string(fsm.SubjectAgent)) {
		return
	}
	n.log.Warn("keys of many agents wait for their successors", "event", typ, "overdue", c.overdue, "expired", c.expired)
	n.note(typ, level, typ, map[string]string{"subject": string(fsm.SubjectAgent), "overdue": strconv.Itoa(c.overdue), "expired": strconv.Itoa(c.expired)})
}

// raise tells whether an alarm is to be raised now: for the first time, or again
// after a day.
func (w *keyWatch) raise(alarm string) bool {
	if at, raised := w.alarms[alarm]; raised && time.Since(at) < keyAlarmAgain || !raised && len(w.alarms) >= maxKeyAlarms {
		return false
	}
	w.alarms[alarm] = time.Now()
	return true
}

// forgetOld drops what would be raised again anyway.
func (w *keyWatch) forgetOld() {
	maps.DeleteFunc(w.alarms, func(_ string, at time.Time) bool { return time.Since(at) >= keyAlarmAgain })
}

// measureKeys tells the leader's last look.
func (n *Node) measureKeys(put sample) {
	put("edgecoder_retiring_key_requests_total", float64(n.keyUses.total()))
	counts := n.meter.keys.Load()
	if counts == nil || n.lead.Load() == nil {
		return
	}
	for kind, c := range *counts {
		put("edgecoder_keys", float64(c.due), string(kind), "due")
		put("edgecoder_keys", float64(c.overdue), string(kind), "overdue")
		put("edgecoder_keys", float64(c.expired), string(kind), "expired")
	}
}

// keyAlarms lists the subjects but agents whose keys somebody should look at, as
// this replica has them.
func keyAlarms(s *fsm.State) (out []client.KeyAlarm) {
	if s.Meta().Level < fsm.LevelKeys {
		return nil
	}
	clock := s.ClockMs()
	for _, st := range clusterKeys(s, clock) {
		switch {
		case st.Expired(clock):
			out = append(out, client.KeyAlarm{Subject: st.Subject.String(), State: "expired", DueMs: st.DueMs})
		case st.Overdue(clock):
			out = append(out, client.KeyAlarm{Subject: st.Subject.String(), State: "overdue", DueMs: st.DueMs})
		}
	}
	return out
}

// clusterKeys returns how the keys of all subjects but agents stand: some hundred
// at the most.
func clusterKeys(s *fsm.State, clock int64) (out []fsm.KeyStanding) {
	for _, kind := range fsm.SubjectKinds() {
		if kind == fsm.SubjectAgent {
			continue
		}
		for _, of := range s.KeySubjects(kind, "", max(fsm.MaxCoordinators, fsm.MaxManifestSigners)) {
			if st, ok := s.KeyStanding(of, clock); ok {
				out = append(out, st)
			}
		}
	}
	return out
}
