package node

import (
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/chaos"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

const (
	// yearsEnv is set by make sim: how many seasons TestSimKeyYears plays, with five servers, for each of yearsSeeds seeds.
	yearsEnv   = "EDGECODER_SIM_SEASONS"
	yearsSeeds = 4
	yearsShort = 3 // seasons of one seed with three servers: make test

	seasonLasts  = 3 * time.Minute
	seasonSettle = 5 * time.Minute // most that it may take until nothing is due any more
	hurtFor      = 20 * time.Second
)

// keyYears is a cluster through years of key schedules. In seasons of some minutes agents and signers act and change their keys, coordinators and what they
// share is rotated, keys are revoked, and servers are killed, cut off, restarted and given wrong clocks. Between seasons all servers are down: for
// an hour less a bit, so that the next keys are announced and fall due before somebody's eyes, up to a year past several dues. What was seen stands
// in the book, which judges in the end.
type keyYears struct {
	*simWorld
	dice    *mathrand.Rand
	book    *keyBook
	owners  []*yearOwner
	cluster string
	season  int
	away    string // the server that sits a season out, or ""

	mu      sync.Mutex                 // guards what follows
	hurt    map[string]time.Time       // until when something is, or just was, wrong with a server
	clients map[string]*client.Client  // by server
	trusted string                     // CA certificates that the clients go by
	seen    map[string]map[string]*saw // by subject and key id: what the polls saw
	cas     map[string][]byte          // certificates by key id, PEM
	peers   map[string][2]string       // by peer id: subject and key id
	nonces  int
}

// TestSimKeyYears is P5 for whole nodes, in years of virtual time: whoever holds a key that counts is never refused for it, and no key counts
// outside its window, for agents, manifest signers, coordinators, the gossip key and the CA.
func TestSimKeyYears(t *testing.T) {
	heavy(t)
	seasons, servers, seeds := yearsShort, 3, uint64(1)
	if text := os.Getenv(yearsEnv); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1000 {
			t.Fatalf("%s=%s: want 1 to 1000 seasons", yearsEnv, text)
		}
		seasons, servers, seeds = n, 5, yearsSeeds
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed+1), func(t *testing.T) {
			t.Parallel()
			started := time.Now()
			synctest.Test(t, func(t *testing.T) {
				y := &keyYears{simWorld: newSimWorld(t, seed+1, servers, simDir(t)), dice: mathrand.New(mathrand.NewPCG(seed+1, 9)), book: newKeyBook(),
					hurt: map[string]time.Time{}, clients: map[string]*client.Client{}, seen: map[string]map[string]*saw{}, cas: map[string][]byte{}, peers: map[string][2]string{}}
				y.live(seasons)
			})
			t.Logf("took %s", time.Since(started).Round(time.Second/10))
		})
	}
}

// live plays seasons and has the book judge.
func (y *keyYears) live(seasons int) {
	began := time.Now()
	y.settleIn()
	for y.season = range seasons {
		y.play()
		if y.season < seasons-1 {
			y.rest()
		}
	}
	y.readChain()
	for _, f := range y.book.judge() {
		y.t.Error(f)
	}
	for _, of := range []string{"agent accept", "agent refuse", "manifest accept", "coordinator accept", "gossip accept", "gossip refuse", "ca accept", "ca refuse"} {
		if y.book.examined[of] == 0 {
			y.t.Errorf("no use of a key was examined for: %s", of)
		}
	}
	y.t.Logf("%d seasons in %.1f years; keys %v; uses that had to go one way: %v", seasons, time.Since(began).Hours()/24/365, y.book.kept(), y.book.examined)
	y.closeClients()
	y.end()
}

// play is one season: all that acts, and all that goes wrong, then a while in which nothing does.
func (y *keyYears) play() {
	over := make(chan struct{})
	var acts sync.WaitGroup
	every := func(pause time.Duration, do func()) {
		acts.Go(func() {
			for {
				select {
				case <-over:
					return
				case <-time.After(pause):
					do()
				}
			}
		})
	}
	for _, o := range y.owners {
		dice := mathrand.New(mathrand.NewPCG(y.dice.Uint64(), 1))
		every(3*time.Second, func() { o.use(dice) })
	}
	bans, looks := mathrand.New(mathrand.NewPCG(y.dice.Uint64(), 2)), mathrand.New(mathrand.NewPCG(y.dice.Uint64(), 5))
	every(3*time.Second, y.poll)
	every(10*time.Second, func() { y.ban(bans) })
	every(10*time.Second, func() { y.look(looks) })
	orders := y.orders()
	faults := mathrand.New(mathrand.NewPCG(y.dice.Uint64(), 3))
	acts.Go(func() { y.faults(over, faults) })
	start := time.Now()
	for _, order := range orders {
		order()
	}
	time.Sleep(seasonLasts - time.Since(start))
	close(over)
	acts.Wait()
	y.heal()
	y.settle()
}

// rest has all servers down for a while, in good order or without a word.
func (y *keyYears) rest() {
	kill := y.dice.IntN(2) == 0
	y.atOnce(func(s *simServer) error {
		if kill {
			return s.kill()
		}
		return s.stop(y.t.Context())
	})
	y.closeClients()
	day := 24 * time.Hour
	lasts := []time.Duration{51 * time.Minute, 2 * time.Hour, 2 * day, 40 * day, 200 * day, 400 * day}[y.dice.IntN(6)] + time.Duration(y.dice.IntN(120))*time.Second
	time.Sleep(lasts)
	if y.away = ""; y.dice.IntN(3) == 0 {
		y.away = y.sorted()[y.dice.IntN(len(y.servers))].name
		y.harm(y.away, time.Hour)
	}
	y.atOnce(func(s *simServer) error {
		s.clock.set()
		if s.name == y.away {
			return nil
		}
		return s.start(y.t.Context())
	})
	y.t.Logf("season %d: after %s, killed %t, without %q", y.season+2, lasts, kill, y.away)
}

