package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/edge"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
)

// EdgeConfig is what an operator decides about one edge.
type EdgeConfig struct {
	DataDir    string
	Name       string   // label, unique among the members
	Listen     string   // loopback host:port, or unix:PATH
	SocketMode uint32   // of a unix socket; 0: 0600
	GossipAddr string   // host:port, TCP and UDP
	Join       []string // gossip addresses of live members: seeds, and asked if DataDir is empty
	JoinToken  string   // text of an edge token; needed once
	Mode       string   // client.EdgeStrict or client.EdgeBestEffort
	Lease      time.Duration
	AllowList  string // file; empty: none

	Passphrase []byte // of the key file in DataDir
	Version    string
	Timing     Timing
	Log        *slog.Logger

	iterations int  // tests: cost of a new key file; 0: the default
	anyLease   bool // tests: a lease may be shorter than the rounds of cosigning
}

// Edge is a running edge.
type Edge struct {
	cfg   EdgeConfig
	log   *slog.Logger
	id    *identity
	creds *credentials
	book  *addressBook
	pool  *gossip.Pool
	// strange: a coordinator showed a key that this edge does not know it by; set by gossip's loop, cleared by sharedLoop.
	strange atomic.Bool
	// shared is what of the cluster's keys counts now; id has that of the start.
	shared     atomic.Pointer[sharedSet]
	refreshing sync.Mutex // one refresh at a time
	pages      *gossip.StreamListener

	allow  *edge.AllowList
	store  *edge.Store
	sync   *edge.Syncer
	server *edge.Server
	ask    *http.Transport // to other edges
	http   []*http.Server

	admit   atomic.Pointer[client.Client] // of the coordinators that are known
	addrs   string                        // which those are, and by which CAs; owned by membersLoop
	sources sourceCache
	heard   map[string]gossip.Card // cards that were trusted, by node id; owned by gossip's loop
	heads   headFloor              // owned by gossip's loop
	told    toldAcks               // what it told the coordinators that it holds; owned by sharedLoop
	noted   noteFloor              // owned by gossip's loop

	enforced  atomic.Pointer[[]byte] // signed head of the list in force, for the coordinators
	reportNow chan struct{}          // one token

	loops   sync.WaitGroup
	cancel  context.CancelFunc
	unlock  func() error
	stop    sync.Once
	stopErr error
	done    chan struct{}
}

// config is what an edge's joining and gossip have in common with a coordinator's.
func (c EdgeConfig) config() Config {
	return Config{DataDir: c.DataDir, Name: c.Name, GossipAddr: c.GossipAddr, Join: c.Join, JoinToken: c.JoinToken, Passphrase: c.Passphrase,
		Version: c.Version, Timing: c.Timing, Log: c.Log, iterations: c.iterations}
}

// Validate reports all faults of the configuration together.
func (c EdgeConfig) Validate() error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.DataDir == "" {
		bad("%s is empty: name a directory for this edge's state", Setting("data-dir"))
	}
	if err := crypto.CheckID(c.Name); err != nil {
		bad("%s %q: %w", Setting("name"), c.Name, err)
	}
	if host, port, err := net.SplitHostPort(c.GossipAddr); err != nil || host == "" || port == "" {
		bad("%s %q: want host:port, such as 127.0.0.1:4502", Setting("gossip-addr"), c.GossipAddr)
	}
	if err := checkListen(c.Listen); err != nil {
		faults = append(faults, err)
	}
	if c.Mode != client.EdgeStrict && c.Mode != client.EdgeBestEffort {
		bad("%s %q: want %s or %s", Setting("mode"), c.Mode, client.EdgeStrict, client.EdgeBestEffort)
	}
	if c.Lease < minEdgeLease && !c.anyLease || c.Lease > maxEdgeLease {
		bad("%s %s: want %s to %s; coordinators vouch for the list every third of %s", Setting("lease"), c.Lease, minEdgeLease, maxEdgeLease, edge.DefaultLease)
	}
	if len(c.Passphrase) < minPassphrase {
		bad("the passphrase of the key file has %d bytes, at least %d: give %s, EDGECODER_PASSPHRASE or the systemd credential \"passphrase\"", len(c.Passphrase), minPassphrase, Setting("passphrase-file"))
	}
	return errors.Join(faults...)
}

