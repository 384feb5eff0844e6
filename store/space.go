package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Space keeps an eye on the room that is left in a data directory, and a file
// there, the reserve, that can be given up for a write which must succeed.
//
// The reserve counts as used even while it is missing: giving it up must not
// look like room for ordinary writes, or they would eat what was kept for
// terms and votes.
type Space struct {
	o         SpaceOptions
	want      int64 // bytes of the reserve, fixed at start
	low, high int64 // the marks, bytes; see marks

	files  sync.Mutex // held while the reserve is made or given up
	held   int64      // bytes of the reserve that is there; guarded by files
	failed time.Time  // when the reserve could last not be made; guarded by files

	mu     sync.Mutex
	noted  time.Time // when a write last found no room; guarded by mu
	latest Room      // guarded by mu
}

// SpaceOptions says what a Space watches.
type SpaceOptions struct {
	Dir     string                                                // of the data; it exists
	Reserve int64                                                 // bytes of the reserve; 0: none. A small file system gets less
	Now     func() time.Time                                      // a clock that never runs back
	Statfs  func(dir string) (free, size int64, err error)        // nil: ask the system
	Alloc   func(path string, size int64) (held int64, err error) // nil: a file with real blocks
}

// Room is what a Space found.
type Room struct {
	Free, Size int64 // bytes of the file system: free to this process, and in all
	Reserve    int64 // bytes of the reserve that is there
	Enough     int64 // free bytes above which writes are taken again, a missing reserve included
	Low        bool  // refuse writes
	Spent      bool  // low, and the reserve was given up: what is left is for terms and votes alone
}

// The marks, and why these numbers.
const (
	// DefaultReserve holds some thousand writes of term and vote (a few pages of
	// 4 KiB each), or several full batches of history. Snapshots may not use it:
	// one that fails in the end would have spent it for nothing.
	DefaultReserve = 64 << 20
	// reserveShare of a file system at most goes to the reserve.
	reserveShare = 20
	// leastLow is what may still be written while writes are refused, ticks above
	// all, and what comes between two looks 200 ms apart: a busy log grows by
	// about 3 MB a second.
	leastLow = 4 << 20
	// lowShare keeps the low mark from being most of a small file system.
	lowShare = 10
	// fullFor is how long a write that found no room counts, whatever statfs
	// says: a quota does not show there. Then the next write tries.
	fullFor = 2 * time.Second
	// reservePause between two tries to make the reserve.
	reservePause = 10 * time.Second

	fileReserve = "reserve"
)

// marks returns the size of the reserve and the two marks. Writes stop below
// low, half a reserve or more, and come back above high, twice that: far enough
// apart that a log rotating or a snapshot ending does not switch them on and off.
func marks(reserve, size int64) (want, low, high int64) {
	want = min(reserve, size/reserveShare)
	low = min(max(want/2, leastLow), size/lowShare)
	return want, low, 2 * low
}

// OpenSpace looks at the directory and makes the reserve if there is room. Only
// a file system that cannot be asked is an error.
func OpenSpace(o SpaceOptions) (*Space, error) {
	if o.Statfs == nil {
		o.Statfs = statfs
	}
	if o.Alloc == nil {
		o.Alloc = allocate
	}
	s := &Space{o: o}
	_, size, err := o.Statfs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("room in %s: %w", o.Dir, err)
	}
	s.want, s.low, s.high = marks(o.Reserve, size)
	s.held = allocated(s.path())
	if s.held > s.want { // the setting was lowered, or the disk became smaller
		if err := os.Remove(s.path()); err != nil {
			return nil, fmt.Errorf("reserve: %w", err)
		}
		s.held = 0
	}
	_, err = s.Check()
	if errors.Is(err, errReserve) {
		err = nil // it is tried again, and Check tells
	}
	return s, err
}

func (s *Space) path() string { return filepath.Join(s.o.Dir, fileReserve) }

// errReserve marks that only the reserve could not be made.
var errReserve = errors.New("reserve")

