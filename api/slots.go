package api

import (
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// class groups routes that share a bound on requests in flight, so that one
// kind of load cannot shut out the others.
type class uint8

const (
	classPlain  class = iota // authenticated, small
	classBatch               // bodies of megabytes
	classOpen                // bodies of strangers: enrolment
	classStream              // answers of any length
	classHealth              // never refused
	numClasses
)

// classSizes bound what is in flight. 2048 waiting admissions are some 40 MiB
// and what a stalled log piles up in well under a second; 32 batches of 4 MiB
// are 128 MiB.
var classSizes = [numClasses]int{
	classPlain:  2048,
	classBatch:  32,
	classOpen:   256,
	classStream: 16,
	classHealth: 0,
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
		return nil, &client.Error{Code: client.CodeOverloaded, RetryAfter: time.Second,
			Detail: "this node has too many requests in flight: try another node, or again later"}
	}
}

func (s slots) free() { <-s }