const (
	// minEdgeLease is the time between two rounds of cosigning: a shorter lease would end between them.
	minEdgeLease = edge.DefaultLease / 3
	// maxEdgeLease is far longer than any ban should need to arrive.
	maxEdgeLease = 24 * time.Hour
)

// DefaultEdgeConfig returns loopback addresses, a strict edge, and the lease that coordinators cosign for.
func DefaultEdgeConfig() EdgeConfig {
	return EdgeConfig{Listen: "127.0.0.1:4501", GossipAddr: "127.0.0.1:4402", Mode: client.EdgeStrict, Lease: edge.DefaultLease,
		Timing: LocalTiming(), Log: slog.Default(), Version: "dev"}
}

// StartEdge brings an edge up: from its data directory if it has joined before, else by joining. It returns when it answers, which a
// list from an earlier run lets it do before anybody was reached.
func StartEdge(ctx context.Context, cfg EdgeConfig) (*Edge, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	unlock, err := lockDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	cfg.Passphrase = bytes.Clone(cfg.Passphrase) // the caller wipes its own
	e := &Edge{cfg: cfg, log: cfg.Log.With("edge", cfg.Name), allow: &edge.AllowList{}, pages: gossip.NewStreamListener(idAddr("pages")),
		heard: map[string]gossip.Card{}, heads: headFloor{}, reportNow: make(chan struct{}, 1), unlock: unlock, done: make(chan struct{})}
	if err := e.start(ctx); err != nil {
		_ = e.Stop(ctx) // the start's own error is the one to report
		return nil, err
	}
	return e, nil
}

func (e *Edge) start(ctx context.Context) error {
	if err := e.ReloadAllowList(); err != nil {
		return err
	}
	e.book = openAddressBook(e.cfg.DataDir, e.log)
	joined, err := e.obtainIdentity(ctx)
	if err != nil {
		return err
	}
	if e.creds, err = newCredentials(e.id, checkEdgePeer); err != nil {
		return err
	}
	e.ask = e.newPeerTransport()
	if err := e.openList(joined); err != nil {
		return err
	}
	run, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	listener, err := listenLocal(e.cfg.Listen, e.cfg.SocketMode)
	if err != nil {
		return err
	}
	if err := e.startGossip(); err != nil {
		_ = listener.Close()
		return err
	}
	e.refreshAdmitter()
	e.serve(listener)
	for _, loop := range []func(context.Context){e.sync.Run, e.membersLoop, e.refreshLoop, e.sharedLoop, e.reportLoop} {
		e.loops.Go(func() { loop(run) })
	}
	return nil
}

// openList reads the list that an earlier run kept, or begins one. One that joined now trusts the cosigners of that join.
func (e *Edge) openList(joined bool) error {
	key, err := e.id.listKey()
	if err != nil {
		return err
	}
	store, view, at, err := edge.OpenStore(e.cfg.DataDir, e.id.ClusterID, key)
	clear(key)
	if err != nil {
		return err
	}
	e.store = store
	if at == nil || joined {
		if at, err = e.pin(at, view); err != nil {
			return err
		}
	}
	if joined {
		if err := e.noteJoined(); err != nil {
			return err
		}
	}
	evidence, err := store.Evidence()
	if err != nil {
		return err
	}
	halted := ""
	if evidence != nil {
		halted = "an earlier run saw two lists that contradict each other, see " + store.EvidencePath()
		e.log.Error("CRITICAL: " + halted)
	}
	clock, set := edge.NewClock(), edge.NewSet()
	set.Restore(view)
	lease := edge.NewLease(clock, e.cfg.Lease)
	e.sync = edge.NewSyncer(edge.Config{ClusterID: e.id.ClusterID, Sources: e.sourcesFor, Store: store, Set: set, Lease: lease, Every: min(edge.DefaultEvery, e.cfg.Lease/6),
		Log: e.log.With("part", "list"), Halted: halted, Moved: e.moved, Alarm: e.alarms().raise}, *at)
	judge := &edge.Judge{Mode: e.cfg.Mode, Set: set, Lease: lease, Allow: e.allow, Sync: e.sync}
	e.server = &edge.Server{Judge: judge, Coordinators: e, Node: client.NodeRef{ID: e.id.NodeID, Name: e.cfg.Name}, Cluster: e.id.ClusterID, Version: e.cfg.Version, Log: e.log}
	return nil
}

