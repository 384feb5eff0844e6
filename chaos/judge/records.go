package judge

import (
	"maps"
	"slices"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// checkChains verifies each node's final chain and compares the nodes: one
// must be the beginning of the other, and equal once the cluster healed.
func checkChains(c *court) {
	keys := c.signingKeys()
	var longest []chainEvent
	var owner string
	for _, node := range c.run.About.replicas() {
		f := c.run.final(node)
		if f == nil {
			continue // checkEnough doubts it
		}
		events, err := parseChain(f.Audit.Events)
		if err != nil {
			c.fail(nil, "%s: %v", node, err)
			continue
		}
		c.Examined += len(events)
		verifyChain(c, node, f.Audit, events, keys)
		short, long, other := events, longest, owner
		if len(events) > len(longest) {
			short, long = longest, events
		}
		for i := range short {
			if string(short[i].wire()) != string(long[i].wire()) {
				c.failAs("P4", nil, "event %d differs: %s has %.12s, %s has %.12s", i+1, node, events[i].EventHash, other, longest[i].EventHash)
				break
			}
		}
		if other != "" && len(short) != len(long) && c.run.About.Healed {
			c.failAs("P4", nil, "after healing %s has %d events and %s has %d", node, len(events), other, len(longest))
		}
		if len(events) > len(longest) || owner == "" {
			longest, owner = events, node
		}
	}
}

func verifyChain(c *court, node string, audit *client.Audit, events []chainEvent, keys map[string]crypto.PublicKey) {
	prev := genesis
	ids := map[string]int{}
	inForce := map[string]string{} // agent → hash of the ban
	for i := range events {
		e := &events[i]
		if fault := verifyEvent(e, prev, keys); fault != "" {
			c.fail(nil, "%s, event %d (%s): %s", node, i+1, e.EventID, fault)
			return // what follows hangs on it
		}
		if first, twice := ids[e.EventID]; twice {
			c.fail(nil, "%s: events %d and %d have the same id %s", node, first, i+1, e.EventID)
		}
		if e.lifts() && e.EvidenceHashSHA256 != inForce[e.AgentID] {
			c.fail(nil, "%s, event %d lifts %.12s, which is not the ban in force on %s", node, i+1, e.EvidenceHashSHA256, e.AgentID)
		}
		inForce[e.AgentID] = e.EventHash
		if e.lifts() {
			delete(inForce, e.AgentID)
		}
		ids[e.EventID], prev = i+1, e.EventHash
	}
	if audit.ChainHead != prev {
		c.fail(nil, "%s: chain_head_mismatch: the audit claims %.12s, the events end with %.12s", node, audit.ChainHead, prev)
	}
	if audit.Version != uint64(len(events)) {
		c.fail(nil, "%s: the audit claims %d events and has %d", node, audit.Version, len(events))
	}
}

// signingKeys returns the coordinators' keys that a majority of the nodes knows:
// what one node says of itself, or of a friend, proves nothing. Nodes that did
// not come to agree may not know all yet, so there one word must do; such a run
// does not pass anyway. An id is derived from its key, so nobody can lend it another.
func (c *court) signingKeys() map[string]crypto.PublicKey {
	known := map[string]map[string]crypto.PublicKey{} // by id and node
	nodes := map[string]bool{}
	add := func(node, id, pem string) {
		key, err := crypto.ParsePublicKeyPEM(pem)
		if err != nil {
			c.fail(nil, "%s serves a bad key for %s: %v", node, id, err)
			return
		}
		if sum := crypto.Sum(key[:]).String(); id != "coord-"+sum[:12] {
			c.fail(nil, "%s serves the key coord-%s under the id %s", node, sum[:12], id)
			return
		}
		if known[id] == nil {
			known[id] = map[string]crypto.PublicKey{}
		}
		known[id][node] = key
	}
	for _, f := range c.run.Finals {
		if f.Audit != nil {
			nodes[f.Node] = true
		}
		for _, p := range f.Peers {
			add(f.Node, p.PeerID, p.PublicKeyPEM)
		}
	}
	need := 1
	if c.run.About.Healed {
		need = len(nodes)/2 + 1
	}
	return agreedKeys(known, need)
}

// agreedKeys keeps the keys that enough nodes know alike: twelve digits of a
// hash do not keep two keys apart for whoever makes them.
func agreedKeys(known map[string]map[string]crypto.PublicKey, need int) map[string]crypto.PublicKey {
	keys := map[string]crypto.PublicKey{}
	for id, byNode := range known {
		votes := map[crypto.PublicKey]int{}
		for _, key := range byNode {
			if votes[key]++; votes[key] >= need {
				keys[id] = key
			}
		}
	}
	return keys
}

// checkRecords holds P3 for records: every acknowledged event is in the chain
// exactly once and where its answer said, what was certainly not done is not
// in it, and nothing is in it that nobody asked for.
func checkRecords(c *court) {
	chain := c.chain
	asked := map[string]*Op{}
	acknowledged := 0
	for _, kind := range []Kind{KindBan, KindLift} {
		for _, op := range proposals(c.run.Ops, kind) {
			p := proposalOf(op)
			asked[p.agent+"\x00"+p.reason] = op
			if op.Outcome == OK {
				acknowledged++
			}
		}
	}
	if chain == nil {
		if acknowledged > 0 {
			c.doubt(nil, "no final chain to look for %d acknowledged events in", acknowledged)
		}
		return
	}
	c.Examined = len(asked) + len(chain.events)
	found := countEvents(c, chain, asked)
	for _, where := range slices.Sorted(maps.Keys(asked)) {
		op := asked[where]
		switch n := found[where]; {
		case n > 1:
			c.fail([]*Op{op}, "it stands in the chain %d times", n)
		case n == 0 && op.Outcome == OK:
			c.lacks(op, "acknowledged, but the final chain of %s does not have it", chain.node)
		case n == 1 && op.Outcome == Refused:
			c.failAs("P9", []*Op{op}, "refused as certainly not done, but the chain of %s has it", chain.node)
		}
	}
	checkAnswers(c, chain)
}

func countEvents(c *court, chain *chainIndex, asked map[string]*Op) map[string]int {
	found := map[string]int{}
	for i := range chain.events {
		e := &chain.events[i]
		where := e.AgentID + "\x00" + e.Reason
		op := asked[where]
		switch {
		case uint64(i) < c.run.About.ChainSize:
			continue // from before the first operation
		case op == nil:
			c.fail(nil, "event %d (%s on %s, %q) was asked for by nobody", i+1, e.EventID, e.AgentID, e.Reason)
		case e.lifts() != (op.Kind == KindLift):
			c.fail([]*Op{op}, "event %d is of another kind than what was asked for", i+1)
		}
		found[where]++
	}
	return found
}

// checkAnswers holds each event against what was asked for, and each answer's
// event id and place against the event.
func checkAnswers(c *court, chain *chainIndex) {
	for i := range c.run.Ops {
		op := &c.run.Ops[i]
		if op.Kind != KindBan && op.Kind != KindLift {
			continue
		}
		p := proposalOf(op)
		seq := chain.seqOf(p.agent, p.reason)
		if seq == 0 {
			continue // not done, or reported already
		}
		e := &chain.events[seq-1]
		if p.EventID != "" && p.EventID != e.EventID {
			c.fail([]*Op{op}, "answered with event %s, but the chain has it as %s", p.EventID, e.EventID)
		}
		if p.Size != 0 && p.Size != seq {
			c.fail([]*Op{op}, "answered as event %d of the chain, but it stands at %d", p.Size, seq)
		}
		if what := differs(e, op); what != "" {
			c.fail([]*Op{op}, "event %d has another %s than was asked for", seq, what)
		}
	}
}

// differs names what an event says otherwise than its proposal did, or "".
func differs(e *chainEvent, op *Op) string {
	if op.Kind == KindLift {
		if e.ReasonCode != crypto.ReasonManualReview {
			return "reason code"
		}
		return "" // the walk along the chain knows which ban it must name
	}
	b := op.Ban
	expires := int64(0)
	if e.ExpiresAtMs != nil {
		expires = *e.ExpiresAtMs
	}
	switch {
	case expires != b.ExpiresMs || (e.ExpiresAtMs != nil && b.ExpiresMs == 0):
		return "expiry"
	case b.ReasonCode == "": // an older history does not tell the rest
		return ""
	case e.ReasonCode != b.ReasonCode:
		return "reason code"
	case e.EvidenceHashSHA256 != b.Evidence:
		return "evidence"
	case e.ReporterID != b.Reporter:
		return "reporter"
	case e.ReporterSignature != b.Signature || e.EvidenceSignatureVerified != (b.Signature != ""):
		return "reporter's signature"
	}
	return ""
}
