package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/fsm"
)

// The leader has the set follow the coordinators (fsm.State.NextCosigners): a new one comes in once it votes; one that
// leaves goes out before it leaves, while its signature may still be needed. Each version is signed by a majority of the
// one before, so a verifier that trusts any follows to the newest. After a recovery, or removals, that took that
// majority a set begins anew as a root, and verifiers must be told.

// setRequest asks to sign the text of the next cosigner set.
type setRequest struct {
	_    struct{} `cbor:",toarray"`
	Text []byte
}

type setReply struct {
	Name  string `cbor:"1,keyasint"`
	KeyID uint32 `cbor:"2,keyasint"`
	Bytes []byte `cbor:"3,keyasint"`
}

// alignCosigners is a duty of the leader's.
func (n *Node) alignCosigners(ctx context.Context, lead *leadership) {
	e := n.epochNow()
	if e.level < fsm.LevelCheckpoints || time.Since(lead.setFailed) < roundPause || n.cosignersFollow(e) || n.Serving() != nil {
		return // before the lock: who changes members, or leadership, does not wait for it
	}
	if !n.members.TryLock() {
		return
	}
	defer n.members.Unlock()
	if e = n.epochNow(); n.cosignersFollow(e) {
		return
	}
	next, err := n.nextCosigners("", "")
	if err == nil {
		err = n.moveCosigners(ctx, lead, e, next)
	}
	if err != nil {
		lead.setFailed = time.Now()
		n.log.Warn("the cosigner set does not follow the coordinators", "version", e.set.Version, "error", err)
	}
}

// cosignersFollow tells whether the set in force is that of the coordinators.
func (n *Node) cosignersFollow(e epochNow) bool {
	next, err := n.nextCosigners("", "")
	return err == nil && e.set.Version > 0 && slices.Equal(next.Cosigners, e.set.Cosigners)
}

// nextCosigners is the set that should follow once a coordinator votes and another has left; "": none.
func (n *Node) nextCosigners(coming, leaving string) (next checkpoint.Set, err error) {
	ids := append(voters(n.servers()), coming)
	n.machine.Read(func(s *fsm.State) { next, err = s.NextCosigners(ids, leaving) })
	return next, err
}

// cosignersWith has a coordinator come into the set before it votes, where that makes the majority no larger: with three
// voters and a set of two, raft would outlive the loss of one and the set would not. From odd to even it is the other way
// about. A set that cannot move keeps nobody from voting. The caller holds members.
func (n *Node) cosignersWith(ctx context.Context, lead *leadership, id string) {
	e := n.epochNow()
	if e.level < fsm.LevelCheckpoints || len(e.set.Cosigners)%2 != 0 {
		return // without a set, too, there is none to follow
	}
	next, err := n.nextCosigners(id, "")
	if err == nil && (next.Root() || slices.Equal(next.Cosigners, e.set.Cosigners)) {
		return
	}
	if err == nil {
		err = n.moveCosigners(ctx, lead, e, next)
	}
	if err != nil {
		n.log.Warn("a coordinator gets its vote before it cosigns", "node", id, "version", e.set.Version, "error", err)
	}
}

