package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// clockPoll is how often a shifted clock looks for its offset.
	clockPoll = 100 * time.Millisecond
	// maxClockOffset is more than any test of faults needs, and far from overflow.
	maxClockOffset = 10 * 365 * 24 * time.Hour
	// maxOffsetBytes bounds the file that holds the offset.
	maxOffsetBytes = 64
)

// shiftedClock is a wall clock for fault injection: the machine's, plus the
// milliseconds that a file holds, read anew as it changes. While the file is
// not good the last good offset holds.
func shiftedClock(ctx context.Context, log *slog.Logger, file string) (func() time.Time, error) {
	first, err := readClockOffset(file)
	if err != nil {
		return nil, err
	}
	log.Warn("the wall clock is shifted: for tests of faults only", "file", file, "offset", first)
	var offset atomic.Int64
	offset.Store(int64(first))
	go followOffset(ctx, log, file, &offset)
	return func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }, nil
}

// followOffset reads the file until ctx ends, and says once when it turns bad.
func followOffset(ctx context.Context, log *slog.Logger, file string, offset *atomic.Int64) {
	ticker := time.NewTicker(clockPoll)
	defer ticker.Stop()
	bad := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now, err := readClockOffset(file)
		switch {
		case err == nil:
			offset.Store(int64(now))
		case !bad:
			log.Warn("the wall clock keeps its last offset", "err", err)
		}
		bad = err != nil
	}
}

// readClockOffset reads an offset from a file that only we can have written:
// whoever sets a server's clock decides which signatures are fresh.
func readClockOffset(file string) (time.Duration, error) {
	offset, err := parseClockOffset(file)
	if err != nil {
		return 0, fmt.Errorf("clock offset file %s: %w", file, err)
	}
	return offset, nil
}

func parseClockOffset(file string) (time.Duration, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|openPlain, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if err := checkOwnFile(info); err != nil {
		return 0, err
	}
	text, err := readBounded(f, maxOffsetBytes)
	if err != nil {
		return 0, err
	}
	ms, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if most := maxClockOffset.Milliseconds(); err != nil || ms > most || ms < -most {
		return 0, fmt.Errorf("want milliseconds from -%d to %d", most, most)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// checkOwnFile refuses a file that another user may have written.
func checkOwnFile(info fs.FileInfo) error {
	switch {
	case !info.Mode().IsRegular():
		return errors.New("not a regular file")
	case !ownedByUs(info):
		return errors.New("it belongs to another user: chown it to the server's")
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("others may write it (mode %04o): chmod go-w", info.Mode().Perm())
	}
	return nil
}
