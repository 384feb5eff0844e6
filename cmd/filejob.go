package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// fileJob is one file that becomes another.
type fileJob struct {
	in, out string // "" for standard input and output
	name    string // of the input, for people
	done    string // what was done to it, such as "sealed"
}

// newFileJob reads the command line. If a flag already takes standard input the file cannot come from there.
func (p *program) newFileJob(c *cli.Context, done string, stdinTaken bool) (fileJob, error) {
	args, err := operands(c, "[FILE]")
	if err != nil {
		return fileJob{}, err
	}
	format, err := formatOf(c)
	if err != nil {
		return fileJob{}, err
	}
	job := fileJob{out: c.String("out"), name: "standard input", done: done}
	if len(args) > 0 && args[0] != "-" {
		job.in, job.name = args[0], args[0]
	}
	switch {
	case job.in == "" && stdinTaken:
		return fileJob{}, usagef("standard input cannot be both the file and a flag's: name a FILE")
	case job.in == "" && len(args) == 0 && p.interactive():
		return fileJob{}, usagef("FILE is missing: name it, or say - to type it in")
	case job.out == "" && format == formatJSON:
		return fileJob{}, usagef("--format json describes a file: give --out FILE (without it, standard output is the file)")
	case job.out == "":
		return job, nil
	}
	if info, err := os.Lstat(job.out); err == nil && !info.Mode().IsRegular() {
		return fileJob{}, usagef("--out %s exists and is no regular file, so it is not replaced", job.out)
	}
	return job, mayReplace(c, job.out)
}

// runFileJob runs work from the input to the output of a job and returns the bytes of both. A file of --out is there
// after success only, readable by its owner alone.
func (p *program) runFileJob(c *cli.Context, job fileJob, work func(dst io.Writer, src io.Reader) error) (in, out int64, err error) {
	input, size, err := p.openInput(job)
	if err != nil {
		return 0, 0, err
	}
	defer input.Close()
	ctx, stop := p.untilHangup(c.Context)
	defer stop()
	watched := p.watched(input, job.name, size)
	pumped, release := interruptible(ctx, watched)
	defer release()
	src := &meter{ctx: ctx, Reader: pumped}
	dst := &counter{Writer: p.out}
	if job.out == "" {
		err = work(dst, src)
	} else {
		err = intoFile(job.out, c.Bool("force"), func(f *os.File) error {
			dst.Writer = f
			return work(dst, src)
		})
	}
	if _, shown := watched.(*progressReader); shown && err != nil {
		fmt.Fprintln(p.err) // the error gets a line of its own
	}
	return src.n, dst.n, err
}

// openInput returns the input and its size, 0 if that is not known.
func (p *program) openInput(job fileJob) (io.ReadCloser, int64, error) {
	if job.in == "" {
		return io.NopCloser(p.in), 0, nil
	}
	f, err := os.Open(job.in)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, usagef("%s: there is no such file", job.in)
	} else if err != nil {
		return nil, 0, usagef("%w", err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory: pack it first, as with tar", job.in)
	}
	if err != nil {
		f.Close()
		return nil, 0, usagef("%w", err)
	}
	return f, info.Size(), nil
}

// untilHangup ends a context also with the signals that would end the process with a part of a file in its place.
func (p *program) untilHangup(ctx context.Context) (context.Context, context.CancelFunc) {
	signals := []os.Signal{syscall.SIGQUIT}
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signals = append(signals, syscall.SIGHUP)
	}
	return signal.NotifyContext(ctx, signals...)
}

// interruptible returns a reader of r that ends with the context even while a read is stuck in a pipe or a terminal:
// such a read cannot be called off, so it is left behind. Call release when done.
func interruptible(ctx context.Context, r io.Reader) (pumped io.Reader, release func()) {
	out, in := io.Pipe()
	go func() {
		_, err := io.Copy(in, r)
		in.CloseWithError(err)
	}()
	unhook := context.AfterFunc(ctx, func() { in.CloseWithError(ctx.Err()) })
	return out, func() {
		unhook()
		out.Close()
	}
}

// meter counts what is read, and ends with its context.
type meter struct {
	io.Reader
	ctx context.Context
	n   int64
}

func (m *meter) Read(p []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.Reader.Read(p)
	m.n += int64(n)
	return n, err
}

// counter counts what is written.
type counter struct {
	io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n += int64(n)
	return n, err
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
