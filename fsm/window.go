package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// rateWindows holds each agent's sliding log of admitted requests (WIRE.md
// section 4): exact, for the whole cluster, on the cluster clock. Requests of
// one millisecond share a run, so a window never has more runs than
// milliseconds.
type rateWindows struct {
	name   string
	most   int // runs
	agents map[string]*rateWindow
	runs   int
	total  int64 // requests in all runs, those too that have left their window and were not trimmed yet
	sum    Digest
	dirty  []string // agents whose window's share of sum may be out of date, each once
}

type rateWindow struct {
	runs  []rateRun // ascending in time
	total int64     // requests in runs
	sum   Digest    // this window's share of the digest when it was last clean
	dirty bool      // changed since
}

type rateRun struct {
	AtMs int64
	N    int64
}

func newRateWindows() *rateWindows {
	return &rateWindows{name: "rate_windows", most: MaxWindowRuns, agents: map[string]*rateWindow{}}
}

// newSelfWindows are of what agents ask for themselves.
func newSelfWindows() *rateWindows {
	return &rateWindows{name: "self_windows", most: MaxSelfNonces, agents: map[string]*rateWindow{}}
}

// check tells whether the agent may have one more request now, and if not,
// after how many milliseconds. An entry exactly one window old still counts.
func (w *rateWindows) check(agent string, nowMs int64, limit RateLimit) (ok bool, retryAfterMs int64) {
	win := w.agents[agent]
	if win == nil {
		return true, 0
	}
	used, first := win.live(nowMs - limit.WindowMs)
	if used < limit.Requests {
		return true, 0
	}
	// A slot frees when enough of the oldest runs have left the window.
	excess := used - limit.Requests + 1
	for _, run := range win.runs[first:] {
		if excess -= run.N; excess <= 0 {
			return false, run.AtMs + limit.WindowMs + 1 - nowMs
		}
	}
	return false, limit.WindowMs
}

// live returns the requests at or after oldestMs and where their runs begin.
func (win *rateWindow) live(oldestMs int64) (used int64, first int) {
	used = win.total
	for first < len(win.runs) && win.runs[first].AtMs < oldestMs {
		used -= win.runs[first].N
		first++
	}
	return used, first
}

func (w *rateWindows) full() bool { return w.runs >= w.most }

// take records an admitted request.
func (w *rateWindows) take(agent string, nowMs int64, limit RateLimit) {
	win := w.agents[agent]
	if win == nil {
		win = &rateWindow{}
		w.agents[agent] = win
	}
	w.trim(win, nowMs-limit.WindowMs)
	if n := len(win.runs); n > 0 && win.runs[n-1].AtMs == nowMs {
		win.runs[n-1].N++
	} else {
		win.runs = append(win.runs, rateRun{AtMs: nowMs, N: 1})
		w.runs++
	}
	win.total++
	w.total++
	w.changed(agent, win)
}

func (w *rateWindows) changed(agent string, win *rateWindow) {
	if !win.dirty {
		win.dirty = true
		w.dirty = append(w.dirty, agent)
	}
}

func (w *rateWindows) trim(win *rateWindow, oldestMs int64) (changed bool) {
	used, first := win.live(oldestMs)
	if first == 0 {
		return false
	}
	w.runs -= first
	w.total -= win.total - used
	win.total = used
	win.runs = win.runs[first:] // the next growth leaves the dead part behind: a shift would cost every request a copy
	return true
}

// prune drops what left every window; done at marks, so that it depends on
// the log alone and idle agents cost nothing.
func (w *rateWindows) prune(nowMs int64, limitOf func(agent string) RateLimit) {
	for agent, win := range w.agents {
		if w.trim(win, nowMs-limitOf(agent).WindowMs) {
			w.changed(agent, win)
		}
		if len(win.runs) == 0 {
			w.sum.sub(win.sum)
			delete(w.agents, agent)
		}
	}
}

// setBack moves what lies after a time to that time: the clock was set back,
// and what was admitted since counts as admitted just now.
func (w *rateWindows) setBack(toMs int64) {
	for agent, win := range w.agents {
		first := len(win.runs)
		var ahead int64
		for first > 0 && win.runs[first-1].AtMs > toMs {
			first--
			ahead += win.runs[first].N
		}
		if ahead == 0 {
			continue
		}
		w.runs -= len(win.runs) - first
		win.runs = append(win.runs[:first:first], rateRun{AtMs: toMs, N: ahead})
		if first > 0 && win.runs[first-1].AtMs == toMs {
			win.runs[first-1].N += ahead
			win.runs = win.runs[:first]
		} else {
			w.runs++
		}
		w.changed(agent, win)
	}
}

