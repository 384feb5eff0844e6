package cmd

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// clockPoll is how often a shifted clock looks for its offset.
const clockPoll = 100 * time.Millisecond

// shiftedClock is a wall clock for fault injection: the machine's, plus the
// milliseconds that a file holds, read anew as it changes.
func shiftedClock(ctx context.Context, file string) func() time.Time {
	var offset atomic.Int64
	read := func() {
		text, err := os.ReadFile(file)
		if err != nil {
			return // not written yet, or being replaced: keep the last
		}
		if ms, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
			offset.Store(ms)
		}
	}
	read()
	go func() {
		ticker := time.NewTicker(clockPoll)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				read()
			}
		}
	}()
	return func() time.Time { return time.Now().Add(time.Duration(offset.Load()) * time.Millisecond) }
}
