package node

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// An audit question to the cluster: every node is asked at once, and the
// answers are merged by time. A node that gives none is named.

// auditAnswer is what one node said.
type auditAnswer struct {
	node  fsm.Coordinator
	reply auditReply
	lines []client.AuditEvent
	err   error
}

// auditPlaces is how far each node's log was read, by node id. Cursors carry it.
type auditPlaces map[string]uint64

// askAudit asks every coordinator; want makes the question to one of them.
func (n *Node) askAudit(ctx context.Context, want func(id string) auditRequest) []auditAnswer {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	var nodes []fsm.Coordinator
	n.machine.Read(func(s *fsm.State) { nodes = s.Coordinators() })
	if !slices.ContainsFunc(nodes, func(c fsm.Coordinator) bool { return c.ID == n.id.NodeID }) {
		nodes = append(nodes, fsm.Coordinator{ID: n.id.NodeID, Name: n.cfg.Name})
	}
	slices.SortFunc(nodes, func(a, b fsm.Coordinator) int { return cmp.Compare(a.ID, b.ID) })
	out := make([]auditAnswer, len(nodes))
	var all sync.WaitGroup
	for i, c := range nodes {
		all.Go(func() {
			out[i] = auditAnswer{node: c}
			out[i].ask(ctx, n, want(c.ID))
		})
	}
	all.Wait()
	return out
}

func (a *auditAnswer) ask(ctx context.Context, n *Node, req auditRequest) {
	if a.node.ID == n.id.NodeID {
		a.reply, a.err = n.serveAudit(ctx, a.node.ID, req)
	} else {
		a.err = n.call(ctx, a.node.ID, rpcAudit, req, &a.reply)
	}
	if a.err == nil {
		a.lines, a.err = a.decode(req.Limit)
	}
}

// decode reads the lines of a node. Nobody speaks for another one, and what
// does not fit its own hash is nobody's word.
func (a *auditAnswer) decode(limit int) ([]client.AuditEvent, error) {
	if len(a.reply.Lines) > max(limit, 1) {
		return nil, errors.New("it answered more lines than it was asked for")
	}
	out := make([]client.AuditEvent, 0, len(a.reply.Lines))
	for _, text := range a.reply.Lines {
		l, err := audit.ParseLine(text)
		if err == nil && l.Node != a.node.ID {
			err = fmt.Errorf("a line of node %q", l.Node)
		}
		var e client.AuditEvent
		if err == nil {
			err = json.Unmarshal(text, &e)
		}
		if err != nil {
			return nil, fmt.Errorf("it answered what is no line of its log: %w", err)
		}
		out = append(out, e)
	}
	return out, nil
}

// missing lists the nodes that gave no answer.
func missing(answers []auditAnswer) []client.AuditMissing {
	out := []client.AuditMissing{}
	for _, a := range answers {
		if a.err != nil {
			out = append(out, client.AuditMissing{Node: a.node.ID, Name: a.node.Name, Detail: a.err.Error()})
		}
	}
	return out
}

// AuditEvents implements api.Auditor.
func (n *Node) AuditEvents(ctx context.Context, q client.AuditQuery) (client.AuditEvents, error) {
	places, err := parsePlaces(q.Cursor)
	if err != nil {
		return client.AuditEvents{}, &client.Error{Code: client.CodeInvalid, Field: "cursor", Detail: err.Error()}
	}
	newest := q.Cursor == "" && q.SinceMs == 0
	answers := n.askAudit(ctx, func(id string) auditRequest {
		return auditRequest{Type: q.Type, Level: q.Level, Actor: q.Actor, SinceMs: q.SinceMs, After: places[id], Newest: newest, Limit: q.Limit}
	})
	out := mergeAudit(answers, places, q.Limit, newest)
	return out, nil
}

// mergeAudit puts the answers together in the order of time, node and seq, and
// moves places to behind what is given. A node's own order always stands, though
// its clock went back; a node that was unreachable is read from its old place the
// next time, so that its events come late rather than never.
func mergeAudit(answers []auditAnswer, places auditPlaces, limit int, newest bool) client.AuditEvents {
	out := client.AuditEvents{Events: []client.AuditEvent{}, Unreachable: missing(answers)}
	maps.DeleteFunc(places, func(id string, _ uint64) bool { // who was removed never comes back
		return !slices.ContainsFunc(answers, func(a auditAnswer) bool { return a.node.ID == id })
	})
	left := make([][]client.AuditEvent, len(answers))
	total := 0
	for i, a := range answers {
		if a.err == nil {
			left[i] = a.lines
			total += len(a.lines)
		}
	}
	skip := 0
	if newest {
		skip = max(0, total-limit)
	}
	for len(out.Events) < limit {
		i := earliest(left)
		if i < 0 {
			break
		}
		e := left[i][0]
		left[i] = left[i][1:]
		places[answers[i].node.ID] = e.Seq
		if skip > 0 {
			skip--
			continue
		}
		out.Events = append(out.Events, e)
	}
	for i, a := range answers {
		switch {
		case a.err != nil:
		case len(left[i]) > 0:
			out.More = true
		default:
			places[a.node.ID] = max(places[a.node.ID], a.reply.Through)
			out.More = out.More || !newest && a.reply.Through < a.reply.Seq
		}
	}
	out.Next = places.String()
	return out
}

// earliest returns which list begins with the earliest event, -1 when all are empty.
func earliest(lists [][]client.AuditEvent) int {
	best := -1
	for i, l := range lists {
		if len(l) > 0 && (best < 0 || l[0].TimeMs < lists[best][0].TimeMs) {
			best = i
		}
	}
	return best
}

// maxPlaces bounds the nodes of a cursor: members, and those that left while
// somebody followed.
const maxPlaces = 128

// String is the cursor of the places: base64 of JSON, opaque to callers.
func (p auditPlaces) String() string {
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // a map of numbers always encodes
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func parsePlaces(cursor string) (auditPlaces, error) {
	p := auditPlaces{}
	if cursor == "" {
		return p, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		dec := json.NewDecoder(strings.NewReader(string(text)))
		if err = dec.Decode(&p); err == nil && (dec.More() || p == nil || len(p) > maxPlaces) {
			err = errors.New("too long")
		}
	}
	for id := range p {
		err = errors.Join(err, crypto.CheckID(id))
	}
	if err != nil {
		return nil, errors.New("it is no cursor: give next of an earlier answer as it came")
	}
	return p, nil
}
