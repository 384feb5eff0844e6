package cosign

import (
	"errors"
	"fmt"

	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

// Fork says that there are two heads of one log that cannot both be true. It means that somebody lies or something is
// damaged, never that somebody is slow.
type Fork struct {
	Mine   checkpoint.Checkpoint // of this node's records, or what it signed
	Theirs checkpoint.Checkpoint
	What   string
}

// Error names both heads.
func (f *Fork) Error() string {
	return fmt.Sprintf("%s of %s: here size %d has root %s, there size %d has root %s",
		f.What, f.Mine.Origin, f.Mine.Size, f.Mine.Root, f.Theirs.Size, f.Theirs.Root)
}

// Why a cosignature is withheld without anybody lying. Asking again later may help.
var (
	// ErrBehind: this replica has not got so far.
	ErrBehind = errors.New("this replica has fewer records")
	// ErrSmaller: it signed a larger tree before.
	ErrSmaller = errors.New("a larger tree was cosigned before")
	// ErrOrigin: it is another log than the one asked about, or of another epoch.
	ErrOrigin = errors.New("another log")
	// ErrClosed: the node is going down.
	ErrClosed = errors.New("the keeper of the log was closed")
)

// RecordError names a record that no honest cluster has in its log.
type RecordError struct {
	Seq uint64
	Err error
}

// Error names the record.
func (e *RecordError) Error() string { return fmt.Sprintf("record %d is not sound: %v", e.Seq, e.Err) }

// Unwrap returns what is wrong with it.
func (e *RecordError) Unwrap() error { return e.Err }
