package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/edgecoder/edgecoder/chaos"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
	"github.com/edgecoder/edgecoder/gossip"
	"github.com/edgecoder/edgecoder/gossip/gossiptest"
)

// simServer is one machine of a simWorld: an address, a clock, a disk, and the
// process that runs there or not.
type simServer struct {
	w     *simWorld
	index int
	name  string
	ip    string
	clock *simClock
	disk  *simDisk
	turn  chan struct{} // a place of one: who starts or ends the process

	mu    sync.Mutex // guards what follows
	dir   string     // the data, of this process or the next
	wears int        // how often the data moved
	now   *simProcess
	why   error // the last process ended by itself
}

// simProcess is a node from its start to its end. What is left of one that was
// killed reaches nothing any more: neither network, nor the data of the next.
type simProcess struct {
	node  *Node
	power *simPower
	hosts [2]*gossiptest.Host // API with raft, gossip
}

func newSimServer(w *simWorld, i int, rng *rand.Rand) *simServer {
	s := &simServer{w: w, index: i, name: fmt.Sprintf("node%d", i+1), ip: fmt.Sprintf("10.0.0.%d", i+1),
		clock: newSimClock(rng), disk: newSimDisk(rng), turn: make(chan struct{}, 1)}
	s.dir = filepath.Join(w.dir, s.name)
	return s
}

func (s *simServer) api() string    { return s.ip + ":443" }
func (s *simServer) gossip() string { return s.ip + ":7946" }
func (s *simServer) url() string    { return "https://" + s.api() }

func (s *simServer) running() *simProcess {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *simServer) data() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dir
}

// simTiming is the profile of production for one network, a little calmer so
// that an hour takes fewer heartbeats.
func simTiming() Timing { return LocalTiming() }

func (s *simServer) config(p *simProcess) Config {
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Name, cfg.APIAddr, cfg.GossipAddr = s.data(), s.name, s.api(), s.gossip()
	cfg.Bootstrap = s.index == 0 && s.w.joining == ""
	if !cfg.Bootstrap {
		cfg.JoinToken = s.w.joining
		for _, o := range s.w.sorted() {
			if o != s {
				cfg.Join = append(cfg.Join, o.gossip())
			}
		}
	}
	cfg.DiskReserve = 1 << 20
	cfg.Timing, cfg.Now, cfg.network, cfg.iterations = simTiming(), s.clock.now, simNetwork{p}, keyfile.MinIterations
	cfg.Passphrase, cfg.Log = []byte("correct horse battery"), testLog(s.w.t)
	cfg.disk = diskHooks{begin: p.power.begin, end: p.power.end, statfs: s.disk.statfs}
	cfg.Exit = func(status int) { // does not return while anything of the process runs, as it would not at all
		s.w.ghosts.Go(func() { _ = s.killThis(p, fmt.Errorf("the process ended with status %d", status)) })
		<-p.power.off
	}
	return cfg
}

// startTime bounds a start; a join asks again and again for as long.
const simStartTime = 30 * time.Second

// start starts the server, unless it runs.
func (s *simServer) start(ctx context.Context) error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	return s.launch(ctx)
}

// launch starts a process; the caller has the turn.
func (s *simServer) launch(ctx context.Context) error {
	if s.running() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, simStartTime)
	defer cancel()
	p := &simProcess{power: s.disk.plugIn(), hosts: [2]*gossiptest.Host{s.w.network.Host(s.api()), s.w.network.Host(s.gossip())}}
	var err error
	if p.node, err = Start(ctx, s.config(p)); err != nil {
		p.unplug()
		return fmt.Errorf("%s: the server ended: %w", s.name, err)
	}
	s.mu.Lock()
	s.now, s.why = p, nil
	s.mu.Unlock()
	s.w.ghosts.Go(func() { s.attend(p) })
	return nil
}

// attend starts a server again that ended to start again, as the command does.
func (s *simServer) attend(p *simProcess) {
	err := p.node.Err()
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.running() != p {
		return // it was killed or stopped
	}
	p.unplug()
	s.mu.Lock()
	s.now, s.why = nil, err
	s.mu.Unlock()
	if errors.Is(err, ErrResync) {
		if err := s.launch(context.Background()); err != nil {
			s.mu.Lock()
			s.why = err
			s.mu.Unlock()
		}
	}
}

// unplug takes a process off the network and its disk.
func (p *simProcess) unplug() {
	for _, h := range p.hosts {
		h.Crash()
	}
	p.power.cut()
}

