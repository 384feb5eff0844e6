package chaos

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
)

// Options say where and how to run a scenario.
type Options struct {
	Dir      string        // of the run; made, or empty and nobody else's
	Binary   string        // the edgecoder binary; empty: this very program
	Netns    bool          // may make network namespaces, TUN devices and loop mounts (root)
	Version  string        // of the binary, for the report
	Keep     bool          // keep the servers' data after a pass too, and the cluster's secrets
	Patience time.Duration // how long a healed cluster may take to agree again; 0: agreeTimeout
	// Hurry ends when there is no time to stop the servers in good order: then
	// they are killed. Nil: there is always time.
	Hurry context.Context
	// AllowSkips lets a run pass without the faults that the machine cannot do.
	AllowSkips bool
	Progress   func(format string, args ...any)
}

// Result is how a run ended.
type Result struct {
	Dir     string        `json:"dir"`
	Verdict judge.Verdict `json:"verdict"`
	Report  string        `json:"report"` // path of the HTML report
	Summary string        `json:"-"`      // the same in plain text
}

// run is a scenario being carried out.
type run struct {
	Scenario
	opts  Options
	rec   *recorder
	field *field
	arena Arena
	stage *stage // nil at a Site

	weak      []string // nodes that carry no majority, at a Site
	network   string   // what lies between the nodes, for the report
	trafficNS int64    // when the traffic ended
	passed    bool     // every promise was kept
}

// Run carries out a scenario on a fresh cluster and judges it. An error means
// that there is no verdict; everything up to then is in the directory.
func Run(ctx context.Context, s Scenario, o Options) (Result, error) {
	if err := s.Validate(); err != nil {
		return Result{}, fmt.Errorf("scenario %s: %w", s.Name, err)
	}
	if err := o.check(); err != nil {
		return Result{}, err
	}
	r := &run{Scenario: s, opts: o}
	defer r.teardown()
	if err := r.up(ctx); err != nil {
		return Result{}, fmt.Errorf("prepare %s: %w", s.Name, err)
	}
	if err := r.play(ctx); err != nil {
		return Result{}, fmt.Errorf("run %s: %w", s.Name, err)
	}
	res, err := r.conclude(ctx)
	r.passed = err == nil && res.Passed()
	return res, err
}

func (o *Options) check() (err error) {
	o.Progress = safely(o.Progress)
	if o.Hurry == nil {
		o.Hurry = context.Background()
	}
	if o.Binary == "" {
		if o.Binary, err = os.Executable(); err != nil {
			return err
		}
	}
	if o.Binary, err = filepath.Abs(o.Binary); err != nil {
		return err
	}
	o.Dir, err = makeDir(o.Dir)
	return err
}

// up sets the stage and brings the cluster up.
func (r *run) up(ctx context.Context) (err error) {
	if r.stage, err = newStage(r.Scenario, r.opts); err != nil {
		return err
	}
	if err := r.stage.up(ctx, r.opts.Progress); err != nil {
		return err
	}
	if r.field, err = openField(r.stage.cluster, r.stage.members, r.stage.dialer); err != nil {
		return err
	}
	r.network = r.stage.networkName()
	r.arena = Arena{Nodes: r.field.nodes, Admin: r.field, Proc: r.field,
		Net: r.stage.network(), Disk: r.stage.diskOrNil(), Clock: r.stage.clockOrNil(), Missing: r.stage.missing}
	return nil
}

// play sends the traffic, carries out the schedule, heals, and saves what was
// seen. The schedule may run a little beyond the traffic.
func (r *run) play(ctx context.Context) error {
	agents, policy, err := prepare(ctx, r.field, r.Traffic)
	if err != nil {
		return err
	}
	money, err := prepareMoney(ctx, r.field, r.Traffic)
	if err != nil {
		return err
	}
	if r.rec, err = newRecorder(r.opts.Dir); err != nil {
		return err
	}
	about := r.about(agents, policy)
	about.LedgerSize, about.IDWindowMs = money.size, money.window.Milliseconds()
	if err := saveAbout(r.opts.Dir, about); err != nil {
		return err
	}
	t := newTraffic(r.rec, r.field, r.Traffic, r.Seed, agents, money)
	trafficErr := r.disturb(ctx, t)
	about.TrafficNS = r.trafficNS
	if ctx.Err() != nil {
		about.HealDetail = "the run was interrupted"
	} else {
		r.heal(ctx, &about, t)
	}
	return errors.Join(trafficErr, r.save(ctx, about))
}

