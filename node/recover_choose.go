package node

import (
	"fmt"
	"slices"
	"strings"

	"github.com/edgecoder/edgecoder/fsm"
)

// Flags that give leave to what a recovery refuses by itself.
const (
	leaveLose   = "--lose-acknowledged"
	leaveChoose = "--choose NAME"
	leaveReach  = "--ignore-reachable NAME"
	leaveKeep   = "--keep-restore"
)

// Refusal is why a recovery does not go ahead, and the flag that overrules it;
// an empty flag means that nothing does.
type Refusal struct {
	Reason string `json:"reason"`
	Flag   string `json:"flag,omitempty"`
}

// choice is which copy a recovery goes on from.
type choice struct {
	chosen   *candidate // nil when none can be
	why      []string
	refusals []Refusal
	mayLose  bool // acknowledged records may be on no copy that is here, or be left aside
}

func (ch *choice) refuse(flag, format string, args ...any) {
	ch.refusals = append(ch.refusals, Refusal{Reason: fmt.Sprintf(format, args...), Flag: flag})
}

func (ch *choice) because(format string, args ...any) {
	ch.why = append(ch.why, fmt.Sprintf(format, args...))
}

// choose picks the copy to go on from, the one named if a name is given, and
// says what speaks against it. It is pure: what it needs was read before.
func choose(all []*candidate, named string, loseAcknowledged bool) choice {
	var ch choice
	best := bestOf(all)
	if ch.chosen = best; named != "" {
		ch.chosen = ch.find(all, named)
	}
	if ch.chosen == nil {
		if named == "" {
			ch.refuse("", "no copy is fit to go on from: each is damaged, retired, an observer's, or differs from the others")
		}
		return ch
	}
	ch.explain(best)
	ch.forks(all, named, loseAcknowledged)
	if ch.chosen.Recovered {
		ch.because("a recovery was decided here and nothing was written since: what is left of it will be finished, no further epoch begins")
		return ch
	}
	ch.compare(all, named, loseAcknowledged)
	ch.count(all, loseAcknowledged)
	return ch
}

// unfit says why nobody can go on from a copy, "" if one can.
func (c *candidate) unfit() string {
	switch {
	case len(c.Damage) > 0:
		return "it is damaged: " + strings.Join(c.Damage, "; ")
	case c.Retired != nil:
		return "it is retired: " + c.Retired.Reason
	case c.Role != string(fsm.RoleCoordinator):
		return "it is an observer's, which holds no CA key and cannot lead"
	case c.Name == "":
		return "its own state has no record of it: it was removed, or never caught up with its join"
	}
	return ""
}

// bestOf returns the copy with the newest log among those that are fit.
func bestOf(all []*candidate) (best *candidate) {
	for _, c := range all {
		if c.unfit() == "" && !c.Diverged && (best == nil || c.newerThan(&best.SurvivingCopy)) {
			best = c
		}
	}
	return best
}

// find returns the copy that --choose names, by name, id or directory.
func (ch *choice) find(all []*candidate, named string) *candidate {
	var known []string
	for _, c := range all {
		if named == c.Name || named == c.NodeID || named == c.DataDir {
			if why := c.unfit(); why != "" {
				ch.refuse("", "%s cannot be chosen: %s", c.label(), why)
				return nil
			}
			return c
		}
		known = append(known, c.label())
	}
	ch.refuse("", "there is no copy of %q here: there are %s", named, strings.Join(known, ", "))
	return nil
}

func (ch *choice) explain(best *candidate) {
	c := ch.chosen
	what := fmt.Sprintf("%s: epoch %d, last entry %d of term %d", c.label(), c.Epoch, c.LastIndex, c.LastTerm)
	if c == best {
		ch.because("%s: no sound copy of a coordinator is newer (the last recovery first, then raft's own order: term of the last entry, then its index)", what)
		return
	}
	ch.because("%s: chosen by name", what)
}

