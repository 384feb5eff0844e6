package node

import (
	"log/slog"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/edge"
)

// alarmPause is between two log lines of one kind of alarm: a source that lies may be asked many times a second.
const alarmPause = time.Minute

// alarms writes what an operator of an edge must see, each kind once in a while.
type alarms struct {
	log  *slog.Logger
	mu   sync.Mutex
	last map[string]time.Time // by code, of which there are a handful; guarded by mu
	held map[string]int       // not written since; guarded by mu
}

func (e *Edge) alarms() *alarms {
	return &alarms{log: e.log, last: map[string]time.Time{}, held: map[string]int{}}
}

// critical are those that people must look into.
var critical = map[string]bool{edge.AlarmForked: true, edge.AlarmRollback: true, edge.AlarmNewRoot: true}

func (a *alarms) raise(code, detail string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, ok := a.last[code]; ok && time.Since(at) < alarmPause {
		a.held[code]++
		return
	}
	a.last[code] = time.Now()
	write, text := a.log.Warn, "the list of this edge"
	if critical[code] {
		write, text = a.log.Error, "CRITICAL: the list of this edge"
	}
	write(text, "alarm", code, "detail", detail, "as_often_since_the_last_line", a.held[code])
	a.held[code] = 0
}
