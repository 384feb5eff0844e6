package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/edgecoder/edgecoder/crypto"
)

// writer makes lines and brings them to the disk. Everything since the last
// fsync stays in memory and is written to its place again after a failure: a
// page that an fsync reported as lost is gone, whatever a later fsync says.
type writer struct {
	o    *Options
	seq  uint64 // of the newest line, written or not
	prev crypto.Hash

	f      file
	name   string // of f
	base   int64  // bytes of f that are durable
	buf    []byte // lines behind base
	first  uint64 // seq of the first line in buf
	wrote  int    // bytes of buf that were handed to the system
	trim   bool   // f may be longer than the lines in it: a torn one stood there
	failed bool   // the last try
	synced Head
}

func (w *writer) pending() bool { return len(w.buf) > 0 }

// resume goes on in an existing file behind its last whole line. What a crash
// left in the system's cache alone becomes durable first.
func (w *writer) resume(name string, end int64) error {
	f, err := w.o.disk.open(filepath.Join(w.o.Dir, name))
	if err != nil {
		return err
	}
	w.f, w.name, w.base = f, name, end
	w.synced = Head{Seq: w.seq, Hash: w.prev.String(), File: name}
	return f.Sync()
}

// add links one line and puts it into the buffer. One that cannot be made is a
// fault of this package; a line tells that it is missing.
func (w *writer) add(l Line) {
	l.Seq = w.seq + 1
	text, sum, err := seal(&l, w.prev)
	if err != nil {
		w.o.Log.Error("an audit event cannot be written as a line", "type", l.Type, "error", err)
		l = ownLine(w.o, TypeLost, LevelHigh, nil)
		l.Seq = w.seq + 1
		if text, sum, err = seal(&l, w.prev); err != nil {
			return
		}
	}
	if !w.pending() {
		w.first = l.Seq
	}
	w.seq, w.prev = l.Seq, sum
	w.buf = append(w.buf, text...)
}

// addOrRotate adds a line, in a new file when this one is full. After an error
// the line waits in memory.
func (w *writer) addOrRotate(l Line) (err error) {
	if w.f == nil && !w.pending() || w.f != nil && w.base+int64(len(w.buf)) >= w.o.FileBytes {
		err = w.rotate()
	}
	w.add(l)
	return err
}

// rotate ends the file and begins the next one.
func (w *writer) rotate() error {
	if err := w.flush(); err != nil {
		return err
	}
	w.close()
	if err := w.begin(w.seq + 1); err != nil {
		return w.fail(err)
	}
	return w.makeRoom()
}

func (w *writer) begin(first uint64) error {
	name := fileName(first)
	f, err := w.o.disk.create(filepath.Join(w.o.Dir, name))
	if err != nil {
		return err
	}
	w.f, w.name, w.base = f, name, 0
	return nil
}

// close lets go of the file. Its lines are durable, or wait for the next one.
func (w *writer) close() {
	if w.f != nil {
		_ = w.f.Close() // flush has asked all that there is to know
		w.f = nil
	}
}

// write hands what is new to the system, without waiting for the disk.
func (w *writer) write() error {
	if w.wrote == len(w.buf) {
		return nil
	}
	if w.f == nil {
		if err := w.begin(w.first); err != nil {
			return w.fail(err)
		}
	}
	if _, err := w.f.WriteAt(w.buf[w.wrote:], w.base+int64(w.wrote)); err != nil {
		return w.fail(fmt.Errorf("write %s: %w", w.name, err))
	}
	w.wrote = len(w.buf)
	return nil
}

// flush makes the buffer durable.
func (w *writer) flush() error {
	if !w.pending() {
		return nil
	}
	if err := w.write(); err != nil {
		return err
	}
	if err := w.f.Sync(); err != nil {
		return w.fail(fmt.Errorf("sync %s: %w", w.name, err))
	}
	w.base += int64(len(w.buf))
	if w.trim {
		if err := w.f.Truncate(w.base); err != nil {
			w.o.Log.Warn("what is left of a torn audit line was not cut off: the next start tells of it again", "file", w.name, "error", err)
		}
	}
	w.buf, w.wrote, w.failed, w.trim = w.buf[:0], 0, false, false
	w.synced = Head{Seq: w.seq, Hash: w.prev.String(), File: w.name}
	return nil
}

// fail has all that is not durable written again.
func (w *writer) fail(err error) error {
	w.wrote, w.failed = 0, true
	return err
}

// makeRoom drops the oldest files when all are too large together. A line with
// the head that they ended with is durable before the first of them goes, so
// that at every moment what is there verifies.
func (w *writer) makeRoom() error {
	files, err := listFiles(w.o.Dir)
	if err != nil {
		return err
	}
	total := w.o.FileBytes
	for _, f := range files {
		total += f.size
	}
	drop := 0
	for ; total > w.o.TotalBytes && len(files)-drop > leastFiles; drop++ {
		total -= files[drop].size
	}
	if drop == 0 {
		return nil
	}
	kept := files[drop]
	head, err := firstPrev(filepath.Join(w.o.Dir, kept.name))
	if err != nil {
		head = "" // the line is damaged: a fault of its own
	}
	w.add(ownLine(w.o, TypeDropped, LevelInfo, map[string]string{
		"files": strconv.Itoa(drop), "through_seq": strconv.FormatUint(kept.first-1, 10), "head": head}))
	if err := w.flush(); err != nil {
		return err
	}
	return w.remove(files[:drop])
}

// remove deletes files, the oldest first.
func (w *writer) remove(files []logFile) error {
	for _, f := range files {
		if err := w.o.disk.remove(filepath.Join(w.o.Dir, f.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("drop %s: %w", f.name, err)
		}
	}
	return nil
}

// finishDrop deletes what a line says was dropped, and a crash left.
func (w *writer) finishDrop(through uint64) error {
	files, err := listFiles(w.o.Dir)
	if err != nil {
		return err
	}
	gone := 0
	for gone+1 < len(files) && files[gone+1].first <= through+1 {
		gone++
	}
	return w.remove(files[:gone])
}

// firstPrev returns prev of a file's first line.
func firstPrev(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := bufio.NewReaderSize(f, maxLine).ReadSlice('\n')
	if err != nil {
		return "", err
	}
	k, err := readLink(text[:len(text)-1])
	return k.prev.String(), err
}