// forks looks for copies of another recovery: the cluster is two already.
func (ch *choice) forks(all []*candidate, named string, loseAcknowledged bool) {
	for _, c := range all {
		if c == ch.chosen || c.Retired != nil || !ch.chosen.forked(c) {
			continue
		}
		ch.mayLose = true
		if named == "" {
			ch.refuse(leaveChoose, "%s and %s were recovered separately and are two clusters since: nobody can tell from here which is to stay", ch.chosen.label(), c.label())
		}
		if !loseAcknowledged {
			ch.refuse(leaveLose, "what the cluster of %s acknowledged since it went on separately would be lost", c.label())
		}
	}
}

// restored looks at a restore that the chosen copy holds: its leader may have
// died with it, and the others gone on from the state of before.
func (ch *choice) restored(all []*candidate, keep bool) {
	c := ch.chosen
	if c == nil || c.Recovered || c.Restore == "" || c.Restore == restoreUnconfirmed && c.restoreStood(all) {
		return
	}
	ch.mayLose = true
	what := fmt.Sprintf("%s holds a restore (epoch %d)", c.label(), c.newest.Epoch)
	switch {
	case keep:
		ch.because("%s: what was acknowledged without it is lost", what)
	case c.Restore == restorePassedOver:
		ch.refuse(leaveKeep, "%s that the cluster went on without, and is about to take it back: start its server once, which does that first, then stop it and ask again. Going on from the restore loses what was acknowledged without it", what)
	default:
		ch.refuse(leaveKeep, "%s, and no copy here tells that a majority ever took it: if the cluster went on without, going on from the restore loses what was acknowledged since. Look for a copy of another coordinator", what)
	}
}

// restoreStood tells whether a copy noted that the restore is the cluster's.
func (c *candidate) restoreStood(all []*candidate) bool {
	return slices.ContainsFunc(all, func(o *candidate) bool { return o.state != nil && o.noted == c.newest.Epoch && !c.forked(o) })
}

// compare looks for copies that hold what the chosen one lacks.
func (ch *choice) compare(all []*candidate, named string, loseAcknowledged bool) {
	for _, c := range all {
		if c == ch.chosen || c.Retired != nil {
			continue
		}
		newer := c.newerThan(&ch.chosen.SurvivingCopy)
		switch {
		case newer && c.sound():
			ch.mayLose = true
			if !loseAcknowledged {
				ch.refuse(leaveLose, "%s is newer (epoch %d, last entry %d of term %d) and would be left aside", c.label(), c.Epoch, c.LastIndex, c.LastTerm)
			}
		case newer:
			ch.because("%s looks newer (last entry %d of term %d) but cannot be used: %s", c.label(), c.LastIndex, c.LastTerm, c.fault())
		}
		if at := ch.chosen.disagree(c); at != 0 && named == "" && c.sound() {
			ch.refuse(leaveChoose, "the states of %s and %s differ at index %d, and nobody can tell from here which is right", ch.chosen.label(), c.label(), at)
		}
	}
	if ch.chosen.Diverged && named != "" {
		ch.because("the cluster found that the state of %s differs from the others': it becomes the truth", ch.chosen.label())
	}
}

func (c *candidate) fault() string {
	if why := c.unfit(); why != "" {
		return why
	}
	return "its state differs from the others'"
}

// count asks whether every acknowledged record is on a copy that is here. One
// was acknowledged once more than half of the voters had it, so any other half
// and more of them has it too. Exactly half of an even number is not enough: a
// member may have been removed without these copies having heard of it.
func (ch *choice) count(all []*candidate, loseAcknowledged bool) {
	enough := true
	for i, conf := range ch.chosen.inForce() {
		have := 0
		for _, c := range all {
			if c.sound() && slices.Contains(conf.voters, c.NodeID) {
				have++
			}
		}
		which := ""
		if n := len(ch.chosen.inForce()); n > 1 {
			which = []string{"before the last change of members, which may not have been committed: ", "after it: "}[i]
		}
		ch.because("%s%d of %d voters have a sound copy here", which, have, len(conf.voters))
		enough = enough && have > len(conf.voters)/2
	}
	if enough {
		ch.because("that is a majority: every acknowledged record is on one of them. Starting these servers as they are brings the cluster back without any recovery")
		return
	}
	ch.mayLose = true
	if !loseAcknowledged {
		ch.refuse(leaveLose, "acknowledged records may be only on the voters that are lost: going on without them forgets those records for ever")
	}
}
