package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// MemberUnseen is the state of a recorded coordinator or edge that the pool does not see.
const MemberUnseen = "unseen"

// What to wait for, see Enforcement.Meets.
const (
	EnforcedQuorum = "quorum"
	EnforcedAll    = "all"
)

// Enforcement says who enforces the chain up to a size, as the node that answers heard of them: coordinators and edges on record, until they are
// removed, whether the pool sees them or not. A head beyond the answering node's chain, or of another chain, counts for nothing. A coordinator enforces what its replica applied, an edge what it verified.
type Enforcement struct {
	Epoch        uint64      `json:"epoch"`
	Size         uint64      `json:"size"` // of the chain that is asked about
	Coordinators int         `json:"coordinators"`
	Edges        int         `json:"edges"`
	EnforcedBy   EnforcedBy  `json:"enforced_by"`
	Members      []Enforcing `json:"members"` // who lags first; at most 256
}

// EnforcedBy counts who enforces.
type EnforcedBy struct {
	Coordinators int `json:"coordinators"`
	Edges        int `json:"edges"`
}

// Enforcing is how far one member is.
type Enforcing struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Role      string `json:"role"`
	State     string `json:"state"` // as in Member, or MemberUnseen
	ChainSize uint64 `json:"chain_size"`
	Enforces  bool   `json:"enforces"`
}

// roleEdge is the role of edges in Member.Role.
const roleEdge = "edge"

// Count adds a member to the counts.
func (e *Enforcement) Count(m Enforcing) {
	all, enforcing := &e.Coordinators, &e.EnforcedBy.Coordinators
	if m.Role == roleEdge {
		all, enforcing = &e.Edges, &e.EnforcedBy.Edges
	}
	*all++
	if m.Enforces {
		*enforcing++
	}
}

// Meets tells whether EnforcedAll do, or EnforcedQuorum: more than half of the coordinators, and of the edges if there are any.
func (e *Enforcement) Meets(need string) bool {
	by := e.EnforcedBy
	if need == EnforcedAll {
		return by.Coordinators == e.Coordinators && by.Edges == e.Edges
	}
	return 2*by.Coordinators > e.Coordinators && (e.Edges == 0 || 2*by.Edges > e.Edges)
}

// Enforcement asks who enforces the chain up to a size; 0: what the node that answers has. It waits for up to wait, at most MaxEnforcementWait, until
// the answer meets need; empty: it does not wait.
func (c *Client) Enforcement(ctx context.Context, size uint64, need string, wait time.Duration, opts ...Option) (out Enforcement, err error) {
	opts = append(opts, number("size", size))
	if need != "" {
		opts = append(opts, func(q *call) {
			q.query.Set("need", need)
			q.query.Set("wait_ms", strconv.FormatInt(min(wait, MaxEnforcementWait).Milliseconds(), 10))
		})
	}
	err = c.get(ctx, "/v1/blacklist/enforcement", &out, opts)
	return out, err
}

// MaxEnforcementWait is the longest that one question waits.
const MaxEnforcementWait = 5 * time.Second

// enforcementLook is how long one question of WaitEnforced waits, so that progress is seen.
const enforcementLook = time.Second

// WaitEnforced asks until the chain of a size is enforced as needed, or ctx ends: then it returns the last answer and the error of ctx. Each answer is shown to
// progress, unless that is nil. Answers that did not come are asked for again.
func (c *Client) WaitEnforced(ctx context.Context, size uint64, need string, progress func(Enforcement)) (last Enforcement, err error) {
	for {
		now, err := c.Enforcement(ctx, size, need, enforcementLook)
		switch {
		case err != nil && ctx.Err() != nil:
			return last, ctx.Err()
		case err != nil:
			if e := (*Error)(nil); !errors.As(err, &e) || e.Code != CodeUnavailable && e.Code != CodeOverloaded {
				return last, err
			}
			if err := sleepContext(ctx, firstBackoff); err != nil {
				return last, err
			}
			continue
		case last.Size != 0 && now.Epoch != last.Epoch:
			return now, &Error{Code: CodeUnknownOutcome, Reason: ReasonReset, Detail: fmt.Sprintf("a recovery began epoch %d meanwhile: look whether the ban is still on record", now.Epoch)}
		}
		last, size = now, now.Size
		if progress != nil {
			progress(now)
		}
		if now.Meets(need) {
			return now, nil
		}
		if ctx.Err() != nil {
			return now, ctx.Err()
		}
	}
}
