package judge

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// Limits bounds how long a verdict may take.
type Limits struct {
	Linear time.Duration // for one register's linearizability; past it the check is undecided
}

// DefaultLimits suit a run of an hour.
func DefaultLimits() Limits { return Limits{Linear: 30 * time.Second} }

// Judge judges the run saved in a directory and writes the verdict beside it.
func Judge(dir string) (Verdict, error) {
	run, err := Load(dir)
	if err != nil {
		return Verdict{}, fmt.Errorf("load the run: %w", err)
	}
	v := Decide(run, DefaultLimits())
	return v, writeJSON(filepath.Join(dir, VerdictFile), v)
}

// checkers in the order of the report. Each is one idea in one file.
var checkers = []struct {
	name, promise string
	check         func(*court)
}{
	{"claims admitted once", "P1", checkClaims},
	{"denials justified", "P9", checkDenials},
	{"bans hold", "P2", checkBans},
	{"bans listed as the chain says", "P4", checkBanLists},
	{"records kept", "P3", checkRecords},
	{"chain verifies", "P3", checkChains},
	{"heads and checkpoints consistent", "P3", checkHeads},
	{"log follows time", "P3", checkOrder},
	{"digests agree", "P4", checkDigests},
	{"one leader a term", "P4", checkLeaders},
	{"policy is one register", "P3", checkPolicy},
	{"limits hold", "P6", checkLimits},
	{"enough happened", "P9", checkEnough},
}

// Decide judges a run.
func Decide(run *Run, lim Limits) Verdict {
	v := Verdict{Result: Pass, Counts: count(run.Ops)}
	for _, ch := range checkers {
		c := &court{run: run, lim: lim, Check: Check{Name: ch.name, Promise: ch.promise, Result: Pass}}
		start := time.Now()
		ch.check(c)
		c.Took = time.Since(start).Round(time.Millisecond).String()
		v.Checks = append(v.Checks, c.Check)
		v.Result = worse(v.Result, c.Result)
	}
	v.Gaps = measureGaps(run)
	return v
}

func count(ops []Op) map[Kind]Rows {
	counts := map[Kind]Rows{}
	for i := range ops {
		row := counts[ops[i].Kind]
		switch ops[i].Outcome {
		case OK:
			row.OK++
		case Refused:
			row.Refused++
		case Unknown:
			row.Unknown++
		}
		counts[ops[i].Kind] = row
	}
	return counts
}

// checkEnough refuses to call a run good in which little could go wrong.
func checkEnough(c *court) {
	counts := count(c.run.Ops)
	admitted := slices.ContainsFunc(c.run.Ops, func(op Op) bool { return op.Kind == KindClaim && op.Outcome == OK && op.Claim.admitted() })
	for _, kind := range c.run.About.Expect {
		c.Examined += counts[kind].OK
		if counts[kind].OK == 0 {
			c.doubt(nil, "no %s succeeded in the whole run", kind)
		} else if kind == KindClaim && !admitted {
			c.doubt(nil, "no claim was admitted in the whole run")
		}
	}
	if len(c.run.Ops) == 0 {
		c.doubt(nil, "the history is empty")
	}
	if !c.run.About.Healed {
		c.doubt(nil, "the cluster did not come to agree again after the last fault: %s", c.run.About.HealDetail)
	}
	for _, node := range c.run.About.Nodes {
		if c.run.final(node) == nil {
			c.doubt(nil, "no final audit of %s: %s", node, c.run.whyNoFinal(node))
		}
	}
}

// final returns the final word of a node with its chain, or nil.
func (r *Run) final(node string) *Final {
	for i := range r.Finals {
		if r.Finals[i].Node == node && r.Finals[i].Audit != nil {
			return &r.Finals[i]
		}
	}
	return nil
}

func (r *Run) whyNoFinal(node string) string {
	for _, f := range r.Finals {
		if f.Node == node && f.Error != "" {
			return f.Error
		}
	}
	return "none was recorded"
}
