package edge

import (
	"context"
	"fmt"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// ClientSource asks a member over HTTP: a coordinator's API with a token, or another edge's [Pages], which have the same paths, with a certificate.
type ClientSource struct {
	ID   string
	Edge bool // another edge, not a coordinator
	*client.Client
}

// Name implements Source.
func (s ClientSource) Name() string { return s.ID }

// Coordinator implements Source.
func (s ClientSource) Coordinator() bool { return !s.Edge }

// Checkpoint implements Source.
func (s ClientSource) Checkpoint(ctx context.Context) ([]byte, error) {
	return s.Client.Checkpoint(ctx)
}

// Cosigners implements Source.
func (s ClientSource) Cosigners(ctx context.Context, from uint64) (notes [][]byte, err error) {
	page, err := s.Client.CosignerSets(ctx, from, maxSets)
	for _, set := range page.Sets {
		notes = append(notes, []byte(set.Note))
	}
	return notes, err
}

// Events implements Source.
func (s ClientSource) Events(ctx context.Context, from uint64, limit int) (events [][]byte, err error) {
	page, err := s.Client.ChainEvents(ctx, from, limit)
	for i, e := range page.Events {
		if e.Seq != from+uint64(i) {
			return nil, fmt.Errorf("%w: event %d where %d belongs", errSource, e.Seq, from+uint64(i))
		}
		events = append(events, e.Event)
	}
	return events, err
}

// Keys implements Source.
func (s ClientSource) Keys(ctx context.Context) (keys []crypto.PublicKey, err error) {
	out, err := s.Client.MeshPeers(ctx)
	for _, p := range out.Peers {
		key, err := crypto.ParsePublicKeyPEM(p.PublicKeyPEM)
		if err != nil {
			return nil, fmt.Errorf("%w: the key of %.80q: %w", errSource, p.PeerID, err)
		}
		keys = append(keys, key)
	}
	return keys, err
}