// stop ends the server in good order.
func (s *simServer) stop(ctx context.Context) error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	p := s.running()
	if p == nil {
		return nil
	}
	s.mu.Lock()
	s.now = nil
	s.mu.Unlock()
	err := p.node.Stop(ctx)
	p.unplug()
	return err
}

// kill ends the process as a power cut would: whatever it has not written is
// lost, and so is what it was just writing.
func (s *simServer) kill() error { return s.killThis(nil, nil) }

// killThis kills p, or whatever runs if that is nil. The next process gets the
// data as they were in that moment; what is left of this one keeps its own.
func (s *simServer) killThis(p *simProcess, why error) (err error) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	now := s.running()
	if now == nil || p != nil && p != now {
		return nil
	}
	s.mu.Lock()
	old, next := s.dir, filepath.Join(s.w.dir, fmt.Sprintf("%s-%d", s.name, s.wears+1))
	s.mu.Unlock()
	s.w.freeze(func() {
		err = copyTree(next, old)
		now.unplug()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dir, s.now, s.why = next, nil, why
		s.wears++
	})
	s.w.ghosts.Go(func() {
		_ = now.node.shutdown()
		_ = os.RemoveAll(old)
	})
	return err
}

// copyTree copies a directory with the rights of its files.
func copyTree(to, from string) error {
	err := os.CopyFS(to, os.DirFS(from))
	return errors.Join(err, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, path)
		return errors.Join(err, os.Chmod(filepath.Join(to, below), info.Mode().Perm()))
	}))
}

// simNetwork is the network as one process has it.
type simNetwork struct{ p *simProcess }

func (n simNetwork) listen(string) (net.Listener, error) { return n.p.hosts[0].Listener(), nil }

func (n simNetwork) dial(ctx context.Context, addr string) (net.Conn, error) {
	return n.p.hosts[0].Dial(ctx, addr)
}

func (n simNetwork) gossip(string) (*gossip.Sockets, error) {
	h := n.p.hosts[1]
	return &gossip.Sockets{Listener: h.Listener(), Packets: h.PacketConn(), Dial: h.Dial}, nil
}

// The world as chaos.Processes, chaos.Disk and chaos.Clock.

// Start implements chaos.Processes.
func (w *simWorld) Start(ctx context.Context, name string) error { return w.servers[name].start(ctx) }

// Stop implements chaos.Processes.
func (w *simWorld) Stop(ctx context.Context, name string, kill bool) error {
	if kill {
		return w.servers[name].kill()
	}
	return w.servers[name].stop(ctx)
}

// Kill implements chaos.Processes.
func (w *simWorld) Kill(names ...string) error {
	var all sync.WaitGroup
	errs := make([]error, len(names))
	for i, name := range names {
		all.Go(func() { errs[i] = w.servers[name].kill() })
	}
	all.Wait()
	return errors.Join(errs...)
}

// Signal implements chaos.Processes: goroutines cannot be paused.
func (w *simWorld) Signal(_ string, sig os.Signal) error {
	if sig == syscall.SIGCONT {
		return nil
	}
	return fmt.Errorf("%w: a simulated process takes no signals", chaos.ErrSkipped)
}

// Settle implements chaos.Processes.
func (w *simWorld) Settle(_ context.Context, name string) error {
	s := w.servers[name]
	for good, tries := 0, 0; good < 3; tries++ {
		p := s.running()
		if p == nil {
			return nil
		}
		if good++; p.node.Ready() != nil {
			good = 0
		}
		if tries == 100 {
			return fmt.Errorf("%s was neither ready nor gone within 20 s", name)
		}
		time.Sleep(200 * time.Millisecond)
	}
	return nil
}

// DataDir implements chaos.Processes.
func (w *simWorld) DataDir(name string) string { return w.servers[name].data() }

// Belongs implements chaos.Processes.
func (w *simWorld) Belongs(name string) bool {
	_, err := os.Stat(filepath.Join(w.DataDir(name), fileCA))
	return !errors.Is(err, fs.ErrNotExist)
}

// SetOffset implements chaos.Clock.
func (w *simWorld) SetOffset(name string, offset time.Duration) error {
	w.servers[name].clock.jump(offset)
	return nil
}

// Fill implements chaos.Disk.
func (w *simWorld) Fill(name string) error { w.servers[name].disk.full.Store(true); return nil }

// Free implements chaos.Disk.
func (w *simWorld) Free(name string) error { w.servers[name].disk.full.Store(false); return nil }

// Freeze implements chaos.Disk.
func (w *simWorld) Freeze(name string) error { w.servers[name].disk.freeze(); return nil }

// Thaw implements chaos.Disk.
func (w *simWorld) Thaw(name string) error { w.servers[name].disk.thaw(); return nil }

var _ = slog.Default