// disturb sends the traffic while the schedule is carried out.
func (r *run) disturb(ctx context.Context, t *traffic) error {
	playing, stop := context.WithTimeout(ctx, time.Duration(r.Duration))
	defer stop()
	in := &injector{rec: r.rec, arena: r.arena, seed: r.Seed, note: r.opts.Progress, healed: t.afterHealing, holds: newHolds(r.weak...)}
	injected := make(chan struct{})
	go func() {
		defer close(injected)
		in.run(ctx, playing, r.Schedule())
	}()
	err := t.run(playing)
	r.trafficNS = r.rec.now()
	<-injected
	return err
}

// heal mends the cluster and waits until it agrees. That it does not is the
// judge's to weigh, so no error ends the run here.
func (r *run) heal(ctx context.Context, about *judge.About, t *traffic) {
	r.opts.Progress("traffic ended; waiting until the nodes agree")
	at := r.rec.event(judge.Event{What: "heal"})
	err := r.mend(ctx)
	if err == nil {
		about.HealDetail, err = r.agree(ctx)
	}
	r.rec.change(at, func(e *judge.Event) { e.EndNS, e.Error = r.rec.now(), text(err) })
	if err != nil {
		about.HealDetail = err.Error()
		return
	}
	if err = r.sweep(ctx, t); err == nil {
		_, err = r.agree(ctx) // on what the sweep changed, too
	}
	if err != nil {
		about.HealDetail = "the last sweep: " + err.Error()
		return
	}
	about.Healed = true
}

func (r *run) about(agents []agent, policy judge.PolicyRead) judge.About {
	a := judge.About{Scenario: r.Name, Description: r.Description, Seed: r.Seed, StartedMs: r.rec.begin.UnixMilli(),
		Nodes: r.field.nodes, Policy: &policy, Expect: r.Traffic.Weights.expect(),
		Planned: len(r.Schedule()), AllowSkips: r.opts.AllowSkips,
		Environment: map[string]string{
			"go": runtime.Version(), "os": runtime.GOOS + "/" + runtime.GOARCH, "cpus": fmt.Sprint(runtime.NumCPU()),
			"version": cmp.Or(r.opts.Version, "unknown"), "network": r.network, "nodes": fmt.Sprint(r.Nodes),
			"clients": fmt.Sprint(r.Traffic.Clients), "duration": time.Duration(r.Duration).String(),
		}}
	for _, ag := range agents {
		a.Agents = append(a.Agents, ag.id)
	}
	return a
}

// expect lists the kinds of which a run must have seen a success.
func (w Weights) expect() []judge.Kind {
	var kinds []judge.Kind
	for _, k := range []struct {
		kind   judge.Kind
		weight int
	}{
		{judge.KindClaim, w.Claim}, {judge.KindBan, w.Ban}, {judge.KindBanRead, w.BanRead},
		{judge.KindBansRead, w.ChainRead}, {judge.KindPolicyRead, w.PolicyRead},
		{judge.KindMove, w.Move}, {judge.KindAccount, w.AccountRead},
	} {
		if k.weight > 0 {
			kinds = append(kinds, k.kind)
		}
	}
	return kinds
}

// save collects the last words and writes what the recorder has not.
func (r *run) save(ctx context.Context, about judge.About) error {
	patience := time.Minute
	if ctx.Err() != nil {
		patience = 5 * time.Second // somebody wants us to end
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	about.Nodes, about.Observers = r.field.Members(), r.field.observers // who is asked for a last word
	finals := r.finals(ctx)
	if err := r.rec.close(); err != nil {
		return err
	}
	text, err := json.MarshalIndent(finals, "", "  ")
	if err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(r.opts.Dir, judge.FinalsFile), append(text, '\n')); err != nil {
		return err
	}
	return saveAbout(r.opts.Dir, about) // last: from now on the run is whole
}

// conclude judges and reports. A signal ends that too; of a run that one ended
// before, only the next.
func (r *run) conclude(ctx context.Context) (Result, error) {
	if ctx.Err() != nil {
		ctx = r.opts.Hurry
	}
	return Report(ctx, r.opts.Dir)
}

// teardown stops the servers and strikes the stage; after a pass the servers'
// data goes too. While a server runs nothing is taken away from it.
func (r *run) teardown() {
	if r.stage == nil {
		return
	}
	ctx, cancel := context.WithTimeout(r.opts.Hurry, time.Minute)
	defer cancel()
	err := r.stage.clear(ctx)
	if err == nil {
		err = r.stage.strike(r.opts.Keep || !r.passed)
	}
	if err != nil {
		r.opts.Progress("something is left behind, remove it with `edgecoder chaos clean %s`: %v", r.opts.Dir, err)
	}
}

// Passed tells whether every promise was kept.
func (r Result) Passed() bool { return r.Verdict.Result == judge.Pass }

// Failed tells whether a promise was broken.
func (r Result) Failed() bool { return r.Verdict.Result == judge.Fail }
