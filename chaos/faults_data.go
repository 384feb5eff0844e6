package chaos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// The faults of this file cost a node its data. A node that lost them comes
// back as a new one, and is healed only when it votes again.

// pickToLose takes hold of servers whose data may go.
func (a *Arena) pickToLose(ctx context.Context, target string) ([]string, error) {
	nodes, err := a.pick(ctx, theServer, target)
	if err != nil {
		return nil, err
	}
	if err := a.endanger(nodes); err != nil {
		return nil, err
	}
	return nodes, nil
}

// Wipe kills a server and empties its data directory: it must come back as a
// new node, never under its old id.
type Wipe struct {
	Target string `json:"target"`

	hit []string
}

// Inject implements Fault.
func (f *Wipe) Inject(ctx context.Context, a *Arena) ([]string, error) {
	nodes, err := a.pickToLose(ctx, f.Target)
	if err != nil {
		return nil, err
	}
	f.hit = nodes
	if err := a.Proc.Kill(nodes...); err != nil {
		return nodes, err
	}
	return nodes, each(nodes, func(n string) error {
		if err := a.Proc.Stop(ctx, n, true); err != nil {
			return err
		}
		return empty(a.Proc.DataDir(n))
	})
}

// Heal implements Fault.
func (f *Wipe) Heal(ctx context.Context, a *Arena) error {
	return each(f.hit, func(n string) error { return a.rejoin(ctx, n, false) })
}

// Replace changes the membership: a server is removed from the cluster and runs
// on for the fault's duration, for its clients a coordinator like any other.
// Then its machine joins again as a new node, first without a vote.
type Replace struct {
	Target string `json:"target"`

	hit []string
}

// Inject implements Fault. A removal that the cluster refuses, because too few
// voters would be left, hits nobody; one whose outcome is unknown is carried on
// with, since the data of one node may go at any time.
func (f *Replace) Inject(ctx context.Context, a *Arena) ([]string, error) {
	nodes, err := a.pickToLose(ctx, f.Target)
	if err != nil {
		return nil, err
	}
	for i, n := range nodes { // in turn: a majority must not leave together
		if err := a.remove(ctx, n); err != nil {
			for _, safe := range nodes[i:] {
				a.rescued(safe)
			}
			if len(f.hit) == 0 {
				err = a.refused(err)
			}
			return f.hit, err
		}
		a.proof.bite()
		f.hit = append(f.hit, n)
	}
	return f.hit, nil
}

// Heal implements Fault.
func (f *Replace) Heal(ctx context.Context, a *Arena) error {
	return each(f.hit, func(n string) error {
		if err := a.scrap(ctx, n); err != nil {
			return err
		}
		return a.rejoin(ctx, n, false)
	})
}

// remove takes a node out of the cluster for ever. An unknown outcome is none of
// the fault's business: what it does next is right either way.
func (a *Arena) remove(ctx context.Context, node string) error {
	err := a.Admin.Remove(ctx, node)
	if e := (*client.Error)(nil); errors.As(err, &e) && e.Code == client.CodeUnknownOutcome {
		return nil
	}
	return err
}

// scrap stops a server that was removed and empties its data directory.
func (a *Arena) scrap(ctx context.Context, node string) error {
	for {
		err := a.Proc.Stop(ctx, node, true)
		if err == nil {
			return empty(a.Proc.DataDir(node))
		}
		if !waitUntil(ctx, time.Now().Add(rejoinPause)) {
			return err
		}
	}
}

// Flip stops a server, flips bits of one of its files at random places, and
// starts it. It must refuse to run, or run as if nothing had been; healing
// wipes it if it refuses, as the server's own message advises.
type Flip struct {
	Target string `json:"target"`
	File   string `json:"file"` // found by its name anywhere below the data directory
	Bits   int    `json:"bits"`

	hit []string
}

// Inject implements Fault.
func (f *Flip) Inject(ctx context.Context, a *Arena) ([]string, error) {
	nodes, err := a.pickToLose(ctx, f.Target)
	if err != nil {
		return nil, err
	}
	f.hit = nodes
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
	file, err := openRegular(path)
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
	return each(f.hit, func(n string) error { return a.rejoin(ctx, n, true) })
}

// rejoinPause is how long a node that is not in yet waits before it asks again.
const rejoinPause = time.Second

// rejoin starts a node until it votes: the name of one that was wiped is
// another's until the cluster has not heard of its old self for ten seconds.
// What a refused join left behind goes away first, since it is the keys of
// nobody. Data of a member go only if this very fault damaged them and the
// server refuses them.
func (a *Arena) rejoin(ctx context.Context, node string, damaged bool) error {
	for {
		err := a.enter(ctx, node, &damaged)
		if err == nil {
			if damaged {
				a.proof.note("%s votes again with its damaged data", node)
			}
			a.rescued(node)
			return nil
		}
		if !waitUntil(ctx, time.Now().Add(rejoinPause)) {
			return err
		}
	}
}

// enter tries once.
func (a *Arena) enter(ctx context.Context, node string, damaged *bool) error {
	belongs := a.Proc.Belongs(node)
	if !belongs { // then somebody has to let it in
		if _, err := a.Admin.Leader(ctx); err != nil {
			return err
		}
	}
	err := a.Proc.Start(ctx, node)
	if err == nil {
		return a.Admin.Voter(ctx, node)
	}
	if a.Proc.Belongs(node) && !*damaged {
		return err
	}
	if *damaged {
		a.proof.note("%s refused its damaged data", node)
	}
	*damaged = false
	if stop := a.Proc.Stop(ctx, node, true); stop != nil { // it has most likely ended by itself
		return errors.Join(err, stop)
	}
	return errors.Join(err, empty(a.Proc.DataDir(node)))
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

// find returns the first file of that name below dir.
func find(dir, name string) (path string, err error) {
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type().IsRegular() && d.Name() == name {
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
