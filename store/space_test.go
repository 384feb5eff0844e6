package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// disk is a file system that exists as two numbers.
type disk struct {
	mu         sync.Mutex
	free, size int64
	err        error
}

func (d *disk) statfs(string) (int64, int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.free, d.size, d.err
}

// alloc takes room as a real file would, and leaves a small file in its place.
func (d *disk) alloc(path string, size int64) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.free < size {
		return 0, syscall.ENOSPC
	}
	d.free -= size
	return size, os.WriteFile(path, nil, 0o600)
}

func (d *disk) set(free int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free = free
}

func (d *disk) space(t *testing.T, clock *hands, reserve int64) *Space {
	t.Helper()
	s, err := OpenSpace(SpaceOptions{Dir: t.TempDir(), Reserve: reserve, Now: clock.now, Statfs: d.statfs, Alloc: d.alloc})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const mib = 1 << 20

func TestMarks(t *testing.T) {
	for _, tt := range []struct{ reserve, size, want, low int64 }{
		{64 * mib, 1 << 40, 64 * mib, 32 * mib}, // a large disk
		{64 * mib, 256 * mib, 256 * mib / 20, 256 * mib / 40},
		{64 * mib, 20 * mib, mib, 2 * mib}, // a tenth at most
		{0, 1 << 40, 0, leastLow},          // no reserve, marks all the same
		{1 << 40, 1000 * mib, 50 * mib, 25 * mib},
	} {
		want, low, high := marks(tt.reserve, tt.size)
		if want != tt.want || low != tt.low || high != 2*low {
			t.Errorf("reserve %d of %d: %d, %d, %d", tt.reserve, tt.size, want, low, high)
		}
	}
}

// TestSpaceHysteresis walks through a disk that fills up, gives its reserve, and
// gets its room back: reserve 64 MiB, marks 32 and 64 MiB.
func TestSpaceHysteresis(t *testing.T) {
	clock, d := newHands(), &disk{free: 1000 * mib, size: 1 << 40}
	s := d.space(t, clock, 64*mib)
	check := func(what string, free int64, low, spent bool, reserve int64) {
		t.Helper()
		clock.turn(fullFor)
		d.set(free * mib)
		r, err := s.Check()
		if err != nil || r.Low != low || r.Spent != spent || r.Reserve != reserve*mib || r != s.Room() {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
	check("room for all", 936, false, false, 64)
	check("at the low mark", 32, false, false, 64)
	check("below it", 31, true, false, 64)
	check("above it again", 60, true, false, 64)
	check("above the high mark", 65, false, false, 64)
	check("nothing left", 0, true, false, 64)
	if !s.Release() {
		t.Fatal("there was a reserve to give up")
	}
	if r := s.Room(); !r.Low || !r.Spent || r.Reserve != 0 || r.Enough != 128*mib {
		t.Errorf("given up: %+v", r)
	}
	if s.Release() {
		t.Error("given up twice")
	}
	check("its room is not for ordinary writes", 64, true, true, 0)
	check("nor a little more", 127, true, true, 0)
	clock.turn(fullFor)
	d.set(128 * mib)
	if r, err := s.Check(); err != nil || r.Low || r.Spent || r.Reserve != 64*mib || r.Free != 64*mib {
		t.Errorf("back: %+v, %v", r, err)
	}
}

func TestSpaceNotesAFullDiskAtOnce(t *testing.T) {
	clock, d := newHands(), &disk{free: 1 << 39, size: 1 << 40}
	s := d.space(t, clock, mib)
	s.Note(nil)
	s.Note(errors.New("something else"))
	if s.Room().Low {
		t.Fatal("low for no reason")
	}
	s.Note(fmt.Errorf("write: %w", syscall.EDQUOT)) // a quota: statfs sees room
	if !s.Room().Low {
		t.Error("not low after a write found no room")
	}
	if r, _ := s.Check(); !r.Low || r.Spent {
		t.Errorf("forgotten at once: %+v", r)
	}
	clock.turn(fullFor)
	if r, _ := s.Check(); r.Low {
		t.Errorf("for ever: %+v", r)
	}
}

func TestSpaceThatCannotBeAsked(t *testing.T) {
	d := &disk{err: syscall.EIO}
	if _, err := OpenSpace(SpaceOptions{Dir: "/nowhere", Now: time.Now, Statfs: d.statfs}); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("opened: %v", err)
	}
	d = &disk{free: 0, size: 1 << 30}
	s := d.space(t, newHands(), mib)
	d.err = syscall.EIO
	if r, err := s.Check(); err == nil || !r.Low {
		t.Errorf("the last verdict does not stand: %+v, %v", r, err)
	}
}

func TestReserveThatCannotBeMade(t *testing.T) {
	clock, d := newHands(), &disk{free: 1 << 39, size: 1 << 40}
	tries := 0
	s, err := OpenSpace(SpaceOptions{Dir: t.TempDir(), Reserve: mib, Now: clock.now, Statfs: d.statfs,
		Alloc: func(string, int64) (int64, error) { tries++; return 0, syscall.EDQUOT }})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if r, err := s.Check(); r.Low || err != nil {
			t.Errorf("%+v, %v", r, err)
		}
	}
	clock.turn(reservePause)
	if _, err := s.Check(); !errors.Is(err, syscall.EDQUOT) || tries != 2 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

// TestReserveIsRealBlocks: a file with a hole would give nothing back.
func TestReserveIsRealBlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), fileReserve)
	if n := allocated(path); n != 0 {
		t.Errorf("no file has %d bytes", n)
	}
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, mib)); err != nil {
		t.Fatal(err)
	}
	if n := allocated(path); n != 0 {
		t.Errorf("a hole counts for %d bytes", n)
	}
	if n, err := allocate(path, mib); n != mib || err != nil || allocated(path) != mib {
		t.Errorf("made %d, %v, there are %d", n, err, allocated(path))
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := fillWithZeros(f, 3*mib/2); err != nil || allocated(path) != 3*mib/2 {
		t.Errorf("zeros: %v, there are %d", err, allocated(path))
	}
}

