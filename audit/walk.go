package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/edgecoder/edgecoder/crypto"
)

// Kinds of faults.
const (
	FaultMalformed = "malformed" // no line of this format, or its bytes are not what its hash was made of
	FaultChain     = "chain"     // the hash of the line before is another: lines were dropped, added, swapped or changed
	FaultSeq       = "seq"       // the number of the line before is another
	FaultName      = "name"      // the file is not called by its first line
	FaultBegin     = "begin"     // the oldest lines are missing, and no line says that they made room
	FaultTorn      = "torn"      // the last line is not whole: a crash, or somebody cut the end off
	FaultHead      = "head"      // the log does not hold the head that was noted elsewhere
	FaultEmpty     = "empty"     // there is no line
	FaultLost      = "lost"      // it once ended with a line that it does not hold, as others remember
)

// maxFaults bounds a list of faults: after the first one others follow from it.
const maxFaults = 16

// Fault is a place where a log does not verify.
type Fault struct {
	File   string `json:"file"`
	Line   int    `json:"line"` // in the file, from 1
	Seq    uint64 `json:"seq"`  // that belongs there
	Kind   string `json:"kind"`
	Detail string `json:"detail"`
}

func (f *Fault) Error() string {
	return fmt.Sprintf("%s line %d (seq %d): %s: %s", f.File, f.Line, f.Seq, f.Kind, f.Detail)
}

// place names a fault in the details of a [TypeBreak] line.
func (f *Fault) place() string { return f.File + ":" + strconv.Itoa(f.Line) + ":" + f.Kind }

// Report is what a walk through a log found.
type Report struct {
	Files int    `json:"files"`
	Lines uint64 `json:"lines"`
	First uint64 `json:"first_seq"` // of the oldest line that is there
	Last  uint64 `json:"last_seq"`
	Head  string `json:"head"` // hash of the last line
	Node  string `json:"node,omitempty"`
	// FirstMs and LastMs are the times of the oldest and the newest line.
	FirstMs int64   `json:"first_ms,omitempty"`
	LastMs  int64   `json:"last_ms,omitempty"`
	Faults  []Fault `json:"faults,omitempty"` // the first 16

	file     string          // of the last line
	told     map[string]bool // faults that a line of the log names
	through  uint64          // newest dropped seq that a line tells of
	dropHead string          // hash of that
	began    crypto.Hash     // prev of the oldest line
	torn     int64           // bytes behind the last newline of the newest file; -1: the file is empty
	end      int64           // bytes of the newest file up to there
}

// walker goes through a log, oldest line first.
type walker struct {
	Report
	strict bool // decode every line; else only the first and what the log says of itself
	want   []Head
	met    map[Head]bool // those of want whose line was there

	head  crypto.Hash
	blind bool // the line before could not be read: whatever prev says is taken
	any   bool // a line was read
}

func (w *walker) fault(file string, line int, seq uint64, kind, format string, args ...any) {
	if len(w.Faults) < maxFaults {
		w.Faults = append(w.Faults, Fault{file, line, seq, kind, fmt.Sprintf(format, args...)})
	}
}

// walk reads all files of dir.
func (w *walker) walk(dir string) error {
	files, err := listFiles(dir)
	if err != nil {
		return err
	}
	w.told, w.Head = map[string]bool{}, noHash.String()
	w.Report.Files = len(files)
	for i, f := range files {
		w.torn, w.end = 0, 0
		if err := w.walkFile(dir, f, i == len(files)-1); err != nil {
			return err
		}
	}
	w.checkBegin(files)
	return nil
}

func (w *walker) walkFile(dir string, f logFile, newest bool) error {
	in, err := os.Open(filepath.Join(dir, f.name))
	if err != nil {
		return err
	}
	defer in.Close()
	r := bufio.NewReaderSize(in, maxLine)
	w.file = f.name
	for n := 1; ; n++ {
		text, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			size := int64(0)
			for errors.Is(err, bufio.ErrBufferFull) {
				size += int64(len(text))
				text, err = r.ReadSlice('\n')
			}
			size += int64(len(text))
			if errors.Is(err, io.EOF) {
				w.endFile(f, n, size, newest)
				return nil
			}
			if err != nil {
				return err
			}
			w.end += size
			w.unread(f.name, n, fmt.Errorf("%w: more than %d bytes", errLine, maxLine))
			continue
		case errors.Is(err, io.EOF):
			w.endFile(f, n, int64(len(text)), newest)
			return nil
		case err != nil:
			return err
		}
		w.end += int64(len(text))
		w.line(f, n, text[:len(text)-1])
	}
}

