package node

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/store"
)

const reasonNoCheckpoint = "no_checkpoint"

// logNow returns a log and the epoch that it is in.
func (n *Node) logNow(name string) (*keptLog, epochNow, error) {
	e := n.epochNow()
	l, known := n.logs.named[name]
	switch {
	case !known:
		return nil, e, &client.Error{Code: client.CodeNotFound, Detail: fmt.Sprintf("there is no log %q", name)}
	case e.level < fsm.LevelCheckpoints:
		return nil, e, &client.Error{Code: client.CodeUnavailable, Reason: reasonLevel, Detail: fmt.Sprintf(
			"the cluster is at feature level %d, checkpoints need %d: upgrade every server first", e.level, fsm.LevelCheckpoints)}
	}
	if err := n.unconfirmed(); err != nil {
		return nil, e, err
	}
	return l, e, nil
}

// Checkpoint implements api.Logs.
func (n *Node) Checkpoint(name string) ([]byte, error) {
	l, e, err := n.logNow(name)
	if err != nil {
		return nil, err
	}
	note, _, ok := l.Newest(e.origin(name))
	if !ok {
		return nil, errNoCheckpoint(name)
	}
	return note, nil
}

func errNoCheckpoint(log string) *client.Error {
	return &client.Error{Code: client.CodeUnavailable, Reason: reasonNoCheckpoint, RetryAfter: time.Second,
		Detail: fmt.Sprintf("no checkpoint of the %s log has reached this node that a majority cosigned in this epoch: ask again, or look at `edgecoder status`", log)}
}

// ProveInclusion implements api.Logs.
func (n *Node) ProveInclusion(ctx context.Context, name string, seq, size uint64) (out client.InclusionProof, err error) {
	l, e, err := n.logNow(name)
	if err == nil {
		size, err = l.sizeOr(ctx, e, size)
	}
	if err != nil {
		return out, err
	}
	if seq < 1 || seq > size {
		return out, &client.Error{Code: client.CodeInvalid, Field: "seq", Detail: fmt.Sprintf("record %d is not among the first %d", seq, size)}
	}
	out = client.InclusionProof{Origin: e.origin(name).String(), Seq: seq, Size: size}
	hashes, err := l.tree.h.ProveInclusion(l.stream, seq-1, size)
	if err != nil {
		return out, n.proofError(e, err)
	}
	root, err := l.tree.TreeRoot(size)
	if err != nil {
		return out, n.proofError(e, err)
	}
	rows, err := l.tree.Read(seq, 1)
	if err == nil && len(rows) != 1 {
		err = fmt.Errorf("record %d cannot be read", seq)
	}
	if err != nil {
		return out, n.proofError(e, err)
	}
	out.Root, out.Leaf, out.Hashes = root.String(), checkpoint.LeafHash(rows[0].Data).String(), base64Hashes(hashes)
	return out, n.proofError(e, nil)
}

// ProveConsistency implements api.Logs.
func (n *Node) ProveConsistency(ctx context.Context, name string, from, to uint64) (out client.ConsistencyProof, err error) {
	l, e, err := n.logNow(name)
	if err == nil {
		to, err = l.sizeOr(ctx, e, to)
	}
	if err != nil {
		return out, err
	}
	if from > to {
		return out, &client.Error{Code: client.CodeInvalid, Field: "from", Detail: fmt.Sprintf("%d is more than %d", from, to)}
	}
	hashes, err := l.tree.h.ProveConsistency(l.stream, from, to)
	if err != nil {
		return out, n.proofError(e, err)
	}
	before, err := l.tree.TreeRoot(from)
	if err != nil {
		return out, n.proofError(e, err)
	}
	after, err := l.tree.TreeRoot(to)
	if err != nil {
		return out, n.proofError(e, err)
	}
	return client.ConsistencyProof{Origin: e.origin(name).String(), From: from, To: to, FromRoot: before.String(), ToRoot: after.String(),
		Hashes: base64Hashes(hashes)}, n.proofError(e, nil)
}

// proofWait is how long a proof waits for records that others have already.
const proofWait = time.Second

// sizeOr returns the size that is asked about, or that of the newest checkpoint. A replica that is a moment behind a
// checkpoint that somebody holds waits for its records.
func (l *keptLog) sizeOr(ctx context.Context, e epochNow, size uint64) (uint64, error) {
	if size == 0 {
		_, c, ok := l.Newest(e.origin(l.name))
		if !ok {
			return 0, errNoCheckpoint(l.name)
		}
		size = c.Size
	}
	ctx, cancel := context.WithTimeout(ctx, proofWait)
	defer cancel()
	if err := l.tree.h.WaitTree(ctx, l.stream, size); errors.Is(err, store.ErrNoTree) {
		return 0, &client.Error{Code: client.CodeInvalid, Field: "size", Detail: fmt.Sprintf("this node has %d records, asked about %d", l.tree.TreeSize(), size)}
	} else if err != nil {
		return 0, err
	}
	return size, nil
}

// proofError passes an error on, unless a restore replaced the records meanwhile: then there is no answer.
func (n *Node) proofError(e epochNow, err error) error {
	if !n.sameEpochStill(e) {
		return &client.Error{Code: client.CodeUnavailable, Reason: reasonRecovery, RetryAfter: time.Second, Detail: "a restore replaced the records meanwhile: ask again"}
	}
	return err
}

func base64Hashes(hashes []crypto.Hash) []string {
	out := make([]string, len(hashes))
	for i, h := range hashes {
		out[i] = base64.StdEncoding.EncodeToString(h[:])
	}
	return out
}

// logStatus tells of each log that has begun; none below fsm.LevelCheckpoints.
func (n *Node) logStatus() (out []client.LogStatus) {
	e := n.epochNow()
	if e.level < fsm.LevelCheckpoints {
		return nil
	}
	for _, l := range n.logs.all {
		if l.later && l.tree.TreeSize() == 0 {
			continue
		}
		o := e.origin(l.name)
		row := client.LogStatus{Log: l.name, Origin: o.String(), Records: l.tree.TreeSize(), Set: e.set.Version, LeaseMs: n.cfg.Timing.Lease.Milliseconds()}
		if _, c, ok := l.Newest(o); ok {
			row.Size, row.Root, row.AtMs, row.Cosigned = c.Size, c.Root.String(), c.MajorityAtS()*1000, len(c.Cosignatures)
		}
		if why := l.withheld.Load(); why != nil {
			row.Withheld = *why
		}
		if f := l.fork.Load(); f != nil {
			row.ForkedSize, row.ForkedWhy = f.Theirs.Size, f.Error()
		}
		out = append(out, row)
	}
	return out
}

// measureLogs tells the same to whoever watches.
func (n *Node) measureLogs(put sample) {
	for _, l := range n.logStatus() {
		put("edgecoder_log_records", float64(l.Records), l.Log)
		put("edgecoder_checkpoint_size", float64(l.Size), l.Log)
		put("edgecoder_checkpoint_timestamp_seconds", seconds(l.AtMs), l.Log)
		put("edgecoder_checkpoint_cosignatures", float64(l.Cosigned), l.Log)
		put("edgecoder_cosignature_withheld", truth(l.Withheld != ""), l.Log)
		put("edgecoder_log_forked", truth(l.ForkedWhy != ""), l.Log)
		put("edgecoder_cosigner_set_version", float64(l.Set), l.Log)
	}
}
