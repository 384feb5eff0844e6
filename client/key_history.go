package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// KeyWindow is a key of a ring as the history tells it.
type KeyWindow struct {
	KeyID       string `json:"key_id"`
	NotBeforeMs int64  `json:"not_before_ms"`
	UntilMs     int64  `json:"until_ms,omitempty"`   // last moment; absent: no end yet
	RevokedAt   uint64 `json:"revoked_at,omitempty"` // log index from which on it verifies nothing
	Waits       bool   `json:"waits,omitempty"`      // it begins when the cluster switches
}

// KeyStep is one record about the keys of a subject, or about their owner.
type KeyStep struct {
	Seq     uint64            `json:"seq"` // in the history of actions
	Index   uint64            `json:"index"`
	AtMs    int64             `json:"at_ms"` // by the clock of the cluster
	Action  string            `json:"action"`
	Actor   EventActor        `json:"actor"`
	Fields  map[string]string `json:"fields"` // what else the record says: key_id, public_key, by, order, proof …
	Reason  string            `json:"reason,omitempty"`
	Changed bool              `json:"changed,omitempty"` // from here on the keys are those of ring; older records do not tell it
	Ring    []KeyWindow       `json:"ring,omitempty"`    // a key that is missing from it had ended, or its owner is gone
}

// KeyHistory is a page of GET /v1/keys/{subject}/history, the oldest step first.
type KeyHistory struct {
	Subject string    `json:"subject"`
	Epoch   uint64    `json:"epoch"`          // recovery epoch: another one has another history
	Records uint64    `json:"records"`        // in the history of actions, of all subjects
	Steps   []KeyStep `json:"steps"`          // may be empty on a page that is not the last
	Next    uint64    `json:"next,omitempty"` // from=… of the next page
}

// PastKey is a key that a subject has or ever had.
type PastKey struct {
	KeyWindow
	PublicKey   string     `json:"public_key,omitempty"`  // as the record of its begin says it, or PEM if the subject has it still
	How         string     `json:"how,omitempty"`         // the action that brought it; absent: it is from before the history tells
	Actor       EventActor `json:"actor"`                 // who brought it
	Predecessor string     `json:"predecessor,omitempty"` // key id of the one that ordered it
	Index       uint64     `json:"index,omitempty"`       // log index that brought it
	RevokedBy   EventActor `json:"revoked_by"`
	Reason      string     `json:"reason,omitempty"`  // why it was revoked
	GoneAt      uint64     `json:"gone_at,omitempty"` // log index by which it had ended and was forgotten, or its owner went
	Steps       []uint64   `json:"steps"`             // log indexes at which anything of it changed
}

// KeyPast is all that the history tells of a subject's keys.
type KeyPast struct {
	Subject string    `json:"subject"`
	Keys    []PastKey `json:"keys"` // in the order in which they came
	Steps   []KeyStep `json:"steps"`
}

// KeyHistory returns a page of what happened to a subject's keys, from a record on.
func (c *Client) KeyHistory(ctx context.Context, subject string, from uint64, limit int, opts ...Option) (out KeyHistory, err error) {
	opts = append(opts, Page("", limit), func(q *call) { q.query.Set("from", strconv.FormatUint(from, 10)) })
	err = c.get(ctx, keyPath(subject)+"/history", &out, opts)
	return out, err
}

// keyHistoryPage is how many steps are asked for at once.
const keyHistoryPage = 500

// KeyPast reads the whole history of a subject's keys. It also works for a subject
// that is gone.
func (c *Client) KeyPast(ctx context.Context, subject string, opts ...Option) (out KeyPast, err error) {
	epoch := uint64(0)
	for from := uint64(1); from != 0; {
		page, err := c.KeyHistory(ctx, subject, from, keyHistoryPage, opts...)
		if err != nil {
			return out, err
		}
		if page.Next != 0 && page.Next <= from || epoch != 0 && page.Epoch != epoch {
			return out, &Error{Code: CodeConflict, Detail: fmt.Sprintf("the history changed at record %d while it was read (recovery epoch %d): ask again", from, page.Epoch)}
		}
		out.Steps, from, epoch = append(out.Steps, page.Steps...), page.Next, page.Epoch
	}
	now, err := c.Keys(ctx, subject, opts...)
	if e := (*Error)(nil); errors.As(err, &e) && e.Code == CodeNotFound && len(out.Steps) > 0 {
		err = nil
	}
	out.Subject, out.Keys = subject, PastKeys(out.Steps, now.Keys)
	return out, err
}

