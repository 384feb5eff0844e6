package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
)

// injector carries out a schedule.
type injector struct {
	rec   *recorder
	arena Arena
	seed  uint64
	note  func(format string, args ...any)
}

// healTimeout bounds the healing of one fault; a server's start may take long.
const healTimeout = 2 * time.Minute

// run injects and heals each step at its time and returns when all are healed.
// When ctx ends, what is broken is healed at once.
func (in *injector) run(ctx context.Context, steps []Step) {
	var wg sync.WaitGroup
	for i, s := range steps {
		wg.Go(func() { in.step(ctx, i, s) })
	}
	wg.Wait()
}

// step has its own source of chance, so that steps draw the same whatever
// order the machine runs them in.
func (in *injector) step(ctx context.Context, i int, s Step) {
	if !waitUntil(ctx, in.rec.begin.Add(time.Duration(s.At))) {
		return
	}
	arena := in.arena
	arena.Rand = rand.New(rand.NewPCG(in.seed, uint64(i)<<32|0xfa17))
	f, err := NewFault(s.Fault)
	if err != nil {
		panic(err) // Validate let it pass
	}
	at := in.rec.event(judge.Event{What: s.Fault.Name, Fault: true, Params: s.Fault.Params})
	in.note("%6.1fs %s %s", time.Since(in.rec.begin).Seconds(), s.Fault.Name, s.Fault.Params)
	nodes, err := f.Inject(ctx, &arena)
	in.rec.change(at, func(e *judge.Event) { e.Nodes, e.Error = nodes, text(err) })
	if err != nil {
		in.note("        %s: %v", s.Fault.Name, err)
	}
	if errors.Is(err, ErrSkipped) {
		return
	}
	if s.For > 0 {
		waitUntil(ctx, in.rec.begin.Add(time.Duration(s.At+s.For)))
	}
	in.heal(ctx, at, f, s.Fault.Name, &arena)
}

func (in *injector) heal(ctx context.Context, at int, f Fault, name string, arena *Arena) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healTimeout)
	defer cancel()
	err := f.Heal(ctx, arena)
	in.rec.change(at, func(e *judge.Event) {
		e.EndNS = in.rec.now()
		if err != nil {
			e.Note = "healing: " + err.Error()
		}
	})
	in.note("%6.1fs %s healed", time.Since(in.rec.begin).Seconds(), name)
	if err != nil {
		in.note("        healing %s: %v", name, err)
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
