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
	admin   string         // token
	joining string         // token; empty until the first server runs
	roots   *x509.CertPool // the cluster's CA
	still   chan struct{}  // a place of one: synctest.Wait is for one at a time
	ghosts  sync.WaitGroup // what attends to processes, until nothing of them is left

	mu   sync.Mutex
	died []error // processes that ended by themselves and should not have; guarded by mu
}

// simOutside is the address of all clients.
const simOutside = "10.9.0.1:9"

// newSimWorld brings a cluster up. The seed draws its clocks, disks and wires.
func newSimWorld(t *testing.T, seed uint64, size int, dir string) *simWorld {
	w := &simWorld{t: t, seed: seed, dir: dir, network: gossiptest.New(seed), servers: map[string]*simServer{}, still: make(chan struct{}, 1)}
	w.outside = w.network.Host(simOutside)
	rng := rand.New(rand.NewPCG(seed, 0x51a7))
	for i := range size {
		s := newSimServer(w, i, rng)
		w.servers[s.name] = s
	}
	w.links = newSimLinks(w.network, w.servers, seed)
	for _, s := range w.sorted() {
		if err := s.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w.joining == "" {
			w.introduce(s)
		}
	}
	w.eventually("all vote", func() bool {
		for _, s := range w.servers {
			if p := s.running(); p == nil || len(voters(p.node.servers())) != size || p.node.Ready() != nil {
				return false
			}
		}
		return true
	})
	return w
}

// sorted are the servers in the order of their names.
func (w *simWorld) sorted() []*simServer {
	return slices.SortedFunc(maps.Values(w.servers), func(a, b *simServer) int { return a.index - b.index })
}

// introduce learns from the first server what clients and joiners need.
func (w *simWorld) introduce(first *simServer) {
	pem, err := os.ReadFile(filepath.Join(first.data(), fileCA))
	if w.roots = x509.NewCertPool(); err != nil || !w.roots.AppendCertsFromPEM(pem) {
		w.t.Fatalf("the cluster's CA: %v", err)
	}
	w.admin = first.running().node.FirstAdminToken()
	cl, err := client.New(client.Config{Addrs: []string{first.url()}, Token: w.admin,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.roots}, DialContext: w.dial}})
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	token, err := cl.CreateToken(w.t.Context(), client.TokenRequest{Role: "coordinator", Uses: 10_000, TTL: "720h"})
	if err != nil {
		w.t.Fatalf("join token: %v", err)
	}
	w.joining = token.Token
}

func (w *simWorld) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	return w.outside.Dial(ctx, addr)
}

// site is the world as package chaos wants it.
func (w *simWorld) site() chaos.Site {
	s := chaos.Site{Nodes: map[string]string{}, Token: w.admin, Roots: w.roots, Dial: w.dial, What: "in memory, virtual time",
		Proc: simProcesses{w}, Net: w.links, Disk: simDisks{w}, Clock: simClocks{w}}
	for name, server := range w.servers {
		s.Nodes[name] = server.url()
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
	for _, s := range w.servers {
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