// PastKeys puts the steps of a history together, and what the subject has now: its
// first key stands in no step until something changes.
func PastKeys(steps []KeyStep, now []Key) []PastKey {
	p := past{keys: []PastKey{}}
	for _, s := range steps {
		p.take(s)
	}
	for _, k := range now {
		p.see(k)
	}
	return p.keys
}

// past is what the steps up to one tell.
type past struct {
	keys  []PastKey
	owner KeyStep // that made the owner of the keys known
	gone  uint64  // log index at which the owner went; 0: it is there
}

func (p *past) take(s KeyStep) {
	switch s.Action {
	case "agent_enroll", "coordinator_join", "genesis":
		p.owner, p.gone = s, 0
		if id := s.Fields["key_id"]; id != "" {
			p.window(s, KeyWindow{KeyID: id})
		}
	case "agent_revoked", "coordinator_remove", "coordinator_replace", "coordinator_clean_up":
		p.leave(s, nil)
		p.gone = s.Index
	}
	if !s.Changed {
		return
	}
	p.leave(s, s.Ring)
	for _, w := range s.Ring {
		p.window(s, w)
	}
}

// leave marks the keys that are not among those that stay.
func (p *past) leave(s KeyStep, stay []KeyWindow) {
	for i := range p.keys {
		k := &p.keys[i]
		if k.GoneAt == 0 && !slices.ContainsFunc(stay, func(w KeyWindow) bool { return w.KeyID == k.KeyID }) {
			k.GoneAt, k.Steps = s.Index, append(k.Steps, s.Index)
		}
	}
}

// window takes what a step tells of one key.
func (p *past) window(s KeyStep, w KeyWindow) {
	k := p.key(s, w)
	if k.KeyWindow != w || k.GoneAt != p.gone || len(k.Steps) == 0 {
		if k.RevokedAt == 0 && w.RevokedAt != 0 {
			k.RevokedBy, k.Reason = s.Actor, s.Reason
		}
		k.KeyWindow, k.GoneAt = w, p.gone
		if n := len(k.Steps); n == 0 || k.Steps[n-1] != s.Index {
			k.Steps = append(k.Steps, s.Index)
		}
	}
}

// key finds a key, or makes it known: as what the step is about, or as the first of
// its owner.
func (p *past) key(s KeyStep, w KeyWindow) *PastKey {
	if i := slices.IndexFunc(p.keys, func(k PastKey) bool { return k.KeyID == w.KeyID }); i >= 0 {
		return &p.keys[i]
	}
	k := PastKey{KeyWindow: w}
	switch {
	case s.brings(w.KeyID):
		k.How, k.Actor, k.Index, k.PublicKey = s.Action, s.Actor, s.Index, s.Fields["public_key"]
		if by := s.Fields["by"]; by != "nobody" {
			k.Predecessor = by
		}
	case w.NotBeforeMs == 0 && !w.Waits && p.owner.Index != 0:
		k.KeyWindow = KeyWindow{KeyID: w.KeyID}
		k.How, k.Actor, k.Index = p.owner.Action, p.owner.Actor, p.owner.Index
		k.Steps = []uint64{p.owner.Index}
	}
	p.keys = append(p.keys, k)
	return &p.keys[len(p.keys)-1]
}

// brings tells whether a step is that of a new key.
func (s KeyStep) brings(keyID string) bool {
	switch s.Action {
	case "agent_enroll", "agent_rekey", "key_prepare", "key_recover":
		return s.Fields["key_id"] == keyID && s.Fields["by"] != keyID
	}
	return false
}

// see takes what the subject has now.
func (p *past) see(now Key) {
	w := KeyWindow{KeyID: now.KeyID, NotBeforeMs: now.NotBeforeMs, UntilMs: now.UntilMs, RevokedAt: now.RevokedAt, Waits: now.State == KeyNext && now.NotBeforeMs == 0}
	known := slices.ContainsFunc(p.keys, func(k PastKey) bool { return k.KeyID == now.KeyID })
	k := p.key(KeyStep{}, w)
	if !known {
		k.KeyWindow = w
		if k.Index == 0 {
			k.Index, k.Predecessor = now.Index, now.Predecessor
		}
	}
	if now.PublicKey != "" {
		k.PublicKey = now.PublicKey
	}
}
