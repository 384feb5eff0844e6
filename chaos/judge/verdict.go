package judge

import (
	"fmt"
	"slices"
	"time"
)

// Result is how a run, or one check of it, was judged.
type Result string

// The results.
const (
	Pass      Result = "pass"
	Fail      Result = "fail"
	Undecided Result = "undecided"
	// NotExamined is a check that found nothing to look at. It says nothing
	// against a run, and nothing for it.
	NotExamined Result = "not examined"
)

// Finding is one thing that a checker has to say.
type Finding struct {
	Result   Result   `json:"result"`  // fail or undecided
	Promise  string   `json:"promise"` // P1 … P9 of DESIGN.md
	What     string   `json:"what"`
	Ops      []int64  `json:"ops,omitempty"`
	Evidence []string `json:"evidence,omitempty"`
}

// Check is the judgement of one checker.
type Check struct {
	Name     string    `json:"name"`
	Promise  string    `json:"promise"`
	Result   Result    `json:"result"`
	Examined int       `json:"examined"` // operations, records or pairs looked at
	Findings []Finding `json:"findings,omitempty"`
	Unshown  int       `json:"unshown,omitempty"` // findings beyond maxFindings
	Took     string    `json:"took"`
}

// maxFindings bounds what one check prints: after that it is the same story.
const maxFindings = 20

// Verdict is the judgement of a run.
type Verdict struct {
	Result Result        `json:"result"`
	Checks []Check       `json:"checks"`
	Gaps   Gaps          `json:"gaps"`
	Counts map[Kind]Rows `json:"counts"`
}

// Rows counts operations of one kind by outcome.
type Rows struct {
	OK      int `json:"ok"`
	Refused int `json:"refused"`
	Unknown int `json:"unknown"`
}

// court gathers what one checker finds.
type court struct {
	run    *Run
	lim    Limits
	shrink *time.Duration // what is left of Limits.Shrink
	*facts
	Check
}

// facts are what several checkers draw from the run.
type facts struct {
	chain    *chainIndex
	policies policyHistory
	clock    logClock // every admission, by index
	uses     map[string]*uses
	bans     banEvents
	keys     keyChanges
	books    ledgerBooks
}

func gather(run *Run) *facts {
	f := &facts{chain: run.chain(), policies: run.policies(), clock: newLogClock(run.admissions()), keys: run.keyChanges()}
	f.uses, f.bans = run.uses(f.clock), run.banEvents(f.chain)
	f.books = run.ledgerBooks()
	return f
}

// fail records a broken promise.
func (c *court) fail(ops []*Op, format string, args ...any) {
	c.find(Finding{Result: Fail, Promise: c.Promise, What: fmt.Sprintf(format, args...)}, ops)
}

// failAs records a broken promise other than the checker's own.
func (c *court) failAs(promise string, ops []*Op, format string, args ...any) {
	c.find(Finding{Result: Fail, Promise: promise, What: fmt.Sprintf(format, args...)}, ops)
}

// lacks records that the final chain has not what an operation showed or was
// acknowledged. That breaks the promise if its node had applied the index of
// the answer, or if every node gave its chain; else another one may have it.
func (c *court) lacks(op *Op, format string, args ...any) {
	last := c.run.final(c.chain.node).Status
	if op.Index > 0 && last != nil && last.AppliedIndex >= op.Index {
		c.fail([]*Op{op}, format, args...)
		return
	}
	for _, node := range c.run.About.Nodes {
		if c.run.final(node) == nil {
			c.doubt([]*Op{op}, format+"; not every node gave its chain", args...)
			return
		}
	}
	c.fail([]*Op{op}, format, args...)
}

// doubt records why the checker cannot decide.
func (c *court) doubt(ops []*Op, format string, args ...any) {
	c.find(Finding{Result: Undecided, Promise: c.Promise, What: fmt.Sprintf(format, args...)}, ops)
}

func (c *court) find(f Finding, ops []*Op) {
	c.Result = worse(c.Result, f.Result)
	if len(c.Findings) == maxFindings {
		c.Unshown++
		return
	}
	ops = slices.Clone(ops)
	slices.SortFunc(ops, func(a, b *Op) int { return int(a.StartNS - b.StartNS) })
	for i, op := range ops {
		if i == maxEvidence {
			f.Evidence = append(f.Evidence, fmt.Sprintf("… and %d more", len(ops)-i))
			break
		}
		f.Ops = append(f.Ops, op.ID)
		f.Evidence = append(f.Evidence, op.String())
	}
	c.Findings = append(c.Findings, f)
}

