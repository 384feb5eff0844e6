package node

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// The loop of WIRE.md 7.3: register and heartbeat every 1.2 s, each request
// signed once and sent again with the same bytes if no answer came. An hour of it
// is 3,000 rounds; their pauses are left out here, and the rounds shared out among
// workers, since nobody may ask for an hour's worth in seconds.
const (
	loopWorkers = 30
	loopRounds  = 3_600_000 / 1_200 / loopWorkers
	loseEvery   = 7 // of the answers
)

// wireLoop drives the workers and counts what they met.
type wireLoop struct {
	c        *trio
	requests atomic.Int64
	repeats  atomic.Int64 // after a lost answer
	outages  atomic.Int64 // answers 503, and none at all
	rounds   atomic.Int64
	banned   atomic.Bool   // the ban was acknowledged
	quarter  chan struct{} // closed after as many of the rounds
	half     chan struct{}
	ended    chan struct{} // closed when all workers are done
}

// TestC8WorkerLoopAcrossALeaderChange: the stock worker against a real cluster that
// loses answers, hands its leadership over and then loses its leader. It meets
// outages, and not one refusal.
func TestC8WorkerLoopAcrossALeaderChange(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := &trio{t: t}
	t.TempDir() // first, so that it is removed last
	t.Cleanup(c.stopAll)
	c.adjust = func(_ int, cfg *Config) { // a busy machine is no reason for an election of its own
		cfg.Timing.Heartbeat, cfg.Timing.Election = 2*time.Second, 2*time.Second
	}
	c.grow(3)
	l := &wireLoop{c: c, quarter: make(chan struct{}), half: make(chan struct{}), ended: make(chan struct{})}
	admin := c.client(0, c.admin)
	p, err := admin.Policy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	if _, err := admin.SetPolicy(t.Context(), p.Version, client.PolicyUpdate{AutoApprove: &yes}); err != nil {
		t.Fatal(err)
	}
	token, cl := c.token("agent", loopWorkers), c.httpClient()
	begun := time.Now()
	var all sync.WaitGroup
	for i := range loopWorkers {
		w := newWireWorker(t, cl, fmt.Sprint("worker-", i), token)
		all.Go(func() { l.run(w, i) })
	}
	go func() {
		all.Wait()
		close(l.ended)
	}()
	l.reached(l.quarter)
	before := c.leader()
	c.ban((before+1)%3, "worker-banned")
	l.banned.Store(true)
	if _, err := c.client(before, c.admin).TransferLeader(t.Context(), ""); err != nil {
		t.Logf("hand over: %v", err)
	}
	c.eventually("another leader", func() bool { lead := c.leader(); return lead >= 0 && lead != before })
	l.reached(l.half)
	lead := c.leader()
	gone := c.nodes[lead]
	if err := gone.shutdown(); err != nil {
		t.Logf("stop: %v", err)
	}
	<-l.ended
	t.Logf("%d rounds, %d requests, %d repeated, %d outages in %s", l.rounds.Load(), l.requests.Load(), l.repeats.Load(), l.outages.Load(), time.Since(begun).Round(time.Millisecond))
	if l.rounds.Load() != loopWorkers*loopRounds || l.repeats.Load() == 0 {
		t.Error("the loop did not run its course")
	}
	c.nodes[(lead+1)%3].machine.Read(func(s *fsm.State) {
		for i := range loopWorkers {
			if a, ok := s.Agent(fmt.Sprint("worker-", i)); !ok || len(a.Keys) != 1 || a.UpdatedMs != a.EnrolledMs {
				t.Errorf("registering again changed %+v", a)
			}
		}
	})
}

func (l *wireLoop) run(w *wireWorker, i int) {
	for range loopRounds {
		knew := l.banned.Load()
		body := w.registerBody()
		if a, ok := l.send(w, i, "/register", body); !ok || !a.body.Accepted {
			return
		}
		a, ok := l.send(w, i, "/heartbeat", w.call())
		if !ok {
			return
		}
		if listed := slices.Contains(a.body.Blacklist.Agents, "worker-banned"); !a.body.OK || knew && !listed {
			w.t.Errorf("P2: a ban was acknowledged before this heartbeat: %s", a.text)
			return
		}
		switch l.rounds.Add(1) {
		case loopWorkers * loopRounds / 4:
			close(l.quarter)
		case loopWorkers * loopRounds / 2:
			close(l.half)
		}
	}
}

// reached waits for a part of the hour, or for workers that gave up before.
func (l *wireLoop) reached(part chan struct{}) {
	select {
	case <-part:
	case <-l.ended:
	}
}

// send signs a request once and sends it until there is an answer, to the next
// coordinator if one is out. Every seventh answer is lost on its way.
func (l *wireLoop) send(w *wireWorker, i int, path, body string) (wireAnswer, bool) {
	headers := w.sign(path, body)
	n := l.requests.Add(1)
	lost := n%loseEvery == 0
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && !w.t.Failed(); i++ {
		a := w.post(w.t.Context(), l.c.cfgs[(i+int(n))%3].APIAddr, path, body, headers)
		switch {
		case a.status == 0 || a.status == 503:
			l.outages.Add(1)
			pause(w.t.Context(), 20*time.Millisecond)
		case a.status != 200:
			w.t.Errorf("%s of %s is refused, which it does not deserve: %d %s", path, w.id, a.status, a.text)
			return a, false
		case lost:
			lost = false
			l.repeats.Add(1)
		default:
			return a, true
		}
	}
	if !w.t.Failed() {
		w.t.Errorf("%s of %s: no answer within a minute", path, w.id)
	}
	return wireAnswer{}, false
}
