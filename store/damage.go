package store

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// Damage says that a file of the data directory does not hold what was written
// to it. A node that finds one must not run: what it lost others may count on.
type Damage struct {
	File string // below the data directory
	Err  error  // what does not match
}

// Error implements error.
func (d *Damage) Error() string { return fmt.Sprintf("%s is damaged: %v", d.File, d.Err) }

// Unwrap returns what does not match.
func (d *Damage) Unwrap() error { return d.Err }

// damaged makes err a Damage of a file, unless it is nil or names one already.
func damaged(file string, err error) error {
	var d *Damage
	if err == nil || errors.As(err, &d) {
		return err
	}
	return &Damage{File: file, Err: err}
}

func damagef(file, format string, args ...any) error {
	return &Damage{File: file, Err: fmt.Errorf(format, args...)}
}

// safely calls f and turns a panic or a memory fault into an error. bbolt reads
// through a memory map and trusts what it reads: a page that says nonsense is a
// panic there, one that the disk cannot deliver a fault that no recover catches
// unless it is asked for. For reads only: after a write that broke off in the
// middle nothing is known, and the process should end.
func safely(f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("reading it failed: %v", p)
		}
	}()
	return f()
}
