package chaos

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
	"github.com/edgecoder/edgecoder/client"
)

// recorder keeps the history of a run, in memory and on disk at once: what was
// seen before a harness died is still evidence.
type recorder struct {
	begin time.Time // its monotonic reading is time zero

	mu       sync.Mutex // guards what follows
	ops      []judge.Op
	timeline []judge.Event
	file     *os.File
	out      *bufio.Writer
	err      error
	marks    map[string]map[uint64]string // digests already recorded, by node
}

func newRecorder(dir string) (*recorder, error) {
	f, err := os.OpenFile(filepath.Join(dir, judge.HistoryFile), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &recorder{begin: time.Now(), file: f, out: bufio.NewWriter(f), marks: map[string]map[uint64]string{}}, nil
}

func (r *recorder) now() int64 { return int64(time.Since(r.begin)) }

// ask runs one attempt and records it. do fills in the answer and returns the
// error of the call.
func (r *recorder) ask(op judge.Op, do func(op *judge.Op) error) judge.Op {
	op.StartNS, op.WallMs = r.now(), time.Now().UnixMilli()
	err := do(&op)
	op.EndNS = r.now()
	op.Outcome = judge.OK
	if err != nil {
		op.Code, op.Detail = codeOf(err), clip(err.Error())
		op.Outcome = judge.OutcomeOf(op.Code)
	}
	r.add(&op)
	return op
}

// codeOf returns the API code of an error; anything else is not known to be
// undone.
func codeOf(err error) string {
	if e := (*client.Error)(nil); errors.As(err, &e) {
		return e.Code
	}
	return client.CodeUnknownOutcome
}

func clip(text string) string {
	const most = 200
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}

func (r *recorder) add(op *judge.Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	op.ID = int64(len(r.ops) + 1)
	if op.Status != nil {
		op.Status.Digests = r.fresh(op.Node, op.Status.Digests)
	}
	r.ops = append(r.ops, *op)
	if err := judge.WriteOp(r.out, op); err != nil && r.err == nil {
		r.err = err
	}
}

// fresh drops marks that the node showed before: a status repeats the last 16.
func (r *recorder) fresh(node string, marks []client.Mark) []client.Mark {
	seen := r.marks[node]
	if seen == nil {
		seen = map[uint64]string{}
		r.marks[node] = seen
	}
	var out []client.Mark
	for _, m := range marks {
		if seen[m.Index] != m.Digest {
			seen[m.Index] = m.Digest
			out = append(out, m)
		}
	}
	return out
}

// event adds to the timeline and returns the event's place, for its end.
func (r *recorder) event(e judge.Event) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.AtNS = r.now()
	r.timeline = append(r.timeline, e)
	return len(r.timeline) - 1
}

// change edits an event of the timeline.
func (r *recorder) change(at int, edit func(e *judge.Event)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	edit(&r.timeline[at])
}

// close returns what was recorded.
func (r *recorder) close() ([]judge.Op, []judge.Event, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ops, r.timeline, errors.Join(r.err, r.out.Flush(), r.file.Close())
}
