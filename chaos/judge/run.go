package judge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"runtime/debug"
	"slices"

	"github.com/edgecoder/edgecoder/client"
)

// Names of the files of a run's directory.
const (
	RunFile      = "run.json"
	HistoryFile  = "history.jsonl"
	TimelineFile = "timeline.jsonl"
	FinalsFile   = "finals.json"
	VerdictFile  = "verdict.json"
)

// Run is all that a verdict is made from.
type Run struct {
	About    About
	Ops      []Op
	Timeline []Event
	Finals   []Final
}

// About says what was run and what stood before its first operation.
type About struct {
	Scenario    string            `json:"scenario"`
	Description string            `json:"description,omitempty"`
	Seed        uint64            `json:"seed"`
	StartedMs   int64             `json:"started_ms"` // wall clock at time zero of the history
	TrafficNS   int64             `json:"traffic_ns"` // when the traffic ended
	Nodes       []string          `json:"nodes"`
	Observers   []string          `json:"observers,omitempty"`    // replicas that only read
	Agents      []string          `json:"agents,omitempty"`       // enrolled and active before the first operation
	Policy      *PolicyRead       `json:"policy,omitempty"`       // in force before the first operation
	ChainSize   uint64            `json:"chain_size,omitempty"`   // events before the first operation
	LedgerSize  uint64            `json:"ledger_size,omitempty"`  // records before the first operation
	IDWindowMs  int64             `json:"id_window_ms,omitempty"` // how old the id of an operation of the ledger may be
	Expect      []Kind            `json:"expect,omitempty"`       // kinds of which enough must have succeeded: see checkEnough
	Planned     int               `json:"planned,omitempty"`      // faults in the schedule
	AllowSkips  bool              `json:"allow_skips,omitempty"`  // faults that the machine cannot do may be missing
	Healed      bool              `json:"healed"`                 // the cluster agreed again after the last fault
	HealDetail  string            `json:"heal_detail,omitempty"`  // why not, or how long it took
	Interrupted bool              `json:"interrupted,omitempty"`  // somebody ended the run before it was over
	Environment map[string]string `json:"environment,omitempty"`  // machine and versions, for the report
}

// Event is something that happened to the cluster rather than to a client.
type Event struct {
	AtNS       int64           `json:"at_ns"`
	InjectedNS int64           `json:"injected_ns,omitempty"` // when the fault really bit; 0: not known, or never
	EndNS      int64           `json:"end_ns,omitempty"`      // when it was healed; 0: an instant, or never
	What       string          `json:"what"`                  // name of the fault, or a mark of the harness
	Fault      bool            `json:"fault,omitempty"`
	Nodes      []string        `json:"nodes,omitempty"`
	Params     json.RawMessage `json:"params,omitempty"`
	Error      string          `json:"error,omitempty"` // why it did not bite
	Busy       bool            `json:"busy,omitempty"`  // not tried: another fault still held the nodes it wanted
	Note       string          `json:"note,omitempty"`
}

// Final is what one node shows after healing, when nothing changes any more.
type Final struct {
	Node     string            `json:"node"`
	Audit    *client.Audit     `json:"audit,omitempty"` // the whole chain; nil when it could not be had
	Identity client.Identity   `json:"identity"`
	Peers    []client.MeshPeer `json:"peers,omitempty"`
	Status   *Status           `json:"status,omitempty"`
	Ledger   *LedgerFinal      `json:"ledger,omitempty"` // nil when the traffic moved no money, or it could not be had
	Error    string            `json:"error,omitempty"`
}

// Load reads a saved run.
func Load(dir string) (*Run, error) { return LoadContext(context.Background(), dir) }

// LoadContext is Load until ctx ends.
func LoadContext(ctx context.Context, dir string) (*Run, error) {
	r := &Run{}
	if err := readJSON(ctx, filepath.Join(dir, RunFile), &r.About); err != nil {
		return nil, err
	}
	if err := r.About.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, RunFile), err)
	}
	if err := readJSON(ctx, filepath.Join(dir, FinalsFile), &r.Finals); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	err := readFile(ctx, filepath.Join(dir, HistoryFile), func(f io.Reader) (err error) {
		if !r.About.Healed { // its harness may have been killed in the middle of a line
			f = newWholeLines(f)
		}
		r.Ops, err = ReadHistory(f)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = readFile(ctx, filepath.Join(dir, TimelineFile), func(f io.Reader) (err error) {
		r.Timeline, err = readTimeline(f)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return r, nil
}

// replicas are all that must show the same.
func (a *About) replicas() []string { return slices.Concat(a.Nodes, a.Observers) }

func (a *About) check() error {
	if n := len(a.replicas()); n > maxNodes {
		return fmt.Errorf("%d nodes, want at most %d", n, maxNodes)
	}
	return checkTime("the end of the traffic", a.TrafficNS)
}

// DecideContext is Decide until ctx ends: then the judge is left alone, and
// what it says is not heard any more. Where it breaks there is no verdict.
func DecideContext(ctx context.Context, run *Run, lim Limits) (Verdict, error) {
	type answer struct {
		v   Verdict
		err error
	}
	done := make(chan answer, 1)
	go func() {
		defer func() {
			if broke := recover(); broke != nil {
				done <- answer{err: fmt.Errorf("the judge broke: %v\n%s", broke, debug.Stack())}
			}
		}()
		done <- answer{v: Decide(run, lim)}
	}()
	select {
	case a := <-done:
		return a.v, a.err
	case <-ctx.Done():
		return Verdict{}, fmt.Errorf("the judging was ended: %w", ctx.Err())
	}
}

// SaveVerdict writes the verdict beside the run.
func SaveVerdict(dir string, v Verdict) error { return writeJSON(filepath.Join(dir, VerdictFile), v) }

// Save writes a run where Load finds it.
func (r *Run) Save(dir string) error {
	if err := writeJSON(filepath.Join(dir, RunFile), r.About); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(dir, FinalsFile), r.Finals); err != nil {
		return err
	}
	err := replace(filepath.Join(dir, HistoryFile), func(w io.Writer) error {
		for i := range r.Ops {
			if err := WriteOp(w, &r.Ops[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return replace(filepath.Join(dir, TimelineFile), func(w io.Writer) error {
		for i := range r.Timeline {
			if err := writeLine(w, &r.Timeline[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func readTimeline(f io.Reader) ([]Event, error) {
	var events []Event
	err := readLines(f, func(line []byte) error {
		var e Event
		if err := strictJSON(line, &e); err != nil {
			return err
		}
		if len(events) == maxEvents {
			return fmt.Errorf("more than %d events", maxEvents)
		}
		events = append(events, e)
		return e.check()
	})
	return events, err
}

func (e *Event) check() error {
	return errors.Join(checkTime("the time of "+e.What, e.AtNS), checkTime("the injection of "+e.What, e.InjectedNS), checkTime("the end of "+e.What, e.EndNS))
}
