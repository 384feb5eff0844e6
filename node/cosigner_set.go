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

// Who cosigns is who votes. The leader has the set follow raft's configuration: a new voter comes in once it votes; one
// that leaves goes out before it leaves, while its signature may still be needed. Each version is signed by a majority of
// the one before, so a verifier that trusts any follows to the newest. After a recovery that lost that majority a set
// begins anew as a root, and verifiers must be told.

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
	if err := n.moveCosigners(ctx, lead, e, ""); err != nil {
		lead.setFailed = time.Now()
		n.log.Warn("the cosigner set does not follow the coordinators", "version", e.set.Version, "error", err)
	}
}

// cosignersFollow tells whether the set in force is that of the voters.
func (n *Node) cosignersFollow(e epochNow) bool {
	keys := n.voterKeys("")
	if len(keys) != len(e.set.Cosigners) {
		return false
	}
	for _, key := range keys {
		if !slices.Contains(e.set.Cosigners, key) {
			return false
		}
	}
	return true
}

// cosignersWithout has a coordinator leave the set before it leaves the cluster: a majority of the set must be there to
// sign the next. The caller holds members.
func (n *Node) cosignersWithout(ctx context.Context, id string) error {
	e := n.epochNow()
	lead := n.lead.Load()
	if e.level < fsm.LevelCheckpoints || e.set.Version == 0 || lead == nil {
		return nil
	}
	cosigns := func(key crypto.PublicKey) bool { node, _ := n.nodeOf(key); return node == id }
	if !slices.ContainsFunc(e.set.Cosigners, cosigns) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	if err := n.moveCosigners(ctx, lead, e, id); err != nil {
		return &client.Error{Code: client.CodeConflict, Field: "id", Detail: fmt.Sprintf(
			"without it nobody could vouch for who cosigns the blacklist next: a majority of cosigner set %d must sign its successor first, and did not (%v); bring the others back and ask again", e.set.Version, err)}
	}
	return nil
}

// moveCosigners proposes the next set if it differs from the one in force: all voters but one that is leaving.
func (n *Node) moveCosigners(ctx context.Context, lead *leadership, e epochNow, leaving string) error {
	keys := n.voterKeys(leaving)
	next, err := n.nextSet(e, keys)
	if err != nil || len(keys) == 0 || e.set.Version > 0 && slices.Equal(next.Cosigners, e.set.Cosigners) {
		return err
	}
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

// voterKeys returns the keys that the voters but one sign with now. A node that is to be shown a new one has verified it for a while.
func (n *Node) voterKeys(leaving string) (keys []crypto.PublicKey) {
	ids := voters(n.servers())
	n.machine.Read(func(s *fsm.State) {
		for _, id := range ids {
			c, known := s.Coordinator(id)
			if key, signs := c.Ring().Signing(s.ClockMs()); known && signs && c.Role == fsm.RoleCoordinator && id != leaving {
				keys = append(keys, key.Public)
			}
		}
	})
	return keys
}

// nextSet is the set that follows the one in force: a root if there is none, or if a recovery has left no majority of it.
func (n *Node) nextSet(e epochNow, keys []crypto.PublicKey) (checkpoint.Set, error) {
	previous := crypto.Hash{}
	if e.set.Version > 0 && !n.lostMajority(e) {
		previous = e.cosigners().Hash()
	}
	return checkpoint.NewSet(e.cluster, e.set.Version+1, e.epoch, previous, keys)
}

// lostMajority tells whether a recovery or revocations took away so many cosigners that those left cannot vouch for the next set.
func (n *Node) lostMajority(e epochNow) (lost bool) {
	n.machine.Read(func(s *fsm.State) { lost = s.CosignersLost(e.set) })
	return lost
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

// serveCosignSet signs the next set for the leader, if it is the one that follows here and names the coordinators that
// vote: all of them but one, who may be about to leave. A leader that lies could else make itself the only cosigner.
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
		err = n.setFault(e, next)
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

func (n *Node) setFault(e epochNow, next checkpoint.Set) error {
	want, err := n.nextSet(e, next.Cosigners)
	switch {
	case err != nil:
		return err
	case e.level < fsm.LevelCheckpoints || want.Hash() != next.Hash():
		return fmt.Errorf("version %d of epoch %d does not follow version %d here, in epoch %d", next.Version, next.Epoch, e.set.Version, e.epoch)
	}
	ids, missing := voters(n.servers()), 0
	n.machine.Read(func(s *fsm.State) {
		in := map[string]bool{}
		for _, key := range next.Cosigners {
			c, _ := s.Cosigner(key)
			in[c.ID] = true
		}
		for _, id := range ids {
			if c, known := s.Coordinator(id); known && c.Role == fsm.RoleCoordinator && !in[id] {
				missing++
			}
		}
		err = s.CosignersFault(next.Cosigners)
	})
	if err == nil && missing > 1 {
		err = fmt.Errorf("%d coordinators that vote are not in it: one at a time may leave", missing)
	}
	return err
}
