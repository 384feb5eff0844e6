package judge

import (
	"slices"
	"sort"
)

// size is the length of the chain at one index of the log, as an answer told.
type size struct {
	op    *Op
	index uint64
	n     uint64
	made  bool // by the entry at this index: below it the chain was shorter
}

// sizes returns what is known of the chain's length along the log, by index.
func (r *Run) sizes(chain *chainIndex) []size {
	var all []size
	for i := range r.Ops {
		op := &r.Ops[i]
		switch {
		case op.Outcome != OK || op.Index == 0:
		case op.Kind == KindBansRead:
			all = append(all, size{op, op.Index, op.BansRead.Size, false})
		case op.Kind == KindChainRead:
			all = append(all, size{op, op.Index, op.ChainRead.Size, false})
		case (op.Kind == KindBan || op.Kind == KindLift) && !proposalOf(op).Repeated:
			if n := chain.placeOf(op); n != 0 {
				all = append(all, size{op, op.Index, n, true})
			}
		}
	}
	slices.SortFunc(all, func(a, b size) int {
		if a.index != b.index {
			return int(int64(a.index) - int64(b.index))
		}
		return int(int64(a.n) - int64(b.n))
	})
	return all
}

// checkReads holds that the state of the log at one index is one state: the
// chain never gets shorter along the log, on whatever node, and each answer on
// an agent's ban matches the newest event on it at the index that it names.
func checkReads(c *court) {
	sizes := c.run.sizes(c.chain)
	c.Examined = len(sizes)
	for i := 1; i < len(sizes); i++ {
		a, b := sizes[i-1], sizes[i]
		switch {
		case a.index == b.index && a.n != b.n:
			c.failAs("P4", []*Op{a.op, b.op}, "at index %d the chain was shown with %d and with %d events", a.index, a.n, b.n)
		case a.n > b.n || (b.made && a.n == b.n && a.index != b.index):
			c.fail([]*Op{a.op, b.op}, "at index %d the chain had %d events, at index %d it has %d", a.index, a.n, b.index, b.n)
		}
	}
	events := c.chain.byAgent()
	for i := range c.run.Ops {
		op := &c.run.Ops[i]
		if op.Kind != KindBanRead || op.Outcome != OK {
			continue
		}
		if c.chain == nil {
			c.doubt(nil, "no final chain to hold the answers on bans against")
			break
		}
		c.Examined++
		checkRead(c, op, events[op.BanRead.Agent], sizes)
	}
	checkInvented(c)
}

// byAgent returns where the events on each agent stand, ascending.
func (ci *chainIndex) byAgent() map[string][]uint64 {
	all := map[string][]uint64{}
	if ci == nil {
		return all
	}
	for i := range ci.events {
		agent := ci.events[i].AgentID
		all[agent] = append(all[agent], uint64(i+1))
	}
	return all
}

// checkRead holds one answer on an agent's ban against each event that may have
// been the newest: more than one if the chain's length at that index is not known.
func checkRead(c *court, op *Op, events []uint64, sizes []size) {
	chain, r := c.chain, op.BanRead
	if r.InForce && r.Seq != 0 {
		if r.Seq > uint64(len(chain.events)) {
			c.lacks(op, "it names event %d, the final chain of %s has %d", r.Seq, chain.node, len(chain.events))
			return
		}
		if e := &chain.events[r.Seq-1]; e.AgentID != r.Agent || (r.EventID != "" && e.EventID != r.EventID) {
			c.fail([]*Op{op}, "it names event %d as %s on %s, the chain has %s on %s there", r.Seq, r.EventID, r.Agent, e.EventID, e.AgentID)
			return
		}
	}
	least, most := lengthAt(sizes, op.Index, uint64(len(chain.events)))
	if least > uint64(len(chain.events)) {
		return // checkHeads reports it
	}
	early, late := c.clock.window(op)
	at := sort.Search(len(events), func(i int) bool { return events[i] > least })
	for i := at - 1; i < len(events) && (i < at || events[i] <= most); i++ {
		s, seq := banState{}, uint64(0) // nothing on it yet
		if i >= 0 {
			seq = events[i]
			s = chain.events[seq-1].state()
		}
		yes, no := s.inForce(early, late)
		if r.InForce && yes && (r.Seq == 0 || r.Seq == seq) || !r.InForce && no {
			return
		}
	}
	c.fail([]*Op{op}, "at index %d the chain has %d to %d events, and none that may be the newest on %s explains the answer", op.Index, least, most, r.Agent)
}

// lengthAt bounds the length of the chain at an index of the log.
func lengthAt(sizes []size, index, most uint64) (least, _ uint64) {
	if index == 0 {
		return 0, most
	}
	i := sort.Search(len(sizes), func(i int) bool { return sizes[i].index > index })
	if i > 0 {
		least = sizes[i-1].n
		if sizes[i-1].index == index {
			return least, least
		}
	}
	if i < len(sizes) {
		most = sizes[i].n
		if sizes[i].made {
			most--
		}
	}
	return least, max(least, most)
}

// checkInvented holds that nothing is shown before somebody asked for it, also
// by a read that does not tell its index.
func checkInvented(c *court) {
	earliest := map[string]int64{}
	for _, op := range proposals(c.run.Ops, KindBan) {
		at, ok := earliest[op.Ban.Agent]
		if op.Outcome != Refused && (!ok || op.StartNS < at) {
			earliest[op.Ban.Agent] = op.StartNS
		}
	}
	for i := range c.run.Ops {
		op := &c.run.Ops[i]
		if op.Kind != KindBanRead || op.Outcome != OK || op.Strong || !op.BanRead.InForce || c.run.About.ChainSize > 0 {
			continue
		}
		if at, ok := earliest[op.BanRead.Agent]; !ok || at > op.EndNS {
			c.fail([]*Op{op}, "%s reads as banned before anybody asked for it", op.BanRead.Agent)
		}
	}
}
