package api

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// Keys tells what a node itself knows of keys.
type Keys interface {
	// KeyUses returns who still signs with keys of a subject that have a successor, as
	// all nodes saw it since they started, but for those that are named.
	KeyUses(ctx context.Context, subject string) (uses []client.KeyUse, unreachable []client.AuditMissing)
}

func wireSchedule(d fsm.Schedule) client.KeySchedule {
	return client.KeySchedule{Version: d.Version, PeriodMs: d.PeriodMs, OverlapMs: d.OverlapMs, LeadMs: d.LeadMs}
}

func wireKeys(st fsm.KeyStanding, nowMs int64) client.Keys {
	out := client.Keys{Subject: st.Subject.String(), Schedule: wireSchedule(st.Schedule), DueMs: st.DueMs,
		Due: st.Due(nowMs), Overdue: st.Overdue(nowMs), Keys: make([]client.Key, 0, len(st.Ring))}
	if st.Active >= 0 {
		out.KeyID = st.Ring[st.Active].Public.KeyID()
	}
	if st.Asked != nil {
		out.AskedMs = st.Asked.AtMs
	}
	for i, k := range st.Ring {
		row := wireKey(st.Subject.Kind, k)
		row.State = string(st.Ring.StateOf(i, nowMs))
		if p := k.Succession; p != nil {
			for j := range out.Keys {
				if out.Keys[j].KeyID == row.Predecessor {
					out.Keys[j].Successor = row.KeyID
				}
			}
		}
		out.Keys = append(out.Keys, row)
	}
	return out
}

// keysIn shows the keys of a subject as a state has them.
func keysIn(state *fsm.State, of fsm.Subject, nowMs int64) (out client.Keys, known bool) {
	st, known := state.KeyStanding(of, nowMs)
	if !known {
		return out, false
	}
	out = wireKeys(st, nowMs)
	out.Name = state.NameOf(of)
	return out, true
}

func wireKey(kind fsm.SubjectKind, k fsm.Key) client.Key {
	out := client.Key{KeyID: k.Public.KeyID(), NotBeforeMs: k.NotBeforeMs, UntilMs: k.NotAfterMs, RevokedAt: k.RevokedAt, Index: k.Index}
	if !kind.Named() {
		out.PublicKey = k.Public.PEM()
	}
	if kind == fsm.SubjectCoordinator {
		out.PeerID = k.Public.CoordinatorID()
	}
	if p := k.Succession; p != nil {
		if out.OrderMs, out.SignedMs = p.NotBeforeMs, p.SignedMs; !p.Predecessor.IsZero() {
			out.Predecessor = p.Predecessor.KeyID()
		}
		out.Signature = base64.StdEncoding.EncodeToString(p.Signature)
	}
	if k.Shared != nil {
		if k.Shared.Waits {
			out.NotBeforeMs = 0
		}
		out.Ready = k.Shared.Ready
		if kind == fsm.SubjectCA {
			out.Certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.Shared.Data}))
		}
	}
	return out
}

