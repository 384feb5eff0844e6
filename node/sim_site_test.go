package node

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

	"github.com/edgecoder/edgecoder/chaos"
)

// The world as package chaos lays hands on it.

// simProcesses implements chaos.Processes.
type simProcesses struct{ w *simWorld }

func (p simProcesses) Start(ctx context.Context, name string) error {
	return p.w.servers[name].start(ctx)
}

func (p simProcesses) Stop(ctx context.Context, name string, kill bool) error {
	if kill {
		return p.w.servers[name].kill()
	}
	return p.w.servers[name].stop(ctx)
}

func (p simProcesses) Kill(names ...string) error {
	var all sync.WaitGroup
	errs := make([]error, len(names))
	for i, name := range names {
		all.Go(func() { errs[i] = p.w.servers[name].kill() })
	}
	all.Wait()
	return errors.Join(errs...)
}

// Signal pauses a server and lets it go on.
func (p simProcesses) Signal(name string, sig os.Signal) error {
	switch sig {
	case syscall.SIGSTOP, syscall.SIGCONT:
		if !p.w.servers[name].pause(sig == syscall.SIGSTOP) {
			return fmt.Errorf("%s does not run", name)
		}
		return nil
	}
	return fmt.Errorf("%w: signal %s", chaos.ErrSkipped, sig)
}

func (p simProcesses) Settle(_ context.Context, name string) error {
	good := 0
	for range 100 {
		now := p.w.servers[name].running()
		if now == nil || good == 3 {
			return nil
		}
		if good++; now.node.Ready() != nil {
			good = 0
		}
		time.Sleep(200 * time.Millisecond)
	}
	return fmt.Errorf("%s was neither ready nor gone within 20 s", name)
}

func (p simProcesses) DataDir(name string) string { return p.w.servers[name].data() }

func (p simProcesses) Belongs(name string) bool {
	_, err := os.Stat(filepath.Join(p.DataDir(name), fileCA))
	return !errors.Is(err, fs.ErrNotExist)
}

// simClocks implements chaos.Clock.
type simClocks struct{ w *simWorld }

func (c simClocks) SetOffset(name string, offset time.Duration) error {
	c.w.servers[name].clock.move(offset)
	return nil
}

// simDisks implements chaos.Disk.
type simDisks struct{ w *simWorld }

func (d simDisks) Fill(name string) error {
	d.w.servers[name].disk.full.Store(true)
	return nil
}

func (d simDisks) Free(name string) error {
	d.w.servers[name].disk.full.Store(false)
	return nil
}

func (d simDisks) Freeze(name string) error {
	d.w.servers[name].disk.freeze()
	return nil
}

func (d simDisks) Thaw(name string) error {
	d.w.servers[name].disk.thaw()
	return nil
}
