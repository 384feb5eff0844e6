package chaos

import (
	"context"
	"sync"
	"time"
)

// ClockDrift makes the wall clock of nodes run fast, or with a percentage below
// zero slow.
type ClockDrift struct {
	Target  string  `json:"target"`
	Percent float64 `json:"percent"`

	hit   []string
	start time.Time
	stop  context.CancelFunc
	over  sync.WaitGroup
	err   error // of the loop; read after over
}

// driftEvery is how often the offsets follow: servers read theirs as often.
const driftEvery = 100 * time.Millisecond

// Inject implements Fault.
func (f *ClockDrift) Inject(ctx context.Context, a *Arena) (nodes []string, err error) {
	if a.Clock == nil {
		return nil, a.missing(NeedClock)
	}
	if f.hit, err = a.pick(ctx, theClock, f.Target); err != nil {
		return nil, err
	}
	ctx, f.stop = context.WithCancel(context.WithoutCancel(ctx)) // Heal ends it
	f.start = time.Now()
	f.over.Go(func() {
		for f.err == nil && waitUntil(ctx, time.Now().Add(driftEvery)) {
			f.err = f.set(a, f.gained(time.Since(f.start)))
		}
	})
	a.proof.bite()
	return f.hit, nil
}

// gained is how far a clock is off after so long.
func (f *ClockDrift) gained(after time.Duration) time.Duration {
	return time.Duration(float64(after) * f.Percent / 100)
}

func (f *ClockDrift) set(a *Arena, offset time.Duration) error {
	return each(f.hit, func(n string) error { return a.Clock.SetOffset(n, offset) })
}

// Heal implements Fault.
func (f *ClockDrift) Heal(ctx context.Context, a *Arena) error {
	if f.stop != nil {
		proveSkew(ctx, a, f.hit, f.gained(time.Since(f.start)))
		f.stop()
		f.over.Wait()
	}
	if err := f.set(a, 0); err != nil {
		return err
	}
	return f.err
}
