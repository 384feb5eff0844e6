package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// Options says what a log is of.
type Options struct {
	Dir        string           // made with mode 0700 if it is not there
	Node       string           // id of the node, in every line
	FileBytes  int64            // a file is closed when the next line would go beyond; 0: 8 MiB
	TotalBytes int64            // of all files; the oldest make room. 0: 256 MiB
	Now        func() time.Time // nil: time.Now
	Log        *slog.Logger     // told what start finds and when writing fails

	disk disk // tests
}

const (
	defaultFileBytes  = 8 << 20
	defaultTotalBytes = 256 << 20 // some 600,000 lines
	// leastFiles are kept whatever the bounds say: the newest must be able to
	// tell what was dropped before it.
	leastFiles = 2
	// maxQueue bounds what waits for the writer: a second of a flood that no
	// repeats hold back. What comes beyond is counted.
	maxQueue = 4096
	// syncEvery is how long a line that nobody waits for may lie in the system's
	// cache, and how often the writer tries again when it failed.
	syncEvery = time.Second
)

// ErrClosed says that the log was closed.
var ErrClosed = errors.New("the audit log is closed")

// Log is the audit log of one node. It is safe for concurrent use.
type Log struct {
	o    Options
	bell chan struct{}
	stop chan struct{}
	done chan struct{}
	w    writer // owned by run

	mu      sync.Mutex
	queue   []item
	repeats repeats
	lost    lost
	closed  bool
	failing error // of the newest try to write; nil when it went well
	head    Head  // of the durable lines
}

// item is an event on its way to the disk.
type item struct {
	event           Event
	atMs            int64
	count           uint64
	firstMs, lastMs int64
	done            chan error // nil: nobody waits
}

// lost counts what found no place.
type lost struct {
	n               uint64
	firstMs, lastMs int64
}

// Open reads what is in the directory, says in the log itself what a crash or a
// hand left there, and starts the writer.
func Open(o Options) (*Log, error) {
	o.FileBytes, o.TotalBytes = cmp.Or(o.FileBytes, defaultFileBytes), cmp.Or(o.TotalBytes, defaultTotalBytes)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.disk == nil {
		o.disk = osDisk{}
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	l := &Log{o: o, bell: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}), repeats: newRepeats()}
	if err := l.recover(); err != nil {
		l.w.close()
		return nil, fmt.Errorf("audit log in %s: %w", o.Dir, err)
	}
	go l.run()
	return l, nil
}

// recover continues the log where it ends.
func (l *Log) recover() error {
	var walk walker
	if err := walk.walk(l.o.Dir); err != nil {
		return err
	}
	if walk.Node != "" && walk.Node != l.o.Node {
		return fmt.Errorf("it is the log of node %s, and this is %s: move that directory away; `edgecoder audit verify` reads it wherever it is", walk.Node, l.o.Node)
	}
	l.w = writer{o: &l.o, seq: walk.Last, prev: walk.head}
	if walk.Files > 0 {
		if err := l.w.resume(walk.file, walk.end); err != nil {
			return err
		}
	}
	// A disk that takes no lines now keeps nobody from starting: the writer tries
	// again, and operators are refused until then.
	l.failing = errors.Join(l.tellTorn(&walk), l.tellBreaks(&walk))
	if l.failing == nil {
		l.failing = l.w.finishDrop(walk.through)
	}
	if l.failing != nil {
		l.o.Log.Error("the audit log cannot be written", "dir", l.o.Dir, "error", l.failing)
	}
	l.head = l.w.synced
	return nil
}

// tellTorn puts a line in the place of one that a crash tore. It is written over
// it, so that no crash can leave neither.
func (l *Log) tellTorn(walk *walker) error {
	if walk.torn == 0 {
		return nil
	}
	bytes := max(walk.torn, 0)
	l.o.Log.Warn("the audit log ended within a line, as after a crash", "file", walk.file, "bytes", bytes)
	l.w.trim = true
	l.w.add(ownLine(&l.o, TypeTorn, LevelWarn, map[string]string{"file": walk.file, "bytes": strconv.FormatInt(bytes, 10)}))
	return l.w.flush()
}

// tellBreaks writes a line for each fault that no line names yet, in a new file.
func (l *Log) tellBreaks(walk *walker) (err error) {
	begun := false
	for _, f := range walk.Faults {
		if walk.told[f.place()] {
			continue
		}
		l.o.Log.Error("CRITICAL: the audit log does not verify: it was changed, or the disk is damaged", "file", f.File, "line", f.Line, "kind", f.Kind, "detail", f.Detail)
		if !begun {
			begun, err = true, l.w.rotate()
		}
		l.w.add(ownLine(&l.o, TypeBreak, LevelCritical, map[string]string{
			"place": f.place(), "file": f.File, "line": strconv.Itoa(f.Line), "seq": strconv.FormatUint(f.Seq, 10), "kind": f.Kind, "detail": cut(f.Detail)}))
	}
	return errors.Join(err, l.w.flush())
}

// ownLine is a line that the log writes about itself.
func ownLine(o *Options, typ, level string, details map[string]string) Line {
	return Line{TimeMs: o.Now().UnixMilli(), Node: o.Node, Type: typ, Level: level, Actor: Actor{Kind: kindNode, ID: o.Node, Proved: true}, Details: details}
}

