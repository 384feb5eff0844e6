package node

import (
	"context"
	"fmt"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/edge"
)

// A recovery that lost the majority of the cosigners begins their line anew, and no edge follows by itself: an operator gives each a new join token. The edge
// joins by it once more, under its own keys, and trusts whom that join pins from then on. The list that is here is the base of the one of the new epoch.

// joinsAnew tells whether this edge, which has joined before, was given a token since by which it has not.
func (e *Edge) joinsAnew() bool {
	token, err := crypto.ParseTokenText(e.cfg.JoinToken)
	return err == nil && token.ClusterID == e.id.ClusterID && token.ID != e.id.JoinedBy
}

// joinAnewTime bounds how long a start waits for a join anew: there is a list to answer from.
const joinAnewTime = 15 * time.Second

func (e *Edge) joinTime(ctx context.Context) (context.Context, context.CancelFunc) {
	if e.id.ClusterID == "" {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, joinAnewTime)
}

// goOnWithout has an edge that joined before start as it was when a join anew fails; the next start tries again.
func (e *Edge) goOnWithout(ctx context.Context, failed error) error {
	if e.id.ClusterID == "" {
		return failed
	}
	e.log.Error("the new join token was not taken, going on with the cosigners that were trusted before: start again to try again", "error", failed)
	return e.renew(ctx)
}

// pin has a list go by the cosigners that are sealed with this edge's keys, or begins one with them: list and set are replaced in one step.
func (e *Edge) pin(was *edge.Position, view *edge.View) (*edge.Position, error) {
	pinned, err := checkpoint.ParseSet(e.id.Cosigners)
	if err != nil {
		return nil, fmt.Errorf("%s holds no list, and no cosigners to begin one with (%w): move it away and join with a new token", e.cfg.DataDir, err)
	}
	at := edge.NewPosition(pinned)
	if was != nil {
		if pinned.Hash() == was.Trusted.Hash() {
			return was, nil
		}
		e.log.Warn("joined anew: other cosigners are trusted", "version", pinned.Version, "epoch", pinned.Epoch, "cosigners", pinned.Names(), "version_before", was.Trusted.Version)
		at = *was
		at.Trusted = pinned
	}
	if err := e.store.Replace(at, view); err != nil {
		return nil, fmt.Errorf("trust cosigners of version %d: %w", pinned.Version, err)
	}
	return &at, nil
}

// noteJoined writes down by which token this edge joined, after the list that its cosigners are in: a crash between the two has it join again, which costs no use.
func (e *Edge) noteJoined() error {
	if !e.joinsAnew() {
		return nil
	}
	token, err := crypto.ParseTokenText(e.cfg.JoinToken)
	if err != nil {
		return err
	}
	e.id.JoinedBy = token.ID
	return e.id.save(e.cfg.DataDir, e.cfg.Passphrase)
}
