package node

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// Coordinators tell each other their wall time and health. A leader stamps
// commands only while a majority of voters, itself included, agrees with its
// clock (DESIGN.md "The clock").
const (
	// pingFresh is how long a report of a wall time counts.
	pingFresh = 10 * time.Second
	// aliveFor is how long after its last sign of life a node counts as alive.
	aliveFor = 10 * time.Second
	// maxDrift is how far the wall clock may move against the monotonic one
	// between two judgements of the clock, which are dutyInterval apart.
	maxDrift = time.Second
)

type pingRequest struct {
	WallMs int64 `cbor:"1,keyasint"`
}

type pingReply struct {
	WallMs  int64      `cbor:"1,keyasint"`
	Applied uint64     `cbor:"2,keyasint"`
	Level   uint32     `cbor:"3,keyasint"`
	Version string     `cbor:"4,keyasint"`
	Term    uint64     `cbor:"5,keyasint"`           // raft's current term there
	Marks   []fsm.Mark `cbor:"6,keyasint,omitempty"` // its last digests
	WriteUs int64      `cbor:"7,keyasint"`           // median time of its last log writes, microseconds; 0: none lately
	Full    bool       `cbor:"8,keyasint"`           // its disk is: it takes no writes
	Epoch   uint64     `cbor:"9,keyasint,omitempty"` // recovery epoch of its state; 0: it does not tell
	// Released is the leader's word that who asks has no vote.
	Released bool `cbor:"10,keyasint,omitempty"`
	Leaving  bool `cbor:"11,keyasint,omitempty"` // it is about to forget its log: no vote for it
	Stuck    bool `cbor:"12,keyasint,omitempty"` // its disk takes no entries: it is full or hangs
	// Audit tells where its audit log ends; from LevelClients on.
	Audit *fsm.AuditReport `cbor:"13,keyasint,omitempty"`
	// Timing is the name of its profile, which all should share; from LevelUpgrades on.
	Timing string `cbor:"14,keyasint,omitempty"`
}

// health is what the last good ping of a node told.
type health struct {
	at      time.Time // monotonic, when it answered
	wallMs  int64     // its wall clock at that moment
	applied uint64
	lag     uint64 // entries that it was behind this replica, of when it was asked
	marks   []fsm.Mark
	write   time.Duration // median of its last log writes; 0: none lately
	full    bool          // its disk is
	stuck   bool          // it takes no entries, though it answers
	epoch   uint64
	level   uint32           // highest feature level that its running binary knows
	version string           // of that binary
	timing  string           // name of its profile; "": it told none
	audit   *fsm.AuditReport // of itself alone; nil: it told none

	term     uint64 // raft's current term there
	released bool   // it leads and says that this node has no vote
	leaving  bool   // it is about to forget its log
}

// offsetMs is its wall clock minus ours, now: a jump of ours shows at once.
func (h health) offsetMs(wallMs int64) int64 {
	return h.wallMs + time.Since(h.at).Milliseconds() - wallMs
}

// fresh tells whether a node answered within the last two rounds of pings.
func (n *Node) fresh(id string) bool {
	h, ok := n.health.get(id)
	return ok && time.Since(h.at) < n.freshTime()
}

// works tells whether a node answered lately and takes entries: pings are
// answered beside a raft loop that hangs in a write, and such a node carries no
// majority.
func (n *Node) works(id string) bool {
	h, ok := n.health.get(id)
	return ok && n.fresh(id) && !h.stuck
}

func (n *Node) freshTime() time.Duration { return 2*n.cfg.Timing.Ping + n.cfg.Timing.PingRTT }

// peersHealth is the last word of each coordinator.
type peersHealth struct {
	mu   sync.Mutex
	last map[string]health
}

func (p *peersHealth) get(id string) (health, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h, ok := p.last[id]
	return h, ok
}

func (p *peersHealth) set(id string, h health) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[id] = h
}

// bound cuts what a node told of itself to what is kept of it, and shown.
func (r *pingReply) bound(id string) {
	if r.Audit != nil {
		r.Audit.NodeID = id // nobody speaks for another
	}
	r.Marks = r.Marks[max(0, len(r.Marks)-fsm.MaxMarks):]
	r.Version, r.Timing = label(r.Version), label(r.Timing)
}

// label cuts a text of another node's to what may be shown.
func label(text string) string {
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, strings.ToValidUTF8(text[:min(len(text), fsm.MaxLabelBytes)], ""))
}

