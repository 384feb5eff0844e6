package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/edgecoder/edgecoder/durable"
)

// DirName is the directory of the log in a node's data directory.
const DirName = "audit"

const (
	filePrefix = "audit-"
	fileSuffix = ".jsonl"
	seqDigits  = 20 // of the largest uint64, so that names sort as numbers do
)

// fileName is the name of the file whose first line has the given seq.
func fileName(seq uint64) string {
	return fmt.Sprintf("%s%0*d%s", filePrefix, seqDigits, seq, fileSuffix)
}

// logFile is a file of the log as the directory shows it.
type logFile struct {
	name  string
	first uint64 // seq of its first line, by its name
	size  int64
}

// listFiles returns the files of a log, the oldest first. Other names are not
// ours to judge.
func listFiles(dir string) ([]logFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []logFile
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), filePrefix)
		digits, ends := strings.CutSuffix(digits, fileSuffix)
		if !ok || !ends || len(digits) != seqDigits {
			continue
		}
		first, err := strconv.ParseUint(digits, 10, 64)
		if err != nil {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // dropped just now
		}
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is no regular file", filepath.Join(dir, e.Name()))
		}
		out = append(out, logFile{name: e.Name(), first: first, size: info.Size()})
	}
	slices.SortFunc(out, func(a, b logFile) int { return strings.Compare(a.name, b.name) })
	return out, nil
}

// file is what the writer needs of an open file.
type file interface {
	WriteAt(p []byte, off int64) (int, error)
	Sync() error
	Truncate(size int64) error
	Close() error
}

// disk is what the writer does to the directory; tests put a failing one in its place.
type disk interface {
	create(path string) (file, error) // a new file, durable by name
	open(path string) (file, error)
	remove(path string) error
}

type osDisk struct{}

func (osDisk) create(path string) (file, error) {
	f, err := openFile(path, os.O_CREATE) // one that a crash left empty is as good
	if err != nil {
		return nil, err
	}
	if err := durable.SyncDir(filepath.Dir(path)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (osDisk) open(path string) (file, error) { return openFile(path, 0) }
func (osDisk) remove(path string) error       { return os.Remove(path) }

// osFile is a file of the machine's.
type osFile struct{ *os.File }

func openFile(path string, flags int) (file, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|flags, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (f osFile) Sync() error { return durable.Sync(f.File) }