// endFile judges what stands behind the last newline of a file.
func (w *walker) endFile(f logFile, n int, left int64, newest bool) {
	switch {
	case left > 0 && newest:
		w.torn = left
	case left > 0:
		w.unread(f.name, n, errors.New("the file ends within a line, and is not the newest"))
	case n == 1 && newest:
		w.torn = -1
	case n == 1:
		w.fault(f.name, 1, w.Last+1, FaultMalformed, "the file is empty, and is not the newest")
	}
}

// unread notes a line that cannot be read. One stood there, so its number is used.
func (w *walker) unread(file string, n int, why error) {
	w.fault(file, n, w.Last+1, FaultMalformed, "%v", why)
	w.Last++
	w.blind = true
}

func (w *walker) line(f logFile, n int, text []byte) {
	k, err := readLink(text)
	var l Line
	if err == nil && (w.strict || !w.any || bytes.Contains(text, []byte(`"type":"audit_`))) {
		l, err = ParseLine(text)
	}
	if err != nil {
		w.unread(f.name, n, err)
		return
	}
	switch {
	case !w.any:
		w.First, w.FirstMs, w.began, w.any = k.seq, l.TimeMs, k.prev, true
	case !w.blind && k.prev != w.head:
		w.fault(f.name, n, w.Last+1, FaultChain, "its prev is %s, the line before has the hash %s", k.prev, w.head)
	case k.seq != w.Last+1:
		w.fault(f.name, n, w.Last+1, FaultSeq, "its seq is %d", k.seq)
	}
	if n == 1 && k.seq != f.first {
		w.fault(f.name, n, k.seq, FaultName, "its first line has the seq %d", k.seq)
	}
	w.head, w.blind = k.hash, false
	w.Last, w.Head = k.seq, k.hash.String()
	w.Lines++
	for _, h := range w.want {
		if h.isOf(k) {
			w.met[h] = true
		}
	}
	w.hear(f.name, n, &l)
}

// hear takes note of what a line says of the log itself.
func (w *walker) hear(file string, n int, l *Line) {
	switch l.Type {
	case "":
		return // it was not decoded
	case TypeBreak:
		w.told[l.Details["place"]] = true
	case TypeDropped:
		if through, err := strconv.ParseUint(l.Details["through_seq"], 10, 64); err == nil && through >= w.through {
			w.through, w.dropHead = through, l.Details["head"]
		}
	}
	switch {
	case w.Node == "":
		w.Node = l.Node
	case w.Node != l.Node:
		w.fault(file, n, l.Seq, FaultChain, "it is of node %q, the lines before of %q", l.Node, w.Node)
	}
	w.LastMs = l.TimeMs
}

// checkBegin asks whether the oldest line is the first, or follows on what the
// log says it dropped. Files that are to go may still be there after a crash.
func (w *walker) checkBegin(files []logFile) {
	switch {
	case !w.any:
		return
	case w.First == 1 && w.began == noHash:
		return
	case w.First > 1 && (w.through > w.First-1 || w.through == w.First-1 && w.dropHead == w.began.String()):
		return
	}
	f := Fault{files[0].name, 1, w.First, FaultBegin, fmt.Sprintf("the log begins with seq %d on %s, and no line says that what stood before made room", w.First, w.began)}
	w.Faults = append([]Fault{f}, w.Faults[:min(len(w.Faults), maxFaults-1)]...)
}

// Verify walks the whole log in dir and checks every line. Without a head that it
// must hold it stays open whether newest lines are missing at the end: the chain
// cannot show that. What was found to be wrong is in the report's faults; an error
// means that the files could not be read.
func Verify(dir string, want ...Head) (Report, error) {
	w := walker{strict: true, want: want, met: map[Head]bool{}}
	if err := w.walk(dir); err != nil {
		return w.Report, err
	}
	switch {
	case w.torn != 0:
		w.fault(w.file, int(w.Lines)+1, w.Last+1, FaultTorn,
			"the file ends within a line: the crash of a node, which writes a line about it when it starts, or somebody cut the end off")
	case !w.any && len(w.Faults) == 0:
		w.fault("", 1, 1, FaultEmpty, "there is no audit log in %s", dir)
	}
	for _, h := range want {
		if h.Seq > 0 && !w.met[h] {
			w.fault(w.file, 0, h.Seq, FaultHead, "%s", w.headFault(h))
		}
	}
	return w.Report, nil
}

func (w *walker) headFault(want Head) string {
	switch {
	case want.Seq > w.Last:
		return fmt.Sprintf("the log ends with seq %d, but had %d once: its end was cut off", w.Last, want.Seq)
	case want.Seq < w.First:
		return fmt.Sprintf("seq %d is not there any more, the oldest line is %d: it made room, or the log was made anew; give a newer head", want.Seq, w.First)
	}
	return fmt.Sprintf("the line of seq %d has another hash than was noted: the log was made anew", want.Seq)
}
