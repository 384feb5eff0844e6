package chaos

import (
	"fmt"
	"slices"
	"sync"
)

// proof is what shows that a fault really bit.
type proof struct {
	now func() int64

	mu     sync.Mutex // guards what follows
	at     int64      // when it bit, 0: not yet
	notes  []string
	missed []error
}

// bite marks the moment; the first one counts.
func (p *proof) bite() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at == 0 {
		p.at = p.now()
	}
}

func (p *proof) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

// miss says that the fault did not do what it is for.
func (p *proof) miss(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.missed = append(p.missed, fmt.Errorf("did not bite: "+format, args...))
}

// told returns everything.
func (p *proof) told() (at int64, notes []string, missed []error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at, slices.Clone(p.notes), slices.Clone(p.missed)
}
