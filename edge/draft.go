package edge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

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
	changes  []Change                    // since base
	folded   bool                        // base is not the list that is on disk
	probing  bool                        // the list of a new epoch may not go on from base: then nobody lied
	tail     [][]byte                    // of the last events, up to what recent keeps
	used     map[string]crypto.PublicKey // that signed events since base, by coordinator id; at most maxKeys
	sweepMs  int64                       // Unix milliseconds: bans that expired long before are left out, see sweepAt
}

func (s *Syncer) draftOf(f checkpoint.Frontier, chain string, base *View) *draft {
	return &draft{frontier: f, chain: chain, base: base, folded: base != s.cfg.Set.View(), used: map[string]crypto.PublicKey{}}
}

// keys returns the keys that signed events, those of before included: the last maxKeys of them.
func (d *draft) keys(before []crypto.PublicKey) []crypto.PublicKey {
	out := append([]crypto.PublicKey(nil), before...)
	for _, key := range d.used {
		if !slices.Contains(before, key) {
			out = append(out, key)
		}
	}
	return out[max(len(out)-maxKeys, 0):]
}

// fill pulls pages until the draft has the size of a checkpoint, and compares the roots. A source that fails is left; the next goes on where it
// stopped, since every event that was taken in is signed and linked.
func (s *Syncer) fill(ctx context.Context, d *draft, sources []Source, o checkpoint.Opened, st *Status) error {
	ctx, cancel := forPull(ctx, o.Size-d.frontier.Size())
	defer cancel()
	failed := errors.New("no source was asked")
	for len(sources) > 0 && d.frontier.Size() < o.Size {
		began := time.Now()
		full, err := s.page(ctx, d, sources[0], o.Size, st)
		if err != nil {
			failed = err
		}
		if errors.Is(err, errSource) && !d.probing {
			st.Refused++
			s.cfg.Alarm(AlarmChain, fmt.Sprintf("%s: %v", sources[0].Name(), err))
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the pull took too long: %w", ctx.Err())
		}
		sources = turn(sources, full, time.Since(began), err)
	}
	if d.frontier.Size() < o.Size {
		return failed
	}
	if root := d.frontier.Root(); root != o.Root {
		return fmt.Errorf("%w: at size %d of epoch %d the root is %s, a majority vouches for %s", errRoot, o.Size, o.Origin.Epoch, root, o.Root)
	}
	return nil
}

// page takes in one page of events. It tells whether it was a full one: as many as were asked for, or as much as fits.
func (s *Syncer) page(ctx context.Context, d *draft, source Source, size uint64, st *Status) (full bool, err error) {
	ctx, cancel := forPage(ctx, source)
	defer cancel()
	have, before := d.frontier.Size(), st.Bytes
	asked := min(pageEvents, size-have)
	events, err := source.Events(ctx, have+1, int(asked))
	if err != nil {
		return false, err
	}
	if len(events) == 0 {
		return false, fmt.Errorf("it has no event %d", have+1)
	}
	told := sync.OnceValues(func() ([]crypto.PublicKey, error) { return source.Keys(ctx) })
	for _, raw := range events[:min(uint64(len(events)), asked)] {
		st.Bytes += uint64(len(raw))
		if err := s.event(d, raw, told); err != nil {
			return false, err
		}
	}
	if len(d.changes) >= foldEvents {
		head := Head{Size: d.frontier.Size(), Chain: d.chain}
		if d.base, err = d.base.with(d.changes, head, d.sweepMs); err != nil {
			s.cfg.Alarm(AlarmFull, err.Error())
			return false, err
		}
		d.changes, d.folded = d.changes[:0], true
	}
	return uint64(len(events)) >= asked || st.Bytes-before >= maxPageBytes/2, nil
}

// event takes in the next event: linked, hashed and signed by the coordinator that it names. The names of coordinators are hashes of their keys,
// so it does not matter who told the key; that the coordinator was enrolled is what a majority vouches for with the root.
func (s *Syncer) event(d *draft, raw []byte, told func() ([]crypto.PublicKey, error)) error {
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
	key, err := s.signer(d, e.SourceCoordinatorID, told)
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

// signer returns the key of a coordinator, zero if nobody knows it. Of what a source tells only the key that was asked for counts, and it stays with the
// draft until a majority vouched for the events: keys cost nothing to make, and must not fill anything.
func (s *Syncer) signer(d *draft, id string, told func() ([]crypto.PublicKey, error)) (crypto.PublicKey, error) {
	if key, known := s.keys[id]; known {
		return key, nil
	}
	if key, known := d.used[id]; known {
		return key, nil
	}
	if len(d.used) >= maxKeys {
		return crypto.PublicKey{}, fmt.Errorf("%w: events of more than %d coordinators", errSource, maxKeys)
	}
	keys, err := told()
	if err != nil {
		return crypto.PublicKey{}, err
	}
	for _, key := range keys {
		if key.CoordinatorID() == id {
			return key, nil
		}
	}
	return crypto.PublicKey{}, nil
}

// learn notes keys that a majority vouched for under the ids that follow from them.
func (s *Syncer) learn(keys []crypto.PublicKey) {
	for _, key := range keys {
		s.keys[key.CoordinatorID()] = key
	}
}
