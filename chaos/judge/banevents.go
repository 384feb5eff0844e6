package judge

// banEvent is a ban or lift that was not refused.
type banEvent struct {
	op        *Op // merged over its attempts
	seq       uint64
	lift      bool
	expiresMs int64 // 0: permanent
}

// banEvents are the bans and lifts that may have happened, by agent.
type banEvents map[string][]banEvent

func (r *Run) banEvents(chain *chainIndex) banEvents {
	all := banEvents{}
	for _, kind := range []Kind{KindBan, KindLift} {
		for _, op := range proposals(r.Ops, kind) {
			e := banEvent{op: op, seq: chain.placeOf(op), lift: kind == KindLift}
			if op.Outcome == Refused || (op.Outcome == Unknown && e.seq == 0 && chain != nil) {
				continue
			}
			if !e.lift {
				e.expiresMs = op.Ban.ExpiresMs
			}
			agent := proposalOf(op).agent
			all[agent] = append(all[agent], e)
		}
	}
	return all
}

// holds tells whether the event, once it is the newest, bans for as long as the
// attempt lasted.
func (e banEvent) holds(op *Op) bool {
	return !e.lift && (e.expiresMs == 0 || e.expiresMs > op.wallEndMs()+clockSlackMs)
}

// surelyBanned tells whether no moment of an attempt saw the agent free: the
// newest event acknowledged before it bans, and so does all that may have come
// after.
func (b banEvents) surelyBanned(agent string, op *Op) bool {
	var newest *banEvent
	for i := range b[agent] {
		e := &b[agent][i]
		if e.op.Outcome == OK && e.op.EndNS < op.StartNS && e.seq != 0 && (newest == nil || e.seq > newest.seq) {
			newest = e
		}
	}
	if newest == nil || !newest.holds(op) {
		return false
	}
	for _, e := range b[agent] {
		mayFollow := e.seq == 0 || e.seq > newest.seq
		if mayFollow && e.op.StartNS <= op.EndNS && !e.holds(op) {
			return false
		}
	}
	return true
}