// encode returns the row of a window: the agent, then each run as the time
// since the one before and its count. Two windows never share a spelling.
func (w *rateWindows) encode(agent string, win *rateWindow) []byte {
	row := make([]byte, 0, 2*binary.MaxVarintLen64+len(agent)+4*len(win.runs)+8)
	row = binary.AppendUvarint(row, uint64(len(agent)))
	row = append(row, agent...)
	row = binary.AppendUvarint(row, uint64(len(win.runs)))
	last := int64(0)
	for _, run := range win.runs {
		row = binary.AppendUvarint(row, uint64(run.AtMs-last))
		row = binary.AppendUvarint(row, uint64(run.N))
		last = run.AtMs
	}
	return row
}

func (w *rateWindows) label() string { return w.name }
func (w *rateWindows) size() int     { return len(w.agents) }

// digest brings the shares of changed windows up to date: hashing a window
// once a mark is cheaper than twice a request.
func (w *rateWindows) digest() Digest {
	for _, agent := range w.dirty {
		win := w.agents[agent]
		if win == nil || !win.dirty {
			continue // pruned since, perhaps made anew and listed again
		}
		w.sum.sub(win.sum)
		win.sum = sumElement(w.label(), w.encode(agent, win))
		w.sum.add(win.sum)
		win.dirty = false
	}
	clear(w.dirty)
	w.dirty = w.dirty[:0]
	return w.sum
}

func (w *rateWindows) recompute() Digest {
	var sum Digest
	for agent, win := range w.agents {
		sum.add(sumElement(w.label(), w.encode(agent, win)))
	}
	return sum
}

func (w *rateWindows) load(row []byte) error {
	if len(w.agents) >= maxWindows {
		return fmt.Errorf("more than %d windows", maxWindows)
	}
	agent, win, err := decodeWindow(row, w.most-w.runs)
	if err != nil {
		return err
	}
	if w.agents[agent] != nil {
		return fmt.Errorf("window of %q twice", agent)
	}
	if string(w.encode(agent, win)) != string(row) {
		return fmt.Errorf("window of %q: not in canonical form", agent)
	}
	w.agents[agent] = win
	w.runs += len(win.runs)
	w.total += win.total
	w.changed(agent, win)
	return nil
}

// loadAll takes the windows of another state.
func (w *rateWindows) loadAll(from *rateWindows) error {
	for _, row := range from.freeze().(frozenRows) {
		if err := w.load(row); err != nil {
			return err
		}
	}
	return nil
}

// decodeWindow reads a row of at most so many runs. A run takes two bytes in a
// file and eight times that here, so nothing is kept before they are counted.
func decodeWindow(row []byte, most int) (agent string, win *rateWindow, err error) {
	next := func() int64 {
		v, n := binary.Uvarint(row)
		if n <= 0 || v > MaxTimeMs {
			err = errors.New("bad number in a rate window")
			return 0
		}
		row = row[n:]
		return int64(v)
	}
	size := next()
	if err != nil || size > int64(len(row)) {
		return "", nil, errors.New("rate window without its agent")
	}
	agent, row = string(row[:size]), row[size:]
	left := next()
	if left > int64(len(row)/2) || left > int64(most) {
		return "", nil, fmt.Errorf("window of %s: %d runs in %d bytes, at most %d of %d in all", shown(agent), left, len(row), most, MaxWindowRuns)
	}
	win = &rateWindow{runs: make([]rateRun, 0, left)}
	last := int64(0)
	for ; left > 0 && err == nil; left-- {
		run := rateRun{AtMs: last + next(), N: next()}
		if err == nil && (run.N < 1 || run.AtMs > MaxTimeMs || (len(win.runs) > 0 && run.AtMs == last)) {
			err = fmt.Errorf("bad run at %d", run.AtMs)
		}
		win.runs = append(win.runs, run)
		win.total += run.N
		last = run.AtMs
	}
	if err == nil && len(row) > 0 {
		err = errors.New("bytes after the runs")
	}
	if err != nil {
		return "", nil, fmt.Errorf("window of %q: %w", agent, err)
	}
	return agent, win, nil
}

func (w *rateWindows) freeze() frozen {
	out := make(frozenRows, 0, len(w.agents))
	for _, agent := range slices.Sorted(maps.Keys(w.agents)) {
		out = append(out, w.encode(agent, w.agents[agent]))
	}
	return out
}
