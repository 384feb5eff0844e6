package fsm

// ofNode tells whether subjects of the kind are nodes, which have a name beside their id.
func (k SubjectKind) ofNode() bool { return k == SubjectCoordinator || k == SubjectCertificate }

// NameOf returns the name of the node that a subject is; "" of any other subject.
func (s *State) NameOf(of Subject) string {
	if !of.Kind.ofNode() {
		return ""
	}
	n, _ := s.coordinators.get(of.ID)
	return n.Name
}

// ByName returns the subject of the member that has the subject's id as its name, as people give it, unless that is a
// member's id. Names of members are unique; who reads a name later may find another node behind it.
func (s *State) ByName(of Subject) Subject {
	if _, is := s.coordinators.get(of.ID); is || of.ID == "" || !of.Kind.ofNode() {
		return of
	}
	for _, n := range s.coordinators.values() {
		if n.Name == of.ID {
			of.ID = n.ID
			return of
		}
	}
	return of
}
