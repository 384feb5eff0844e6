package edge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
)

// Files of the list in a data directory. bans.list is the list as of one position; bans-N.steps has the steps that came after the
// list of generation N, one for each position that was reached since. A list is replaced as a whole, steps are only appended.
const (
	fileList    = "bans.list"
	stepsPrefix = "bans-"
	stepsSuffix = ".steps"
)

// minFold is how large steps grow before they are folded into a new list, at least; half of the list is the other bound. So a byte of steps
// costs at most two more of a new list, and a start never reads more than one and a half lists.
const minFold = 1 << 20

// Damage says that a file does not hold what was written to it. An edge that finds one must not run on what is left: it could
// be an older list.
type Damage struct {
	File string
	Err  error
}

// Error names the file and the way out.
func (d *Damage) Error() string {
	return fmt.Sprintf("%s is damaged: %v. Move %s and the %s*%s beside it away: the edge fetches the whole list again, and verifies it",
		d.File, d.Err, fileList, stepsPrefix, stepsSuffix)
}

// Unwrap returns what does not match.
func (d *Damage) Unwrap() error { return d.Err }

// Store keeps the verified list on disk. The syncer owns it.
type Store struct {
	dir        string
	clusterID  string
	key        sealKey
	generation uint64
	seal       crypto.Hash // of the list, or of the last step behind it
	listBytes  int64
	steps      *os.File // nil until there is a list
	stepsBytes int64
}

// OpenStore reads what a directory has. The key is this edge's secret, of at least 32 bytes: what it did not seal is not read. The position is nil
// if there is no list yet. Errors about contents are a *[Damage].
func OpenStore(dir, clusterID string, key []byte) (s *Store, v *View, p *Position, err error) {
	s = &Store{dir: dir, clusterID: clusterID, key: bytes.Clone(key)}
	path := s.path(fileList)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		if left := s.stepFiles(); len(left) > 0 {
			return nil, nil, nil, &Damage{File: path, Err: fmt.Errorf("it is gone, and %s stands beside it", left[0])}
		}
		return s, emptyView(), nil, nil
	}
	if err != nil {
		return nil, nil, nil, err
	}
	defer f.Close()
	l, err := readList(f, s.key)
	if err != nil {
		return nil, nil, nil, &Damage{File: path, Err: err}
	}
	if l.clusterID != clusterID {
		return nil, nil, nil, &Damage{File: path, Err: fmt.Errorf("it is of cluster %s, this edge of %s", l.clusterID, clusterID)}
	}
	s.generation, s.listBytes = l.generation, l.bytes
	at, err := s.openSteps(reached{view: l.view, position: &l.position, seal: l.seal})
	if err != nil {
		return nil, nil, nil, err
	}
	s.removeOldSteps()
	return s, at.view, at.position, nil
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Store) stepsPath() string {
	return s.path(fmt.Sprintf("%s%d%s", stepsPrefix, s.generation, stepsSuffix))
}

// stepFiles lists files of steps, of any generation.
func (s *Store) stepFiles() []string {
	found, _ := filepath.Glob(s.path(stepsPrefix + "*" + stepsSuffix)) // the pattern is sound
	return found
}

// removeOldSteps removes the steps that a list has taken in: a crash may have come before.
func (s *Store) removeOldSteps() {
	for _, path := range s.stepFiles() {
		if !strings.EqualFold(path, s.stepsPath()) {
			_ = os.Remove(path) // of no use and of no harm: the next start tries again
		}
	}
}

// openSteps applies the steps of this generation and gets ready to append. A step that broke off with the process was never acted on,
// and is cut off.
func (s *Store) openSteps(list reached) (reached, error) {
	path := s.stepsPath()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return list, err
	}
	at, whole, err := readSteps(f, s.key, s.generation, list)
	if err == nil {
		err = s.startSteps(f, whole)
	} else {
		err = &Damage{File: path, Err: err}
	}
	if err != nil {
		_ = f.Close()
		return list, err
	}
	s.steps, s.seal = f, at.seal
	return at, nil
}

// startSteps cuts a file after its whole steps, or begins it.
func (s *Store) startSteps(f *os.File, whole int64) error {
	if err := f.Truncate(whole); err != nil {
		return err
	}
	if _, err := f.Seek(whole, io.SeekStart); err != nil {
		return err
	}
	s.stepsBytes = whole
	if whole > 0 {
		return nil
	}
	head := stepsHead(s.generation)
	if _, err := f.Write(head); err != nil {
		return err
	}
	s.stepsBytes = int64(len(head))
	return errors.Join(f.Sync(), syncDir(s.dir))
}

// Step keeps what led from one position to the next. When it returns nil, a start finds it.
func (s *Store) Step(from uint64, p Position, changes []Change, v *View) error {
	if s.steps == nil || s.stepsBytes > max(minFold, s.listBytes/2) {
		return s.Replace(p, v)
	}
	step, seal, err := encodeStep(s.key, s.seal, from, p, changes)
	if err != nil {
		return err
	}
	if len(step) > maxStepBytes {
		return s.Replace(p, v)
	}
	if _, err = s.steps.Write(step); err == nil {
		err = s.steps.Sync()
	}
	if err != nil {
		// What of it is on disk nobody knows: take it back, or begin anew.
		if s.startSteps(s.steps, s.stepsBytes) != nil {
			_ = s.steps.Close()
			s.steps = nil
		}
		return fmt.Errorf("keep the list in %s: %w", s.dir, err)
	}
	s.stepsBytes, s.seal = s.stepsBytes+int64(len(step)), seal
	return nil
}

// Replace writes the whole list anew.
func (s *Store) Replace(p Position, v *View) error {
	next := s.generation + 1
	var seal crypto.Hash
	n, err := writeFile(s.path(fileList), func(w io.Writer) (err error) {
		seal, err = writeList(w, s.key, s.clusterID, next, p, v)
		return err
	})
	if err != nil {
		return fmt.Errorf("keep the list in %s: %w", s.dir, err)
	}
	if s.steps != nil {
		_ = s.steps.Close()
		s.steps = nil
	}
	s.generation, s.listBytes = next, n
	if _, err := s.openSteps(reached{view: v, position: &p, seal: seal}); err != nil {
		return fmt.Errorf("keep the list in %s: %w", s.dir, err)
	}
	s.removeOldSteps()
	return nil
}

// Close lets go of the files.
func (s *Store) Close() error {
	clear(s.key)
	if s.steps == nil {
		return nil
	}
	return s.steps.Close()
}
