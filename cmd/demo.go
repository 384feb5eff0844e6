package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/cluster"
	"github.com/edgecoder/edgecoder/terminal"
)

// demoTimeout ends a tour that hangs; it takes well under a minute.
const demoTimeout = 5 * time.Minute

func (p *program) demoCommand() *cli.Command {
	return &cli.Command{
		Name: "demo", Usage: "a guided tour on a throw-away cluster of three real servers",
		UsageText: "edgecoder demo",
		Description: "Enrols an agent, admits a signed request, tries to replay it everywhere, kills the leader, bans the agent and\n" +
			"verifies the chain offline. Every step is checked: exit status 0 only if all went as told.\n\nExample:\n  edgecoder demo",
		Action: p.demo,
	}
}

// demoView is the JSON of `demo`.
type demoView struct {
	OK    bool       `json:"ok"`
	Steps []demoStep `json:"steps"`
}

// demoStep is one step of the tour, and what was seen.
type demoStep struct {
	Title  string   `json:"title"`
	Saw    []string `json:"saw"`
	OK     bool     `json:"ok"`
	TookMs int64    `json:"took_ms"`
}

func (p *program) demo(c *cli.Context) (err error) {
	if _, err := operands(c); err != nil {
		return err
	}
	format, err := formatOf(c)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "edgecoder-demo-")
	if err != nil {
		return err
	}
	t := &tour{p: p, dir: dir, story: p.out}
	if format == formatJSON {
		t.story = p.err
	}
	defer func() { err = errors.Join(err, t.cleanUp()) }()
	ctx, cancel := context.WithTimeout(c.Context, demoTimeout)
	defer cancel()
	failure := t.run(ctx)
	if format == formatJSON {
		if err := writeJSON(p.out, demoView{OK: failure == nil, Steps: t.done}); err != nil {
			return err
		}
	}
	return failure
}

// run takes every step until one is not as told.
func (t *tour) run(ctx context.Context) error {
	began := t.p.now()
	for i, step := range tourSteps {
		fmt.Fprintf(t.story, "%d. %s\n", i+1, step.title)
		t.done = append(t.done, demoStep{Title: step.title, Saw: []string{}})
		now := &t.done[i]
		started := t.p.now()
		err := step.take(t, ctx)
		now.TookMs, now.OK = t.p.now().Sub(started).Milliseconds(), err == nil
		if err != nil {
			fmt.Fprintf(t.story, "   NOT as told: %s\n", terminal.Plain(err.Error()))
			return refusedf("the tour ended at step %d, %q: %w", i+1, step.title, err)
		}
		fmt.Fprintln(t.story)
	}
	fmt.Fprintf(t.story, "All %d steps were as told, in %s.\n", len(tourSteps), t.p.now().Sub(began).Round(100*time.Millisecond))
	return nil
}

// saw tells what a step did and saw.
func (t *tour) saw(format string, args ...any) {
	text := terminal.Plain(fmt.Sprintf(format, args...))
	fmt.Fprintln(t.story, "   "+text)
	now := &t.done[len(t.done)-1]
	now.Saw = append(now.Saw, text)
}

// cleanUp leaves nothing behind, however the tour ended.
func (t *tour) cleanUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	if left, loadErr := cluster.Load(t.dir); loadErr == nil { // Up may have failed halfway
		err = left.Down(ctx)
	}
	return errors.Join(err, os.RemoveAll(t.dir))
}
