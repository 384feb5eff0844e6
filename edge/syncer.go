package edge

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
)

// Config is what a syncer works with. It is not changed after NewSyncer.
type Config struct {
	ClusterID string
	Sources   func(want uint64) []Source // whom to ask for a chain of at least so many events, in the order in which to try
	Store     *Store
	Set       *Set
	Lease     *Lease

	Every  time.Duration                     // between two looks without a hint; 0: DefaultEvery
	Spread time.Duration                     // within which a look starts after a hint; 0: DefaultSpread
	Rand   func(time.Duration) time.Duration // below its argument, at random; nil: math/rand
	Log    *slog.Logger

	Halted string // why an earlier run stopped for good, see Store.Evidence; empty: none did

	// Moved is told of each position that the set reached, before anybody can see it there is a newer one; nil: nobody is.
	Moved func(Position)
	// Alarm is told what an operator must see, by a stable code; nil: nobody is.
	Alarm func(code, detail string)
}

// Codes of alarms.
const (
	AlarmForked     = "forked"         // two final checkpoints of one size differ: the edge stopped
	AlarmRollback   = "rollback"       // a majority vouched lately for less than it vouched for before
	AlarmNewRoot    = "cosigners_root" // the cosigner set begins anew: pin it by joining again
	AlarmRoot       = "root_mismatch"  // signed events that do not lead to the checkpoint
	AlarmEpoch      = "epoch"          // a new recovery epoch was taken up
	AlarmChain      = "chain_broken"   // a source served events that do not verify
	AlarmCheckpoint = "checkpoint_bad" // a source served a checkpoint that does not verify
	AlarmFull       = "list_full"      // more bans than an edge holds
)

// Syncer keeps the set up to date. Run owns all fields but the atomic ones.
type Syncer struct {
	cfg      Config
	position Position
	keys     map[string]crypto.PublicKey // by coordinator id: that signed events of the position, or were in a trusted set
	recent   *recent
	retry    time.Duration // before the next look while less is here than was hinted; 0: none is waiting
	pollAt   time.Time     // when members are asked the next time, whatever news there are until then
	followAt time.Duration // by the lease's clock: newer cosigners are asked for before anything counts

	heads  inbox // hints without a checkpoint, which anybody may make up
	notes  inbox // hints with one, which the caller verified
	status atomic.Pointer[Status]
}

// Status is what a syncer tells of itself. It never changes.
type Status struct {
	Position Position
	Wanted   uint64 // size that somebody told of, in this epoch; no smaller than that of the position
	Halted   string // why the edge stopped for good; empty: it did not
	Looks    uint64 // so far
	Failed   uint64 // of them, no source could bring the edge up to date
	Refused  uint64 // answers of sources that did not verify
	Bytes    uint64 // of events that were pulled
	Error    string // of the last look, empty when it went well
	Source   string // that answered last
}

