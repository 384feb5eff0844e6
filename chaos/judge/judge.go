package judge

import (
	"fmt"
	"path/filepath"
	"time"
)

// Limits bounds how long a verdict may take.
type Limits struct {
	Linear time.Duration // for one register's linearizability; past it the check is undecided
	Shrink time.Duration // for making the evidence of all findings short; past it it is shown as it is
}

// DefaultLimits suit a run of an hour.
func DefaultLimits() Limits { return Limits{Linear: 30 * time.Second, Shrink: 20 * time.Second} }

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
	{"limits denied in earnest", "P9", checkLimited},
	{"refusals blame the cluster", "P9", checkRefusals},
	{"bans hold", "P2", checkBans},
	{"reads match the log", "P3", checkReads},
	{"bans listed as the chain says", "P4", checkBanLists},
	{"records kept", "P3", checkRecords},
	{"chain verifies", "P3", checkChains},
	{"heads consistent", "P3", checkHeads},
	{"checkpoints consistent", "P3", checkCheckpoints},
	{"log follows time", "P3", checkOrder},
	{"digests agree", "P4", checkDigests},
	{"one leader a term", "P4", checkLeaders},
	{"one epoch", "P3", checkEpochs},
	{"policy is one register", "P3", checkPolicy},
	{"limits hold", "P6", checkLimits},
	{"keys verify in their time", "P5", checkKeys},
	{"ledger adds up", "P7", checkBooks},
	{"money moved once", "P7", checkMoves},
	{"ledger answers match the log", "P7", checkLedgerAnswers},
	{"balances linearizable", "P7", checkIslands},
	{"it works again", "P9", checkWorksAgain},
	{"enough happened", "P9", checkEnough},
}

// Decide judges a run.
func Decide(run *Run, lim Limits) Verdict {
	v := Verdict{Result: Pass, Counts: count(run.Ops)}
	shrink, known := lim.Shrink, gather(run)
	for _, ch := range checkers {
		c := &court{run: run, lim: lim, shrink: &shrink, facts: known, Check: Check{Name: ch.name, Promise: ch.promise, Result: Pass}}
		start := time.Now()
		ch.check(c)
		if c.Result == Pass && c.Examined == 0 {
			c.Result = NotExamined
		}
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
