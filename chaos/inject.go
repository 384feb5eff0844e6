package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
)

// injector carries out a schedule.
type injector struct {
	rec    *recorder
	arena  Arena
	seed   uint64
	note   func(format string, args ...any)
	healed func() // called after each healing
	holds  *holds
}

// healTimeout bounds the healing of one fault: a node that was wiped has to be
// let in, to catch up and to be promoted.
const healTimeout = 3 * time.Minute

// errTooLate says that a fault bit only when it should have been over.
var errTooLate = errors.New("too late: it bit only when it was to be over")

// run injects and heals each step at its time and returns when all are healed.
// When playing ends, what is broken is healed at once; when ctx ends, which is
// an interruption, nothing is healed any more.
func (in *injector) run(ctx, playing context.Context, steps []Step) {
	var wg sync.WaitGroup
	for i, s := range steps {
		wg.Go(func() { in.step(ctx, playing, i, s) })
	}
	wg.Wait()
}

// step has its own source of chance, so that steps draw the same whatever
// order the machine runs them in.
func (in *injector) step(ctx, playing context.Context, i int, s Step) {
	if !waitUntil(playing, in.rec.begin.Add(time.Duration(s.At))) {
		return
	}
	f, err := NewFault(s.Fault)
	if err != nil {
		panic(err) // Validate let it pass
	}
	arena := in.arena
	arena.Rand = rand.New(rand.NewPCG(in.seed, uint64(i)<<32|0xfa17))
	arena.grip, arena.proof = &grip{all: in.holds}, &proof{now: in.rec.now}
	defer arena.grip.release()
	at := in.rec.event(judge.Event{What: s.Fault.Name, Fault: true, Params: s.Fault.Params})
	in.note("%6.1fs %s %s", time.Since(in.rec.begin).Seconds(), s.Fault.Name, s.Fault.Params)
	if !in.inject(playing, at, f, s, &arena) {
		return
	}
	if s.For > 0 {
		waitUntil(playing, in.rec.begin.Add(time.Duration(s.At+s.For)))
	}
	in.heal(ctx, at, f, s.Fault.Name, &arena)
}

// inject tells whether anything was tried, which then needs healing.
func (in *injector) inject(ctx context.Context, at int, f Fault, s Step, arena *Arena) (tried bool) {
	nodes, err := f.Inject(ctx, arena)
	if err == nil {
		arena.proof.bite()
	}
	bit, _, _ := arena.proof.told()
	if err == nil && s.For > 0 && bit > int64(s.At+s.For) {
		err = errTooLate
	}
	in.rec.change(at, func(e *judge.Event) {
		e.Nodes, e.InjectedNS, e.Error, e.Busy = nodes, bit, text(err), errors.Is(err, ErrBusy)
	})
	if err != nil {
		in.note("        %s: %v", s.Fault.Name, err)
	}
	return !errors.Is(err, ErrSkipped) && !errors.Is(err, ErrBusy)
}

func (in *injector) heal(ctx context.Context, at int, f Fault, name string, arena *Arena) {
	if ctx.Err() != nil {
		in.rec.change(at, func(e *judge.Event) { e.Note = "not healed: the run was interrupted" })
		return
	}
	ctx, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	err := f.Heal(ctx, arena)
	_, notes, missed := arena.proof.told()
	if err != nil {
		notes = append(notes, "healing: "+err.Error())
	}
	in.rec.change(at, func(e *judge.Event) {
		e.EndNS, e.Note = in.rec.now(), strings.Join(notes, "; ")
		if miss := errors.Join(missed...); miss != nil && e.Error == "" {
			e.Error = miss.Error()
		}
	})
	in.note("%6.1fs %s healed; %s", time.Since(in.rec.begin).Seconds(), name, strings.Join(notes, "; "))
	if in.healed != nil {
		in.healed()
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// waitUntil waits for a moment; false when ctx ended first.
func waitUntil(ctx context.Context, when time.Time) bool {
	t := time.NewTimer(time.Until(when))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
