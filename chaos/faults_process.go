package chaos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// Kill ends servers, with SIGKILL unless Gently, and starts them again.
type Kill struct {
	Target string `json:"target"`
	Gently bool   `json:"gently,omitempty"`

	hit []string
}

// Inject implements Fault.
func (f *Kill) Inject(ctx context.Context, a *Arena) (nodes []string, err error) {
	if f.hit, err = a.pick(ctx, f.Target); err != nil {
		return nil, err
	}
	return f.hit, each(f.hit, func(n string) error { return a.Proc.Stop(ctx, n, !f.Gently) })
}

// Heal implements Fault.
func (f *Kill) Heal(ctx context.Context, a *Arena) error {
	return each(f.hit, func(n string) error { return a.Proc.Start(ctx, n) })
}

// Pause stops servers with SIGSTOP: they are neither alive nor dead.
type Pause struct {
	Target string `json:"target"`

	hit []string
}

// Inject implements Fault.
func (f *Pause) Inject(ctx context.Context, a *Arena) (nodes []string, err error) {
	if f.hit, err = a.pick(ctx, f.Target); err != nil {
		return nil, err
	}
	return f.hit, each(f.hit, func(n string) error { return a.Proc.Signal(n, syscall.SIGSTOP) })
}

// Heal implements Fault.
func (f *Pause) Heal(_ context.Context, a *Arena) error {
	return each(f.hit, func(n string) error { return a.Proc.Signal(n, syscall.SIGCONT) })
}

// Rolling restarts all servers, one after the other, each gracefully.
type Rolling struct {
	down string // the node that is between stop and start
}

// Inject implements Fault.
func (f *Rolling) Inject(ctx context.Context, a *Arena) ([]string, error) {
	for _, n := range a.Nodes {
		f.down = n
		if err := a.Proc.Stop(ctx, n, false); err != nil {
			return a.Nodes, err
		}
		if err := a.Proc.Start(ctx, n); err != nil {
			return a.Nodes, err
		}
		f.down = ""
	}
	return a.Nodes, nil
}

// Heal implements Fault.
func (f *Rolling) Heal(ctx context.Context, a *Arena) error {
	if f.down == "" {
		return nil
	}
	return a.Proc.Start(ctx, f.down)
}

// Wipe kills a server and empties its data directory: it must come back as a
// new node, never under its old id.
type Wipe struct {
	Target string `json:"target"`

	hit []string
}

// Inject implements Fault.
func (f *Wipe) Inject(ctx context.Context, a *Arena) (nodes []string, err error) {
	if f.hit, err = a.pick(ctx, f.Target); err != nil {
		return nil, err
	}
	return f.hit, each(f.hit, func(n string) error {
		if err := a.Proc.Stop(ctx, n, true); err != nil {
			return err
		}
		return empty(a.Proc.DataDir(n))
	})
}

// Heal implements Fault.
func (f *Wipe) Heal(ctx context.Context, a *Arena) error {
	return each(f.hit, func(n string) error { return rejoin(ctx, a, n) })
}

// Replace changes the membership: a server is removed from the cluster while it
// runs, and its machine joins again as a new node, first without a vote.
type Replace struct {
	Target string `json:"target"`

	hit []string
}

// Inject implements Fault. A removal that the cluster refuses, because too few
// voters would be left, hits nobody; one whose outcome is unknown is carried on
// with, since the data of one node may go at any time.
func (f *Replace) Inject(ctx context.Context, a *Arena) (nodes []string, err error) {
	targets, err := a.pick(ctx, f.Target)
	if err != nil {
		return nil, err
	}
	for _, n := range targets { // in turn: a majority must not leave together
		err := a.Remove(ctx, n)
		if e := (*client.Error)(nil); err != nil && (!errors.As(err, &e) || e.Code != client.CodeUnknownOutcome) {
			return f.hit, err
		}
		f.hit = append(f.hit, n)
		if err := a.Proc.Stop(ctx, n, true); err != nil {
			return f.hit, err
		}
		if err := empty(a.Proc.DataDir(n)); err != nil {
			return f.hit, err
		}
	}
	return f.hit, nil
}

// Heal implements Fault.
func (f *Replace) Heal(ctx context.Context, a *Arena) error {
	return each(f.hit, func(n string) error { return rejoin(ctx, a, n) })
}

// rejoinPause is how long a wiped node waits before it asks again.
const rejoinPause = 2 * time.Second

// rejoin starts a wiped node until it is let in: its name is another's until
// the cluster has not heard of its old self for ten seconds. What a refused
// join left behind goes away first, since it is the keys of nobody.
func rejoin(ctx context.Context, a *Arena, node string) error {
	for {
		err := a.Proc.Start(ctx, node)
		if err == nil || !waitUntil(ctx, time.Now().Add(rejoinPause)) {
			return err
		}
		_ = a.Proc.Stop(ctx, node, true) // it has most likely ended by itself
		if err := empty(a.Proc.DataDir(node)); err != nil {
			return err
		}
	}
}

// empty removes what is in a directory, which may itself be a mount point.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}

// Flip stops a server, flips bits of one of its files at random places, and
// starts it. It must refuse to run, or run as if nothing had been; healing
// wipes it, as the server's own message advises.
type Flip struct {
	Target string `json:"target"`
	File   string `json:"file"` // found by its name anywhere below the data directory
	Bits   int    `json:"bits"`

	hit []string
}

// Inject implements Fault.
func (f *Flip) Inject(ctx context.Context, a *Arena) (nodes []string, err error) {
	if f.hit, err = a.pick(ctx, f.Target); err != nil {
		return nil, err
	}
	for _, n := range f.hit { // in turn: all draw from one source of chance
		if err := a.Proc.Stop(ctx, n, true); err != nil {
			return f.hit, err
		}
		path, err := find(a.Proc.DataDir(n), f.File)
		if err != nil {
			return f.hit, err
		}
		if err := f.flip(a, path); err != nil {
			return f.hit, err
		}
	}
	return f.hit, nil
}

func (f *Flip) flip(a *Arena, path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return errors.Join(fmt.Errorf("%s is empty, there is nothing to flip", path), err, file.Close())
	}
	for range f.Bits {
		var b [1]byte
		at := a.Rand.Int64N(info.Size())
		if _, err = file.ReadAt(b[:], at); err != nil {
			break
		}
		b[0] ^= 1 << a.Rand.IntN(8)
		if _, err = file.WriteAt(b[:], at); err != nil {
			break
		}
	}
	return errors.Join(err, file.Close())
}

// Heal implements Fault. A server that starts with its damaged file had better
// notice; whether it told the truth is the judge's to say.
func (f *Flip) Heal(ctx context.Context, a *Arena) error {
	return each(f.hit, func(n string) error {
		if a.Proc.Start(ctx, n) == nil {
			return nil
		}
		_ = a.Proc.Stop(ctx, n, true) // it may not run at all, which is as it should be
		if err := empty(a.Proc.DataDir(n)); err != nil {
			return err
		}
		return rejoin(ctx, a, n)
	})
}

// find returns the first file of that name below dir.
func find(dir, name string) (path string, err error) {
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() && d.Name() == name {
			path = p
			return fs.SkipAll
		}
		return nil
	})
	if err == nil && path == "" {
		err = fmt.Errorf("there is no file %s below %s", name, dir)
	}
	return path, err
}

// each runs do for all nodes at once: a majority dies together.
func each(nodes []string, do func(node string) error) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = do(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