// Append takes an event that may repeat. It never blocks: repeats are counted,
// and what finds no place is counted too.
func (l *Log) Append(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	now := l.o.Now()
	e = e.bounded()
	if l.repeats.note(&e, now) {
		l.put(item{event: e, atMs: now.UnixMilli()})
	}
}

// Commit writes one event and returns when it is durable. After an error it may
// be written later: the log does not forget what it took.
func (l *Log) Commit(ctx context.Context, e Event) error {
	done := make(chan error, 1)
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	failing := l.failing
	placed := l.put(item{event: e.bounded(), atMs: l.o.Now().UnixMilli(), done: done})
	l.mu.Unlock()
	switch {
	case failing != nil:
		return failing
	case !placed:
		return fmt.Errorf("%d events wait for the audit log", maxQueue)
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		err := fmt.Errorf("the audit log did not take a line in time: %w", ctx.Err())
		l.setFailing(err)
		return err
	}
}

// put queues an item, or counts it as lost; under mu.
func (l *Log) put(i item) bool {
	if len(l.queue) >= maxQueue {
		if l.lost.n == 0 {
			l.lost.firstMs = i.atMs
		}
		l.lost.n++
		l.lost.lastMs = i.atMs
		return false
	}
	l.queue = append(l.queue, i)
	select {
	case l.bell <- struct{}{}:
	default:
	}
	return true
}

// Err returns why the log cannot be written now, nil when it can.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return ErrClosed
	case l.failing != nil:
		return l.failing
	case len(l.queue) >= maxQueue:
		return fmt.Errorf("%d events wait for the audit log", maxQueue)
	}
	return nil
}

func (l *Log) setFailing(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failing = err
}

// Head returns where the durable part of the log ends.
func (l *Log) Head() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// Close writes what is left, counted repeats too, and ends the writer.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	close(l.stop)
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failing
}

// run is the writer: it takes whatever came while it wrote, so that events
// which came together share one fsync.
func (l *Log) run() {
	defer close(l.done)
	defer func() { l.w.close() }()
	timer := time.NewTicker(syncEvery)
	defer timer.Stop()
	for {
		select {
		case <-l.bell:
			l.step(false, false)
		case <-timer.C:
			l.step(true, false)
		case <-l.stop:
			l.step(true, true)
			return
		}
	}
}

// step writes the queue. durable asks for an fsync that nobody waits for, end for
// the repeats whose window is not over.
func (l *Log) step(durable, end bool) {
	err := error(nil)
	if l.w.pending() && l.w.failed { // what is left of the try before goes first, or lines would lie in memory without bound
		if err = l.w.flush(); err != nil {
			l.answer(l.waiters(), err)
			return
		}
	}
	items := l.take(end)
	for _, i := range items {
		line := Line{TimeMs: i.atMs, Node: l.o.Node, Type: i.event.Type, Level: i.event.Level, Actor: i.event.Actor, Action: i.event.Action,
			RequestID: i.event.RequestID, Code: i.event.Code, Index: i.event.Index, Count: i.count, FirstMs: i.firstMs, LastMs: i.lastMs, Details: i.event.Details}
		if err == nil {
			err = l.w.addOrRotate(line)
		} else {
			l.w.add(line)
		}
		durable = durable || i.done != nil
	}
	if err == nil {
		if durable {
			err = l.w.flush()
		} else {
			err = l.w.write()
		}
	}
	l.answer(items, err)
}

// waiters takes nothing from the queue: it lets go of those who wait there,
// for the disk does not take lines now.
func (l *Log) waiters() []item {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []item
	for n := range l.queue {
		if l.queue[n].done != nil {
			out = append(out, item{done: l.queue[n].done})
			l.queue[n].done = nil
		}
	}
	return out
}

// take returns what is to be written now.
func (l *Log) take(end bool) []item {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.o.Now() // under mu: a repeat that is counted before is no later
	items := l.queue
	l.queue = nil
	for _, r := range l.repeats.due(now, end) {
		items = append(items, item{event: r.event, atMs: now.UnixMilli(), count: r.n, firstMs: r.firstMs, lastMs: r.lastMs})
	}
	if l.lost.n > 0 {
		items = append(items, item{event: Event{Type: TypeLost, Level: LevelHigh, Actor: Actor{Kind: kindNode, ID: l.o.Node, Proved: true}},
			atMs: now.UnixMilli(), count: l.lost.n, firstMs: l.lost.firstMs, lastMs: l.lost.lastMs})
		l.lost = lost{}
	}
	return items
}

// answer tells those who wait how it went, and everybody how the log is.
func (l *Log) answer(items []item, err error) {
	l.mu.Lock()
	before := l.failing
	l.failing = err
	l.head = l.w.synced
	l.mu.Unlock()
	switch {
	case err != nil && before == nil:
		l.o.Log.Error("the audit log cannot be written: changes by operators are refused until it can", "dir", l.o.Dir, "error", err)
	case err == nil && before != nil:
		l.o.Log.Info("the audit log is written again", "dir", l.o.Dir)
	}
	for _, i := range items {
		if i.done != nil {
			i.done <- err
		}
	}
}

// Dir returns where the log of a data directory lies.
func Dir(dataDir string) string { return filepath.Join(dataDir, DirName) }
