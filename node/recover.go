package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/edgecoder/edgecoder/fsm"
)

// A cluster whose majority is lost for ever cannot decide anything, not even
// to go on with fewer members. A recovery does that from outside, on the data
// directories of stopped servers: one copy goes on alone, under a new epoch,
// with everybody else removed. It is a decision by a person: without one this
// code only tells what each copy holds and what would be lost.

// RecoveryDir is the data directory of a stopped server and the passphrase of
// its key file.
type RecoveryDir struct {
	DataDir    string
	Passphrase []byte
}

// RecoveryOptions say what to recover from, and what the operator takes on.
type RecoveryOptions struct {
	Dirs             []RecoveryDir
	Choose           string   // name, id or directory of the copy to go on from; empty: the newest
	LoseAcknowledged bool     // acknowledged records may be lost
	KeepRestore      bool     // go on from a restore that may not have taken effect
	IgnoreReachable  []string // names or ids of coordinators whose answer does not count
	RevokeTokens     bool     // all tokens end, but for a new one of an admin that the next start shows
	Reason           string   // for the record, at most fsm.MaxReasonBytes
	Now              func() time.Time
	Log              *slog.Logger

	step func(name string) error // tests: called between the steps of a recovery
}

// RecoveryPlan is what a recovery found and would do.
type RecoveryPlan struct {
	ClusterID  string           `json:"cluster_id"`
	Copies     []*SurvivingCopy `json:"copies"` // the newest first
	Chosen     string           `json:"chosen"` // node id, empty when no copy is fit
	ChosenName string           `json:"chosen_name"`
	ChosenDir  string           `json:"chosen_dir"`
	Why        []string         `json:"why"`
	MayLose    bool             `json:"may_lose_acknowledged"`
	Risk       *RecoveryRisk    `json:"risk,omitempty"` // when it may lose
	Reachable  []ReachablePeer  `json:"reachable"`
	Refusals   []Refusal        `json:"refusals"` // none: it may go ahead
	WallMs     int64            `json:"wall_ms"`  // of this machine: the cluster clock becomes that, unless it is ahead
}

// Recovery holds the locks of its directories until it is closed.
type Recovery struct {
	o      RecoveryOptions
	copies []*candidate
	chosen *candidate
	plan   RecoveryPlan
	unlock []func() error

	executed bool
}

// ErrRecovery is wrapped by refusals to recover.
var ErrRecovery = errors.New("recovery refused")

// OpenRecovery locks the directories, reads what they hold and decides what a
// recovery would do. It changes nothing. Close lets go of the directories.
func OpenRecovery(ctx context.Context, o RecoveryOptions) (*Recovery, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.step == nil {
		o.step = func(string) error { return nil }
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	r := &Recovery{o: o}
	if err := r.read(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	r.decide(ctx)
	return r, nil
}

func (o *RecoveryOptions) check() error {
	if len(o.Dirs) == 0 {
		return errors.New("no data directory is given")
	}
	if len(o.Reason) > fsm.MaxReasonBytes || !utf8.ValidString(o.Reason) {
		return fmt.Errorf("the reason has %d bytes, it must be text of at most %d", len(o.Reason), fsm.MaxReasonBytes)
	}
	return nil
}

// read locks and reads every directory.
func (r *Recovery) read() error {
	for _, d := range r.o.Dirs {
		dir, err := filepath.Abs(d.DataDir)
		if err != nil {
			return err
		}
		unlock, err := lockFound(dir)
		if errors.Is(err, errInUse) {
			return fmt.Errorf("%w: stop it first; a cluster that is lost has nothing to lose by that", err)
		}
		if err != nil {
			return err
		}
		r.unlock = append(r.unlock, unlock)
		c, err := readCopy(dir, d.Passphrase)
		if err != nil {
			return err
		}
		for _, other := range r.copies {
			if other.ClusterID != c.ClusterID {
				return fmt.Errorf("%w: %s is of cluster %s, %s of %s", ErrRecovery, other.DataDir, other.ClusterID, dir, c.ClusterID)
			}
			if other.NodeID == c.NodeID {
				return fmt.Errorf("%w: %s and %s are both of node %s: give the one that ran last, an older copy forgot what it promised",
					ErrRecovery, other.DataDir, dir, c.NodeID)
			}
		}
		r.copies = append(r.copies, c)
	}
	slices.SortStableFunc(r.copies, func(a, b *candidate) int {
		switch {
		case a.newerThan(&b.SurvivingCopy):
			return -1
		case b.newerThan(&a.SurvivingCopy):
			return 1
		}
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.NodeID, b.NodeID))
	})
	return nil
}

// decide fills the plan.
func (r *Recovery) decide(ctx context.Context) {
	ch := choose(r.copies, r.o.Choose, r.o.LoseAcknowledged)
	ch.restored(r.copies, r.o.KeepRestore)
	r.chosen = ch.chosen
	p := &r.plan
	*p = RecoveryPlan{ClusterID: r.copies[0].ClusterID, Why: append([]string{}, ch.why...), MayLose: ch.mayLose, Reachable: []ReachablePeer{}, WallMs: r.o.Now().UnixMilli()}
	for _, c := range r.copies {
		p.Copies = append(p.Copies, &c.SurvivingCopy)
	}
	if c := ch.chosen; c != nil {
		p.Chosen, p.ChosenName, p.ChosenDir = c.NodeID, c.Name, c.DataDir
		if !c.Recovered { // else it is too late to ask
			p.Reachable = append(p.Reachable, reachable(ctx, r.copies)...)
			ch.heed(p.Reachable, r.o.IgnoreReachable)
		}
		if ch.mayLose && c.state != nil {
			p.Risk = riskOf(c, r.copies)
		}
	}
	p.Refusals = append([]Refusal{}, ch.refusals...)
}

// heed refuses while servers of the cluster answer. A majority that answers is
// not lost, whatever anybody says.
func (ch *choice) heed(peers []ReachablePeer, ignored []string) {
	answering := 0
	for _, p := range peers {
		if n := len(ch.chosen.Voters); n > 0 && slices.Contains(ch.chosen.Voters, p.NodeID) {
			answering++
		}
		if !slices.Contains(ignored, p.Name) && !slices.Contains(ignored, p.NodeID) {
			ch.refuse(leaveReach, "the majority may not be lost: coordinator %s at %s: %s. Start the stopped servers instead, or stop it and give its data directory too",
				cmp.Or(p.Name, p.NodeID), p.Address, p.Answer)
		}
	}
	if answering > len(ch.chosen.Voters)/2 {
		ch.refuse("", "%d of %d voters answer, which is a majority: the cluster is not lost, and a second one beside it must not be", answering, len(ch.chosen.Voters))
	}
}

// Plan returns what was found.
func (r *Recovery) Plan() RecoveryPlan { return r.plan }

// Close lets go of the directories. It may be called again.
func (r *Recovery) Close() error {
	var errs []error
	for _, unlock := range r.unlock {
		errs = append(errs, unlock())
	}
	r.unlock = nil
	return errors.Join(errs...)
}
