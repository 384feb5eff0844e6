package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/chaos"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip/gossiptest"
)

// simWorld is a cluster in one bubble of testing/synctest. The nodes are the
// real ones, from Start to the last file: API, TLS, raft, gossip, stores. What
// they stand on is not: time is virtual, the network lies in memory, clocks and
// disks are each server's own and err, and a process that is killed loses what
// it had not written. Package chaos plays its scenarios here.
//
// In a bubble nobody may wait for a mutex while time must pass, or all stands
// still for ever; so nothing here sleeps under a lock, and no hook does that the
// node calls under one.
type simWorld struct {
	t       *testing.T
	seed    uint64
	dir     string // of all data; owned by the world
	network *gossiptest.Network
	links   *simLinks
	outside *gossiptest.Host // where the clients are
	servers map[string]*simServer
	weak    []string            // servers whose clocks run wild: they carry no majority
	watcher *simServer          // an observer; nil: none
	timing  Timing              // of all servers
	admin   string              // token
	joining map[fsm.Role]string // tokens; empty until the first server runs
	roots   *x509.CertPool      // the cluster's CA
	still   chan struct{}       // a place of one: synctest.Wait is for one at a time
	ghosts  sync.WaitGroup      // what attends to processes, until nothing of them is left

	mu   sync.Mutex
	died []error // processes that ended by themselves and should not have; guarded by mu
}

// simOutside is the address of all clients.
const simOutside = "10.9.0.1:9"

// newSimWorld brings a cluster up in which all servers are voters. The seed draws
// its clocks, disks and wires.
func newSimWorld(t *testing.T, seed uint64, size int, dir string) *simWorld {
	w := makeSimWorld(t, seed, size, dir)
	w.bringUp(size)
	return w
}

// makeSimWorld makes the machines, on which nothing runs yet.
func makeSimWorld(t *testing.T, seed uint64, size int, dir string) *simWorld {
	w := &simWorld{t: t, seed: seed, dir: dir, network: gossiptest.New(seed), servers: map[string]*simServer{},
		timing: LocalTiming(), joining: map[fsm.Role]string{}, still: make(chan struct{}, 1)}
	w.outside = w.network.Host(simOutside)
	rng := rand.New(rand.NewPCG(seed, 0x51a7))
	for i := range size {
		s := newSimServer(w, i, rng)
		w.servers[s.name] = s
	}
	w.links = newSimLinks(w.network, w.servers, seed)
	return w
}

// bringUp has the first servers make a cluster, and the observer join it, if
// there is one.
func (w *simWorld) bringUp(members int) {
	all := w.sorted()[:members]
	if w.watcher != nil {
		all = append(all, w.watcher)
	}
	for _, s := range all {
		if err := s.start(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		if len(w.joining) == 0 {
			w.introduce(s)
		}
	}
	w.eventually("all vote", func() bool {
		for _, s := range all {
			if p := s.running(); p == nil || len(voters(p.node.servers())) != members || p.node.Ready() != nil {
				return false
			}
		}
		return true
	})
}

// addWatcher puts a machine beside the others whose server only observes.
func (w *simWorld) addWatcher() {
	s := newSimServer(w, len(w.servers), rand.New(rand.NewPCG(w.seed, 0x0b5e)))
	s.name, s.role = "watcher", fsm.RoleObserver
	s.dir = filepath.Join(w.dir, s.name)
	w.watcher = s
}

// sorted are the servers in the order of their names.
func (w *simWorld) sorted() []*simServer {
	return slices.SortedFunc(maps.Values(w.servers), func(a, b *simServer) int { return a.index - b.index })
}

// machines are the servers, whatever they are for.
func (w *simWorld) machines() []*simServer {
	all := w.sorted()
	if w.watcher != nil {
		all = append(all, w.watcher)
	}
	return all
}

// introduce learns from the first server what clients and joiners need.
func (w *simWorld) introduce(first *simServer) {
	pem, err := os.ReadFile(filepath.Join(first.data(), fileCA))
	if w.roots = x509.NewCertPool(); err != nil || !w.roots.AppendCertsFromPEM(pem) {
		w.t.Fatalf("the cluster's CA: %v", err)
	}
	w.admin = first.running().node.FirstAdminToken()
	cl := w.client(first)
	defer cl.Close()
	for _, role := range []fsm.Role{fsm.RoleCoordinator, fsm.RoleObserver} {
		token, err := cl.CreateToken(w.t.Context(), client.TokenRequest{Role: string(role), Uses: 10_000, TTL: "720h"})
		if err != nil {
			w.t.Fatalf("join token: %v", err)
		}
		w.joining[role] = token.Token
	}
}

// client returns an administrator's client of one server.
func (w *simWorld) client(s *simServer) *client.Client {
	cl, err := client.New(client.Config{Addrs: []string{s.url()}, Token: w.admin,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.roots}, DialContext: w.dial}})
	if err != nil {
		w.t.Fatal(err)
	}
	return cl
}

func (w *simWorld) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	return w.outside.Dial(ctx, addr)
}

// site is the world as package chaos wants it.
func (w *simWorld) site() chaos.Site {
	s := chaos.Site{Nodes: map[string]string{}, Weak: w.weak, Token: w.admin, Roots: w.roots, Dial: w.dial, What: "in memory, virtual time",
		Proc: simProcesses{w}, Net: w.links, Disk: simDisks{w}, Clock: simClocks{w}}
	for name, server := range w.servers {
		s.Nodes[name] = server.url()
	}
	if w.watcher != nil {
		s.Observers = map[string]string{w.watcher.name: w.watcher.url()}
	}
	return s
}

// eventually waits in virtual time.
func (w *simWorld) eventually(what string, ok func() bool) {
	w.t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.t.Fatalf("not in five minutes: %s", what)
}

// freeze waits until nothing moves, and calls f while nothing does: what was
// written by then is written, and whatever is under way is not.
func (w *simWorld) freeze(f func()) {
	w.still <- struct{}{}
	defer func() { <-w.still }()
	synctest.Wait()
	f()
}

// dead notes that a process ended by itself.
func (w *simWorld) dead(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.died = append(w.died, err)
}

// simLinger is longer than any timer that a connection leaves behind: idle ones
// are closed after a minute or two, those into a partition reset after 15 s.
const simLinger = 5 * time.Minute

// end stops every server. A goroutine that outlives its node makes synctest
// fail the test.
func (w *simWorld) end() {
	var all sync.WaitGroup
	for _, s := range w.machines() {
		all.Go(func() {
			if err := s.stop(context.Background()); err != nil {
				w.dead(err)
			}
		})
	}
	all.Wait()
	w.ghosts.Wait()
	w.outside.Crash()
	time.Sleep(simLinger)
	for _, err := range w.died {
		w.t.Error(err)
	}
}
