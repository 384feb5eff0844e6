package cmd

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// newFile is a file in the making. Only its owner may read it.
type newFile struct {
	*os.File
	part string // its name while it is made, "" if it has none
}

// createNew makes a file in dir. Where the system can, it has no name until it is complete, so that not even SIGKILL
// leaves a part behind; elsewhere a part that is killed stays as .edgecoder-*.partial.
func createNew(dir string) (*newFile, error) {
	if f, ok := openNameless(dir); ok {
		return &newFile{File: f}, nil
	}
	f, err := os.CreateTemp(dir, ".edgecoder-*.partial") // mode 0600, and new: nobody can put anything in its way
	if err != nil {
		return nil, err
	}
	return &newFile{f, f.Name()}, nil
}

// discard closes the file and removes what was not given its name.
func (f *newFile) discard() {
	f.Close()
	if f.part != "" {
		os.Remove(f.part) // gone once the file has its name
	}
}

// finish gives the file its name, once it is on disk.
func (f *newFile) finish(path string, replace bool) error {
	if err := f.Sync(); err != nil {
		return err
	}
	if f.part == "" { // only now, and for a moment: a link replaces nothing, a rename does
		part := filepath.Join(filepath.Dir(path), ".edgecoder-"+rand.Text()+".partial")
		if err := linkNameless(f.File, part); err != nil {
			return err
		}
		f.part = part
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := giveName(f.part, path, replace); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// intoFile gives what write wrote the name path, once it is complete and on disk.
func intoFile(path string, replace bool, write func(f *os.File) error) error {
	f, err := createNew(filepath.Dir(path))
	if err != nil {
		return usagef("%w", err)
	}
	defer f.discard()
	if err := write(f.File); err != nil {
		return err
	}
	return f.finish(path, replace)
}

// giveName gives a finished file its name. Unless it may replace, it replaces
// nothing, even if that came in the meantime; file systems without hard links can
// only be asked before.
func giveName(part, path string, replace bool) error {
	if replace {
		return os.Rename(part, path)
	}
	err := os.Link(part, path)
	if err == nil {
		return nil
	}
	if err := isFree(path); err != nil {
		return err
	}
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) { // EPERM is how FAT says it
		return os.Rename(part, path)
	}
	return err
}

// isFree refuses a name that is taken.
func isFree(path string) error {
	_, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil:
		return usagef("%s is there already: give another name, or --force to replace it", path)
	}
	return usagef("%w", err)
}
