package fsm

import "slices"

// AgentsDue walks all agents whose keys may be due.
func (s *State) AgentsDue(nowMs int64) (out []KeyStanding) {
	for _, id := range slices.Sorted(slices.Values(s.AgentsToAsk())) {
		if st, due := s.AgentDue(id, nowMs); due {
			out = append(out, st)
		}
	}
	return out
}
