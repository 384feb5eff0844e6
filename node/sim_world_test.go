package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/chaos"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/gossip/gossiptest"
)

// simWorld is a cluster of the real node code in one bubble of testing/synctest:
// all its time is virtual, its network lies in memory, and its files where
// writing them is quick. Package chaos plays its scenarios on it.
type simWorld struct {
	t       *testing.T
	dir     string // of all data; owned by the world
	network *gossiptest.Network
	links   *simLinks
	outside *gossiptest.Host // where the clients are
	servers map[string]*simServer
	names   []string // of the servers, in order
	admin   string   // token
	joining string   // token
	roots   *x509.CertPool
	still   chan struct{}  // a place of one: synctest.Wait is for one at a time
	ghosts  sync.WaitGroup // processes that were killed, until nothing of them runs
}

// simOutside is the address of all clients.
const simOutside = "10.9.0.1:9"

// newSimWorld brings a cluster up.
func newSimWorld(t *testing.T, seed uint64, size int, dir string) *simWorld {
	w := &simWorld{t: t, dir: dir, network: gossiptest.New(seed), servers: map[string]*simServer{}, still: make(chan struct{}, 1)}
	w.outside = w.network.Host(simOutside)
	rng := rand.New(rand.NewPCG(seed, 0x51a7))
	for i := range size {
		s := newSimServer(w, i, rng)
		w.servers[s.name], w.names = s, append(w.names, s.name)
	}
	w.links = newSimLinks(w.network, w.servers, seed)
	for i, name := range w.names {
		if err := w.Start(t.Context(), name); err != nil {
			t.Fatalf("start %s: %v", name, err)
		}
		if i == 0 {
			w.introduce(w.servers[name])
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

// introduce learns of the first server what the world needs to know.
func (w *simWorld) introduce(first *simServer) {
	pem, err := os.ReadFile(filepath.Join(w.DataDir(first.name), fileCA))
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
	s := chaos.Site{Nodes: map[string]string{}, Token: w.admin, Roots: w.roots, Dial: w.dial, What: "in memory, virtual time", Proc: w, Net: w.links, Disk: w, Clock: w}
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

// end stops every server and waits until nothing of any process is left, which
// synctest holds to: a goroutine that outlives its node fails the test.
func (w *simWorld) end() {
	var all sync.WaitGroup
	for _, s := range w.servers {
		all.Go(func() { _ = s.kill() })
	}
	all.Wait()
	w.ghosts.Wait()
	w.outside.Crash()
	time.Sleep(simLinger)
}

// simLinger is longer than any timer that a connection may leave behind: idle
// ones are closed after a minute, those into a partition reset after 15 s.
const simLinger = 5 * time.Minute

// freeze waits until nothing moves and calls f, while which nothing does: all
// that was written is there, all that was not is not.
func (w *simWorld) freeze(f func()) {
	w.still <- struct{}{}
	defer func() { <-w.still }()
	synctestWait()
	f()
}

// sorted are the servers in order.
func (w *simWorld) sorted() []*simServer {
	return slices.SortedFunc(maps.Values(w.servers), func(a, b *simServer) int { return a.index - b.index })
}

var _ = fmt.Sprint