// NewSyncer returns a syncer that goes on from a position.
func NewSyncer(cfg Config, at Position) *Syncer {
	if cfg.Every <= 0 {
		cfg.Every = DefaultEvery
	}
	if cfg.Spread <= 0 {
		cfg.Spread = DefaultSpread
	}
	if cfg.Rand == nil {
		cfg.Rand = func(d time.Duration) time.Duration { return rand.N(max(d, 1)) }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Moved == nil {
		cfg.Moved = func(Position) {}
	}
	if cfg.Alarm == nil {
		cfg.Alarm = func(string, string) {}
	}
	s := &Syncer{cfg: cfg, position: at, keys: map[string]crypto.PublicKey{}, recent: newRecent(at.Head), heads: newInbox(), notes: newInbox()}
	s.learn(at.Keys)
	s.learn(at.Trusted.Cosigners)
	if o, err := at.Trusted.OpenFinal(at.Note); err == nil { // else of cosigners before: the first word of these ones counts as at a first start
		cfg.Lease.Restore(o.MajorityAtS() * 1000)
	}
	s.status.Store(&Status{Position: at, Wanted: at.Head.Size, Halted: cfg.Halted})
	return s
}

// Status returns how the syncer stands.
func (s *Syncer) Status() Status { return *s.status.Load() }

// Halted returns why the edge stopped for good, or "".
func (s *Syncer) Halted() string { return s.status.Load().Halted }

// Recent returns events that were pulled lately, for other members.
func (s *Syncer) Recent(from uint64, limit int) [][]byte {
	_, events := s.recent.page(from, limit)
	return events
}

// Cosigners returns versions of the cosigner set that this run took up, from one on, for other members.
func (s *Syncer) Cosigners(from uint64) [][]byte { return s.recent.setsFrom(from) }

// Hint makes the edge look soon if the hint tells of something new. It never blocks and may be called by anybody. A note should be one that opens under the
// cosigners of Status: what is known to be true is looked at more often than what is not.
func (s *Syncer) Hint(h Hint) {
	at := s.status.Load().Position.Head
	switch {
	case len(h.Note) > 0:
		s.notes.put(h)
	case h.isBeyond(at.Epoch, at.Size):
		s.heads.put(h)
	}
}

// Run looks until ctx ends, or until the edge must stop for good. The first look is at once.
func (s *Syncer) Run(ctx context.Context) {
	for ctx.Err() == nil && s.status.Load().Halted == "" {
		s.look(ctx)
		if !s.wait(ctx) {
			return
		}
	}
}

// wait returns when it is time to look again; false: never.
func (s *Syncer) wait(ctx context.Context) bool {
	pause, heads := time.Until(s.pollAt), s.heads.bell
	if s.retry > 0 {
		pause = min(pause, s.retry/2+s.cfg.Rand(s.retry))
		heads = nil // something is being looked for already: more heads, true or not, make it no more often
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	case <-heads:
	case <-s.notes.bell:
		if h := s.notes.newest.Load(); h != nil && !h.isBeyond(s.position.Head.Epoch, s.position.Head.Size) {
			return true // nobody will be asked
		}
	}
	spread := time.NewTimer(s.cfg.Rand(s.cfg.Spread))
	defer spread.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-spread.C: // what else was hinted meanwhile is part of the same look
		return true
	}
}

// look brings the edge up to date, if any source can.
func (s *Syncer) look(ctx context.Context) {
	st := s.Status()
	st.Looks++
	hint := newerOf(s.notes.newest.Swap(nil), s.heads.newest.Swap(nil))
	if hint != nil && hint.Epoch >= s.position.Head.Epoch {
		st.Wanted = hint.Size
	}
	before, size := st.Error, s.position.Head.Size
	err := s.catchUp(ctx, hint, &st)
	st.Position, st.Error = s.position, ""
	if err != nil {
		s.poll() // however far it came: retry says when to look again
		st.Failed++
		st.Error = err.Error()
	}
	s.report(before, st.Error)
	if s.retry >= s.cfg.Every && err == nil {
		st.Wanted = 0 // of what nobody could show in all that time
	}
	st.Wanted = max(st.Wanted, s.position.Head.Size)
	s.retry = s.nextRetry(st.Wanted > s.position.Head.Size || err != nil, s.position.Head.Size > size)
	s.status.Store(&st)
}

// report writes down that looks began to fail, and that they do so no more; what happens in between is in the metrics.
func (s *Syncer) report(before, now string) {
	switch {
	case before == "" && now != "":
		s.cfg.Log.Warn("the list cannot be brought up to date, trying on", "size", s.position.Head.Size, "error", now)
	case before != "" && now == "":
		s.cfg.Log.Info("the list is brought up to date again", "size", s.position.Head.Size)
	}
}

// poll notes that members are asked now.
func (s *Syncer) poll() {
	s.pollAt = time.Now().Add(s.cfg.Every - s.cfg.Every/8 + s.cfg.Rand(s.cfg.Every/4))
}

// nextRetry doubles the pause while something is missing and none of it comes. It ends at Every, so a hint of what does not exist costs little.
func (s *Syncer) nextRetry(missing, moved bool) time.Duration {
	switch {
	case !missing:
		return 0
	case s.retry == 0 || moved:
		return max(s.retry/2, firstRetry)
	}
	return min(2*s.retry, s.cfg.Every)
}
