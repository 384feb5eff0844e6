package edge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

const (
	// followEvery is after what time nothing that the known cosigners vouch for counts before members were asked for newer ones: together with the
	// time between two looks it stays below a minute, for which who was removed may still count.
	followEvery = 45 * time.Second
	// followSoon is between two such questions where a checkpoint has cosignatures that the known set does not explain. Anybody can add lines to a note, so it must
	// not be at once each time.
	followSoon = 5 * time.Second
	// followAsked is how many members must have answered: one may hide what is newer.
	followAsked = 2
)

// followWhenDue asks for newer cosigners by the time that passed, however the edge was kept busy meanwhile, and sooner where a note gives reason to. If nobody
// answers, nothing is known of who counts by now, and the look fails.
func (s *Syncer) followWhenDue(ctx context.Context, sources []Source, note []byte, st *Status) error {
	left := s.followAt - s.cfg.Lease.clock.Mono()
	if left > 0 && (left > followEvery-followSoon || !s.hasStrangers(note)) {
		return nil
	}
	answers, failed := 0, errors.New("no member is known that could be asked for newer cosigners")
	for _, source := range sources {
		if answers == followAsked {
			break
		}
		err := s.followOne(ctx, source)
		if err == nil {
			answers++
			continue
		}
		if errors.Is(err, errSource) {
			st.Refused++
		}
		failed = fmt.Errorf("%s: newer cosigners: %w", source.Name(), err)
	}
	if answers == 0 {
		return failed
	}
	s.followAt = s.cfg.Lease.clock.Mono() + followEvery
	return nil
}

// followOne asks one member, for as long as one may take.
func (s *Syncer) followOne(ctx context.Context, source Source) error {
	ctx, cancel := context.WithTimeout(ctx, headTime)
	defer cancel()
	return s.follow(ctx, source)
}

// hasStrangers tells whether a note has lines of signers that are not in the set that is trusted: of a newer one, it may be.
func (s *Syncer) hasStrangers(note []byte) bool {
	n, err := checkpoint.ParseNote(note)
	if err != nil {
		return false // as it has none, or as opening it will tell
	}
	names := append(s.position.Trusted.Names(), n.Checkpoint.Origin.String())
	return slices.ContainsFunc(n.Signatures, func(line checkpoint.Signature) bool { return !slices.Contains(names, line.Name) })
}
