package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/cosign"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/fsm"
)

// The leader has a checkpoint made when a log grew, and at least every third of a lease. It signs the head of its own
// tree as the log and asks all cosigners at once; what a majority signed is final, and goes to every server. Rounds follow
// each other without a timer: what came in during one is in the next, so a burst of records shares rounds.

const (
	// roundGrace is how long a round waits for the rest once it has a majority: more cosignatures carry a lease over the
	// loss of one coordinator.
	roundGrace = 25 * time.Millisecond
	// roundPause is how long a leader waits after a round without a majority.
	roundPause = 500 * time.Millisecond
	// roundToldPause is how often it says so.
	roundToldPause = 10 * time.Second
)

// roundState is what the leader's last round of a log came to.
type roundState struct {
	head    checkpoint.Checkpoint
	version uint64    // of the cosigner set
	at      time.Time // of the last final checkpoint
	failed  time.Time // of the last round without one
	told    time.Time // when the log last said so
}

// cosignRequest asks to cosign the checkpoint of a note that the leader signed as the log.
type cosignRequest struct {
	_    struct{} `cbor:",toarray"`
	Note []byte
}

// Refusals of a cosigner that say who lies; every other is for later.
const (
	refusedFork   = "fork"   // its records lead to another head
	refusedRecord = "record" // a record is not sound
	refusedLater  = "later"
)

// cosignReply is a cosignature or why there is none.
type cosignReply struct {
	Name    string `cbor:"1,keyasint,omitempty"`
	KeyID   uint32 `cbor:"2,keyasint,omitempty"`
	Bytes   []byte `cbor:"3,keyasint,omitempty"`
	Refused string `cbor:"4,keyasint,omitempty"`
	Detail  string `cbor:"5,keyasint,omitempty"`
	Mine    []byte `cbor:"6,keyasint,omitempty"` // of a fork: text of its own head
}

// checkpointDuty runs a round if one is due.
func (n *Node) checkpointDuty(run context.Context, lead *leadership, l *keptLog, e epochNow) {
	r := &l.round
	if _, cosigns := n.ownCosigner(e.cosigners()); !cosigns || time.Since(r.failed) < roundPause {
		return
	}
	_, totals := n.store.History.Totals()
	same := r.head.Origin == e.origin(l.name) && r.head.Size == totals[l.stream] && r.version == e.set.Version
	since := time.Since(r.at)
	if since < l.pace || same && since < n.cfg.Timing.Lease/3 || l.later && totals[l.stream] == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(run, n.cfg.Timing.Request)
	defer cancel()
	if n.store.History.WaitTree(ctx, l.stream, totals[l.stream]) != nil {
		return
	}
	head, err := l.Head(e.origin(l.name))
	if err == nil && n.lead.Load() == lead && n.sameEpochStill(e) {
		err = n.checkpointRound(run, ctx, l, e, head)
	}
	if err == nil {
		*r = roundState{head: head, version: e.set.Version, at: time.Now()}
		return
	}
	if r.failed = time.Now(); time.Since(r.told) > roundToldPause {
		r.told = r.failed
		n.log.Warn("no checkpoint: too few cosigners", "log", l.name, "size", head.Size, "set", e.set.Version, "error", err)
	}
}

// checkpointRound gathers cosignatures of a head within ctx, and spreads what is final, for which the node's life is left.
func (n *Node) checkpointRound(run, ctx context.Context, l *keptLog, e epochNow, head checkpoint.Checkpoint) error {
	key, err := n.cosigningKey(e.cosigners())
	if err != nil {
		return err
	}
	defer clear(key)
	note := checkpoint.Note{Checkpoint: head, Signatures: []checkpoint.Signature{checkpoint.SignLog(key, head)}}
	if err := n.gatherCosignatures(ctx, l, e, &note); err != nil {
		return err
	}
	text := note.Encode()
	switch _, err := l.Adopt(text, e.cosigners(), e.origin(l.name)); {
	case err != nil && n.sameEpochStill(e):
		n.stopForked(l, err, text)
		return err
	case err != nil:
		return err
	}
	n.spreadCheckpoint(run, l, text)
	n.tellPool(l, text)
	return nil
}

