package node

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

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

// auditPlaces is how far the logs were read. Cursors carry it.
type auditPlaces struct {
	Seq     map[string]uint64 `json:"seq"`                // by node id
	SinceMs int64             `json:"since_ms,omitempty"` // of a node that is not in Seq only what came since is asked for
}

// askAudit asks every coordinator; want makes the question to one of them.
func (n *Node) askAudit(ctx context.Context, want func(id string) auditRequest) []auditAnswer {
	return askAll(ctx, n, func(ctx context.Context, c fsm.Coordinator) auditAnswer {
		a := auditAnswer{node: c}
		a.ask(ctx, n, want(c.ID))
		return a
	})
}

func (a *auditAnswer) ask(ctx context.Context, n *Node, req auditRequest) {
	if a.node.ID == n.id.NodeID {
		a.reply, a.err = n.serveAudit(ctx, a.node.ID, req)
	} else {
		a.err = n.call(ctx, a.node.ID, rpcAudit, req, &a.reply)
	}
	if a.err == nil {
		a.lines, a.err = a.decode(req)
	}
}

// decode reads the lines of a node. Nobody speaks for another one, what does
// not fit its own hash is nobody's word, and nobody tells the same again.
func (a *auditAnswer) decode(req auditRequest) ([]client.AuditEvent, error) {
	if len(a.reply.Lines) > max(req.Limit, 1) {
		return nil, errors.New("it answered more lines than it was asked for")
	}
	last := req.After
	out := make([]client.AuditEvent, 0, len(a.reply.Lines))
	for _, text := range a.reply.Lines {
		l, err := audit.ParseLine(text)
		if err == nil && l.Node != a.node.ID {
			err = fmt.Errorf("a line of node %q", l.Node)
		}
		if err == nil && (l.Seq <= last || l.Seq > a.reply.Seq) {
			err = fmt.Errorf("line %d behind line %d of %d", l.Seq, last, a.reply.Seq)
		}
		last = l.Seq
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
	if newest {
		places.SinceMs = n.cfg.Now().UnixMilli() // the newest of a node that is away now are not told when it is back
	}
	answers := n.askAudit(ctx, func(id string) auditRequest {
		req := auditRequest{Type: q.Type, Level: q.Level, Actor: q.Actor, SinceMs: q.SinceMs, After: places.Seq[id], Newest: newest, Limit: q.Limit}
		if _, known := places.Seq[id]; !known && !newest {
			req.SinceMs = max(q.SinceMs, places.SinceMs)
		}
		return req
	})
	return mergeAudit(answers, places, q.Limit, newest), nil
}

// mergeAudit puts the answers together in the order of time, node and seq, and
// moves places to behind what is given. A node's own order always stands, though
// its clock went back; a node that was unreachable is read from its old place the
// next time, so that its events come late rather than never.
func mergeAudit(answers []auditAnswer, places auditPlaces, limit int, newest bool) client.AuditEvents {
	out := client.AuditEvents{Events: []client.AuditEvent{}, Unreachable: missing(answers)}
	maps.DeleteFunc(places.Seq, func(id string, _ uint64) bool { // who was removed never comes back
		return !slices.ContainsFunc(answers, func(a auditAnswer) bool { return a.node.ID == id })
	})
	lists := make([][]client.AuditEvent, len(answers))
	for i, a := range answers {
		if a.err == nil {
			lists[i] = a.lines
		}
	}
	given := share(lists, limit, newest)
	for i, a := range answers {
		switch {
		case a.err != nil:
		case newest:
			lists[i] = lists[i][len(lists[i])-given[i]:]
			places.Seq[a.node.ID] = a.reply.Through
		case given[i] < len(lists[i]):
			out.More = true
			lists[i] = lists[i][:given[i]]
			if given[i] > 0 {
				places.Seq[a.node.ID] = lists[i][given[i]-1].Seq
			}
		default:
			places.Seq[a.node.ID] = max(places.Seq[a.node.ID], a.reply.Through)
			out.More = out.More || a.reply.Through < a.reply.Seq
		}
	}
	next := func(i int) (int64, bool) {
		if len(lists[i]) == 0 {
			return 0, false
		}
		return lists[i][0].TimeMs, true
	}
	for i := earliest(len(lists), next); i >= 0; i = earliest(len(lists), next) {
		out.Events = append(out.Events, lists[i][0])
		lists[i] = lists[i][1:]
	}
	out.Next = places.String()
	return out
}

// share returns how many events of each list come into the page: the earliest of
// all, or the latest. A part of the page is kept for each node, so that one whose
// clock is wrong, or who lies about its own log, hides no other's events.
func share(lists [][]client.AuditEvent, limit int, newest bool) []int {
	kept, free := make([]int, len(lists)), limit // places of the page that one node may take, that all may
	for i, l := range lists {
		kept[i] = min(len(l), limit/(2*len(lists)))
		free -= kept[i]
	}
	given := make([]int, len(lists))
	next := func(i int) (int64, bool) {
		l := lists[i]
		if given[i] == len(l) || kept[i] == 0 && free == 0 {
			return 0, false
		}
		if newest {
			return -l[len(l)-1-given[i]].TimeMs, true
		}
		return l[given[i]].TimeMs, true
	}
	for i := earliest(len(lists), next); i >= 0; i = earliest(len(lists), next) {
		if given[i]++; kept[i] > 0 {
			kept[i]--
		} else {
			free--
		}
	}
	return given
}

// earliest returns which of n lists has the smallest time next, -1 when none has
// a next.
func earliest(n int, next func(i int) (at int64, ok bool)) int {
	best, least := -1, int64(0)
	for i := range n {
		if at, ok := next(i); ok && (best < 0 || at < least) {
			best, least = i, at
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
		panic(err) // numbers always encode
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func parsePlaces(cursor string) (auditPlaces, error) {
	p := auditPlaces{Seq: map[string]uint64{}}
	if cursor == "" {
		return p, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		dec := json.NewDecoder(strings.NewReader(string(text)))
		if err = dec.Decode(&p); err == nil && (dec.More() || p.Seq == nil || len(p.Seq) > maxPlaces || p.SinceMs < 0) {
			err = errors.New("out of bounds")
		}
	}
	for id := range p.Seq {
		err = errors.Join(err, crypto.CheckID(id))
	}
	if err != nil {
		return p, errors.New("it is no cursor: give next of an earlier answer as it came")
	}
	return p, nil
}
