package node

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/edgecoder/edgecoder/api"
	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// openAudit opens this node's own log of security events.
func (n *Node) openAudit() (err error) {
	n.audit, err = audit.Open(audit.Options{Dir: audit.Dir(n.cfg.DataDir), Node: n.id.NodeID, Now: n.cfg.Now, Log: n.log})
	if err != nil {
		return err
	}
	n.note("node_start", audit.LevelInfo, "ok", map[string]string{"name": n.cfg.Name, "version": n.cfg.Version})
	return nil
}

// closeAudit writes what is left. A start that failed early has no log yet.
func (n *Node) closeAudit() error {
	if n.audit == nil {
		return nil
	}
	why := map[string]string(nil)
	if fatal := n.fatal.Load(); fatal != nil {
		why = map[string]string{"error": (*fatal).Error()}
	}
	n.note("node_stop", audit.LevelInfo, "ok", why)
	return n.audit.Close()
}

// note records an event that this node is itself the source of.
func (n *Node) note(typ, level, code string, details map[string]string) {
	if n.audit != nil {
		n.audit.Append(n.ownEvent(typ, level, code, details))
	}
}

// noteNow is note that returns when the event is durable.
func (n *Node) noteNow(ctx context.Context, typ, level, code string, details map[string]string) error {
	return n.audit.Commit(ctx, n.ownEvent(typ, level, code, details))
}

func (n *Node) ownEvent(typ, level, code string, details map[string]string) audit.Event {
	return audit.Event{Type: typ, Level: level, Code: code, Details: details,
		Actor: audit.Actor{Kind: "node", ID: n.id.NodeID, Proved: true}, Action: typ}
}

// typeChainTamper is the event of a blacklist chain, or an event for it, that is not
// what its signatures say (WIRE.md section 11).
const typeChainTamper = "blacklist_chain_tamper"

// noteChain records a fault of a blacklist chain, if the error is one.
func (n *Node) noteChain(where string, err error) {
	if bad := (*crypto.ChainError)(nil); errors.As(err, &bad) {
		n.note(typeChainTamper, audit.LevelCritical, bad.Code, map[string]string{"where": where, "subject": bad.EventID, "position": strconv.Itoa(bad.Seq), "detail": bad.Detail})
	}
}

// noteJoined records a new member and returns when that is durable: only then it
// is given what members hold.
func (n *Node) noteJoined(r *http.Request, token string, member fsm.Coordinator) error {
	e := joinEvent(r, "ok", audit.Actor{Kind: "token", ID: token, Proved: true})
	e.Details = map[string]string{"subject": member.ID, "name": member.Name, "role": string(member.Role), "address": joinerAddress(r)}
	if err := n.audit.Commit(r.Context(), e); err != nil {
		return errNoAudit()
	}
	return nil
}

// errNoAudit refuses a join that would leave no trace. It may be asked again.
func errNoAudit() error {
	return &client.Error{Code: client.CodeUnavailable, Reason: "audit", RetryAfter: time.Second,
		Detail: "this node cannot write its audit log, so it takes nobody in: ask another node, and look at this one's disk and its log"}
}

func joinerAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func joinEvent(r *http.Request, code string, actor audit.Actor) audit.Event {
	return audit.Event{Type: "member_join", Level: audit.LevelHigh, Code: code, Action: "POST " + r.URL.Path, Actor: actor}
}

// noteRefusedJoin records the refused request of a joiner, by its address.
func (n *Node) noteRefusedJoin(r *http.Request, code string) {
	e := joinEvent(r, code, audit.Actor{Kind: "address", ID: joinerAddress(r)})
	switch code {
	case client.CodeUnauthorized:
		e.Type, e.Level = "failed_auth", audit.LevelWarn
	case client.CodeForbidden:
		e.Type, e.Level = "access_denied", audit.LevelWarn
	default:
		e.Level = audit.LevelWarn
	}
	n.audit.Append(e)
}

