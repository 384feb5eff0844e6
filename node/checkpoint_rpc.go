package node

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/cosign"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/fsm"
)

// serveCosign answers a leader that asks for a cosignature. The node signs only while it sees that very leader, and that
// leader has a majority behind it now: edges count their leases from what is signed here.
func (n *Node) serveCosign(ctx context.Context, from string, in cosignRequest) (cosignReply, error) {
	if err := n.Serving(); err != nil {
		return cosignReply{}, err
	}
	if _, err := n.followsNow(ctx, from); err != nil {
		return cosignReply{}, err
	}
	e := n.epochNow()
	note, err := checkpoint.ParseNote(in.Note)
	if err != nil {
		return cosignReply{}, &client.Error{Code: client.CodeInvalid, Field: "note", Detail: err.Error()}
	}
	l, known := n.logs.named[note.Checkpoint.Origin.Log]
	if !known {
		return cosignReply{}, &client.Error{Code: client.CodeInvalid, Field: "note", Detail: "this node knows no log of that name"}
	}
	return n.cosignHere(ctx, l, e, in)
}

// followsNow returns a read point of the node that asks, which leads, with quorum.
func (n *Node) followsNow(ctx context.Context, from string) (readPoint, error) {
	if _, leader := n.raft.LeaderWithID(); string(leader) != from {
		return readPoint{}, &client.Error{Code: client.CodeUnavailable, Reason: reasonNotLeader, Detail: "the node that asks is not the leader that this one follows"}
	}
	return n.reads.get(ctx)
}

// cosignHere signs a head, or says why not. The note must be the log's: what is kept as evidence was signed.
func (n *Node) cosignHere(ctx context.Context, l *keptLog, e epochNow, in cosignRequest) (cosignReply, error) {
	if e.set.Version == 0 || e.level < fsm.LevelCheckpoints {
		return later("there is no cosigner set yet"), nil
	}
	if why := n.clockStrays(); why != "" {
		return later(why), nil
	}
	asked, err := e.cosigners().Open(in.Note)
	if err != nil {
		return later(err.Error()), nil
	}
	o := e.origin(l.name)
	if asked.Origin == o {
		if err := n.store.History.WaitTree(ctx, l.stream, asked.Size); err != nil {
			return later(err.Error()), nil
		}
	}
	key, err := n.cosigningKey(e.cosigners())
	if err != nil {
		return later(err.Error()), nil
	}
	defer clear(key)
	line, err := l.Cosign(ctx, asked.Checkpoint, o, key, n.cfg.now().Unix())
	if err != nil && !n.sameEpochStill(e) {
		return later("a restore is under way"), nil
	}
	f, bad := (*cosign.Fork)(nil), (*cosign.RecordError)(nil)
	switch {
	case err == nil:
		return cosignReply{Name: line.Name, KeyID: line.KeyID, Bytes: line.Bytes}, nil
	case errors.As(err, &f):
		n.claimFork(l, cosign.Evidence{Fork: f, There: in.Note}, "the cosignature is withheld")
		return cosignReply{Refused: refusedFork, Detail: f.Error(), Mine: f.Mine.Text()}, nil
	case errors.As(err, &bad):
		n.withhold(l, err)
		return cosignReply{Refused: refusedRecord, Detail: bad.Error()}, nil
	}
	return later(err.Error()), nil
}

// clockStrays returns why this node may vouch for no time, or "": leases are counted from it, and one that runs ahead would end those of every edge until it has come.
func (n *Node) clockStrays() string {
	ids := voters(n.servers())
	offsets := n.offsets(ids)
	if supporters(offsets, 0) > len(ids)/2 {
		return ""
	}
	return "the wall clock of this node agrees with no majority of voters, measured against the median: " + n.skews(ids, offsets)
}

func later(why string) cosignReply { return cosignReply{Refused: refusedLater, Detail: why} }

// checkpointNote is a final checkpoint on its way.
type checkpointNote struct {
	_    struct{} `cbor:",toarray"`
	Note []byte
}

// serveCheckpoint takes a final checkpoint from any coordinator: a majority's signatures say what it is worth.
func (n *Node) serveCheckpoint(_ context.Context, _ string, in checkpointNote) (struct{}, error) {
	return struct{}{}, n.takeCheckpoint(in.Note)
}

func (n *Node) takeCheckpoint(text []byte) error {
	note, err := checkpoint.ParseNote(text)
	if err != nil {
		return &client.Error{Code: client.CodeInvalid, Field: "note", Detail: err.Error()}
	}
	e := n.epochNow()
	l, known := n.logs.named[note.Checkpoint.Origin.Log]
	if !known || e.set.Version == 0 {
		return &client.Error{Code: client.CodeUnavailable, Detail: "this node knows no such log yet, or not who cosigns it"}
	}
	_, err = l.Adopt(text, e.cosigners(), e.origin(l.name))
	if isFork(err) && n.sameEpochStill(e) {
		n.stopForked(l, err, text)
	}
	if err != nil {
		return &client.Error{Code: client.CodeUnavailable, Detail: err.Error()}
	}
	return nil
}

// spreader sends the newest checkpoint of a log to the other servers, one call to each at a time. Who misses one gets
// the next: there is one every third of a lease.
type spreader struct {
	mu      sync.Mutex
	newest  []byte
	sending map[string]bool
}

func (n *Node) spreadCheckpoint(run context.Context, l *keptLog, note []byte) {
	s := &l.spread
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sending == nil {
		s.sending = map[string]bool{}
	}
	s.newest = note
	for _, id := range idsOf(n.servers()) {
		if id == n.id.NodeID || s.sending[id] {
			continue
		}
		s.sending[id] = true
		n.loops.Go(func() { n.sendNewest(run, l, id) })
	}
}

// sendNewest sends until the peer has the newest, or does not answer.
func (n *Node) sendNewest(run context.Context, l *keptLog, id string) {
	s := &l.spread
	var sent []byte
	for {
		s.mu.Lock()
		next := s.newest
		if bytes.Equal(sent, next) {
			delete(s.sending, id)
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		ctx, cancel := context.WithTimeout(run, n.cfg.Timing.Peer)
		err := n.call(ctx, id, rpcCheckpoint, checkpointNote{Note: next}, &struct{}{})
		cancel()
		if err != nil {
			n.log.Debug("a checkpoint did not reach a server", "log", l.name, "to", id, "error", err)
		}
		sent = next
	}
}
