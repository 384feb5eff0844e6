package edge

import (
	"sync/atomic"

	"github.com/edgecoder/edgecoder/client"
)

// Judge answers whether an agent may act. Its fields are set before the first question and not changed; all methods may be called from any
// goroutine, and wait for nothing.
type Judge struct {
	Mode  string // client.EdgeStrict or client.EdgeBestEffort
	Set   *Set
	Lease *Lease
	Allow *AllowList
	Sync  *Syncer

	counts [len(codes)]atomic.Uint64
}

// codes are the answers there are, in the order in which they are counted.
var codes = [...]string{client.AllowedOK, client.AllowedListed, client.AllowedBlacklisted, client.AllowedStale, client.AllowedHalted, client.AllowedUnknown}

// Checks returns how many questions were answered with each code.
func (j *Judge) Checks() map[string]uint64 {
	out := make(map[string]uint64, len(codes))
	for i, code := range codes {
		out[code] = j.counts[i].Load()
	}
	return out
}

// Check answers a question from one view, which it also returns.
func (j *Judge) Check(agentID string) (client.AllowedAnswer, *View) {
	v := j.Set.View()
	return j.check(v, j.blocked(v), agentID), v
}

// CheckAll answers questions from one view.
func (j *Judge) CheckAll(agentIDs []string) ([]client.AllowedAnswer, *View) {
	v := j.Set.View()
	blocked := j.blocked(v)
	out := make([]client.AllowedAnswer, len(agentIDs))
	for i, id := range agentIDs {
		out[i] = j.check(v, blocked, id)
	}
	return out, v
}

// check: the operator's own list is asked first, then the bans, then whether anybody may be let through at all.
func (j *Judge) check(v *View, blocked, agentID string) client.AllowedAnswer {
	out := client.AllowedAnswer{AgentID: agentID, Code: client.AllowedOK}
	if ban, ok := v.Ban(agentID); ok && ban.InForce(j.Lease.NowMs()) {
		out.Code, out.Seq, out.ExpiresAtMs = client.AllowedBlacklisted, ban.Seq, ban.ExpiresMs
	}
	switch {
	case j.Allow.Has(agentID):
		out.Code = client.AllowedListed
	case out.Code == client.AllowedOK && blocked != "":
		out.Code = blocked
	}
	out.Allowed = out.Code == client.AllowedOK || out.Code == client.AllowedListed
	for i, code := range codes {
		if code == out.Code {
			j.counts[i].Add(1)
		}
	}
	return out
}

// blocked returns why nobody who is not banned may be let through either, or "". Without any list that was ever verified there is nothing to go by,
// in both modes.
func (j *Judge) blocked(v *View) string {
	switch {
	case v.Head.Epoch == 0 && v.Head.Size == 0 && j.Lease.VouchedMs() == 0:
		return client.AllowedUnknown
	case j.Mode == client.EdgeBestEffort:
		return ""
	case j.Sync.Halted() != "":
		return client.AllowedHalted
	case j.Lease.Left() <= 0:
		return client.AllowedStale
	}
	return ""
}

// fresh tells whether a majority vouched for the list within the lease, and nothing contradicts it.
func (j *Judge) fresh() bool { return j.Lease.Left() > 0 && j.Sync.Halted() == "" }

// Freshness says what answers from a view rest on.
func (j *Judge) Freshness(v *View) client.Freshness {
	halted, left := j.Sync.Halted(), j.Lease.Left()
	f := client.Freshness{Mode: j.Mode, Fresh: left > 0 && halted == "", LeaseLeftMs: max(left.Milliseconds(), 0), AgeMs: -1, ClockMs: j.Lease.NowMs(),
		Epoch: v.Head.Epoch, Size: v.Head.Size, Root: v.Head.Root.String(), ChainHead: v.Head.Chain, Halted: halted}
	if j.Lease.VouchedMs() != 0 {
		f.AgeMs = j.Lease.Age().Milliseconds()
	}
	return f
}
