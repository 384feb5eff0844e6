package node

import (
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/edgecoder/edgecoder/durable"
)

// simPlatter is what a power cut leaves of a data directory: of each file the
// content that it had when it was last synced, of each directory the names. A
// name that is durable with a content that is not is an empty file. The system
// may have written more by itself, so a coin decides about each file and each
// directory that was changed since.
//
// It hears of syncs from package durable, and so believes bbolt and raft's
// snapshot store that they sync what they say; that packages store, keyfile and
// audit sync what they must is what it puts to the test. Cuts come while nothing
// moves (see simWorld.freeze), never within a change: store has tests for these.
type simPlatter struct {
	root string
	stop func() // hearing of syncs

	mu     sync.Mutex            // guards what follows
	inodes map[uint64]*simSynced // by inode number, as each was when it was synced
}

// simSynced is a file or a directory as it was once synced.
type simSynced struct {
	mode  fs.FileMode
	data  []byte            // of a file
	names map[string]uint64 // of a directory: inode numbers
}

// newSimPlatter takes all that there is for durable: this is a machine that runs
// for a while when the process starts.
func newSimPlatter(root string) (*simPlatter, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	p := &simPlatter{root: root, inodes: map[uint64]*simSynced{}}
	live, err := p.live()
	if err != nil {
		return nil, err
	}
	for _, path := range live {
		p.synced(path)
	}
	p.stop = durable.Watch(root, p.synced)
	return p, nil
}

// live are the paths of what there is now, by inode number.
func (p *simPlatter) live() (map[uint64]string, error) {
	out := map[uint64]string{}
	return out, filepath.WalkDir(p.root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err == nil {
			out[inodeOf(info)] = path
		}
		return err
	})
}

func inodeOf(info fs.FileInfo) uint64 { return uint64(info.Sys().(*syscall.Stat_t).Ino) }

// synced notes what a path holds. One that is gone already has nothing to keep.
func (p *simPlatter) synced(path string) {
	info, err := os.Lstat(path)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	inode := p.inodes[inodeOf(info)]
	if inode == nil {
		inode = &simSynced{}
		p.inodes[inodeOf(info)] = inode
	}
	inode.mode = info.Mode()
	if info.IsDir() {
		inode.names = namesIn(path)
		return
	}
	inode.data = readInto(inode.data, path, info.Size())
}

// namesIn are the inode numbers of what is in a directory, by name.
func namesIn(dir string) map[string]uint64 {
	names := map[string]uint64{}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			names[e.Name()] = inodeOf(info)
		}
	}
	return names
}

// readInto reads a file into a buffer that may be used again.
func readInto(buf []byte, path string, size int64) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	buf = slices.Grow(buf[:0], int(size))[:size]
	n, _ := f.ReadAt(buf, 0)
	return buf[:n]
}

// cut makes a directory of what is left after a power cut; rng is the coin.
func (p *simPlatter) cut(to string, rng *rand.Rand) error {
	live, err := p.live()
	if err != nil {
		return err
	}
	root, err := os.Lstat(p.root)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leave(to, inodeOf(root), live, rng)
}

// leave makes one path; the lock must be held.
func (p *simPlatter) leave(to string, inode uint64, live map[uint64]string, rng *rand.Rand) error {
	left := simSynced{}
	if was := p.inodes[inode]; was != nil {
		left = *was
	}
	if path, ok := live[inode]; ok {
		now, err := look(path)
		if err != nil {
			return err
		}
		if rng.IntN(2) == 0 {
			left = now
		}
		left.mode = now.mode
	}
	if !left.mode.IsDir() {
		return errors.Join(os.WriteFile(to, left.data, left.mode.Perm()), os.Chmod(to, left.mode.Perm()))
	}
	if err := errors.Join(os.Mkdir(to, left.mode.Perm()), os.Chmod(to, left.mode.Perm())); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(left.names)) {
		if err := p.leave(filepath.Join(to, name), left.names[name], live, rng); err != nil {
			return err
		}
	}
	return nil
}

// look reads what is at a path now.
func look(path string) (now simSynced, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return now, err
	}
	if now.mode = info.Mode(); info.IsDir() {
		now.names = namesIn(path)
		return now, nil
	}
	now.data, err = os.ReadFile(path)
	return now, err
}

// TestSimPlatter: what was synced survives a power cut, and what was not may be
// lost: content, a new name, a removal.
func TestSimPlatter(t *testing.T) {
	root := filepath.Join(t.TempDir(), "data")
	at := func(name string) string { return filepath.Join(root, name) }
	write := func(name, text string, synced bool) {
		f, err := os.Create(at(name))
		if err == nil {
			_, err = f.WriteString(text)
		}
		if err == nil && synced {
			err = durable.Sync(f)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	write("old", "old", false)
	write("gone", "gone", false)
	p, err := newSimPlatter(root)
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	write("named", "named", true)
	write("hollow", "hollow", false)
	if err := durable.SyncDir(root); err != nil {
		t.Fatal(err)
	}
	write("old", "new", false)
	write("nameless", "nameless", true)
	if err := errors.Join(os.Rename(at("named"), at("renamed")), os.Remove(at("gone"))); err != nil {
		t.Fatal(err)
	}
	seen := map[string]map[string]bool{}
	for i := range 200 {
		to := filepath.Join(t.TempDir(), "after")
		if err := p.cut(to, rand.New(rand.NewPCG(uint64(i), 0))); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"old", "gone", "named", "renamed", "hollow", "nameless"} {
			text, err := os.ReadFile(filepath.Join(to, name))
			if seen[name] == nil {
				seen[name] = map[string]bool{}
			}
			if seen[name][string(text)] = true; err != nil {
				seen[name]["nothing"] = true
			}
		}
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string][]string{
		"old":      {"new", "old"},
		"gone":     {"", "gone", "nothing"},
		"named":    {"", "named", "nothing"},
		"renamed":  {"", "named", "nothing"},
		"hollow":   {"", "hollow"},
		"nameless": {"", "nameless", "nothing"},
	} {
		if got := slices.Sorted(maps.Keys(seen[name])); !slices.Equal(got, want) {
			t.Errorf("%s: %q after power cuts, want %q", name, got, want)
		}
	}
}