// maxEvidence bounds the operations shown with one finding.
const maxEvidence = 24

func worse(a, b Result) Result {
	switch {
	case a == Fail || b == Fail:
		return Fail
	case a == Undecided || b == Undecided:
		return Undecided
	}
	return Pass
}

// String is the line of an operation in evidence.
func (op *Op) String() string {
	at := func(ns int64) string { return fmt.Sprintf("%.4fs", time.Duration(ns).Seconds()) }
	head := fmt.Sprintf("#%d client %d at %s [%s, %s] ", op.ID, op.Client, op.Node, at(op.StartNS), at(op.EndNS))
	return head + op.asked() + " → " + op.answered()
}

func (op *Op) asked() string {
	level := "local"
	if op.Strong {
		level = "strong"
	}
	switch op.Kind {
	case KindClaim:
		return fmt.Sprintf("claim %s nonce %s ts %d id %s", op.Claim.Agent, op.Claim.Nonce, op.Claim.TimestampMs, op.Claim.ClaimID)
	case KindBan:
		return fmt.Sprintf("ban %s (%s)", op.Ban.Agent, op.Ban.Reason)
	case KindLift:
		return fmt.Sprintf("lift %s (%s)", op.Lift.Agent, op.Lift.Reason)
	case KindBanRead:
		return fmt.Sprintf("%s read: is %s banned", level, op.BanRead.Agent)
	case KindRekey:
		return fmt.Sprintf("change the key of %s from %.12s to %.12s", op.Rekey.Agent, op.Rekey.From, op.Rekey.To)
	case KindMove:
		return op.Move.text()
	case KindAccount:
		return fmt.Sprintf("%s read: what is on %s", level, op.Account.Account)
	case KindPolicySet:
		return fmt.Sprintf("set policy if version %d to %s", op.PolicySet.IfVersion, op.PolicySet.Policy.text())
	}
	return fmt.Sprintf("%s %s", level, op.Kind)
}

func (op *Op) answered() string {
	if op.Outcome != OK {
		return fmt.Sprintf("%s %s", op.Outcome, op.Code)
	}
	switch op.Kind {
	case KindClaim:
		return fmt.Sprintf("%s %s index %d clock %d repeated %t", op.Claim.Verdict, op.Claim.Code, op.Claim.Index, op.Claim.ClockMs, op.Claim.Repeated)
	case KindBan:
		return fmt.Sprintf("event %s seq %d index %d repeated %t", op.Ban.EventID, op.Ban.Size, op.Index, op.Ban.Repeated)
	case KindLift:
		return fmt.Sprintf("event %s seq %d index %d repeated %t", op.Lift.EventID, op.Lift.Size, op.Index, op.Lift.Repeated)
	case KindBanRead:
		return fmt.Sprintf("%t event %s seq %d index %d", op.BanRead.InForce, op.BanRead.EventID, op.BanRead.Seq, op.Index)
	case KindBansRead:
		return fmt.Sprintf("size %d head %.12s agents %v index %d", op.BansRead.Size, op.BansRead.Head, op.BansRead.Agents, op.Index)
	case KindChainRead:
		return fmt.Sprintf("size %d head %.12s", op.ChainRead.Size, op.ChainRead.Head)
	case KindMove:
		return op.Move.answers()
	case KindAccount:
		return fmt.Sprintf("balance %d held %d available %d index %d", op.Account.Balance, op.Account.Held, op.Account.Available, op.Index)
	case KindPolicySet:
		return fmt.Sprintf("version %d index %d", op.PolicySet.Version, op.Index)
	case KindPolicyRead:
		return fmt.Sprintf("version %d %s", op.PolicyRead.Version, op.PolicyRead.Policy.text())
	case KindStatus:
		return fmt.Sprintf("%s in term %d, epoch %d, applied %d", op.Status.State, op.Status.Term, op.Status.Epoch, op.Status.AppliedIndex)
	}
	return "ok"
}
