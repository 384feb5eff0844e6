package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/time/rate"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
	"github.com/edgecoder/edgecoder/limit"
	"github.com/edgecoder/edgecoder/store"
)

// Node is a running coordinator.
type Node struct {
	cfg        Config
	log        *slog.Logger
	id         *identity
	idMu       sync.Mutex // guards id.AdminToken, the signing and TLS keys and the writing of the key file
	signer     signer     // of this node's signing keys
	creds      *credentials
	shared     atomic.Pointer[sharedSet] // CAs and gossip keys that count here
	sharing    sync.Mutex                // held while they or our certificates change
	apiFiles   atomic.Pointer[apiFiles]  // of the operator's certificate; mostly nil
	caFileDue  bool                      // ca.pem is not as shared says; guarded by sharing
	shownDue   bool                      // TLS and gossip do not go by shared yet; guarded by sharing
	sharedTold toldShared                // what others say of them, while the replica is behind
	said       []gossip.AckID            // what the pool was told that we hold; owned by sharingLoop

	book    *addressBook
	machine *fsm.Machine
	raft    *raft.Raft
	pool    *gossip.Pool
	dialer  *peerDialer
	rpc     *http.Client
	disk    *disk
	audit   *audit.Log // of security events; nil before it is open
	admit   *admitter
	movers  *movers
	meter   *meter
	reads   *readIndexer // of this node's own questions, wherever the leader is

	leaderReads *readIndexer // of all questions to this node as the leader
	epochs      epochs
	departure   departure
	removal     expulsion // who says that this node was removed
	outsiders   outsiders // and who that is not on record
	timingTold  time.Time // when the log last spoke of other profiles; the ping loop's own
	lookout     lookout
	auditHead   auditKeeper                 // of where audit logs end
	keyRounds   keyRounds                   // owned by keyLoop
	keyUses     keyUses                     // of keys that retire
	uncertified atomic.Bool                 // no CA issued the certificate shown: see showUncertified
	given       atomic.Pointer[crypto.Hash] // TLS key that the door gave a certificate for; mostly nil
	gate        gate
	restoring   sync.Mutex  // held while a backup is taken or planned
	snapping    sync.Mutex  // held while raft takes a snapshot here, and while another replaces the state
	replacing   atomic.Bool // the restore of a backup holds snapping
	backups     backupLog   // of scheduled backups
	trust       trust
	vouches     *rate.Limiter        // questions about strangers
	words       *limit.Rates[string] // what nodes tell this leader of their keys
	knocks      *limit.Rates[string] // questions for shared keys, by node
	updates     *limit.Rates[string] // nodes that describe themselves to this leader
	health      peersHealth
	started     time.Time
	binary      crypto.Hash // SHA-256 of this executable, with Config.RequireManifest

	lead         atomic.Pointer[leadership]
	pace         pace
	lastApplied  atomic.Int64                   // wall nanoseconds of the last applied command
	resting      resting                        // whom this node handed leadership to lately
	diverged     atomic.Pointer[fsm.Divergence] // why this node must not serve; nil when it may
	accepted     atomic.Bool                    // Config.RequireManifest was found to hold
	faded        atomic.Bool                    // the mark that diverged is about is not known here any more: no reason to forget the log
	rivals       rivals                         // copies of this cluster that were recovered apart
	newer        atomic.Pointer[newerEpoch]     // a recovery epoch that this replica has not reached; mostly nil
	membersMoved atomic.Bool                    // coordinators changed since newsLoop last looked

	proposals      chan struct{} // slots of proposals in flight
	auditReads     chan struct{} // slots of readers of the audit log
	members        sync.Mutex    // held while a member joins or leaves; the leader's
	pingNow        chan struct{}
	tripped        chan struct{} // diverged was set
	news           chan struct{}
	heads          headFloor // owned by gossip's loop
	noted          noteFloor // owned by gossip's loop
	enforcement    *enforcement
	membersChanged chan struct{}
	sharedMoved    chan struct{} // the state says something new of shared keys
	keyRevoked     chan struct{} // somebody's key was revoked

	movedMu sync.Mutex
	moved   chan struct{} // closed and replaced when raft's leader changes; guarded by movedMu

	joins      *gossip.StreamListener
	joining    chan struct{}        // slots of joins under way
	joinLog    *rate.Limiter        // log lines about refused joins
	joinLookup *rate.Limiter        // questions to the leader about unknown join tokens
	joinRates  *limit.Rates[string] // joins by token
	loops      sync.WaitGroup
	cancel     context.CancelFunc
	face       face
	store      *store.Store
	logs       logs // of which this coordinator keeps trees and cosigns checkpoints
	transport  *termGuard
	unlock     func() error
	stop       sync.Once
	fatal      atomic.Pointer[error] // why the node stops by itself
	stopErr    error                 // of the shutdown; set before done is closed
	done       chan struct{}
	ending     chan struct{} // closed once raft was told to stop
}

