package node

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgecoder/edgecoder/store"
)

// simDisk is a disk whose writes take time. Only raft's own do, which all
// answers wait for: the store holds locks around the others.
type simDisk struct {
	full atomic.Bool

	mu     sync.Mutex // guards what follows
	rng    *rand.Rand
	slow   time.Duration // least that half a write takes
	frozen chan struct{} // closed when it thaws; nil: it is not frozen
}

func newSimDisk(rng *rand.Rand) *simDisk {
	return &simDisk{rng: rand.New(rand.NewPCG(rng.Uint64(), 0xd15c))}
}

const (
	simWrite     = time.Millisecond       // most that half a write takes
	simSlowWrite = 200 * time.Millisecond // and one in simSlowOne
	simSlowOne   = 200
)

// latency draws half the time of a write.
func (d *simDisk) latency() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	most := simWrite
	if d.rng.IntN(simSlowOne) == 0 {
		most = simSlowWrite
	}
	return d.slow + time.Duration(d.rng.Int64N(int64(most)))
}

// spoil makes all writes slow from now on.
func (d *simDisk) spoil(slow time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slow = slow
}

// coin decides what a power cut leaves of what was not synced.
func (d *simDisk) coin() *rand.Rand {
	d.mu.Lock()
	defer d.mu.Unlock()
	return rand.New(rand.NewPCG(d.rng.Uint64(), 0xc017))
}

func (d *simDisk) freeze() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.frozen == nil {
		d.frozen = make(chan struct{})
	}
}

func (d *simDisk) thaw() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.frozen != nil {
		close(d.frozen)
		d.frozen = nil
	}
}

// moves returns a channel that is closed once the disk is not frozen.
func (d *simDisk) moves() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.frozen != nil {
		return d.frozen
	}
	free := make(chan struct{})
	close(free)
	return free
}

// statfs is diskHooks.statfs.
func (d *simDisk) statfs(string) (free, size int64, err error) {
	const whole = 1 << 30
	if d.full.Load() {
		return 0, whole, nil
	}
	return whole / 2, whole, nil
}

// simPower is what one process has of a disk. A write takes half of its time
// before it is on the disk, and half before anybody is told: if the power is cut
// in the first half it is lost, in the second it is there and not acknowledged.
type simPower struct {
	disk *simDisk
	off  chan struct{}
	once sync.Once
}

func (d *simDisk) plugIn() *simPower { return &simPower{disk: d, off: make(chan struct{})} }

func (p *simPower) cut() { p.once.Do(func() { close(p.off) }) }

// begin is diskHooks.begin.
func (p *simPower) begin(what string) {
	if what != store.WriteLog && what != store.WriteStable {
		return
	}
	select {
	case <-p.disk.moves():
	case <-p.off:
	}
	p.half()
}

// end is diskHooks.end.
func (p *simPower) end(what string) {
	if what == store.WriteLog || what == store.WriteStable {
		p.half()
	}
}

func (p *simPower) half() {
	t := time.NewTimer(p.disk.latency())
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.off:
	}
}
