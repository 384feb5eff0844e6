package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Query asks for lines of one node's log. Empty texts match everything.
type Query struct {
	Type    string
	Level   string // this one, or above
	Actor   string // id of the actor
	SinceMs int64
	After   uint64 // lines with a greater seq
	Newest  bool   // the newest that match, instead of the first ones
	Limit   int    // lines of the answer
	Bytes   int    // of the answer; one line is always given
}

// Page is what a query found, in the order of seq.
type Page struct {
	Lines   [][]byte // without newline, as they stand in the file
	Through uint64   // every line up to this seq was looked at: where the next query goes on
}

// levels in their order.
var levels = []string{LevelInfo, LevelWarn, LevelHigh, LevelCritical}

// matches tells whether a decoded line is asked for.
func (q *Query) matches(l *Line) bool {
	return (q.Type == "" || l.Type == q.Type) && (q.Actor == "" || l.Actor.ID == q.Actor) && l.TimeMs >= q.SinceMs &&
		(q.Level == "" || slices.Index(levels, l.Level) >= slices.Index(levels, q.Level))
}

// Read answers a query from the durable part of the log. When the time of ctx
// is over it gives what it found until there, unless the newest were asked for.
func (l *Log) Read(ctx context.Context, q Query) (Page, error) {
	head := l.Head()
	files, err := listFiles(l.o.Dir)
	if err != nil {
		return Page{}, err
	}
	r := reading{q: q, head: head.Seq, dir: l.o.Dir, marks: q.marks()}
	if q.Newest {
		return r.newest(ctx, files)
	}
	// The file that holds the line behind After is the last one that begins at or before it.
	from := 0
	for from+1 < len(files) && files[from+1].first <= q.After+1 {
		from++
	}
	page := Page{Through: q.After}
	for _, f := range files[from:] {
		full, err := r.file(ctx, f, &page)
		if errors.Is(err, context.DeadlineExceeded) && page.Through > q.After {
			return page, nil
		}
		if err != nil || full {
			return page, err
		}
	}
	page.Through = max(page.Through, head.Seq)
	return page, nil
}

// Holds tells whether the line that a head names is in the durable part of the
// log. One that made room is not.
func (l *Log) Holds(ctx context.Context, head Head) (bool, error) {
	if head.Seq == 0 {
		return head.Hash == noHash.String(), nil
	}
	page, err := l.Read(ctx, Query{After: head.Seq - 1, Limit: 1})
	if err != nil || len(page.Lines) == 0 {
		return false, err
	}
	k, err := readLink(page.Lines[0])
	return err == nil && head.isOf(k), nil
}

// reading is one query on its way through the files.
type reading struct {
	q     Query
	head  uint64 // seq of the newest line to show
	dir   string
	marks [][][]byte // a line that is asked for contains one text of each list
}

// file adds what a file has to the page, and tells when that is full.
func (r *reading) file(ctx context.Context, f logFile, page *Page) (full bool, err error) {
	size := 0
	for _, text := range page.Lines {
		size += len(text)
	}
	err = r.scan(ctx, f, func(seq uint64, text []byte) bool {
		if seq <= r.q.After {
			return true
		}
		if !r.wants(text) {
			page.Through = seq
			return true
		}
		if len(page.Lines) > 0 && (len(page.Lines) >= r.q.Limit || size+len(text) > r.q.Bytes) {
			full = true
			return false
		}
		page.Lines, page.Through, size = append(page.Lines, bytes.Clone(text)), seq, size+len(text)
		return true
	})
	return full, err
}

// newest goes backwards through the files.
func (r *reading) newest(ctx context.Context, files []logFile) (Page, error) {
	page := Page{Through: r.head}
	size := 0
	for i := len(files) - 1; i >= 0 && len(page.Lines) < r.q.Limit; i-- {
		var found [][]byte
		err := r.scan(ctx, files[i], func(_ uint64, text []byte) bool {
			if !r.wants(text) {
				return true
			}
			found, size = append(found, bytes.Clone(text)), size+len(text)
			for len(found) > 1 && (len(found) > r.q.Limit || size > r.q.Bytes) { // what came before is older
				size -= len(found[0])
				found = found[1:]
			}
			return true
		})
		if err != nil {
			return page, err
		}
		page.Lines = append(found, page.Lines...)
		if len(page.Lines) > r.q.Limit {
			page.Lines = page.Lines[len(page.Lines)-r.q.Limit:]
		}
		if size >= r.q.Bytes {
			break
		}
	}
	return page, nil
}

// marks returns what a matching line contains as it is spelt, so that most lines
// of a full log need no decoding: quotes inside of JSON's strings are escaped.
func (q *Query) marks() [][][]byte {
	var all [][][]byte
	add := func(name string, values ...string) {
		var list [][]byte
		for _, v := range values {
			list = append(list, append([]byte(`"`+name+`":`), spell(v)...))
		}
		all = append(all, list)
	}
	if q.Type != "" {
		add("type", q.Type)
	}
	if at := slices.Index(levels, q.Level); at > 0 {
		add("level", levels[at:]...)
	}
	if q.Actor != "" {
		add("id", q.Actor)
	}
	return all
}

// wants decodes a line only if it may be one that is asked for.
func (r *reading) wants(text []byte) bool {
	for _, list := range r.marks {
		if !slices.ContainsFunc(list, func(mark []byte) bool { return bytes.Contains(text, mark) }) {
			return false
		}
	}
	if at, ok := timeOf(text); r.q.SinceMs > 0 && (!ok || at < r.q.SinceMs) {
		return false
	}
	l, err := ParseLine(text)
	return err == nil && r.q.matches(&l)
}

// ctxEvery is after how many lines a scan looks whether somebody still waits.
const ctxEvery = 256

// scan hands the whole, durable lines of a file to visit until that returns
// false. What does not parse is passed over, by wants at the latest: [Verify] tells of it.
func (r *reading) scan(ctx context.Context, f logFile, visit func(seq uint64, text []byte) bool) error {
	in, err := os.Open(filepath.Join(r.dir, f.name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // dropped just now
	}
	if err != nil {
		return err
	}
	defer in.Close()
	lines := bufio.NewReaderSize(in, maxLine)
	for n := 0; ; n++ {
		if n%ctxEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		text, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return err
		}
		text = text[:len(text)-1]
		seq, _, err := readSeq(text)
		if err != nil {
			continue
		}
		if seq > r.head {
			if _, err := readLink(text); err != nil {
				continue // damage, not the end
			}
			return nil
		}
		if !visit(seq, text) {
			return nil
		}
	}
}
