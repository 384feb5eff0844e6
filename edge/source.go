package edge

import (
	"context"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
)

// Source is a member that can be asked for the chain. Nothing that it says is believed. Calls bound their own time; they may be
// made from one goroutine at a time.
type Source interface {
	Name() string
	// Coordinator tells whether the member has the whole chain, so that it is asked however slow it is.
	Coordinator() bool
	// Checkpoint returns the newest checkpoint that a majority cosigned, as a signed note.
	Checkpoint(ctx context.Context) ([]byte, error)
	// Cosigners returns versions of the cosigner set from one on, in order, as signed notes: some of them, or none if there are no more.
	Cosigners(ctx context.Context, from uint64) ([][]byte, error)
	// Events returns events from a seq on, in order, as their wire JSON: some of them, and at most limit.
	Events(ctx context.Context, from uint64, limit int) ([][]byte, error)
	// Keys returns the keys that sign or ever signed events.
	Keys(ctx context.Context) ([]crypto.PublicKey, error)
}

// Bounds of a pull.
const (
	// pageEvents is how many events are asked for at once; of the usual size they are half a megabyte.
	pageEvents = 1000
	// foldEvents is after how many events their changes are folded into the list that is being made, so that a chain of any length is
	// pulled in bounded memory.
	foldEvents = 1 << 16
	// maxSets bounds the versions of the cosigner set that one look follows; the next look goes on.
	maxSets = 256
	// maxTries is how many sources one look asks.
	maxTries = 5
)

// Timing of a syncer.
const (
	// DefaultEvery is between two looks without a hint: twice within the time in which coordinators cosign anew, so a lease lives through a
	// look that failed, and what no hint told is found.
	DefaultEvery = DefaultLease / 6
	// DefaultSpread is within which a pull starts after a hint, so that the pool does not ask at one moment.
	DefaultSpread = 50 * time.Millisecond
	// firstRetry is how long after a look that found less than was hinted the next one is, doubled each time up to Every: a
	// majority cosigns a moment after the news of a commit.
	firstRetry = 25 * time.Millisecond
)