func (y *keyYears) atOnce(do func(*simServer) error) {
	var all sync.WaitGroup
	for _, s := range y.sorted() {
		all.Go(func() {
			if err := do(s); err != nil {
				y.t.Errorf("%s: %v", s.name, err)
			}
		})
	}
	all.Wait()
}

// harm notes that nothing is to be read off a server for a while.
func (y *keyYears) harm(name string, lasts time.Duration) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.hurt[name] = time.Now().Add(lasts)
}

// sound tells whether a server has been up and well for a while.
func (y *keyYears) sound(s *simServer) *Node {
	y.mu.Lock()
	hurt := time.Now().Before(y.hurt[s.name])
	y.mu.Unlock()
	if p := s.running(); p != nil && !hurt && p.node.Ready() == nil {
		return p.node
	}
	return nil
}

// faults does one thing after the other to one server at a time; a majority is always well.
func (y *keyYears) faults(over chan struct{}, dice *mathrand.Rand) {
	for {
		select {
		case <-over:
			return
		case <-time.After(time.Duration(10+dice.IntN(30)) * time.Second):
		}
		if y.away != "" && len(y.servers) < 5 {
			continue
		}
		s := y.sorted()[dice.IntN(len(y.servers))]
		if dice.IntN(2) == 0 { // whoever leads, in the middle of what it is doing
			s = y.leader()
		}
		if s.name == y.away {
			continue
		}
		y.harm(s.name, time.Hour)
		y.fault(s, dice)
		y.harm(s.name, hurtFor)
	}
}

func (y *keyYears) fault(s *simServer, dice *mathrand.Rand) {
	lasts := time.Duration(1+dice.IntN(20)) * time.Second
	switch dice.IntN(5) {
	case 0, 1:
		y.must(s.kill())
		time.Sleep(lasts)
		y.must(s.start(y.t.Context()))
	case 2:
		y.must(s.stop(y.t.Context()))
		time.Sleep(lasts)
		y.must(s.start(y.t.Context()))
	case 3:
		y.cutOff(s, 1)
		time.Sleep(lasts)
		y.cutOff(s, 0)
	case 4:
		off := []time.Duration{3 * time.Second, -3 * time.Second, time.Hour, -time.Hour, 400 * 24 * time.Hour}[dice.IntN(5)]
		s.clock.move(off)
		time.Sleep(lasts)
		s.clock.move(0)
	}
}

// cutOff has the wires between a server and the others lose so much of everything.
func (y *keyYears) cutOff(s *simServer, share float64) {
	for _, other := range y.sorted() {
		if other != s {
			y.must(y.links.Shape(s.name, other.name, chaos.Shape{Drop: share}))
			y.must(y.links.Shape(other.name, s.name, chaos.Shape{Drop: share}))
		}
	}
}

// heal brings back whoever sat out.
func (y *keyYears) heal() {
	if y.away != "" {
		y.must(y.servers[y.away].start(y.t.Context()))
		y.harm(y.away, hurtFor)
		y.away = ""
	}
}

func (y *keyYears) must(err error) {
	if err != nil {
		y.t.Error(err)
	}
}

// settle waits until nothing is due, all hold the same keys, and all gossip.
func (y *keyYears) settle() {
	why := ""
	for end := time.Now().Add(seasonSettle); time.Now().Before(end); time.Sleep(time.Second) {
		if why = y.unsettled(); why == "" {
			return
		}
		y.poll()
	}
	y.book.find("season %d: not settled in %s: %s", y.season+1, seasonSettle, why)
}

func (y *keyYears) unsettled() string {
	var first *sharedSet
	for _, s := range y.sorted() {
		n := y.sound(s)
		if n == nil {
			return s.name + " is not well"
		}
		set := n.shared.Load()
		if first == nil {
			first = set
		}
		if !slices.Equal(set.acks(), first.acks()) {
			return fmt.Sprintf("%s holds other shared keys: %v, %v", s.name, set.acks(), first.acks())
		}
		alive := 0
		for _, m := range n.pool.Members() {
			if m.State == "alive" {
				alive++
			}
		}
		if alive != len(y.servers) {
			return fmt.Sprintf("%s sees %d members alive", s.name, alive)
		}
	}
	list, _, err := y.keyList()
	if err != nil {
		return err.Error()
	}
	for _, k := range list.Keys {
		if k.KeyID == "" || byNodes(k.Subject) && (k.Due || k.Overdue) && !changedLately(k) {
			return fmt.Sprintf("%s: %+v", k.Subject, k)
		}
	}
	return ""
}

// byNodes tells whether nodes rotate a subject by themselves.
func byNodes(subject string) bool {
	return slices.Contains([]string{"coordinator", "gossip", "ca"}, kindOf(subject))
}

// changedLately tells whether a coordinator, which changes its key once an hour at most, must wait though somebody asked.
func changedLately(k client.Keys) bool {
	at := slices.IndexFunc(k.Keys, func(key client.Key) bool { return key.KeyID == k.KeyID })
	return kindOf(k.Subject) == "coordinator" && nowMs()-k.Keys[at].NotBeforeMs < fsm.RekeyPauseMs+yearsSlackMs
}
