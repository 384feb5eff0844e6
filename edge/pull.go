package edge

import (
	"context"
	"errors"
	"fmt"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

// errSource marks an answer that did not verify, rather than one that did not come.
var errSource = errors.New("the answer does not verify")

// catchUp verifies the checkpoint that a hint brought, or asks sources in turn until one brings the edge up to date.
func (s *Syncer) catchUp(ctx context.Context, hint *Hint, st *Status) error {
	sources := s.cfg.Sources(st.Wanted)
	sources = sources[:min(len(sources), maxTries)]
	var hinted []byte
	if hint != nil {
		hinted = hint.Note
	}
	if err := s.followWhenDue(ctx, sources, hinted, st); err != nil {
		return err
	}
	if len(hinted) > 0 {
		if o, err := s.position.Trusted.OpenFinal(hinted); err == nil && s.take(ctx, sources, hinted, o, st) == nil {
			return nil
		}
	}
	s.poll()
	failed := errors.New("no member is known that could be asked")
	for i, source := range sources {
		vouched := s.cfg.Lease.VouchedMs()
		err := s.ask(ctx, sources[i:], st)
		if err == nil {
			st.Source = source.Name()
			if !s.isOld(source, vouched) {
				return nil // should others have more, the next look asks them
			}
			failed = fmt.Errorf("%s: its list is as old as this one", source.Name())
			continue
		}
		if errors.Is(err, errSource) {
			st.Refused++
		}
		failed = fmt.Errorf("%s: %w", source.Name(), err)
		if ctx.Err() != nil || st.Halted != "" {
			return failed
		}
	}
	return failed
}

// isOld tells whether a source, another edge, had nothing newer, while this edge's own word of the majority runs out. Edges that all missed the same would ask
// each other for ever, while the coordinators could be asked.
func (s *Syncer) isOld(source Source, vouchedMs int64) bool {
	return !source.Coordinator() && s.cfg.Lease.VouchedMs() == vouchedMs && s.cfg.Lease.Left() < s.cfg.Lease.length/2
}

// isCurrent tells whether a checkpoint is of the list that is here.
func (s *Syncer) isCurrent(o checkpoint.Opened) bool {
	at := s.position.Head
	return o.Origin.Log == checkpoint.LogBlacklist && o.Origin.Epoch == at.Epoch && o.Size == at.Size && o.Root == at.Root
}

// ask takes the checkpoint of the first source, and what it is about from all of them in turn.
func (s *Syncer) ask(ctx context.Context, sources []Source, st *Status) error {
	note, o, err := s.head(ctx, sources[0])
	if err != nil {
		return err
	}
	return s.take(ctx, sources, note, o, st)
}

// head returns the checkpoint of a source, verified.
func (s *Syncer) head(ctx context.Context, source Source) (note []byte, o checkpoint.Opened, err error) {
	ctx, cancel := context.WithTimeout(ctx, headTime)
	defer cancel()
	if note, err = source.Checkpoint(ctx); err != nil {
		return nil, o, err
	}
	o, err = s.open(ctx, source, note)
	return note, o, err
}

// open verifies a checkpoint by the cosigners that are trusted, or by those that they handed over to.
func (s *Syncer) open(ctx context.Context, source Source, note []byte) (checkpoint.Opened, error) {
	o, err := s.position.Trusted.OpenFinal(note)
	if err != nil {
		if followErr := s.follow(ctx, source); followErr != nil {
			return o, errors.Join(err, followErr)
		}
		o, err = s.position.Trusted.OpenFinal(note)
	}
	if n, parseErr := checkpoint.ParseNote(note); err != nil && parseErr == nil && n.Checkpoint.Origin.Epoch > s.position.Head.Epoch {
		// No set leads there from the one that is trusted: recovered from a copy, the cluster may have an older one, and goes on from that.
		s.cfg.Alarm(AlarmNewRoot, fmt.Sprintf("%s: a checkpoint of epoch %d, and the cosigners of version %d do not lead to who vouches for it: join again with a new token to trust them: %v",
			source.Name(), n.Checkpoint.Origin.Epoch, s.position.Trusted.Version, err))
	}
	if err != nil {
		s.cfg.Alarm(AlarmCheckpoint, fmt.Sprintf("%s: %v", source.Name(), err))
		return o, fmt.Errorf("%w: %w", errSource, err)
	}
	if o.Origin.Log != checkpoint.LogBlacklist {
		return o, fmt.Errorf("%w: a checkpoint of the log %s", errSource, o.Origin.Log)
	}
	return o, nil
}

// follow takes up newer versions of the cosigner set, each vouched for by a majority of the one before.
func (s *Syncer) follow(ctx context.Context, source Source) error {
	ctx, cancel := context.WithTimeout(ctx, headTime)
	defer cancel()
	at := s.position.Trusted
	for range maxSets {
		notes, err := source.Cosigners(ctx, at.Version+1)
		if err != nil {
			return err
		}
		if len(notes) == 0 {
			break
		}
		before := at.Version
		for _, note := range notes[:min(len(notes), maxSets)] {
			next, err := checkpoint.ParseSet(note)
			if err == nil && next.Version <= at.Version {
				continue
			}
			if err == nil {
				err = at.Verify(next)
			}
			if errors.Is(err, checkpoint.ErrNewRoot) || err != nil && next.Version == at.Version+1 && next.Previous != at.Hash() {
				s.cfg.Alarm(AlarmNewRoot, fmt.Sprintf("%s: %v: join again with a new token to trust it", source.Name(), err))
			}
			if err != nil {
				return errors.Join(s.adopt(at), fmt.Errorf("%w: %w", errSource, err))
			}
			s.recent.addSet(next)
			at = next
		}
		if at.Version == before {
			break
		}
	}
	return s.adopt(at)
}

// adopt keeps a newer version of the cosigner set.
func (s *Syncer) adopt(set checkpoint.SignedSet) error {
	if set.Version == s.position.Trusted.Version {
		return nil
	}
	next := s.position
	next.Trusted = set
	if err := s.cfg.Store.Step(next.Head.Size, next, nil, s.cfg.Set.View()); err != nil {
		return err
	}
	s.cfg.Log.Info("the cosigners changed", "version", set.Version, "epoch", set.Epoch, "cosigners", set.Names())
	s.position = next
	s.learn(set.Cosigners)
	return nil
}

// take acts on a final checkpoint: it renews the lease of the list that is here, or brings the list up to it.
func (s *Syncer) take(ctx context.Context, sources []Source, note []byte, o checkpoint.Opened, st *Status) error {
	at := s.position.Head
	switch {
	case o.Origin.Epoch < at.Epoch:
		return fmt.Errorf("%w: a checkpoint of epoch %d, this list is of %d", errSource, o.Origin.Epoch, at.Epoch)
	case o.Origin.Epoch == at.Epoch && o.Size < at.Size:
		return s.smaller(o)
	case o.Origin.Epoch == at.Epoch && o.Size == at.Size && o.Root != at.Root:
		return s.fork(note, o, st)
	case s.isCurrent(o):
		s.renew(note, o)
		return nil
	}
	return s.pull(ctx, sources, note, o, st)
}

// smaller refuses a tree that is smaller than the one that is here: a source that is behind, or, if the word of the majority is newer than the
// one on the list, a majority that takes something back.
func (s *Syncer) smaller(o checkpoint.Opened) error {
	err := fmt.Errorf("%w: a checkpoint of size %d, this list has %d", errSource, o.Size, s.position.Head.Size)
	if have, openErr := s.position.Trusted.OpenFinal(s.position.Note); openErr == nil && o.MajorityAtS() > have.MajorityAtS() {
		s.cfg.Alarm(AlarmRollback, fmt.Sprintf("%v, and a majority vouched for it later", err))
	}
	return err
}

// renew counts the lease from a checkpoint on.
func (s *Syncer) renew(note []byte, o checkpoint.Opened) {
	if _, newer := s.cfg.Lease.Renew(o.MajorityAtS() * 1000); !newer {
		return
	}
	s.position.Note = note
	if !s.cfg.Lease.Keep() {
		return // a step writes it down with the next event
	}
	if err := s.cfg.Store.Step(s.position.Head.Size, s.position, nil, s.cfg.Set.View()); err != nil {
		s.cfg.Log.Warn("the newest word of the majority is not kept, and the wall clock is behind it: a start could take it for news again", "error", err)
	}
}

// pull fetches what is missing up to a checkpoint, verifies it, keeps it, and only then lets others see it.
func (s *Syncer) pull(ctx context.Context, sources []Source, note []byte, o checkpoint.Opened, st *Status) error {
	at := s.position.Head
	var d *draft
	var err error
	if o.Size >= at.Size && !s.turnedBack(o) {
		d = s.draftOf(s.position.Frontier, at.Chain, s.cfg.Set.View())
		d.probing, d.sweepMs = o.Origin.Epoch > at.Epoch, s.sweepAt(o)
		err = s.fill(ctx, d, sources, o, st)
	}
	if o.Origin.Epoch > at.Epoch && (d == nil || errors.Is(err, errRoot) || errors.Is(err, errSource)) {
		// A recovery may have taken back records, or a time by which bans were swept: then this is another list.
		d = s.draftOf(checkpoint.Frontier{}, crypto.BlacklistGenesis, emptyView())
		d.sweepMs = s.sweepAt(o)
		err = s.fill(ctx, d, sources, o, st)
	}
	if errors.Is(err, errRoot) {
		s.cfg.Alarm(AlarmRoot, err.Error())
	}
	if err != nil {
		return err
	}
	return s.settle(d, note, o)
}

// turnedBack tells whether a recovery set clocks right that ran ahead.
func (s *Syncer) turnedBack(o checkpoint.Opened) bool {
	return o.Origin.Epoch > s.position.Head.Epoch && o.MajorityAtS()*1000 < max(s.cfg.Lease.VouchedMs(), s.cfg.Lease.kept)
}

// sweepAt returns the time, Unix milliseconds, by which bans on the way to a checkpoint may be dropped as long expired: what is dropped does not come back, so no
// clock of one machine decides, only that of the majority that vouched, and not before this edge's own idea of the time agrees.
func (s *Syncer) sweepAt(o checkpoint.Opened) int64 {
	return min(o.MajorityAtS()*1000, s.cfg.Lease.NowMs())
}

// settle makes a draft the list.
func (s *Syncer) settle(d *draft, note []byte, o checkpoint.Opened) error {
	before := s.position
	next := Position{Frontier: d.frontier, Note: note, Trusted: before.Trusted, Keys: d.keys(before.Keys),
		Head: Head{Epoch: o.Origin.Epoch, Size: o.Size, Root: o.Root, Chain: d.chain}}
	view, err := d.base.with(d.changes, next.Head, d.sweepMs)
	if err != nil {
		s.cfg.Alarm(AlarmFull, err.Error())
		return err
	}
	if d.folded {
		err = s.cfg.Store.Replace(next, view)
	} else {
		err = s.cfg.Store.Step(before.Head.Size, next, d.changes, view)
	}
	if err != nil {
		return err
	}
	if next.Head.Epoch != before.Head.Epoch && len(before.Note) > 0 {
		s.cfg.Alarm(AlarmEpoch, fmt.Sprintf("epoch %d with %d events, vouched for by a majority of the cosigners of version %d, follows epoch %d with %d events",
			next.Head.Epoch, next.Head.Size, next.Trusted.Version, before.Head.Epoch, before.Head.Size))
	}
	s.position = next
	s.learn(next.Keys)
	s.cfg.Set.replace(view)
	if next.Head.Epoch > before.Head.Epoch {
		s.cfg.Lease.Begin(o.MajorityAtS() * 1000)
	} else {
		s.cfg.Lease.Renew(o.MajorityAtS() * 1000)
	}
	s.recent.add(next.Head, d.tail)
	s.cfg.Moved(next)
	return nil
}
