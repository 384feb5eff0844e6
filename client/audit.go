package client

import (
	"context"
	"net/url"
	"strconv"
)

// AuditActor is who did something, or tried to.
type AuditActor struct {
	Kind   string `json:"kind"` // token, agent, node, address; others: what was counted together
	ID     string `json:"id"`
	Proved bool   `json:"proved"` // by a credential or a signature; else only claimed
}

// AuditEvent is one line of a node's audit log.
type AuditEvent struct {
	Seq       uint64            `json:"seq"`
	Prev      string            `json:"prev"` // hash of the line before
	TimeMs    int64             `json:"time_ms"`
	Node      string            `json:"node"` // id of the node that saw it
	Type      string            `json:"type"`
	Level     string            `json:"level"` // INFO, WARN, HIGH or CRITICAL
	Actor     AuditActor        `json:"actor"`
	Action    string            `json:"action,omitempty"`
	RequestID string            `json:"request_id,omitempty"`
	Code      string            `json:"code,omitempty"`  // the outcome: ok, or why not
	Index     uint64            `json:"index,omitempty"` // log index of the answer
	Count     uint64            `json:"count,omitempty"` // events that this line stands for; absent: 1
	FirstMs   int64             `json:"first_ms,omitempty"`
	LastMs    int64             `json:"last_ms,omitempty"`
	Details   map[string]string `json:"details,omitempty"`
	Hash      string            `json:"hash"`
}

// AuditMissing is a node whose word is not in an answer.
type AuditMissing struct {
	Node   string `json:"node"`
	Name   string `json:"name"`
	Detail string `json:"detail"`
}

// AuditEvents is the answer of GET /v1/audit/events, the oldest event first.
type AuditEvents struct {
	Events      []AuditEvent   `json:"events"`
	Unreachable []AuditMissing `json:"unreachable"` // never silently left out
	Next        string         `json:"next"`        // give it as cursor for what comes after
	More        bool           `json:"more"`        // there is more already
}

// AuditHead is where a node's audit log ends: by its own word, and by what the
// cluster remembers of it.
type AuditHead struct {
	Node string `json:"node"`
	Name string `json:"name"`
	// Seq, Hash and File are the newest durable line by the node's own word; 0 and
	// empty when it gave none.
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
	File string `json:"file"`
	// Known is the newest line that the cluster knows of, which is a few seconds
	// older; null when it knows none. The log must hold it.
	Known *AuditPlace `json:"known"`
	// Truncated says that the node answered, and its log does not hold that line.
	Truncated bool `json:"truncated"`
	// Lost are ends that the log was found not to hold any more: the first ones and
	// the newest. Losses counts all.
	Lost   []AuditPlace `json:"lost,omitempty"`
	Losses uint64       `json:"losses,omitempty"`
	// Removed says that the node is no member any more.
	Removed bool `json:"removed,omitempty"`
}

// AuditPlace is a line of an audit log.
type AuditPlace struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
	AtMs int64  `json:"at_ms"` // when the cluster heard of it, or of its loss
}

// AuditHeads is the answer of GET /v1/audit/heads.
type AuditHeads struct {
	Heads       []AuditHead    `json:"heads"`
	Unreachable []AuditMissing `json:"unreachable"`
}

// AuditQuery says which events are asked for; empty members match everything.
// Without SinceMs and Cursor the newest events are the answer, else the first
// ones from there on.
type AuditQuery struct {
	SinceMs int64
	Type    string
	Level   string // this one, or above
	Actor   string // id of the actor
	Limit   int    // 0: the server's default
	Cursor  string // Next of an earlier answer to the same question
}

// AuditEvents asks all nodes for events.
func (c *Client) AuditEvents(ctx context.Context, query AuditQuery, opts ...Option) (out AuditEvents, err error) {
	opts = append(opts, func(q *call) { query.set(q.query) })
	err = c.get(ctx, "/v1/audit/events", &out, opts)
	return out, err
}

func (a *AuditQuery) set(q url.Values) {
	for name, value := range map[string]string{"type": a.Type, "level": a.Level, "actor": a.Actor, "cursor": a.Cursor} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if a.SinceMs > 0 {
		q.Set("since_ms", strconv.FormatInt(a.SinceMs, 10))
	}
	if a.Limit > 0 {
		q.Set("limit", strconv.Itoa(a.Limit))
	}
}

// AuditHeads asks all nodes where their audit logs end.
func (c *Client) AuditHeads(ctx context.Context, opts ...Option) (out AuditHeads, err error) {
	err = c.get(ctx, "/v1/audit/heads", &out, opts)
	return out, err
}
