package edge

import (
	"context"
	"errors"
	"fmt"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

// errRoot says that events which all verify do not lead to the root of the checkpoint.
var errRoot = errors.New("the events do not lead to the checkpoint")

// draft is a list that is being made from another one. Nobody sees it before its root is that of a checkpoint.
type draft struct {
	frontier checkpoint.Frontier
	chain    string
	base     *View
	changes  []Change // since base
	folded   bool     // base is not the list that is on disk
	probing  bool     // the list of a new epoch may not go on from base: then nobody lied
	tail     [][]byte // of the last events, up to what recent keeps
	used     map[string]crypto.PublicKey
	sweepMs  int64 // Unix milliseconds: bans that expired long before are left out, see sweepAt
}

func (s *Syncer) draftOf(f checkpoint.Frontier, chain string, base *View) *draft {
	return &draft{frontier: f, chain: chain, base: base, folded: base != s.cfg.Set.View(), used: map[string]crypto.PublicKey{}}
}

// keys returns the keys that signed events, those of before included.
func (d *draft) keys(before []crypto.PublicKey) []crypto.PublicKey {
	out := append([]crypto.PublicKey(nil), before...)
	for _, key := range before {
		delete(d.used, key.CoordinatorID())
	}
	for _, key := range d.used {
		out = append(out, key)
	}
	return out
}

// fill pulls pages until the draft has the size of a checkpoint, and compares the roots. A source that fails is left; the next goes on where it
// stopped, since every event that was taken in is signed and linked.
func (s *Syncer) fill(ctx context.Context, d *draft, sources []Source, o checkpoint.Opened, st *Status) error {
	failed := errors.New("no source was asked")
	for len(sources) > 0 && d.frontier.Size() < o.Size {
		if failed = s.page(ctx, d, sources[0], o.Size, st); failed == nil {
			continue
		}
		if errors.Is(failed, errSource) && !d.probing {
			st.Refused++
			s.cfg.Alarm(AlarmChain, fmt.Sprintf("%s: %v", sources[0].Name(), failed))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		sources = sources[1:]
	}
	if d.frontier.Size() < o.Size {
		return failed
	}
	if root := d.frontier.Root(); root != o.Root {
		return fmt.Errorf("%w: at size %d of epoch %d the root is %s, a majority vouches for %s", errRoot, o.Size, o.Origin.Epoch, root, o.Root)
	}
	return nil
}

// page takes in one page of events.
func (s *Syncer) page(ctx context.Context, d *draft, source Source, size uint64, st *Status) error {
	have := d.frontier.Size()
	events, err := source.Events(ctx, have+1, int(min(pageEvents, size-have)))
	if err != nil {
		return err
	}
	if len(events) == 0 {
		return fmt.Errorf("it has no event %d", have+1)
	}
	for _, raw := range events[:min(uint64(len(events)), size-have)] {
		st.Bytes += uint64(len(raw))
		if err := s.event(ctx, d, source, raw); err != nil {
			return err
		}
	}
	if len(d.changes) >= foldEvents {
		head := Head{Size: d.frontier.Size(), Chain: d.chain}
		if d.base, err = d.base.with(d.changes, head, d.sweepMs); err != nil {
			s.cfg.Alarm(AlarmFull, err.Error())
			return err
		}
		d.changes, d.folded = d.changes[:0], true
	}
	return nil
}

// event takes in the next event: linked, hashed and signed by the coordinator that it names. The names of coordinators are hashes of their keys,
// so it does not matter who told the key; that the coordinator was enrolled is what a majority vouches for with the root.
func (s *Syncer) event(ctx context.Context, d *draft, source Source, raw []byte) error {
	seq := d.frontier.Size() + 1
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: event %d: %w", errSource, seq, fmt.Errorf(format, args...))
	}
	e, err := crypto.ParseBlacklistEvent(raw)
	if err != nil {
		return bad("%w", err)
	}
	if e.PrevEventHash != d.chain {
		return bad("%s: it links to %.80q, the head is %s", crypto.ChainBreak, e.PrevEventHash, d.chain)
	}
	key, err := s.signer(ctx, source, e.SourceCoordinatorID)
	if err != nil {
		return err
	}
	if key.IsZero() {
		return bad("%s: no key of coordinator %.80q", crypto.ChainMissingKey, e.SourceCoordinatorID)
	}
	if !e.VerifyCoordinator(key) {
		return bad("%s: of coordinator %s", crypto.ChainSignatureInvalid, e.SourceCoordinatorID)
	}
	record := e.WireJSON() // as history keeps it, however it was sent
	d.frontier.Append(checkpoint.LeafHash(record))
	d.chain = e.EventHash
	d.used[e.SourceCoordinatorID] = key
	d.changes = append(d.changes, ChangeOf(seq, &e))
	if d.tail = append(d.tail, record); len(d.tail) >= 2*maxRecent {
		d.tail = append([][]byte(nil), d.tail[len(d.tail)-maxRecent:]...)
	}
	return nil
}

// signer returns the key of a coordinator, zero if nobody knows it.
func (s *Syncer) signer(ctx context.Context, source Source, id string) (crypto.PublicKey, error) {
	if key, known := s.keys[id]; known {
		return key, nil
	}
	told, err := source.Keys(ctx)
	if err != nil {
		return crypto.PublicKey{}, err
	}
	s.learn(told)
	return s.keys[id], nil
}

// learn notes keys under the ids that follow from them.
func (s *Syncer) learn(keys []crypto.PublicKey) {
	for _, key := range keys {
		if len(s.keys) >= maxKeys {
			return
		}
		if id := key.CoordinatorID(); s.keys[id].IsZero() {
			s.keys[id] = key
		}
	}
}