// TestReserveSurvivesARestart: it is neither made anew nor kept when it is too large.
func TestReserveSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	open := func(reserve int64) Room {
		t.Helper()
		s, err := OpenSpace(SpaceOptions{Dir: dir, Reserve: reserve, Now: time.Now, Statfs: func(string) (int64, int64, error) { return 1 << 39, 1 << 40, nil }})
		if err != nil {
			t.Fatal(err)
		}
		return s.Room()
	}
	stamp := func() time.Time {
		info, err := os.Stat(filepath.Join(dir, fileReserve))
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime()
	}
	open(mib)
	first := stamp()
	if r := open(mib); r.Reserve != mib || stamp() != first {
		t.Errorf("made anew: %+v", r)
	}
	if r := open(2 * mib); r.Reserve != 2*mib || allocated(filepath.Join(dir, fileReserve)) != 2*mib {
		t.Errorf("not grown: %+v", r)
	}
	if r := open(0); r.Reserve != 0 || r.Low {
		t.Errorf("not given up: %+v", r)
	}
	if _, err := os.Stat(filepath.Join(dir, fileReserve)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

// TestSpaceOnARealFileSystem fills a small tmpfs to the last byte.
func TestSpaceOnARealFileSystem(t *testing.T) {
	dir := smallTmpfs(t, 64)
	clock := newHands()
	s, err := OpenSpace(SpaceOptions{Dir: dir, Reserve: DefaultReserve, Now: clock.now})
	if err != nil {
		t.Fatal(err)
	}
	if r := s.Room(); r.Low || r.Reserve != 64*mib/20 || r.Free > 61*mib || r.Size != 64*mib {
		t.Fatalf("empty: %+v", r)
	}
	ballast := filepath.Join(dir, "ballast")
	if _, err := allocate(ballast, s.Room().Free); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Check(); err != nil || !r.Low || r.Free != 0 {
		t.Fatalf("full: %+v, %v", r, err)
	}
	vital := filepath.Join(dir, "vital")
	if err := os.WriteFile(vital, make([]byte, mib), 0o600); !noSpace(err) {
		t.Fatalf("there was room: %v", err)
	}
	if !s.Release() {
		t.Fatal("no reserve")
	}
	if err := os.WriteFile(vital, make([]byte, mib), 0o600); err != nil {
		t.Fatalf("after the reserve was given up: %v", err)
	}
	clock.turn(fullFor)
	if r, err := s.Check(); err != nil || !r.Spent || r.Free < 2*mib {
		t.Fatalf("the reserve counts as room: %+v, %v", r, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Check(); err != nil || r.Low || r.Reserve != 64*mib/20 {
		t.Fatalf("not back: %+v, %v", r, err)
	}
}

// smallTmpfs mounts a tmpfs of so many MiB for the test; it needs root.
func smallTmpfs(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := mountTmpfs(dir, size); err != nil {
		if !errors.Is(err, os.ErrPermission) {
			t.Fatal(err)
		}
		t.Skipf("this user may not mount (CI runs this as root): %v", err)
	}
	t.Cleanup(func() {
		if err := unmount(dir); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}
