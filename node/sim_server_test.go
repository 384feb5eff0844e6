package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/crypto/keyfile"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
	"github.com/edgecoder/edgecoder/gossip/gossiptest"
)

// simServer is one machine: an address, a clock, a disk, and the process that
// runs there or not.
type simServer struct {
	w     *simWorld
	index int
	name  string
	ip    string
	clock *simClock
	disk  *simDisk
	role  fsm.Role      // as which it joins
	turn  chan struct{} // a place of one: for who starts or ends the process

	mu    sync.Mutex  // guards what follows
	now   *simProcess // nil: none runs
	dir   string      // the data of this process, or of the next
	moves int         // how often the data moved
	older time.Time   // until then its binary is of the feature level before
}

// simProcess is a node from its start to its end. What is left of one that was
// killed reaches nothing any more, neither the network nor the data of the next.
type simProcess struct {
	node    *Node
	power   *simPower
	platter *simPlatter
	hosts   [2]*gossiptest.Host // API with raft, gossip
}

func newSimServer(w *simWorld, i int, rng *rand.Rand) *simServer {
	s := &simServer{w: w, index: i, name: fmt.Sprintf("node%d", i+1), ip: fmt.Sprintf("10.0.0.%d", i+1),
		role:  fsm.RoleCoordinator,
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

// become says what runs now.
func (s *simServer) become(p *simProcess) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = p
}

func (s *simServer) config(p *simProcess) Config {
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Name, cfg.APIAddr, cfg.GossipAddr = s.data(), s.name, s.api(), s.gossip()
	if cfg.JoinToken = s.w.joining[s.role]; cfg.JoinToken == "" {
		cfg.Bootstrap = true
	}
	for _, other := range s.w.sorted() {
		if other != s {
			cfg.Join = append(cfg.Join, other.gossip())
		}
	}
	cfg.DiskReserve, cfg.Timing, cfg.level = 1<<20, s.w.timing, s.level()
	cfg.Passphrase, cfg.Log = []byte("correct horse battery"), testLog(s.w.t)
	cfg.Now, cfg.network, cfg.iterations, cfg.oftenSnap = s.clock.now, simNetwork{p}, keyfile.MinIterations, true
	cfg.disk = diskHooks{begin: p.power.begin, end: p.power.end, statfs: s.disk.statfs}
	cfg.Exit = func(int) { // by the watchdog, over a hung disk
		s.w.ghosts.Go(func() { s.end(p) })
		<-p.power.off // as the end of a process, this does not return while it lives
	}
	return cfg
}

// level is what the binary that starts now says that it knows; 0: all that there
// is. Who joins a cluster that others made may be too late for an older one.
func (s *simServer) level() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := os.Stat(filepath.Join(s.dir, fileCA))
	if late := err != nil && len(s.w.joining) > 0; late || time.Now().After(s.older) {
		s.older = time.Time{}
		return 0
	}
	return fsm.LevelSupported - 1
}

// neglect leaves the binary of the feature level before on the machine for so
// long; the first start after that is of the newest.
func (s *simServer) neglect(lasts time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.older = time.Now().Add(lasts)
}

// pause holds the process that runs as SIGSTOP does, as far as that can be done
// in one bubble: see gossiptest. It tells whether one runs.
func (s *simServer) pause(hold bool) bool {
	p := s.running()
	if p == nil {
		return false
	}
	for _, h := range p.hosts {
		if hold {
			h.Pause()
		} else {
			h.Resume()
		}
	}
	return true
}

// simStartTime bounds a start; a joiner asks again and again for as long.
const simStartTime = 30 * time.Second

// start starts the server, unless it runs.
func (s *simServer) start(ctx context.Context) error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	return s.launch(ctx)
}

// launch is start for whoever has the turn.
func (s *simServer) launch(ctx context.Context) (err error) {
	if s.running() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, simStartTime)
	defer cancel()
	p := &simProcess{power: s.disk.plugIn(), hosts: [2]*gossiptest.Host{s.w.network.Host(s.api()), s.w.network.Host(s.gossip())}}
	if p.platter, err = newSimPlatter(s.data()); err != nil {
		return err
	}
	if p.node, err = Start(ctx, s.config(p)); err != nil {
		p.unplug()
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	s.become(p)
	s.w.ghosts.Go(func() { s.attend(p) })
	return nil
}

// attend waits for the end of a process. One that ends to start again is
// started again, as the command does; no other may end by itself.
func (s *simServer) attend(p *simProcess) {
	err := p.node.Err()
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.running() != p {
		return // it was killed or stopped
	}
	p.unplug()
	s.become(nil)
	if errors.Is(err, ErrResync) {
		err = s.launch(context.Background())
	}
	if err != nil {
		s.w.dead(fmt.Errorf("%s ended by itself: %w", s.name, err))
	}
}

// unplug takes a process off the network and off its disk.
func (p *simProcess) unplug() {
	p.power.cut()
	p.platter.stop()
	for _, h := range p.hosts {
		h.Crash()
	}
}

// stop ends the process in good order.
func (s *simServer) stop(ctx context.Context) error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	p := s.running()
	if p == nil {
		return nil
	}
	s.pause(false)
	s.become(nil)
	err := p.node.Stop(ctx)
	p.unplug()
	return err
}

// kill ends whatever runs as a power cut would.
func (s *simServer) kill() error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if p := s.running(); p != nil {
		return s.lose(p)
	}
	return nil
}

// end is kill, of this very process.
func (s *simServer) end(p *simProcess) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.running() == p {
		if err := s.lose(p); err != nil {
			s.w.dead(err)
		}
	}
}

// lose kills p by a power cut: the next process gets the data that are on the
// disk in this moment. What is left of p keeps its own copy, and writes to no other.
func (s *simServer) lose(p *simProcess) (err error) {
	old := s.data()
	s.w.freeze(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.moves++
		s.now, s.dir = nil, filepath.Join(s.w.dir, fmt.Sprintf("%s-%d", s.name, s.moves))
		err = p.platter.cut(s.dir, s.disk.coin())
		p.unplug()
	})
	s.w.ghosts.Go(func() {
		_ = p.node.shutdown() // nobody hears how it went
		if failed := os.RemoveAll(old); failed != nil {
			s.w.dead(failed)
		}
	})
	return err
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
