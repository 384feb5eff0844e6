package node

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/edge"
	"github.com/edgecoder/edgecoder/edge/edgetest"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
	"github.com/edgecoder/edgecoder/gossip/gossiptest"
)

// How fast a ban spreads, in virtual time: real pools and syncers under the timings of production, on a network with delay and loss.
// Coordinators are stand-ins that announce and vouch as real ones do; what raft and cosigning take is simCosign.

const (
	simCoordinators = 3
	// simCosign is from a commit to its final checkpoint: two syncs of a disk and a round among coordinators.
	simCosign = 30 * time.Millisecond
	// simRenewal is how often coordinators vouch for a list that did not change.
	simRenewal = edge.DefaultLease / 3
	// simJoiners join at once: memberlist takes in no more than 128 lists at a time.
	simJoiners = 8
)

// simPool is coordinators and edges on one network. Its fields are set before anybody runs, but those that say otherwise.
type simPool struct {
	network *gossiptest.Network
	cluster *edgetest.Cluster
	heads   []*gossip.Pool    // of coordinators
	addrs   map[string]string // by node id
	pulled  atomic.Uint64     // bytes of events and checkpoints
	asked   atomic.Uint64     // questions

	mu    sync.Mutex // guards what follows
	edges []*simEdge // written while the pool comes together, by the test alone, which reads it freely
	cut   map[string]bool
	moved map[string]time.Time // when an edge reached the size that is waited for
	heard map[string]time.Time // when the first coordinator heard of it
	want  uint64
}

type simEdge struct {
	*Edge
	set *edge.Set
}

func simLatency(_, _ string) time.Duration {
	return 2*time.Millisecond + rand.N(8*time.Millisecond)
}

func newSimPool(t *testing.T, edges int) *simPool {
	s := &simPool{network: gossiptest.New(1), cluster: edgetest.New(simCoordinators, func() int64 { return time.Now().Unix() }),
		addrs: map[string]string{}, moved: map[string]time.Time{}, heard: map[string]time.Time{}, cut: map[string]bool{}}
	for i := range simCoordinators {
		s.addCoordinator(t, i)
	}
	dir := t.TempDir()
	for i := range edges {
		s.addEdge(t, i, filepath.Join(dir, strconv.Itoa(i)))
	}
	s.assemble(t)
	return s
}

// assemble makes strangers a pool that knows itself. Left to themselves, members pass each newcomer on two dozen times each: for a thousand
// 24 million datagrams and half an hour of computing, of which nothing is measured. So each learns the whole list from a coordinator who knows it, by the
// push/pull of every join, before the clock moves; and then forgets that these were news.
func (s *simPool) assemble(t *testing.T) {
	t.Helper()
	pools := slices.Clone(s.heads[1:])
	for _, e := range s.edges {
		pools = append(pools, e.pool)
	}
	for range 2 { // first the coordinator learns of all, then all from it
		for some := range slices.Chunk(pools, simJoiners) {
			var joining sync.WaitGroup
			for _, p := range some {
				joining.Go(func() {
					if _, err := p.Join([]string{simAddr(0)}); err != nil {
						t.Error(err)
					}
				})
			}
			joining.Wait()
			synctest.Wait() // until the coordinator has taken in who they are
		}
	}
	for _, p := range append(pools, s.heads[0]) {
		forgetNews(p)
	}
	s.network.SetDelay(simLatency)
}

// forgetNews empties the queue of what memberlist would still tell others of members, to which it has no door.
func forgetNews(p *gossip.Pool) {
	queue := reflect.ValueOf(p).Elem().FieldByName("ml").Elem().FieldByName("broadcasts")
	reflect.NewAt(queue.Type().Elem(), queue.UnsafePointer()).Interface().(interface{ Reset() }).Reset()
}

func simAddr(i int) string { return fmt.Sprintf("10.%d.%d.1:7946", i/250, i%250+1) }

