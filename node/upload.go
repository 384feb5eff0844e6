package node

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// dirRestore holds what a restore needs while it is under way. Nothing in it
// outlives the process that wrote it.
const dirRestore = "restore"

// clearUploads removes what a crash left behind.
func (n *Node) clearUploads() error {
	return os.RemoveAll(filepath.Join(n.cfg.DataDir, dirRestore))
}

// tempFile makes a file that is gone once it is closed, or with the process.
func (n *Node) tempFile(what string) (*os.File, error) {
	dir := filepath.Join(n.cfg.DataDir, dirRestore)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, what+"-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil { // it lives as long as it is open
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// guarded is a file of a size that a caller decides: it must not fill the disk
// that the log is on.
type guarded struct {
	out  io.Writer
	full func() *client.Error
	left int // bytes until the next look
}

// guardStep is how much is written between two looks at the free space: little
// against the marks, much against the cost of a look.
const guardStep = 1 << 20

func (n *Node) guard(f *os.File) io.Writer { return &guarded{out: f, full: n.disk.full} }

// Write implements io.Writer.
func (g *guarded) Write(p []byte) (int, error) {
	if g.left -= len(p); g.left <= 0 {
		g.left = guardStep
		if e := g.full(); e != nil {
			return 0, e
		}
	}
	return g.out.Write(p)
}

// spool keeps the records of a history on disk, in the order they came.
type spool struct {
	in  io.ReadSeeker
	out *bufio.Writer
}

func newSpool(out io.Writer, in io.ReadSeeker) *spool {
	return &spool{in: in, out: bufio.NewWriterSize(out, 1<<16)}
}

func (s *spool) add(r fsm.Record) error {
	data, err := fsm.Encode(r)
	if err != nil {
		return err
	}
	if _, err := s.out.Write(binary.AppendUvarint(nil, uint64(len(data)))); err != nil {
		return err
	}
	_, err = s.out.Write(data)
	return err
}

// done ends the writing.
func (s *spool) done() error { return s.out.Flush() }

// records yields what was added, rebased to a log at index.
func (s *spool) records(index uint64) iter.Seq2[fsm.Record, error] {
	return func(yield func(fsm.Record, error) bool) {
		if _, err := s.in.Seek(0, io.SeekStart); err != nil {
			yield(fsm.Record{}, err)
			return
		}
		in := bufio.NewReaderSize(s.in, 1<<16)
		for {
			r, err := nextRecord(in)
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(fsm.RebaseRecord(r, index), err) || err != nil {
				return
			}
		}
	}
}

// nextRecord reads a record; io.EOF stands for the end alone.
func nextRecord(in *bufio.Reader) (r fsm.Record, err error) {
	size, err := binary.ReadUvarint(in)
	if err != nil {
		return r, err
	}
	if size > fsm.MaxCommandBytes { // no record is larger than the command it came from
		return r, fmt.Errorf("spool: a record of %d bytes", size)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(in, data); err != nil {
		return r, fmt.Errorf("spool: it is cut off: %v", err)
	}
	return r, fsm.Decode(data, &r)
}

// thenRecords yields by stream the records of a history and then those that follow
// them, in the order of a snapshot.
func thenRecords(history iter.Seq2[fsm.Record, error], more []fsm.Record) iter.Seq2[fsm.Record, error] {
	return func(yield func(fsm.Record, error) bool) {
		streams := fsm.Streams()
		at := 0
		rest := func(upTo int) bool { // the new records of the streams before one
			for ; at < upTo; at++ {
				for _, r := range more {
					if r.Stream == streams[at] && !yield(r, nil) {
						return false
					}
				}
			}
			return true
		}
		for r, err := range history {
			if err != nil {
				yield(fsm.Record{}, err)
				return
			}
			for i, s := range streams {
				if s == r.Stream && !rest(i) {
					return
				}
			}
			if !yield(r, nil) {
				return
			}
		}
		rest(len(streams))
	}
}
