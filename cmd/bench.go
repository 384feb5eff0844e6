package cmd

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
)

func (p *program) benchCommand() *cli.Command {
	return &cli.Command{
		Name: "bench", Usage: "load against a running cluster, and what it took",
		Subcommands: []*cli.Command{p.benchLedgerCommand()},
	}
}

// benchRun is one load: so many clients for so long.
type benchRun struct {
	Clients   int     `json:"clients"`
	Batch     int     `json:"batch"` // operations in one call
	Done      int64   `json:"done"`  // operations that took effect
	Refused   int64   `json:"refused"`
	Undecided int64   `json:"undecided"` // calls without an answer that says
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
	P50Ms     float64 `json:"p50_ms"` // of calls
	P99Ms     float64 `json:"p99_ms"`
	FirstErr  string  `json:"first_error,omitempty"`
}

// benchReport is the JSON of a benchmark.
type benchReport struct {
	What string     `json:"what"`
	Runs []benchRun `json:"runs"`
}

// tally is what one client of a run counted; its own until the run is over.
type tally struct {
	done, refused, undecided int64
	calls                    []time.Duration
	first                    error
}

// maxCalls bounds the latencies that one client keeps: more than it makes in an hour.
const maxCalls = 1 << 20

// load has clients call until the time is over, each with a connection of its own.
func load(clients, batch int, life time.Duration, now func() time.Time, call func(worker int, t *tally)) benchRun {
	tallies := make([]tally, clients)
	var all sync.WaitGroup
	began := now()
	for i := range tallies {
		all.Go(func() {
			t := &tallies[i]
			for start := now(); start.Sub(began) < life; {
				call(i, t)
				end := now()
				if len(t.calls) < maxCalls {
					t.calls = append(t.calls, end.Sub(start))
				}
				start = end
			}
		})
	}
	all.Wait()
	run := benchRun{Clients: clients, Batch: batch, Seconds: now().Sub(began).Seconds()}
	var calls []time.Duration
	for _, t := range tallies {
		run.Done, run.Refused, run.Undecided = run.Done+t.done, run.Refused+t.refused, run.Undecided+t.undecided
		calls = append(calls, t.calls...)
		if run.FirstErr == "" && t.first != nil {
			run.FirstErr = t.first.Error()
		}
	}
	slices.Sort(calls)
	run.PerSecond = float64(run.Done) / max(run.Seconds, 1e-9)
	run.P50Ms, run.P99Ms = quantile(calls, 50), quantile(calls, 99)
	return run
}

// quantile returns milliseconds that so many percent of the calls took at most.
func quantile(sorted []time.Duration, percent int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(len(sorted)-1, len(sorted)*percent/100)]) / float64(time.Millisecond)
}

func drawBench(t *table, r benchReport) {
	t.row("CLIENTS", "BATCH", r.What+"/S", "P50 MS", "P99 MS", "DONE", "REFUSED", "UNDECIDED", "FIRST ERROR")
	for _, run := range r.Runs {
		t.row(number(run.Clients), number(run.Batch), fmt.Sprintf("%.0f", run.PerSecond), fmt.Sprintf("%.1f", run.P50Ms), fmt.Sprintf("%.1f", run.P99Ms),
			number(run.Done), number(run.Refused), number(run.Undecided), orDash(run.FirstErr))
	}
}

// counts reads a list of numbers from 1 to most.
func counts(flag, text string, most int) (out []int, err error) {
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || n < 1 || n > most {
			return nil, usagef("--%s %q: want numbers from 1 to %d, with commas between them", flag, text, most)
		}
		out = append(out, n)
	}
	return out, nil
}

// benchClients returns clients that begin at different addresses, so that the load
// goes through all nodes.
func (p *program) benchClients(c *cli.Context, n int) ([]*client.Client, error) {
	addrs, err := addresses(c.String("addr"))
	if err != nil {
		return nil, err
	}
	if _, err := formatOf(c); err != nil {
		return nil, err
	}
	token, err := p.apiToken(c)
	if err != nil {
		return nil, err
	}
	out := make([]*client.Client, n)
	for i := range out {
		at := i % len(addrs)
		if out[i], err = p.dialWith(c, client.Config{Addrs: append(slices.Clone(addrs[at:]), addrs[:at]...), Token: token}); err != nil {
			return nil, err
		}
	}
	return out, nil
}
