package node

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/limit"
)

// Whom a node lets end the reign of its leader. raft believes any coordinator that
// claims to lead, in the same term or a later one, and any vote that is said to be a
// hand-over: one liar could call elections without end, and nobody could remove it.
// While the leader is heard no honest node does that. Voters who hear a leader elect
// no other, and a leader that a majority does not hear any more gives up by itself
// within Timing.LeaderLease, before they look for another (Timing.Silence). So:
//
//   - A message counts as of the node whose certificate it came by (inbound).
//   - While the leader is heard nobody else may claim to lead.
//   - While this node leads nobody may. Who leads by right has a majority whose
//     answers tell of the newer term.
//   - A vote that is a hand-over counts at the leader from whom it asked, elsewhere
//     once the leader is silent, as it is a moment after it handed over.
//   - Only the leader asks this node to stand for election at once.
//   - Answers of newer terms depose a leader, or end a candidacy, at a pace.
//
// Without a leader everybody is heard, as raft wants it: elections are as fast as
// they were.
const (
	// deposePause is between two answers of newer terms, of all nodes together, that
	// this one heeds; the burst is for a restart of everything.
	deposePause = 10 * time.Second
	deposeBurst = 4
)

var errReign = errors.New("the leader is heard, and this is not its doing")

// standing is what a node knows of raft's state.
type standing interface {
	CurrentTerm() uint64
	State() raft.RaftState
}

// reign watches who leads by what comes in.
type reign struct {
	silence time.Duration // a leader that was not heard for so long reigns no more
	hush    time.Duration // one that was not heard for so long may have handed over: it beats more often
	handing time.Duration // for how long one that was asked to lead may call its election
	raft    standing      // set before the first message is judged
	deposed *limit.Rates[struct{}]

	mu     sync.Mutex // guards what follows
	term   uint64     // of the leader
	leader string     // whose claim raft was given last
	heard  time.Time
	heir   string // whom this node asked to lead
	asked  time.Time
	held   map[string]bool // nodes with a vote that waits; bounded by the callers
}

func newReign(t Timing) *reign {
	return &reign{silence: t.Silence, hush: t.Heartbeat / 4, handing: 2 * t.Election, held: map[string]bool{},
		deposed: limit.NewRates[struct{}](time.Now, 1/deposePause.Seconds(), deposeBurst, 2)}
}

// fault tells why raft must not see a message of a node. It may wait.
func (r *reign) fault(from string, command any) error {
	if m, ok := command.(raft.WithRPCHeader); ok {
		if h := m.GetRPCHeader(); string(h.ID) != from || string(h.Addr) != from {
			return fmt.Errorf("node %s says that it is %q at %q", from, h.ID, h.Addr)
		}
	}
	switch m := command.(type) {
	case *raft.AppendEntriesRequest:
		return r.claims(from, m.Term)
	case *raft.InstallSnapshotRequest:
		return r.claims(from, m.Term)
	case *raft.RequestVoteRequest:
		if m.LeadershipTransfer {
			return r.takesOver(from)
		}
	case *raft.TimeoutNowRequest:
		return r.hands(from)
	}
	return nil
}

// waits tells whether judging a message may take long.
func waits(command any) bool {
	m, ok := command.(*raft.RequestVoteRequest)
	return ok && m.LeadershipTransfer
}

// claims judges a message that only a leader sends.
func (r *reign) claims(from string, term uint64) error {
	current, now := r.raft.CurrentTerm(), time.Now()
	if term < current {
		return nil // raft answers it with the newer term
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lasts(from, current, now, r.silence) {
		return fmt.Errorf("node %s claims to lead in term %d: %w", from, term, errReign)
	}
	r.leader, r.term, r.heard = from, term, now
	return nil
}

// lasts tells whether another than from leads, and was heard within a time. Called
// with mu locked.
func (r *reign) lasts(from string, current uint64, now time.Time, within time.Duration) bool {
	return r.raft.State() == raft.Leader || r.leader != "" && r.leader != from && r.term >= current && now.Sub(r.heard) < within
}

// takesOver judges a vote that is said to be a hand-over: it waits for the leader to
// fall silent, one vote of a node at a time.
func (r *reign) takesOver(from string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.raft.State() == raft.Leader && from == r.heir && time.Since(r.asked) < r.handing {
		return nil
	}
	refused := fmt.Errorf("node %s calls an election: %w", from, errReign)
	if r.held[from] || r.raft.State() == raft.Leader {
		return refused
	}
	r.held[from] = true
	defer delete(r.held, from)
	for end := time.Now().Add(2 * r.hush); r.lasts(from, r.raft.CurrentTerm(), time.Now(), r.hush); {
		if time.Now().After(end) {
			return refused
		}
		r.mu.Unlock()
		time.Sleep(r.hush / 10)
		r.mu.Lock()
	}
	return nil
}

// hands judges who asks this node to stand for election at once.
func (r *reign) hands(from string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if from != r.leader || r.term != r.raft.CurrentTerm() {
		return fmt.Errorf("node %s hands leadership over, and does not have it: %w", from, errReign)
	}
	return nil
}

// handsOver notes whom this node asks to lead.
func (r *reign) handsOver(to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heir, r.asked = to, time.Now()
}

// deposes judges an answer by which raft would give up what it does in its own term.
func (r *reign) deposes(by string, told, own uint64) error {
	if told > own && r.deposed.Take(struct{}{}) > 0 {
		return fmt.Errorf("node %s tells of term %d, this one is at %d: one such answer in %v counts", by, told, own, deposePause)
	}
	return nil
}