// keyList answers GET /v1/keys: kind after kind, each in the order of its ids.
func (s *Server) keyList(c *call) error {
	limit, err := c.pageLimit()
	if err != nil {
		return err
	}
	kinds, afterID, err := c.keyPage()
	if err != nil {
		return err
	}
	out := client.KeyList{Keys: []client.Keys{}}
	err = c.read(func(state *fsm.State) {
		now := state.ClockMs()
		for _, kind := range kinds {
			for _, of := range state.KeySubjects(kind, afterID, limit+1-len(out.Keys)) {
				if len(out.Keys) == limit {
					out.Next = out.Keys[limit-1].Subject
					return
				}
				if row, ok := keysIn(state, of, now); ok {
					out.Keys = append(out.Keys, row)
				}
			}
			afterID = ""
		}
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, out)
}

// keyPage returns the kinds to list, and behind which id of the first to begin.
func (c *call) keyPage() (kinds []fsm.SubjectKind, afterID string, err error) {
	kinds = fsm.SubjectKinds()
	query := c.r.URL.Query()
	if only := fsm.SubjectKind(query.Get("kind")); only != "" {
		if !slices.Contains(kinds, only) {
			return nil, "", invalid("kind", fmt.Sprintf("%s is none of %v", quote(string(only)), kinds))
		}
		kinds = []fsm.SubjectKind{only}
	}
	text := query.Get("after")
	if text == "" {
		return kinds, "", nil
	}
	after, err := fsm.ParseSubject(text)
	at := slices.Index(kinds, after.Kind)
	if err != nil || at < 0 {
		return nil, "", invalid("after", quote(text)+" is no subject of a page of this list")
	}
	if after.Kind.Shared() { // the only one of its kind
		return kinds[at+1:], "", nil
	}
	return kinds[at:], after.ID, nil
}

// keys answers GET /v1/keys/{subject}.
func (s *Server) keys(c *call) error {
	out, err := c.keysOf(c.read)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(out.Keys, func(k client.Key) bool { return k.State == client.KeyRetiring }) {
		out.Uses, out.Unreachable = s.node.KeyUses(c.r.Context(), out.Subject)
	}
	return c.reply(http.StatusOK, out)
}

// keySubject reads the subject in the path.
func (c *call) keySubject() (fsm.Subject, error) { return c.subjectBy(fsm.ParseSubject) }

// subjectBy reads the subject in the path, where a node may be named as people name it, and puts its own text in that place.
func (c *call) subjectBy(parse func(string) (fsm.Subject, error)) (of fsm.Subject, err error) {
	if of, err = parse(c.args[0]); err != nil {
		return of, invalid("subject", err.Error())
	}
	err = c.readAt(ReadOptions{}, func(state *fsm.State) { of = state.ByName(of) })
	c.args[0] = of.String()
	return of, err
}

// keysOf shows the keys of the subject in the path as a read has them.
func (c *call) keysOf(read func(func(*fsm.State)) error) (client.Keys, error) {
	of, err := c.keySubject()
	if err != nil {
		return client.Keys{}, err
	}
	var out client.Keys
	known := false
	err = read(func(state *fsm.State) {
		out, known = keysIn(state, of, state.ClockMs())
	})
	switch {
	case err != nil:
		return out, err
	case !known:
		return out, &client.Error{Code: client.CodeNotFound, Detail: "there is no " + of.String()}
	}
	return out, nil
}

// keySchedule answers GET /v1/keys/{subject}/schedule.
func (s *Server) keySchedule(c *call) error {
	of, err := c.subjectBy(fsm.ParseScheduled)
	if err != nil {
		return err
	}
	var d fsm.Schedule
	if err := c.read(func(state *fsm.State) { d = state.OwnSchedule(of) }); err != nil {
		return err
	}
	c.w.Header().Set("ETag", strconv.Quote(strconv.FormatUint(d.Version, 10)))
	return c.reply(http.StatusOK, wireSchedule(d))
}

// setKeySchedule answers PUT /v1/keys/{subject}/schedule: members that are absent
// stay as they are.
func (s *Server) setKeySchedule(c *call) error {
	version, err := c.ifMatch()
	if err != nil {
		return err
	}
	of, err := c.subjectBy(fsm.ParseScheduled)
	if err != nil {
		return err
	}
	var update client.KeyScheduleUpdate
	if err := c.decode(&update); err != nil {
		return err
	}
	next, err := c.scheduleAt(of, version)
	if err != nil {
		return err
	}
	for _, m := range []struct {
		to   *int64
		from *int64
	}{{&next.PeriodMs, update.PeriodMs}, {&next.OverlapMs, update.OverlapMs}, {&next.LeadMs, update.LeadMs}} {
		if m.from != nil {
			*m.to = *m.from
		}
	}
	if field, fault := next.Fault(of.Kind); fault != "" {
		return invalid(field, fault)
	}
	c.tell("schedule", fmt.Sprintf("period_ms=%d overlap_ms=%d lead_ms=%d", next.PeriodMs, next.OverlapMs, next.LeadMs))
	next.Version, next.SetMs = 0, 0
	res, err := c.propose(fsm.KeyScheduleSet{Subject: of.String(), IfVersion: version, Schedule: next})
	if err != nil {
		return err
	}
	next.Version = version + 1
	return c.reply(http.StatusOK, client.KeyScheduleSet{Subject: of.String(), KeySchedule: wireSchedule(next), Index: res.Index})
}

// scheduleAt returns the schedule to build upon: as of the version that the caller
// read, or a strong read if this replica is behind (see policyAt).
func (c *call) scheduleAt(of fsm.Subject, version uint64) (d fsm.Schedule, err error) {
	get := func(state *fsm.State) { d = state.OwnSchedule(of) }
	if err := c.readAt(ReadOptions{}, get); err != nil || d.Version >= version {
		return d, err
	}
	return d, c.readAt(ReadOptions{Strong: true}, get)
}

// revokeKey answers POST /v1/keys/{subject}/revoke.
func (s *Server) revokeKey(c *call) error {
	var req client.RevokeKeyRequest
	if err := c.decode(&req); err != nil {
		return err
	}
	of, err := c.keySubject()
	if err != nil {
		return err
	}
	var ref fsm.KeyRef
	found := false
	// Strong: a key that was announced at another node must be found here.
	err = c.readAt(ReadOptions{Strong: true}, func(state *fsm.State) {
		ring, _ := state.KeyRing(of)
		for _, k := range ring {
			if fp := k.Public.Fingerprint(); k.Public.KeyID() == req.KeyID || fp.String() == req.KeyID {
				ref, found = fp, true
			}
		}
	})
	switch {
	case err != nil:
		return err
	case !found:
		return &client.Error{Code: client.CodeNotFound, Field: "key_id", Detail: fmt.Sprintf("%s has no key %s, or not any more", of, quote(req.KeyID))}
	}
	c.tell("key_id", crypto.KeyIDOf(ref))
	res, err := c.propose(fsm.KeyRevoke{Subject: of.String(), Key: ref, Reason: req.Reason, WithSuccessors: req.WithSuccessors})
	if err != nil {
		return err
	}
	return c.replyKeys(http.StatusOK, res)
}

// keyChangeMade is the answer to a change when the replica cannot show the keys: the
// change was made, and that is the news.
type keyChangeMade struct {
	Subject  string `json:"subject"`
	Index    uint64 `json:"index"`
	Repeated bool   `json:"repeated,omitempty"`

	Ended *client.KeysEnded `json:"ended,omitempty"`
}

// replyKeys shows the keys as they are after a change.
func (c *call) replyKeys(status int, res fsm.Result) error {
	keys, err := c.keysOf(func(f func(*fsm.State)) error { return c.readAt(ReadOptions{MinIndex: res.Index}, f) })
	if err != nil {
		return c.reply(status, keyChangeMade{Subject: c.args[0], Index: res.Index, Repeated: res.Repeated, Ended: wireEnded(res.Ended)})
	}
	return c.reply(status, client.KeysChanged{Keys: keys, Index: res.Index, Repeated: res.Repeated, Ended: wireEnded(res.Ended)})
}