func simGossip(s *simPool, id, role string, i int, key crypto.PrivateKey) gossip.Config {
	addr := simAddr(i)
	card := gossip.Card{ClusterID: edgetest.ClusterID, NodeID: id, Name: id, Role: role, API: addr, Raft: addr, Gossip: addr, IssuedMs: time.Now().UnixMilli()}
	if role == string(fsm.RoleEdge) {
		card.API, card.Raft = "", ""
	}
	if err := card.Sign(key); err != nil {
		panic(err)
	}
	s.addrs[id] = addr
	h := s.network.Host(addr)
	seeds := []string{simAddr(0), simAddr(1), simAddr(2)}
	return gossip.Config{ClusterID: edgetest.ClusterID, Card: card, PoolKeys: [][]byte{bytes.Repeat([]byte{7}, gossip.KeyBytes)}, Profile: gossip.ProfileLAN,
		Seeds: func() []string { return seeds }, Sockets: &gossip.Sockets{Listener: h.Listener(), Packets: h.PacketConn(), Dial: h.Dial}}
}

func (s *simPool) addCoordinator(t *testing.T, i int) {
	id := fmt.Sprintf("coordinator-%d", i)
	cfg := simGossip(s, id, string(fsm.RoleCoordinator), i, edgetest.Key(i))
	cfg.OnNews = func(string, []byte) bool { return true }
	floor := headFloor{}
	cfg.OnHead = func(from string, data []byte) bool {
		h, err := parseHead(data)
		if err != nil || !floor.rises(from, h) {
			return false
		}
		s.note(s.heard, from, h.Size)
		return true
	}
	p, err := gossip.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.heads = append(s.heads, p)
}

// note keeps when somebody first reached the size that is waited for.
func (s *simPool) note(in map[string]time.Time, id string, size uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := in[id]; !known && s.want > 0 && size >= s.want {
		in[id] = time.Now()
	}
}

func (s *simPool) addEdge(t *testing.T, i int, dir string) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("edge-%04d", i)
	key := edgetest.Key(1000 + i)
	store, view, _, err := edge.OpenStore(dir, edgetest.ClusterID, edgetest.Seal)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	e := &simEdge{set: edge.NewSet(), Edge: &Edge{log: log, id: &identity{ClusterID: edgetest.ClusterID, NodeID: id, Signing: key.Seed()}, book: openAddressBook(dir, log),
		heard: map[string]gossip.Card{}, heads: headFloor{}, reportNow: make(chan struct{}, 1)}}
	e.set.Restore(view)
	e.sync = edge.NewSyncer(edge.Config{ClusterID: edgetest.ClusterID, Store: store, Set: e.set, Lease: edge.NewLease(edge.NewClock(), edge.DefaultLease),
		Sources: func(uint64) []edge.Source { return s.sourcesOf(e) },
		Moved:   func(p edge.Position) { s.note(s.moved, id, p.Head.Size); e.moved(p) }}, s.cluster.Pinned())
	cfg := simGossip(s, id, string(fsm.RoleEdge), simCoordinators+i, key)
	cfg.Trust, cfg.OnHead, cfg.OnNews = e.trustCard, e.acceptHead, e.acceptNews
	if e.pool, err = gossip.Start(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	e.cancel = func() { cancel(); e.loops.Wait(); _ = store.Close() }
	e.loops.Go(func() { e.sync.Run(ctx) })
	e.loops.Go(func() { e.reportLoop(ctx) })
	s.mu.Lock()
	s.edges = append(s.edges, e)
	s.mu.Unlock()
}

