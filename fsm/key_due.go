package fsm

// AgentsToAsk lists the agents, in no order, whose keys may be due: all once a
// schedule asks agents for anything, until then those that somebody asked for. With
// AgentDue it walks them in parts: 100,000 at once would hold up Apply.
func (s *State) AgentsToAsk() (ids []string) {
	if s.asksAgents() {
		ids = make([]string, 0, len(s.agents.m))
		for id := range s.agents.m {
			ids = append(ids, id)
		}
		return ids
	}
	for text := range s.keyRequests.m {
		if of, err := ParseSubject(text); err == nil && of.Kind == SubjectAgent {
			ids = append(ids, of.ID)
		}
	}
	return ids
}

// AgentDue returns how the keys of an agent stand, if it is active and they are due
// or late.
func (s *State) AgentDue(id string, nowMs int64) (st KeyStanding, due bool) {
	if a, ok := s.agents.get(id); !ok || a.State != AgentActive {
		return st, false
	}
	st, _ = s.KeyStanding(AgentSubject(id), nowMs)
	return st, st.Due(nowMs) || st.Overdue(nowMs) || st.Expired(nowMs)
}
