package envelope

import (
	"fmt"
	"math"
	"strconv"

	"github.com/edgecoder/edgecoder/crypto"
)

// Task is the payload of a task as WIRE 19 has it.
type Task struct {
	Input       string
	SnapshotRef string
	Kind        string // the language, such as "python": so existing coordinators say it
}

// JSON returns the compact JSON that is sealed.
func (t Task) JSON() []byte {
	text := crypto.AppendJSONString([]byte(`{"input":`), t.Input)
	text = crypto.AppendJSONString(append(text, `,"snapshotRef":`...), t.SnapshotRef)
	text = crypto.AppendJSONString(append(text, `,"kind":`...), t.Kind)
	return append(text, '}')
}

// Task reads the payload of an opened task. It refuses metadata that names another language than the payload, which is
// how the one is authenticated even in version 1.
func (o *Opened) Task() (Task, error) {
	var t Task
	if err := readObject(o.Payload, member{name: "input", into: &t.Input},
		member{name: "snapshotRef", into: &t.SnapshotRef}, member{name: "kind", into: &t.Kind}); err != nil {
		return Task{}, fmt.Errorf("envelope: task: %w", err)
	}
	if said := o.Clear.Metadata.Language; said != "" && said != t.Kind {
		return Task{}, fmt.Errorf("envelope: task: %w: metadata says language %q, the payload %.40q", ErrNotAuthentic, said, t.Kind)
	}
	return t, nil
}

// Result is the payload of a result as WIRE 19 has it.
type Result struct {
	OK         bool
	Output     string
	Error      string  // absent if ""
	DurationMs float64 // not negative
}

// JSON returns the compact JSON that is sealed. A duration that JSON cannot say, or that is negative, is an error.
func (r Result) JSON() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	text := strconv.AppendBool([]byte(`{"ok":`), r.OK)
	text = crypto.AppendJSONString(append(text, `,"output":`...), r.Output)
	if r.Error != "" {
		text = crypto.AppendJSONString(append(text, `,"error":`...), r.Error)
	}
	number, err := crypto.CanonicalJSON(strconv.AppendFloat(nil, r.DurationMs, 'g', -1, 64))
	if err != nil {
		return nil, fmt.Errorf("envelope: result: %w", err)
	}
	text = append(append(text, `,"durationMs":`...), number...)
	return append(text, '}'), nil
}

// ParseResult reads the payload of an opened result.
func ParseResult(payload []byte) (Result, error) {
	var r Result
	if err := readObject(payload, member{name: "ok", into: &r.OK}, member{name: "output", into: &r.Output},
		member{"error", &r.Error, true}, member{name: "durationMs", into: &r.DurationMs}); err != nil {
		return Result{}, fmt.Errorf("envelope: result: %w", err)
	}
	return r, r.check()
}

func (r Result) check() error {
	if !(r.DurationMs >= 0) || math.IsInf(r.DurationMs, 0) { // NaN too
		return fmt.Errorf("envelope: result: %w: durationMs is no duration", ErrMalformed)
	}
	return nil
}