// Check looks at the disk, and makes the reserve when it is missing and there is
// room for it. It may block as long as the disk does. An error leaves the
// verdict as it was, but for one about the reserve.
func (s *Space) Check() (Room, error) {
	s.files.Lock()
	defer s.files.Unlock()
	free, size, err := s.o.Statfs(s.o.Dir)
	if err != nil {
		return s.Room(), fmt.Errorf("room in %s: %w", s.o.Dir, err)
	}
	if s.judge(free, size).Low || s.held >= s.want {
		return s.Room(), nil
	}
	err = s.makeReserve()
	if free, size, failed := s.o.Statfs(s.o.Dir); failed == nil {
		s.judge(free, size)
	}
	return s.Room(), err
}

// judge turns numbers into a verdict. The caller holds files.
func (s *Space) judge(free, size int64) Room {
	now := s.o.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	mark := s.low
	if s.latest.Low {
		mark = s.high
	}
	missing := s.want - s.held
	low := free-missing < mark || !s.noted.IsZero() && now.Sub(s.noted) < fullFor
	s.latest = Room{Free: free, Size: size, Reserve: s.held, Enough: s.high + missing, Low: low, Spent: low && missing > 0}
	return s.latest
}

// makeReserve makes the reserve. The caller holds files.
func (s *Space) makeReserve() (err error) {
	now := s.o.Now()
	if !s.failed.IsZero() && now.Sub(s.failed) < reservePause {
		return nil
	}
	if s.held, err = s.o.Alloc(s.path(), s.want); err != nil {
		s.failed = now
		return fmt.Errorf("%w of %d MiB in %s not made: %w", errReserve, s.want>>20, s.o.Dir, err)
	}
	s.failed = time.Time{}
	return nil
}

// Room returns what the last look found. It never blocks on the disk.
func (s *Space) Room() Room {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest
}

// Free returns the bytes that are free to this process where another directory is.
func (s *Space) Free(dir string) (int64, error) {
	free, _, err := s.o.Statfs(dir)
	if err != nil {
		return 0, fmt.Errorf("room in %s: %w", dir, err)
	}
	return free, nil
}

// NoSpace tells whether a write failed because the disk or the quota is full.
func NoSpace(err error) bool { return noSpace(err) }

// Note takes the outcome of a write: one that found no room makes the verdict
// low at once, before the next look.
func (s *Space) Note(err error) {
	if !noSpace(err) {
		return
	}
	now := s.o.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noted, s.latest.Low = now, true
}

// Release gives up the reserve for a write that must succeed, and tells whether
// there was one. It comes back by itself once there is room above the high mark.
func (s *Space) Release() bool {
	s.files.Lock()
	defer s.files.Unlock()
	if s.held == 0 || os.Remove(s.path()) != nil {
		return false
	}
	now := s.o.Now()
	s.held = 0
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noted, s.latest.Low, s.latest.Spent = now, true, true
	s.latest.Reserve, s.latest.Enough = 0, s.high+s.want
	return true
}

// allocated returns the size of a file all of whose blocks are there, else 0.
func allocated(path string) int64 {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok && sys.Blocks*512 >= info.Size() { // 512 whatever the file system's blocks
		return info.Size()
	}
	return 0
}

// allocate makes a file of size bytes whose blocks are really taken. It is not
// synced: after a crash it is simply made again.
func allocate(path string, size int64) (held int64, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	if err = fallocate(f, size); errors.Is(err, errors.ErrUnsupported) {
		err = fillWithZeros(f, size)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path) // half a reserve only takes room
		return 0, err
	}
	return size, nil
}

// fillWithZeros is for file systems that cannot take blocks without writing
// them. One that compresses makes little of zeros; then the reserve is a hope.
func fillWithZeros(f *os.File, size int64) error {
	block := make([]byte, 1<<20)
	for size > 0 {
		n, err := f.Write(block[:min(size, int64(len(block)))])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return f.Sync() // "no space" may come as late as this
}

// String tells an operator how things stand and when they are good again.
func (r Room) String() string {
	return fmt.Sprintf("%.1f of %.1f MiB free, %.1f are enough", float64(r.Free)/(1<<20), float64(r.Size)/(1<<20), float64(r.Enough)/(1<<20))
}