// gatherCosignatures asks all cosigners at once until a majority signed and the rest had its time.
func (n *Node) gatherCosignatures(ctx context.Context, l *keptLog, e epochNow, note *checkpoint.Note) error {
	set := e.cosigners()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		key   crypto.PublicKey
		reply cosignReply
		err   error
	}
	answers := make(chan answer, len(set.Cosigners))
	request := cosignRequest{Note: note.Encode()}
	for _, of := range set.Cosigners {
		go func() { // ends with ctx
			reply, err := n.askCosigner(ctx, l, e, of, request)
			answers <- answer{of, reply, err}
		}()
	}
	signed, forks := 0, 0
	var faults []error
	var grace <-chan time.Time
	for waiting := len(set.Cosigners); waiting > 0; {
		select {
		case a := <-answers:
			waiting--
			line, err := n.takeCosignature(l, note.Checkpoint, request.Note, a.key, a.reply, a.err)
			switch {
			case err == nil:
				signed++
				note.Signatures = append(note.Signatures, line)
			case isFork(err):
				forks++
				faults = append(faults, err)
			default:
				faults = append(faults, err)
			}
			if signed == set.Majority() {
				grace = time.After(roundGrace)
			}
		case <-grace:
			waiting = 0
		case <-ctx.Done():
			waiting, faults = 0, append(faults, ctx.Err())
		}
	}
	switch {
	case signed >= set.Majority():
		return nil
	case forks >= set.Majority(): // this leader is the one that differs
		n.stopForked(l, errors.Join(faults...), request.Note)
	}
	return errors.Join(faults...)
}

// askCosigner asks the coordinator that holds a key, which may be this one.
func (n *Node) askCosigner(ctx context.Context, l *keptLog, e epochNow, of crypto.PublicKey, request cosignRequest) (cosignReply, error) {
	node, known := n.nodeOf(of)
	if node == n.id.NodeID {
		if _, err := n.reads.get(ctx); err != nil {
			return cosignReply{}, err
		}
		return n.cosignHere(ctx, l, e, request)
	}
	if !known {
		return cosignReply{}, &client.Error{Code: client.CodeUnavailable, Detail: of.CoordinatorID() + " is no member any more"}
	}
	var reply cosignReply
	err := n.call(ctx, node, rpcCosign, request, &reply)
	return reply, err
}

// nodeOf returns the coordinator that cosigns with a key, an observer never.
func (n *Node) nodeOf(key crypto.PublicKey) (id string, known bool) {
	n.machine.Read(func(s *fsm.State) {
		if c, ok := s.Cosigner(key); ok {
			id, known = c.ID, true
		}
	})
	return id, known
}

// ownCosigner returns this node's key in a set: after a rotation the one before, until the set has followed.
func (n *Node) ownCosigner(set checkpoint.Set) (key crypto.PublicKey, ok bool) {
	for _, key := range set.Cosigners {
		if node, known := n.nodeOf(key); known && node == n.id.NodeID && n.signer.holds(key) {
			return key, true
		}
	}
	return key, false
}

// cosigningKey returns a copy of the private half of this node's key in a set: clear it after use.
func (n *Node) cosigningKey(set checkpoint.Set) (crypto.PrivateKey, error) {
	public, _ := n.ownCosigner(set)
	if key := n.signer.private(public); key != nil {
		return key, nil
	}
	return nil, &client.Error{Code: client.CodeUnavailable, Detail: fmt.Sprintf("this node holds no key of cosigner set %d", set.Version)}
}

// takeCosignature verifies what a cosigner answered to the note that it was asked to cosign. One that claims a fork is told of, whoever is right.
func (n *Node) takeCosignature(l *keptLog, head checkpoint.Checkpoint, asked []byte, of crypto.PublicKey, reply cosignReply, err error) (checkpoint.Signature, error) {
	line := checkpoint.Signature{Name: reply.Name, KeyID: reply.KeyID, Bytes: reply.Bytes}
	switch {
	case err != nil:
		return line, err
	case reply.Refused == refusedFork:
		theirs, err := checkpoint.ParseText(reply.Mine)
		if err != nil {
			return line, err
		}
		f := &cosign.Fork{Mine: head, Theirs: theirs, What: "cosigner " + of.CoordinatorID() + " has another head"}
		n.claimFork(l, cosign.Evidence{Fork: f, By: of, Here: asked}, "its word alone stops nobody")
		return line, f
	case reply.Refused != "":
		return line, &client.Error{Code: client.CodeUnavailable, Reason: "cosign_" + reply.Refused, Detail: of.CoordinatorID() + ": " + reply.Detail}
	}
	_, err = checkpoint.VerifyCosignature(head, line, of)
	return line, err
}