// Start brings a coordinator up: from its data directory if it has one, else
// by bootstrap or by joining. It returns when its listeners answer and raft
// runs; use Ready to learn when it can serve.
func Start(ctx context.Context, cfg Config) (*Node, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Exit == nil {
		cfg.Exit = os.Exit
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	unlock, err := lockDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	cfg.Passphrase = bytes.Clone(cfg.Passphrase) // the caller wipes its own
	n := &Node{
		cfg: cfg, log: cfg.Log.With("node", cfg.Name), started: time.Now(), admit: newAdmitter(), movers: newMovers(), meter: newMeter(),
		health: peersHealth{last: map[string]health{}}, trust: trust{vouched: map[string]vouch{}}, vouches: rate.NewLimiter(vouchRate, 2*vouchRate), words: limit.NewRates[string](time.Now, wordRate, wordBurst, 2*fsm.MaxCoordinators), knocks: limit.NewRates[string](time.Now, knockRate, knockBurst, 2*fsm.MaxCoordinators), updates: limit.NewRates[string](time.Now, updateRate, updateBurst, 2*fsm.MaxCoordinators), proposals: make(chan struct{}, maxProposals), auditReads: make(chan struct{}, maxAuditReads),
		pingNow: make(chan struct{}, 1), tripped: make(chan struct{}, 1), news: make(chan struct{}, 1), heads: headFloor{}, enforcement: newEnforcement(),
		membersChanged: make(chan struct{}, 1), sharedMoved: make(chan struct{}, 1), keyRevoked: make(chan struct{}, 1), moved: make(chan struct{}), joins: gossip.NewStreamListener(idAddr("join")), joining: make(chan struct{}, maxJoins),
		keyRounds: keyRounds{active: map[string]crypto.PublicKey{}},
		joinLog:   rate.NewLimiter(1, 10), joinLookup: rate.NewLimiter(joinLookups, 4*joinLookups), joinRates: limit.NewRates[string](time.Now, joinsPerSecond, joinsBurst, joinsEntries), done: make(chan struct{}), ending: make(chan struct{}), unlock: unlock,
		logs: newLogs(),
	}
	if err := n.start(ctx); err != nil {
		_ = n.shutdown() // the start's own error is the one to report
		return nil, err
	}
	return n, nil
}

func (n *Node) start(ctx context.Context) (err error) {
	if err := checkRetired(n.cfg.DataDir); err != nil {
		return err
	}
	if err := n.cfg.checkLevelNote(); err != nil {
		return err
	}
	if n.binary, err = n.cfg.ownDigest(); err != nil {
		return err
	}
	n.book = openAddressBook(n.cfg.DataDir, n.log)
	if n.id, err = n.obtainIdentity(ctx); err != nil {
		return err
	}
	n.signer.hold(n.id.signingSeeds())
	if n.creds, err = newCredentials(n.id, n.checkPeer); err != nil {
		return err
	}
	if err := n.ReloadAPICertificate(n.cfg.APICert, n.cfg.APIKey); err != nil {
		return err
	}
	n.shared.Store(n.id.shared())
	if err := n.shared.Load().writeCA(n.cfg.DataDir); err != nil {
		return err
	}
	if err := n.renewCertificate(ctx); err != nil {
		n.log.Warn("certificate not renewed at start", "error", err)
	}
	if n.disk, err = openDisk(n.cfg); err != nil {
		return err
	}
	if err := n.openAudit(); err != nil {
		return err
	}
	n.dialer = &peerDialer{book: n.book, creds: n.creds, net: n.cfg.net(), unwelcome: n.unwelcome}
	n.rpc = newRPCClient(n.dialer, n.cfg.Timing.Peer)
	n.reads = &readIndexer{fetch: n.readPoint, limit: n.cfg.Timing.Request}
	n.leaderReads = &readIndexer{fetch: n.confirmHere, limit: n.cfg.Timing.Request}
	if err := n.openStore(); err != nil {
		return err
	}
	if err := n.openLogs(); err != nil {
		return err
	}
	if err := n.doubtBook(); err != nil {
		return err
	}
	if err := n.openEpochs(); err != nil {
		return err
	}
	if err := n.clearUploads(); err != nil {
		return err
	}
	n.machine = fsm.NewMachine(n.store.History, n.observe)
	n.machine.BeforeRestored(n.arriveEpoch)
	n.machine.OnNewerLog(n.outdated)

	run, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	sockets, err := n.listen()
	if err != nil {
		return err
	}
	if err := n.startRaft(run, sockets.raft, n.dialer); err != nil {
		return err
	}
	if err := n.startGossip(); err != nil {
		return err
	}
	n.serve(sockets)
	for _, loop := range []func(context.Context){n.pingLoop, n.verifyLoop, n.sendLoop, n.moveLoop, n.newsLoop, n.certificateLoop, n.apiCertLoop, n.sharingLoop, n.tripwireLoop, n.watchDisk, n.watchSpace, n.watchLeaderSilence, n.backupLoop, n.manifestLoop, n.auditHeadLoop, n.logsLoop, n.snapshotLoop, n.keyLoop, n.expelLoop} {
		n.loops.Go(func() { loop(run) })
	}
	return n.awaitBootstrap(ctx)
}

// awaitBootstrap waits for the genesis that this process is to make, so that
// its admin token can be shown. A restart finds its genesis in the log, or
// peers that may lead instead.
func (n *Node) awaitBootstrap(ctx context.Context) error {
	for n.id.Bootstrap && !n.hasGenesis() && !n.hasPeers() {
		_, changed := n.machine.Index()
		if n.hasGenesis() {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("the new cluster has no leader yet: %w", ctx.Err())
		}
	}
	return nil
}

func (n *Node) hasGenesis() (yes bool) {
	n.machine.Read(func(s *fsm.State) { yes = s.Meta().ClusterID != "" })
	return yes
}

func (n *Node) hasPeers() bool { return len(n.servers()) > 1 }

// observe is called in raft's apply loop; it must not block.
func (n *Node) observe(res fsm.Result, kind fsm.Kind) {
	n.lastApplied.Store(time.Now().UnixNano())
	n.observeEpoch(res, kind)
	if kind == fsm.KindTick || kind == fsm.KindRestored {
		n.pace.tick(time.Now(), n.clusterClockMs())
		n.lookForDivergence()
	}
	switch kind {
	case fsm.KindRestored, fsm.KindLevelRaise, fsm.KindKeyPrepare, fsm.KindKeySwitch, fsm.KindKeyRevoke, fsm.KindCoordinatorRemove:
		ring(n.sharedMoved)
	}
	if kind == fsm.KindKeyRevoke || kind == fsm.KindRestored {
		ring(n.keyRevoked)
	}
	switch kind {
	case fsm.KindRestored, fsm.KindGenesis, fsm.KindCoordinatorJoin, fsm.KindCoordinatorUpdate, fsm.KindCoordinatorRemove, fsm.KindCoordinatorCleanUp,
		fsm.KindEdgeJoin, fsm.KindTokenRevoke: // which ends an edge, perhaps
		n.membersMoved.Store(true)
		ring(n.membersChanged)
	case fsm.KindBlacklistAppend, fsm.KindClockRecover, fsm.KindLevelRaise: // head, epoch or level changed
	default:
		return
	}
	n.logs.ring()
	ring(n.news)
}

func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

func (n *Node) isRemoved(id string) (yes bool) {
	n.machine.Read(func(s *fsm.State) { yes = s.IsRemoved(id) })
	return yes
}

// Stop shuts down in order: hand over leadership, stop the API, leave gossip,
// stop the loops, stop raft, close files.
func (n *Node) Stop(ctx context.Context) error {
	if n.lead.Load() != nil && n.hasPeers() {
		handed := make(chan error, 1)
		go func() { handed <- n.transferTo("").Error() }()
		select {
		case err := <-handed:
			if err != nil {
				n.log.Warn("leadership was not handed over before stopping", "error", err)
			}
		case <-ctx.Done():
		}
	}
	return n.shutdown()
}

// shutdown stops whatever was started, in order.
func (n *Node) shutdown() error {
	n.stop.Do(func() {
		n.endFace()
		if n.pool != nil {
			_ = n.pool.Leave(leaveTime) // best effort: the others notice anyway
			_ = n.pool.Shutdown()
		}
		if n.cancel != nil {
			n.cancel()
		}
		n.stopErr = errors.Join(n.endRaft(), n.closeAudit(), n.unlock())
		if why := n.fatal.Load(); why != nil {
			n.stopErr = *why
		}
		if n.rpc != nil {
			n.rpc.CloseIdleConnections()
		}
		n.loops.Wait()
		n.logs.close()
		n.forgetPassphrase()
		n.signer.hold(nil)
		close(n.done)
	})
	return n.stopErr
}

// leaveTime is how long a stopping node waits for its farewell to spread.
const leaveTime = time.Second

// Done is closed when the node has stopped.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err tells why the node stopped by itself, or what went wrong as it was
// stopped; it waits for Done.
func (n *Node) Err() error {
	<-n.done
	return n.stopErr
}

// fail stops the node by itself. It may be called from any loop.
func (n *Node) fail(err error) {
	n.log.Error("stopping", "error", err)
	go func() { // the loops cannot wait for their own end
		n.fatal.CompareAndSwap(nil, &err)
		_ = n.shutdown()
	}()
}