// cosignersWithout has a coordinator leave the set before it leaves the cluster: a majority of the set must be there to
// sign the next. A compromised one goes even so, or whoever holds the set could never be removed: a root follows. The
// caller holds members.
func (n *Node) cosignersWithout(ctx context.Context, id string, compromised bool) error {
	e := n.epochNow()
	lead := n.lead.Load()
	if e.level < fsm.LevelCheckpoints || lead == nil {
		return nil
	}
	cosigns := slices.ContainsFunc(e.set.Cosigners, func(key crypto.PublicKey) bool { node, _ := n.nodeOf(key); return node == id })
	next, err := n.nextCosigners("", id)
	if !cosigns || err == nil && next.Root() {
		return nil // a root names who is left
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	if err == nil {
		err = n.moveCosigners(ctx, lead, e, next)
	}
	switch {
	case err == nil:
		return nil
	case compromised:
		n.log.Warn("a compromised coordinator goes before the cosigner set could move on: if it takes the majority of the set, the next is a root, and whoever pinned one must be told", "node", id, "set", e.set.Version, "error", err)
		return nil
	}
	return &client.Error{Code: client.CodeConflict, Field: "id", Detail: fmt.Sprintf(
		"without it nobody could vouch for who cosigns the blacklist next: a majority of cosigner set %d must sign its successor first, and did not (%v); bring the others back and ask again, or remove it as compromised: then a new set begins that nobody follows to, and whoever pinned one must be told", e.set.Version, err)}
}

// moveCosigners proposes the next set.
func (n *Node) moveCosigners(ctx context.Context, lead *leadership, e epochNow, next checkpoint.Set) error {
	signed, err := n.gatherSetSignatures(ctx, e, next)
	if err != nil {
		return err
	}
	cmd, err := fsm.New(fsm.Actor{NodeID: n.id.NodeID}, fsm.CosignerSetPut{Set: fsm.NewCosignerSet(signed)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	res, err := n.proposeHere(ctx, lead, cmd)
	if err == nil && !res.OK() {
		err = &client.Error{Code: string(res.Code), Field: res.Field, Detail: res.Detail}
	}
	if err != nil {
		return err
	}
	n.log.Info("who cosigns checkpoints changed", "version", next.Version, "root", next.Root(), "cosigners", next.Names())
	n.note(typeCosignerSet, audit.LevelHigh, "ok", map[string]string{"version": strconv.FormatUint(next.Version, 10), "hash": next.Hash().String(), "root": strconv.FormatBool(next.Root())})
	return nil
}

// gatherSetSignatures asks those who must vouch for a set.
func (n *Node) gatherSetSignatures(ctx context.Context, e epochNow, next checkpoint.Set) (checkpoint.SignedSet, error) {
	by := e.vouchers(next)
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Peer)
	defer cancel()
	type answer struct {
		key  crypto.PublicKey
		line checkpoint.Signature
		err  error
	}
	answers := make(chan answer, len(by.Cosigners))
	for _, key := range by.Cosigners {
		go func() { // ends with ctx
			line, err := n.askSetSignature(ctx, key, by, next)
			answers <- answer{key, line, err}
		}()
	}
	out := checkpoint.SignedSet{Set: next}
	var faults []error
	for range by.Cosigners {
		a := <-answers
		if a.err == nil {
			a.err = next.VerifySignature(a.line, a.key)
		}
		if a.err != nil {
			faults = append(faults, a.err)
			continue
		}
		if out.Signatures = append(out.Signatures, a.line); len(out.Signatures) == by.Majority() {
			break
		}
	}
	if len(out.Signatures) < by.Majority() {
		return out, fmt.Errorf("%d of %d cosigners signed version %d, %d are needed: %w", len(out.Signatures), len(by.Cosigners), next.Version, by.Majority(), errors.Join(faults...))
	}
	if next.Root() {
		return out, out.VerifyRoot()
	}
	return out, by.Verify(out)
}

func (n *Node) askSetSignature(ctx context.Context, of crypto.PublicKey, by, next checkpoint.Set) (line checkpoint.Signature, err error) {
	node, known := n.nodeOf(of)
	switch {
	case !known:
		return line, fmt.Errorf("%s is no member any more, or was revoked", of.CoordinatorID())
	case node == n.id.NodeID:
		return n.signSet(by, next)
	}
	var reply setReply
	err = n.call(ctx, node, rpcCosignSet, setRequest{Text: next.Text()}, &reply)
	return checkpoint.Signature{Name: reply.Name, KeyID: reply.KeyID, Bytes: reply.Bytes}, err
}

// signSet signs the next set with this node's key in the one that vouches for it, which may be one that it has replaced since.
func (n *Node) signSet(by, next checkpoint.Set) (line checkpoint.Signature, err error) {
	key, err := n.cosigningKey(by)
	if err != nil {
		return line, err
	}
	defer clear(key)
	return next.Sign(key), nil
}

// vouchers are those who must sign a set: the cosigners of the one in force, or of a root its own.
func (e epochNow) vouchers(next checkpoint.Set) checkpoint.Set {
	if next.Root() {
		return next
	}
	return e.cosigners()
}

// serveCosignSet signs the next set for the leader, if it may follow by the records here. A leader that lies could else
// make itself the only cosigner.
func (n *Node) serveCosignSet(ctx context.Context, from string, in setRequest) (setReply, error) {
	if err := n.mayDecide(fsm.KindCoordinatorRemove); err != nil { // who removes a liar has it leave the set first
		return setReply{}, err
	}
	point, err := n.followsNow(ctx, from)
	if err == nil {
		err = n.waitIndex(ctx, point.Index) // the set before may be a moment old
	}
	if err != nil {
		return setReply{}, err
	}
	e := n.epochNow()
	next, err := checkpoint.ParseSetText(in.Text)
	if err == nil {
		err = n.setFault(next)
	}
	if err != nil {
		return setReply{}, &client.Error{Code: client.CodeConflict, Field: "set", Detail: err.Error()}
	}
	line, err := n.signSet(e.vouchers(next), next)
	if err != nil {
		return setReply{}, err
	}
	return setReply{Name: line.Name, KeyID: line.KeyID, Bytes: line.Bytes}, nil
}

// setFault asks what Apply will, and that of the coordinators that vote none but one, who may be about to leave, is left
// out: whom raft has vote the leader writes, so that alone would say little.
func (n *Node) setFault(next checkpoint.Set) error {
	if e := n.epochNow(); e.level < fsm.LevelCheckpoints {
		return fmt.Errorf("the cluster is at feature level %d", e.level)
	}
	var res fsm.Result
	ids, missing, ok := voters(n.servers()), 0, false
	n.machine.Read(func(s *fsm.State) {
		named := map[string]bool{}
		for _, key := range next.Cosigners {
			c, _ := s.Cosigner(key)
			named[c.ID] = true
		}
		for _, id := range ids {
			if c, known := s.Coordinator(id); known && c.Role == fsm.RoleCoordinator && !named[id] {
				missing++
			}
		}
		res, ok = s.CheckCosigners(fsm.NewCosignerSet(checkpoint.SignedSet{Set: next}))
	})
	switch {
	case !ok:
		return errors.New(res.Detail)
	case missing > 1:
		return fmt.Errorf("%d coordinators that vote are not in it: one at a time may leave", missing)
	}
	return nil
}