func (n *Node) servePing(_ context.Context, from string, _ pingRequest) (pingReply, error) {
	r := pingReply{WallMs: n.wallMs(), Level: n.cfg.supports(), Version: n.cfg.Version, Term: n.raft.CurrentTerm(), Released: n.releases(from), Leaving: !n.leaving().IsZero()}
	n.machine.Read(func(s *fsm.State) { r.Applied, r.Epoch, r.Marks = s.Index(), s.Meta().Epoch, s.Marks() })
	if n.unconfirmed() != nil {
		r.Marks = nil // judged by its epoch, not by its digests: the cluster may have gone on without it
	}
	r.WriteUs, r.Full, r.Stuck = n.diskHealth()
	r.Audit = n.auditHead.report.Load()
	if level, _ := n.clusterLevel(); level >= fsm.LevelUpgrades { // older binaries pass over nothing in an answer
		r.Timing = n.cfg.Timing.Name
	}
	return r, nil
}

// pingLoop asks every other server of the configuration in turn, for ever.
func (n *Node) pingLoop(ctx context.Context) {
	for {
		n.pingAll(ctx)
		n.judgeRemoval()
		n.askOutsiders(ctx)
		n.compareTimings()
		n.judgeEpoch(ctx)
		n.hearMembers()
		select {
		case <-ctx.Done():
			return
		case <-n.pingNow:
		case <-time.After(n.cfg.Timing.Ping):
		}
	}
}

func (n *Node) pingAll(ctx context.Context) {
	var all sync.WaitGroup
	for _, s := range n.servers() {
		if string(s.ID) != n.id.NodeID {
			all.Go(func() { n.ping(ctx, string(s.ID)) })
		}
	}
	all.Wait()
}

func (n *Node) ping(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.PingRTT)
	defer cancel()
	start := time.Now()
	own, _ := n.machine.Index()
	var reply pingReply
	err := n.call(ctx, id, rpcPing, pingRequest{WallMs: n.wallMs()}, &reply)
	if e := (*client.Error)(nil); err == nil || errors.As(err, &e) && e.Reason == reasonRemoved {
		n.removal.hear(id, err != nil)
	}
	if err != nil {
		return
	}
	reply.bound(id)
	half := time.Since(start) / 2
	n.health.set(id, health{at: time.Now(), applied: reply.Applied, lag: own - min(own, reply.Applied), marks: reply.Marks, wallMs: reply.WallMs + half.Milliseconds(),
		write: time.Duration(reply.WriteUs) * time.Microsecond, full: reply.Full, stuck: reply.Stuck, epoch: reply.Epoch, released: reply.Released, term: reply.Term, leaving: reply.Leaving,
		level: reply.Level, version: reply.Version, timing: reply.Timing, audit: reply.Audit})
}

// servers returns the servers of raft's newest configuration.
func (n *Node) servers() []raft.Server {
	future := n.raft.GetConfiguration()
	if future.Error() != nil {
		return nil
	}
	return future.Configuration().Servers
}

func voters(servers []raft.Server) []string {
	var out []string
	for _, s := range servers {
		if s.Suffrage == raft.Voter {
			out = append(out, string(s.ID))
		}
	}
	return out
}

func idsOf(servers []raft.Server) []string {
	var out []string
	for _, s := range servers {
		out = append(out, string(s.ID))
	}
	return out
}

// offsets returns the wall-clock offsets of nodes that reported lately, our own
// (zero) included if it is asked for.
func (n *Node) offsets(ids []string) map[string]int64 {
	out := map[string]int64{}
	for _, id := range ids {
		if id == n.id.NodeID {
			out[id] = 0
		} else if h, ok := n.health.get(id); ok && time.Since(h.at) < pingFresh {
			out[id] = h.offsetMs(n.wallMs())
		}
	}
	return out
}

// wallMs is this machine's wall clock, Unix milliseconds.
func (n *Node) wallMs() int64 { return n.cfg.Now().UnixMilli() }

// clockMs is the best local estimate of the cluster clock.
func (n *Node) clockMs() int64 {
	var clock int64
	n.machine.Read(func(s *fsm.State) { clock = s.ClockMs() })
	return max(clock, n.wallMs())
}

// drift is how far the wall clock has moved against the monotonic one since
// the start.
func (n *Node) drift() time.Duration {
	return time.Duration(n.wallMs()-n.started.UnixMilli())*time.Millisecond - time.Since(n.started)
}
