package judge

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// A run's directory may come from somebody else, and root may judge it. So no
// link in it is followed, nothing but a plain file is read, no file is read
// beyond its bound, and what is written takes the place of what was there.

// Bounds of what is read. A run of an hour has 250 MiB of history, 500,000
// operations and 20 MiB of last words.
const (
	maxHistoryBytes = 1 << 30
	maxFinalsBytes  = 256 << 20
	maxOtherBytes   = 16 << 20
	maxOps          = 2_000_000
	maxEvents       = 20_000
	maxNodes        = 64
	// maxTime bounds every time of a run, as nanoseconds since it began.
	maxTime = 48 * time.Hour
)

// mostBytes bounds the file of a name.
func mostBytes(name string) int64 {
	switch name {
	case HistoryFile:
		return maxHistoryBytes
	case FinalsFile:
		return maxFinalsBytes
	}
	return maxOtherBytes
}

// checkTime refuses a time that no run can have.
func checkTime(what string, ns int64) error {
	if ns < 0 || ns > int64(maxTime) {
		return fmt.Errorf("%s is %d ns, want 0 to %s", what, ns, maxTime)
	}
	return nil
}

// openPlain opens a plain file of a run, and nothing else: a FIFO would keep us
// waiting, and a link could lead anywhere.
func openPlain(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link, and those are not followed", path)
	}
	if err != nil {
		return nil, err
	}
	if err := checkPlain(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func checkPlain(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", f.Name())
	}
	if most := mostBytes(filepath.Base(f.Name())); info.Size() > most {
		return tooLong(f.Name(), most)
	}
	return nil
}

func tooLong(path string, most int64) error {
	return fmt.Errorf("%s has more than %d MiB, which is the most that is read", path, most>>20)
}

// bounded reads a file until its bound, which may be passed while it is read,
// or until ctx ends.
type bounded struct {
	ctx  context.Context
	f    *os.File
	most int64
	read int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.f.Read(p)
	if b.read += int64(n); b.read > b.most {
		return 0, tooLong(b.f.Name(), b.most)
	}
	return n, err
}

// readFile has a plain file read.
func readFile(ctx context.Context, path string, read func(io.Reader) error) error {
	f, err := openPlain(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := read(&bounded{ctx: ctx, f: f, most: mostBytes(filepath.Base(path))}); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// ReadPlain returns a file of a run: a plain one that is not too long.
func ReadPlain(path string) (text []byte, err error) {
	err = readFile(context.Background(), path, func(f io.Reader) error {
		text, err = io.ReadAll(f)
		return err
	})
	return text, err
}

func readJSON(ctx context.Context, path string, v any) error {
	return readFile(ctx, path, func(f io.Reader) error {
		text, err := io.ReadAll(f)
		if err != nil {
			return err
		}
		return strictJSON(text, v)
	})
}

// wholeLines passes over a last line without its end: whoever wrote it died.
type wholeLines struct {
	in   *bufio.Reader
	line []byte // what is left of the line being passed on
}

func newWholeLines(f io.Reader) *wholeLines {
	return &wholeLines{in: bufio.NewReaderSize(f, maxLine)}
}

func (w *wholeLines) Read(p []byte) (int, error) {
	if len(w.line) == 0 {
		line, err := w.in.ReadSlice('\n')
		if err != nil {
			return 0, err // at the end: without what stands before it
		}
		w.line = line
	}
	n := copy(p, w.line)
	w.line = w.line[n:]
	return n, nil
}

// ReplaceFile writes a file in one step: who reads it sees all of it or the one
// before. A link of that name is replaced, not followed.
func ReplaceFile(path string, data []byte) error {
	return replace(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

func replace(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	out := bufio.NewWriter(f)
	err = errors.Join(f.Chmod(0o600), write(out), out.Flush(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return ReplaceFile(path, append(text, '\n'))
}
