package fsm

// Edges returns the edges that are members, in no order: at most MaxEdges.
func (s *State) Edges() []Edge {
	out := make([]Edge, 0, len(s.edges))
	for nodeID := range s.edges {
		if e, member := s.Edge(nodeID); member {
			out = append(out, e)
		}
	}
	return out
}
