package api

import (
	"net/netip"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// class groups routes that share a bound on requests in flight, so that one
// kind of load cannot shut out the others.
type class uint8

const (
	classPlain  class = iota // authenticated, small
	classWait                // reads that wait for the leader or for the log
	classBatch               // bodies of megabytes
	classOpen                // bodies of strangers: enrolment
	classStream              // answers of any length
	classBackup              // copies of everything, out or in
	classEvents              // streams of events, which last
	classHealth              // never refused
	numClasses
)

// classSizes bound what is in flight. 2048 waiting admissions are some 40 MiB
// and what a stalled log piles up in well under a second; 32 batches of 4 MiB
// are 128 MiB. A backup that is sent holds one frozen copy of the state, one that
// is taken builds a second state. A stream
// of events holds a page of 2 MiB at most and looks twenty times a second. A read that waits is a goroutine for seconds: in a class of its
// own it keeps nobody from admissions and bans.
var classSizes = [numClasses]int{
	classPlain:  2048,
	classWait:   256,
	classBatch:  32,
	classOpen:   256,
	classStream: 16,
	classBackup: 2,
	classEvents: 64,
	classHealth: 0,
}

// Shares of one holder in the classes that are easy to fill: a token of the
// waiting reads, an address of the requests of strangers.
const (
	waitShare = 64
	openShare = 32
)

// callerShares bound what one token has in flight of a class, so that whoever
// sends or reads slowly under one token leaves room for the others. 0: no bound,
// for backups have two places in all, and health none.
var callerShares = [numClasses]int{
	classPlain:  1024,
	classBatch:  16,
	classStream: 8,
	classEvents: 16,
}

// maxStrongLookups bounds the strong reads that unknown credentials cause.
const maxStrongLookups = 64

// slots is a semaphore that never queues: what finds no slot is refused early.
// The nil slots admit everything.
type slots chan struct{}

func newSlots(n int) slots {
	if n == 0 {
		return nil
	}
	return make(slots, n)
}

func (s slots) take() (free func(), err error) {
	if s == nil {
		return func() {}, nil
	}
	select {
	case s <- struct{}{}:
		return s.free, nil
	default:
		return nil, overloaded("this node has too many requests in flight: try another node, or again later")
	}
}

func (s slots) free() { <-s }

func overloaded(detail string) error {
	return &client.Error{Code: client.CodeOverloaded, RetryAfter: time.Second, Detail: detail}
}

// takeSlot finds the slot of a request, within the share of whoever sent it.
func (s *Server) takeSlot(c *call) (free func(), err error) {
	class := c.route.class
	if class == classPlain {
		waits, err := c.waits()
		switch {
		case err != nil:
			return nil, err
		case waits:
			class = classWait
		}
	}
	switch class {
	case classWait:
		return take(s.slots[class], s.waiters, c.token.ID, waitShare)
	case classOpen:
		return take(s.slots[class], s.strangers, guardKey(c.address()), openShareOf(c.address()))
	}
	if share := callerShares[class]; share > 0 && c.token.ID != "" {
		return take(s.slots[class], s.callers[class], c.token.ID, share)
	}
	return s.slots[class].take()
}

// take takes a slot within the share of its holder.
func take[K comparable](of slots, in *shares[K], holder K, share int) (func(), error) {
	if !in.hold(holder, share) {
		return nil, overloaded("this caller has too many such requests in flight here: wait for their answers, or try another node")
	}
	if _, err := of.take(); err != nil {
		in.leave(holder)
		return nil, err
	}
	return func() { of.free(); in.leave(holder) }, nil
}

// openShareOf lets this machine have the whole class: proxies and tools live there.
func openShareOf(addr netip.Addr) int {
	if addr.IsLoopback() {
		return classSizes[classOpen]
	}
	return openShare
}