// sourcesOf is who an edge may ask: all coordinators and two other edges, as in Edge.sourcesFor.
func (s *simPool) sourcesOf(e *simEdge) []edge.Source {
	var out []edge.Source
	for i := range simCoordinators {
		out = append(out, s.source(e, fmt.Sprintf("coordinator-%d", i), nil))
	}
	s.mu.Lock()
	edges := s.edges // which grows while the pool comes together
	s.mu.Unlock()
	for range min(edgeSources, len(edges)) {
		if other := edges[rand.N(len(edges))]; other != e {
			out = append(out, s.source(e, other.id.NodeID, other))
		}
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// source is a member as another one asks it: there and back, and a handshake before.
func (s *simPool) source(e *simEdge, id string, of *simEdge) edge.Source {
	m := &edgetest.Member{ID: id, Cluster: s.cluster, Asked: func(_ string, n int) { s.pulled.Add(uint64(n)) },
		Before: func(ctx context.Context, _ string) error {
			s.asked.Add(1)
			s.mu.Lock()
			apart := s.cut[id] != s.cut[e.id.NodeID]
			s.mu.Unlock()
			if apart || !pause(ctx, 4*simLatency("", "")) {
				return edgetest.ErrDown
			}
			return nil
		}}
	if of == nil {
		return m
	}
	return simPeer{m, of}
}

// simPeer is another edge: it has what that edge verified.
type simPeer struct {
	*edgetest.Member
	of *simEdge
}

func (p simPeer) Checkpoint(ctx context.Context) ([]byte, error) {
	if err := p.Before(ctx, ""); err != nil {
		return nil, err
	}
	note := p.of.sync.Status().Position.Note
	if len(note) == 0 {
		return nil, edgetest.ErrDown
	}
	p.Asked("", len(note))
	return note, nil
}

func (p simPeer) Events(ctx context.Context, from uint64, limit int) ([][]byte, error) {
	if err := p.Before(ctx, ""); err != nil {
		return nil, err
	}
	events := p.of.sync.Recent(from, limit)
	for _, e := range events {
		p.Asked("", len(e))
	}
	return events, nil
}

// vouch is what the leader does once a majority cosigned.
func (s *simPool) vouch(t *testing.T) {
	if err := s.heads[0].Broadcast(s.cluster.Cosign(simCoordinators)); err != nil {
		t.Error(err)
	}
}

// renew vouches for the list again and again, as coordinators do, until ctx ends.
func (s *simPool) renew(ctx context.Context, t *testing.T) {
	for pause(ctx, simRenewal) {
		s.vouch(t)
	}
}

// ban commits one and waits until every edge enforces it, at most within.
func (s *simPool) ban(t *testing.T, name string, within time.Duration) (enforced, heard []time.Duration) {
	t.Helper()
	s.mu.Lock()
	clear(s.moved)
	clear(s.heard)
	s.want = s.cluster.Size() + 1
	s.mu.Unlock()
	start := time.Now()
	s.cluster.Ban(name, 1, 0)
	for i, p := range s.heads {
		key := edgetest.Key(i)
		h := chainHead{Epoch: s.cluster.Epoch(), Size: s.cluster.Size(), Head: strings.Repeat("0", 64)}
		h.Signature = crypto.SignText(key, headLabel, h.parts(edgetest.ClusterID, fmt.Sprintf("coordinator-%d", i))...)
		data, err := fsm.Encode(h)
		if err == nil {
			err = p.SetHead(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(simCosign)
	s.vouch(t)
	done := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.moved) == len(s.edges) && len(s.heard) >= len(s.edges)
	}
	for end := start.Add(within); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.moved) != len(s.edges) {
		t.Errorf("%s: %d of %d edges enforce it after %v", name, len(s.moved), len(s.edges), within)
	}
	for id, at := range s.moved {
		enforced = append(enforced, at.Sub(start))
		if h, ok := s.heard[id]; ok {
			heard = append(heard, h.Sub(start))
		}
	}
	return enforced, heard
}

func (s *simPool) end() {
	for _, e := range s.edges {
		e.cancel()
	}
	for _, e := range s.edges {
		_ = e.pool.Shutdown()
	}
	for _, p := range s.heads {
		_ = p.Shutdown()
	}
	time.Sleep(time.Minute) // memberlist's goroutines run out
}

// settle waits until everybody sees everybody.
func (s *simPool) settle(t *testing.T) {
	t.Helper()
	begin := time.Now()
	all := len(s.edges) + simCoordinators
	for range 300 {
		least := all
		for _, e := range s.edges {
			least = min(least, e.pool.Stats().Alive)
		}
		if least == all {
			t.Logf("everybody sees everybody after %v more", time.Since(begin))
			return
		}
		time.Sleep(time.Second)
	}
	t.Fatal("the pool does not come together")
}

func quantiles(of []time.Duration) string {
	if len(of) == 0 {
		return "none"
	}
	slices.Sort(of)
	at := func(q float64) time.Duration { return of[int(q*float64(len(of)-1))].Round(time.Millisecond) }
	return fmt.Sprintf("p50 %v p99 %v max %v", at(0.5), at(0.99), at(1))
}

// TestSimSpread measures pools of EDGECODER_SPREAD edges, a list with commas; without it a small one.
func TestSimSpread(t *testing.T) {
	sizes := []string{"10"}
	if text := os.Getenv("EDGECODER_SPREAD"); text != "" {
		sizes = strings.Split(text, ",")
	}
	for _, text := range sizes {
		edges, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(text, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { spread(t, edges) }) })
	}
}

