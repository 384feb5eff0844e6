package chaos

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
	"github.com/edgecoder/edgecoder/client"
)

// recorder writes the history of a run down as it happens: what was seen before
// a harness died is still evidence.
type recorder struct {
	begin time.Time // its monotonic reading is time zero
	dir   string
	stop  chan struct{} // ends the flushing

	mu       sync.Mutex // guards what follows
	ops      int64
	timeline []judge.Event
	file     *os.File
	out      *bufio.Writer
	err      error
	marks    map[string]map[uint64]string // digests already recorded, by node
}

func newRecorder(dir string) (*recorder, error) {
	f, err := createFile(filepath.Join(dir, judge.HistoryFile), 0o600)
	if err != nil {
		return nil, err
	}
	r := &recorder{begin: time.Now(), dir: dir, stop: make(chan struct{}), file: f, out: bufio.NewWriter(f), marks: map[string]map[uint64]string{}}
	go r.flush()
	return r, nil
}

// flushEvery bounds how much of the history dies with the harness.
const flushEvery = time.Second

func (r *recorder) flush() {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
			r.mu.Lock()
			r.fail(r.out.Flush())
			r.mu.Unlock()
		}
	}
}

// fail keeps the first error; the lock must be held.
func (r *recorder) fail(err error) {
	if r.err == nil {
		r.err = err
	}
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
	r.ops++
	op.ID = r.ops
	if op.Status != nil {
		op.Status.Digests = r.fresh(op.Node, op.Status.Digests)
	}
	r.fail(judge.WriteOp(r.out, op))
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
	r.fail(r.saveTimeline())
	return len(r.timeline) - 1
}

// change edits an event of the timeline.
func (r *recorder) change(at int, edit func(e *judge.Event)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	edit(&r.timeline[at])
	r.fail(r.saveTimeline())
}

// saveTimeline writes it anew: events change until they are healed, and there
// are few. The lock must be held.
func (r *recorder) saveTimeline() error {
	var text bytes.Buffer
	for i := range r.timeline {
		line, err := json.Marshal(&r.timeline[i])
		if err != nil {
			return err
		}
		text.Write(append(line, '\n'))
	}
	return replaceFile(filepath.Join(r.dir, judge.TimelineFile), text.Bytes())
}

// saveAbout writes what is known of the run before it ends.
func saveAbout(dir string, about judge.About) error {
	text, err := json.MarshalIndent(about, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, judge.RunFile), append(text, '\n'))
}

// close ends the recording; all of it is on disk then.
func (r *recorder) close() error {
	close(r.stop)
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.err, r.out.Flush(), r.file.Close())
}
