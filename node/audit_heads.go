package node

import (
	"cmp"
	"context"
	"slices"

	"github.com/edgecoder/edgecoder/api"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// maxRemovedHeads bounds the removed nodes in an answer, the last ones: about
// 200 bytes each.
const maxRemovedHeads = 64

// AuditHeads implements api.Auditor. Two words stand for each node: its own, which
// only it can give, and what the cluster knows, which it cannot take back. A
// replica that cannot ask a leader tells what it knows itself.
func (n *Node) AuditHeads(ctx context.Context) client.AuditHeads {
	known := map[string]fsm.AuditHead{}
	var removed []fsm.Removal
	look := func(s *fsm.State) {
		clear(known)
		for _, h := range s.AuditHeads() {
			known[h.NodeID] = h
		}
		removed = slices.DeleteFunc(s.Removed(), func(r fsm.Removal) bool { return r.Audit == nil })
	}
	asking, cancel := context.WithTimeout(ctx, n.cfg.Timing.NoLeader)
	defer cancel()
	if _, err := n.Read(asking, api.ReadOptions{Strong: true}, look); err != nil {
		n.machine.Read(look)
	}
	answers := n.askAudit(ctx, func(id string) auditRequest { return auditRequest{HeadOnly: true, Want: known[id].Place()} })
	out := client.AuditHeads{Heads: []client.AuditHead{}, Unreachable: missing(answers)}
	for _, a := range answers {
		h, isKnown := known[a.node.ID]
		if a.err != nil && !isKnown {
			continue // there is nothing to tell but that it is missing
		}
		row := client.AuditHead{Node: a.node.ID, Name: a.node.Name}
		if isKnown {
			row = knownHead(row, h)
		}
		if a.err == nil {
			row.Seq, row.Hash, row.File = a.reply.Seq, a.reply.Hash, a.reply.File
			row.Truncated = isKnown && !a.reply.Holds
		}
		out.Heads = append(out.Heads, row)
	}
	slices.SortFunc(removed, func(a, b fsm.Removal) int { return cmp.Compare(a.RemovedMs, b.RemovedMs) })
	for _, r := range removed[max(0, len(removed)-maxRemovedHeads):] {
		out.Heads = append(out.Heads, knownHead(client.AuditHead{Node: r.ID, Name: r.Name, Removed: true}, *r.Audit))
	}
	return out
}

func knownHead(row client.AuditHead, h fsm.AuditHead) client.AuditHead {
	row.Known = &client.AuditPlace{Seq: h.Seq, Hash: h.Hash.String(), AtMs: h.AtMs}
	row.Losses = h.Losses
	for _, l := range h.Lost {
		row.Lost = append(row.Lost, client.AuditPlace{Seq: l.Seq, Hash: l.Hash.String(), AtMs: l.AtMs})
	}
	return row
}
