package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// fakeWorld stands for cluster, processes, network, disks and clocks.
type fakeWorld struct {
	mu       sync.Mutex
	log      []string
	dir      string
	shapes   map[string]Shape
	fail     error // of Start
	stops    int   // how many stops fail
	leader   string
	removal  error
	deaf     int           // how often the cluster does not count a node as voter yet
	skew     time.Duration // of the leader, as it says itself
	member   bool          // the data directory is a member's
	unharmed bool          // the network touches no packet
	absent   []string      // nodes that are not in the cluster
}

func (w *fakeWorld) note(what ...string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, strings.Join(what, " "))
	return nil
}

func (w *fakeWorld) Start(_ context.Context, n string) error {
	return errors.Join(w.note("start", n), w.fail)
}

func (w *fakeWorld) Stop(_ context.Context, n string, kill bool) error {
	if w.stops > 0 {
		w.stops--
		return errors.New("it does not stop")
	}
	if kill {
		return w.note("kill", n)
	}
	return w.note("stop", n)
}
func (w *fakeWorld) Signal(n string, sig os.Signal) error { return w.note(sig.String(), n) }
func (w *fakeWorld) DataDir(string) string                { return w.dir }
func (w *fakeWorld) Fill(n string) error                  { return w.note("fill", n) }
func (w *fakeWorld) Free(n string) error                  { return w.note("free", n) }
func (w *fakeWorld) Freeze(n string) error                { return w.note("freeze", n) }
func (w *fakeWorld) Thaw(n string) error                  { return w.note("thaw", n) }

func (w *fakeWorld) SetOffset(n string, d time.Duration) error {
	return w.note("clock", n, d.String())
}

func (w *fakeWorld) Shape(from, to string, how Shape) error {
	w.shapes[from+">"+to] = how
	return nil
}

func (w *fakeWorld) Toll() Toll {
	if w.unharmed {
		return Toll{}
	}
	return Toll{Lost: 1}
}

func (w *fakeWorld) Leader(context.Context) (string, error) {
	if w.leader == "" {
		return "", errors.New("nobody leads")
	}
	return w.leader, nil
}

func (w *fakeWorld) Members() []string {
	return slices.DeleteFunc([]string{"n1", "n2", "n3", "n4", "n5"}, func(n string) bool {
		return slices.Contains(w.absent, n)
	})
}

func (w *fakeWorld) Enlist(n string, in bool) {
	w.absent = slices.DeleteFunc(w.absent, func(a string) bool { return a == n })
	if !in {
		w.absent = append(w.absent, n)
	}
}

func (w *fakeWorld) Voter(_ context.Context, n string) error {
	if w.deaf > 0 {
		w.deaf--
		return errors.New("no voter")
	}
	return w.note("votes", n)
}

func (w *fakeWorld) Skews(context.Context) map[string]time.Duration {
	return map[string]time.Duration{"n1": 0, "n2": w.skew, "n3": 0}
}

func (w *fakeWorld) Remove(_ context.Context, n string) error {
	return errors.Join(w.note("remove", n), w.removal)
}

func (w *fakeWorld) Transfer(_ context.Context, _ string) (string, error) {
	return "n3", w.note("transfer")
}

func (w *fakeWorld) Kill(nodes ...string) error {
	return w.note("SIGKILL", strings.Join(nodes, "+"))
}
func (w *fakeWorld) Settle(_ context.Context, n string) error { return w.note("settle", n) }
func (w *fakeWorld) Belongs(string) bool                      { return w.member }

func (w *fakeWorld) Clear() error {
	clear(w.shapes)
	return nil
}

func newArena(w *fakeWorld) *Arena {
	w.shapes, w.leader, w.absent = map[string]Shape{}, "n2", []string{"n4", "n5"}
	a := &Arena{Nodes: []string{"n1", "n2", "n3", "n4", "n5"}, Rand: rand.New(rand.NewPCG(1, 2)), Admin: w, Proc: w, Net: w, Disk: w, Clock: w}
	return another(a, newHolds())
}

// another returns the arena of another step.
func another(a *Arena, h *holds) *Arena {
	next := *a
	next.grip, next.proof = &grip{all: h}, &proof{now: func() int64 { return 7 }}
	return &next
}