// AuditErr implements api.Auditor.
func (n *Node) AuditErr() error { return n.audit.Err() }

// Audit implements api.Auditor.
func (n *Node) Audit(e api.AuditEvent) { n.audit.Append(auditEvent(e)) }

// AuditNow implements api.Auditor.
func (n *Node) AuditNow(ctx context.Context, e api.AuditEvent) error {
	return n.audit.Commit(ctx, auditEvent(e))
}

func auditEvent(e api.AuditEvent) audit.Event {
	return audit.Event{Type: e.Type, Level: e.Level, Actor: audit.Actor(e.Actor), Action: e.Action,
		RequestID: e.RequestID, Code: e.Code, Index: e.Index, Details: e.Details}
}

// auditRequest asks a node for lines of its log, or for its end alone.
type auditRequest struct {
	HeadOnly bool   `cbor:"1,keyasint,omitempty"` // and whether it holds the line of Want
	Type     string `cbor:"2,keyasint,omitempty"`
	Level    string `cbor:"3,keyasint,omitempty"`
	Actor    string `cbor:"4,keyasint,omitempty"`
	SinceMs  int64  `cbor:"5,keyasint,omitempty"`
	After    uint64 `cbor:"6,keyasint,omitempty"`
	Newest   bool   `cbor:"7,keyasint,omitempty"`
	Limit    int    `cbor:"8,keyasint,omitempty"`

	Want fsm.AuditPlace `cbor:"9,keyasint,omitempty"` // what the cluster knows of its log; of HeadOnly
}

// auditReply is a page of a node's log and where the log ends.
type auditReply struct {
	Lines   [][]byte `cbor:"1,keyasint"`
	Through uint64   `cbor:"2,keyasint"`
	Seq     uint64   `cbor:"3,keyasint"`
	Hash    string   `cbor:"4,keyasint"`
	File    string   `cbor:"5,keyasint"`
	Holds   bool     `cbor:"6,keyasint,omitempty"` // the line of Want is there
}

// Bounds of one node's answer. All answers of a cluster of nine stay below 10 MiB.
const (
	maxAuditLines = 1000
	maxAuditBytes = 1 << 20
	// maxAuditReads bounds the reads of this node's log at a time, whoever asks:
	// each may go through all of it.
	maxAuditReads = 4
)

// serveAudit answers another coordinator, whose caller may read audits.
func (n *Node) serveAudit(ctx context.Context, _ string, req auditRequest) (auditReply, error) {
	head := n.audit.Head()
	out := auditReply{Seq: head.Seq, Hash: head.Hash, File: head.File}
	select {
	case n.auditReads <- struct{}{}:
		defer func() { <-n.auditReads }()
	case <-ctx.Done():
		return out, errors.New("too many readers of the audit log")
	}
	if req.HeadOnly {
		var err error
		out.Holds, err = n.audit.Holds(ctx, headOf(req.Want))
		if err == nil && !out.Holds {
			n.auditHead.suspect.Store(true)
		}
		return out, err
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request/2) // leaves time for the answer
	defer cancel()
	page, err := n.audit.Read(ctx, audit.Query{Type: req.Type, Level: req.Level, Actor: req.Actor, SinceMs: req.SinceMs,
		After: req.After, Newest: req.Newest, Limit: min(max(req.Limit, 1), maxAuditLines), Bytes: maxAuditBytes})
	if err != nil {
		n.log.Warn("the audit log could not be read", "error", err)
		return out, errors.New("its audit log could not be read: its own log says why")
	}
	out.Lines, out.Through = page.Lines, page.Through
	return out, nil
}

// noteDisk records that the disk became full, or has room again.
func (n *Node) noteDisk(low bool, room string) {
	typ, level := "disk_room", audit.LevelInfo
	if low {
		typ, level = "disk_full", audit.LevelHigh
	}
	n.note(typ, level, strings.TrimPrefix(typ, "disk_"), map[string]string{"room": room})
}
