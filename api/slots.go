package api

import (
	"net/netip"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/limit"
)

// class groups routes that share a bound on requests in flight, so that one
// kind of load cannot shut out the others.
type class uint8

const (
	classPlain  class = iota // small
	classWait                // reads that wait for the leader or for the log
	classBatch               // bodies of megabytes
	classStream              // answers of any length
	classBackup              // copies of everything, out or in
	classEvents              // streams of events, which last
	classOpen                // what nobody showed a token for: enrolment, existing agents
	classHealth              // never refused
	numClasses
)

// rank is how much a token is trusted with. Each has slots of its own, so that
// what every agent may hold takes nothing from services, nor these from operators.
type rank uint8

const (
	rankLeast rank = iota // reads the trust data: mesh, edge
	rankWork              // asks for admissions, reads operations: verifier, viewer
	rankRule              // changes things: operator, admin
	numRanks
)

func rankOf(r fsm.Role) rank {
	switch {
	case r.Can(fsm.CapOperate), r.Can(fsm.CapAdmin):
		return rankRule
	case r.Can(fsm.CapAdmit), r.Can(fsm.CapReadOps):
		return rankWork
	}
	return rankLeast
}

// classSizes bound what is in flight of a class, for each rank; limit.Slots shares
// them out among tokens. 2048 waiting admissions are some 40 MiB and what a stalled
// log piles up in well under a second; 32 batches of 4 MiB are 128 MiB. A backup
// that is sent holds one frozen copy of the state, one that is taken builds a second
// state. A stream of events holds a page of 2 MiB at most and looks twenty times a
// second. A read that waits is a goroutine for seconds.
var classSizes = [numClasses][numRanks]int{
	classPlain:  {128, 2048, 256},
	classWait:   {32, 256, 64},
	classBatch:  {0, 32, 8},
	classStream: {4, 16, 8},
	classBackup: {0, 0, 2},
	classEvents: {16, 32, 16},
}

// Slots of those who show no token. What strangers ask is a look at this replica;
// the bodies are here already, so 512 are 32 MiB. An agent moves on to slots of its
// own once its signature was verified: it may wait for the log.
const (
	openSlots  = 512
	agentSlots = 1024
	// strongSlots bound the strong reads that unknown credentials cause.
	strongSlots = 128
)

// slots are all semaphores of a server.
type slots struct {
	tokens [numClasses][numRanks]*limit.Slots[string] // by token id
	open   *limit.Slots[netip.Addr]
	agents *limit.Slots[string]
	strong *limit.Slots[netip.Addr]
}

func newSlots() slots {
	s := slots{open: limit.NewSlots[netip.Addr](openSlots), agents: limit.NewSlots[string](agentSlots), strong: limit.NewSlots[netip.Addr](strongSlots)}
	for class, ranks := range classSizes {
		for rank, most := range ranks {
			s.tokens[class][rank] = limit.NewSlots[string](most)
		}
	}
	return s
}

// take takes a slot of a holder, or says that there is none for it.
func take[K comparable](s *limit.Slots[K], holder K) (free func(), err error) {
	if !s.Take(holder) {
		return nil, errCrowded
	}
	return func() { s.Leave(holder) }, nil
}

// errCrowded refuses who finds no slot. There is one of it, so that it is told
// from other overload.
var errCrowded = overloaded("too many requests of this caller, or of all, are in flight here: wait for answers, or try another node")

func overloaded(detail string) error {
	return &client.Error{Code: client.CodeOverloaded, RetryAfter: time.Second, Detail: detail}
}

// takeSlot takes the slot of a request once all of it is here.
func (c *call) takeSlot() (err error) {
	class := c.route.class
	if class == classHealth {
		return nil
	}
	if c.token.ID == "" {
		c.free, err = take(c.s.slots.open, guardKey(c.address()))
		return err
	}
	if class == classPlain {
		waits, err := c.waits()
		if err != nil {
			return err
		}
		if waits || c.mayBeTold() {
			class = classWait
		}
	}
	c.free, err = take(c.s.slots.tokens[class][rankOf(c.token.Role)], c.token.ID)
	return err
}

// takeAgentSlot changes the slot of a stranger for one of the agent that it
// proved to be.
func (c *call) takeAgentSlot(agentID string) error {
	free, err := take(c.s.slots.agents, agentID)
	if err != nil {
		return err
	}
	c.leaveSlot()
	c.free = free
	return nil
}

func (c *call) leaveSlot() {
	if c.free != nil {
		c.free()
		c.free = nil
	}
}