func spread(t *testing.T, edges int) {
	s := newSimPool(t, edges)
	defer s.end()
	s.settle(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go s.renew(ctx, t)
	time.Sleep(time.Minute)
	sent, pulled, asked, from := s.network.Sent(), s.pulled.Load(), s.asked.Load(), time.Now()
	time.Sleep(time.Minute)
	per := func(n uint64) float64 {
		return float64(n) / time.Since(from).Seconds() / float64(edges+simCoordinators)
	}
	t.Logf("%d edges, idle: %.0f bytes of gossip, %.0f pulled, in %.2f questions, a member and second", edges, per(s.network.Sent()-sent), per(s.pulled.Load()-pulled), per(s.asked.Load()-asked))
	for _, loss := range []float64{0, 0.05, 0.25} {
		s.network.SetLoss(loss)
		var enforced, heard []time.Duration
		for i := range 5 {
			e, h := s.ban(t, fmt.Sprintf("loss-%v-%d", loss, i), 20*time.Second)
			enforced, heard = append(enforced, e...), append(heard, h...)
			time.Sleep(2 * time.Second)
		}
		t.Logf("%d edges, %2.0f %% loss, 5 bans: enforced %s; a coordinator knows %s", edges, 100*loss, quantiles(enforced), quantiles(heard))
		if loss <= 0.05 {
			if p99 := enforced[int(0.99*float64(len(enforced)-1))]; p99 >= time.Second {
				t.Errorf("%d edges, %v loss: p99 %v", edges, loss, p99)
			}
		}
	}
}

// TestSimSpreadHeals: after ten minutes apart, everybody has the same head within one rejoin interval.
func TestSimSpreadHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimPool(t, 8)
		defer s.end()
		s.settle(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.renew(ctx, t)
		var away []string
		s.mu.Lock()
		for _, e := range s.edges[:4] {
			s.cut[e.id.NodeID] = true
			away = append(away, s.addrs[e.id.NodeID])
		}
		s.mu.Unlock()
		s.network.Partition(away)
		s.cluster.Ban("apart", 3, 0)
		s.vouch(t)
		time.Sleep(10 * time.Minute)
		for i, e := range s.edges {
			if _, banned := e.set.View().Ban("apart-2"); banned == (i < 4) {
				t.Errorf("edge %d, apart: %v", i, banned)
			}
		}
		s.network.Heal()
		s.mu.Lock()
		clear(s.cut)
		s.mu.Unlock()
		healed := time.Now()
		same := func() bool {
			for _, e := range s.edges {
				if e.sync.Status().Position.Head != s.edges[7].sync.Status().Position.Head {
					return false
				}
			}
			return true
		}
		for !same() && time.Since(healed) < time.Minute {
			time.Sleep(50 * time.Millisecond)
		}
		took := time.Since(healed)
		t.Logf("the same head %v after the partition healed", took)
		if took > 30*time.Second || s.edges[0].sync.Status().Position.Head.Size != 3 {
			t.Errorf("%v, %+v", took, s.edges[0].sync.Status().Position.Head)
		}
		s.settle(t) // gossip takes its time, and who is cut off from it still asks
	})
}
