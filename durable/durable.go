// Package durable makes what was written survive a power cut, and lets a
// simulation see what would: it is told of each sync, and loses the rest.
package durable

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
)

// Sync makes the content of a file durable. Its name is none of it: see SyncDir.
func Sync(f *os.File) error {
	if err := f.Sync(); err != nil {
		return err
	}
	Note(f.Name())
	return nil
}

// SyncDir makes the names in a directory durable: what was made, renamed and
// removed there. Windows cannot open directories for that, nor needs to.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" || plantNoDirSync {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(Sync(d), d.Close())
}

// Note says that a library which syncs by itself made a file or a directory durable.
func Note(path string) {
	all := watchers.Load()
	if all == nil {
		return
	}
	path = filepath.Clean(path)
	for dir, tell := range *all {
		if rest, below := strings.CutPrefix(path, dir); below && (rest == "" || os.IsPathSeparator(rest[0])) {
			tell(path)
		}
	}
}

// Watch has tell called with whatever becomes durable in a directory and below
// it, from the goroutine that synced, until stop. It is for simulations alone.
func Watch(dir string, tell func(path string)) (stop func()) {
	dir = filepath.Clean(dir)
	change(func(all map[string]func(string)) { all[dir] = tell })
	return func() { change(func(all map[string]func(string)) { delete(all, dir) }) }
}

var (
	watchers atomic.Pointer[map[string]func(string)] // by directory; a map in place is never changed
	watching sync.Mutex                              // held to replace it
)

func change(f func(map[string]func(string))) {
	watching.Lock()
	defer watching.Unlock()
	next := map[string]func(string){}
	if now := watchers.Load(); now != nil {
		maps.Copy(next, *now)
	}
	f(next)
	if len(next) == 0 {
		watchers.Store(nil)
		return
	}
	watchers.Store(&next)
}