// serve starts the two faces: for services on this machine, and for other members behind the gossip port.
func (e *Edge) serve(local net.Listener) {
	pages := &http.Server{Handler: edge.Pages(e.sync), ReadTimeout: 5 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 8 << 10, ErrorLog: log.New(io.Discard, "", 0)}
	face := e.server.HTTP()
	e.http = []*http.Server{face, pages}
	e.loops.Go(func() { _ = face.Serve(edge.Bounded(local)) }) // always ends with ErrServerClosed or a closed listener
	e.loops.Go(func() { _ = pages.Serve(e.creds.pagesListener(e.pages)) })
}

// Status returns what the edge knows of itself.
func (e *Edge) Status() client.EdgeStatus { return e.server.Status() }

// ReloadAllowList reads the allow-list again; an error leaves the one before.
func (e *Edge) ReloadAllowList() error {
	if e.cfg.AllowList == "" {
		return nil
	}
	if err := e.allow.Load(e.cfg.AllowList); err != nil {
		return err
	}
	e.log.Warn("agents on the allow-list are let through whatever the blacklist says", "file", e.cfg.AllowList, "agents", e.allow.Len())
	return nil
}

// Admit implements edge.Coordinators.
func (e *Edge) Admit(ctx context.Context, req client.AdmissionRequest, opts ...client.Option) (client.Admission, error) {
	c := e.admit.Load()
	if c == nil {
		return client.Admission{}, errNoCoordinators()
	}
	return c.Admit(ctx, req, opts...)
}

// AdmitBatch implements edge.Coordinators.
func (e *Edge) AdmitBatch(ctx context.Context, requests []client.AdmissionRequest, opts ...client.Option) (client.AdmissionResults, error) {
	c := e.admit.Load()
	if c == nil {
		return client.AdmissionResults{}, errNoCoordinators()
	}
	return c.AdmitBatch(ctx, requests, opts...)
}

// BlacklistDelta implements edge.Coordinators.
func (e *Edge) BlacklistDelta(ctx context.Context, cursor string, opts ...client.Option) (client.BlacklistDelta, error) {
	c := e.admit.Load()
	if c == nil {
		return client.BlacklistDelta{}, errNoCoordinators()
	}
	return c.BlacklistDelta(ctx, cursor, opts...)
}

func errNoCoordinators() error {
	return &client.Error{Code: client.CodeUnavailable, Reason: reasonNoLeader, RetryAfter: time.Second, Detail: "this edge knows no coordinator yet"}
}

// Stop shuts down in order: stop answering, leave gossip, stop the loops, close files.
func (e *Edge) Stop(context.Context) error {
	e.stop.Do(func() {
		for _, s := range e.http {
			shutdownHTTP(s)
		}
		_ = e.pages.Close()
		if e.pool != nil {
			_ = e.pool.Leave(leaveTime) // best effort: the others notice anyway
			_ = e.pool.Shutdown()
		}
		if e.cancel != nil {
			e.cancel()
		}
		e.loops.Wait()
		if e.store != nil {
			e.stopErr = e.store.Close()
		}
		e.stopErr = errors.Join(e.stopErr, e.unlock())
		if e.ask != nil {
			e.ask.CloseIdleConnections()
		}
		if e.id != nil {
			e.id.clear()
		}
		if s := e.shared.Load(); s != nil {
			for _, key := range s.ring {
				clear(key)
			}
		}
		clear(e.cfg.Passphrase)
		close(e.done)
	})
	return e.stopErr
}

// checkEdgePeer tells whom an edge talks to on the gossip port: members of the cluster by their certificate. It has no list of those that were removed; what it
// serves to one until the certificate ends is what the list says of agents, and what it hears is verified.
func checkEdgePeer(p peerName) error {
	if p.role != fsm.RoleEdge && p.role != fsm.RoleCoordinator {
		return fmt.Errorf("node %s is an %s", p.id, p.role)
	}
	return nil
}
