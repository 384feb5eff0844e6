package chaos

import "context"

// remindAll bounds how many requests of each sort are asked again after a healing.
const remindAll = 40

// remind asks again after each healing for what was asked before: that is when
// a server that came back could have forgotten.
func (t *traffic) remind(ctx context.Context) error {
	w, err := t.worker(t.mix.Clients + 1)
	if err != nil {
		return err
	}
	defer w.close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.healed:
			w.askAgain(ctx, remindAll)
		}
	}
}

// askAgain takes unknown requests through what their caller would do: asked
// under the same claim id until it is known, and then once more, which must be
// the same answer. Whoever listened in comes after.
func (w *worker) askAgain(ctx context.Context, n int) {
	const tries = 2
	unknown, admitted := w.memory.sample(w.rng, n)
	asked := context.WithoutCancel(ctx) // what was asked is answered
	for _, r := range unknown {
		for range tries {
			if ctx.Err() != nil {
				return
			}
			w.admit(asked, r, w.node(""))
		}
		w.admit(asked, r.replayed(), w.node(""))
	}
	for _, r := range admitted {
		if ctx.Err() != nil {
			return
		}
		w.admit(asked, r.replayed(), w.node(r.node))
	}
}
