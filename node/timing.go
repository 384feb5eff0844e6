package node

import (
	"fmt"
	"time"

	"github.com/edgecoder/edgecoder/gossip"
)

// Timing is a profile of timeouts; fields are not tuned one by one. All
// coordinators of a cluster have the same.
type Timing struct {
	Name        string        // of the profile, "" for one that only tests have
	Heartbeat   time.Duration // raft: ten to five heartbeats are sent in it; a follower that starves waits one to three of it for the leader
	Election    time.Duration // raft: candidate waits this long for votes
	LeaderLease time.Duration // raft: leader steps down after this long without a quorum
	Silence     time.Duration // a follower that hears nothing of its leader for so long looks for another
	Turn        time.Duration // voters do so one after the other, so far apart: longer than it takes to ask for a pre-vote
	Commit      time.Duration // raft: idle append interval
	Peer        time.Duration // longest exchange of raft's with a peer; a leadership transfer to one that hangs blocks every write for so long. Snapshots get more by their size
	Request     time.Duration // longest a write or admission waits for its decision
	NoLeader    time.Duration // longest a request waits for a leader to appear
	Tick        time.Duration // leader's clock tick when idle
	Mark        time.Duration // digest mark
	Ping        time.Duration // clock and health exchange between coordinators
	PingRTT     time.Duration // a slower answer to a ping says too little about the clock behind it
	Lease       time.Duration // how long a verifier may go by a checkpoint; a new one is cosigned at least every third of it
	Stall       time.Duration // a write of raft that takes longer hangs: a leader ends, others are not ready
	Gossip      gossip.Profile
}

// The names of the profiles.
const (
	TimingLocal = "local"
	TimingWAN   = "wan"
)

// TimingOf returns the profile of a name.
func TimingOf(name string) (Timing, error) {
	switch name {
	case TimingLocal:
		return LocalTiming(), nil
	case TimingWAN:
		return WANTiming(), nil
	}
	return Timing{}, fmt.Errorf("%s %q: want %s (one machine or one site) or %s (sites up to 300 ms apart), the same on every coordinator",
		Setting("timing"), name, TimingLocal, TimingWAN)
}

// checkpointLease is the same whatever the links: it is how long a strict verifier
// that is cut off may still let pass whom the others banned, so it is short; and
// it spans two renewals that fail beside one that takes its time, and a failover.
const checkpointLease = 30 * time.Second

// LocalTiming suits nodes on one machine or one network. Silence is what the
// failovers of docs/benchmarks.md were measured with: while two processors were
// fought for by forty processes, no follower saw its leader silent for longer
// than 510 ms.
func LocalTiming() Timing {
	return Timing{Name: TimingLocal,
		Heartbeat: time.Second, Election: time.Second, LeaderLease: 700 * time.Millisecond, Silence: 700 * time.Millisecond, Turn: 60 * time.Millisecond,
		Commit: 50 * time.Millisecond, Peer: 3 * time.Second,
		Request: 3 * time.Second, NoLeader: time.Second,
		Tick: time.Second, Mark: 5 * time.Second, Ping: time.Second, PingRTT: time.Second,
		Lease: checkpointLease, Stall: 1500 * time.Millisecond, Gossip: gossip.ProfileLAN,
	}
}

// WANTiming suits nodes whose links take up to 300 ms in each direction: a
// heartbeat, once a second at the latest, is answered in 600 ms, a new connection
// in 1.8 s, so the third heartbeat in a row that is lost is one too many.
func WANTiming() Timing {
	return Timing{Name: TimingWAN,
		Heartbeat: 5 * time.Second, Election: 5 * time.Second, LeaderLease: 4 * time.Second, Silence: 4 * time.Second, Turn: time.Second,
		Commit: 500 * time.Millisecond, Peer: 10 * time.Second,
		Request: 15 * time.Second, NoLeader: 8 * time.Second,
		Tick: time.Second, Mark: 5 * time.Second, Ping: time.Second, PingRTT: 2500 * time.Millisecond,
		Lease: checkpointLease, Stall: 1500 * time.Millisecond, Gossip: gossip.ProfileWAN,
	}
}
