package gossip

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// logWriter turns memberlist's lines into slog records. It bounds them, because a line can be had for a packet, and picks
// out the one thing that memberlist says nowhere else: that a probe of ours failed.
type logWriter struct {
	log      *slog.Logger
	suspects func(name string)

	mu     sync.Mutex // guards what follows
	second int64
	lines  int
	muted  int
}

func newMemberlistLogger(l *slog.Logger, suspects func(string)) *log.Logger {
	return log.New(&logWriter{log: l, suspects: suspects}, "", 0)
}

// The line that probeNode of memberlist v0.7.0 logs before it suspects a member. TestSuspect fails if it changes; nothing worse happens.
const suspectHead, suspectTail = "Suspect ", " has failed, no acks received"

// Write is part of io.Writer; log.Logger calls it once a line.
func (w *logWriter) Write(line []byte) (int, error) {
	level, text := splitLine(string(line))
	if name, ok := strings.CutPrefix(text, suspectHead); ok {
		if name, ok = strings.CutSuffix(name, suspectTail); ok {
			w.suspects(name)
		}
	}
	if !w.log.Enabled(context.Background(), level) {
		return len(line), nil
	}
	ok, muted := w.pass(time.Now().Unix())
	if muted > 0 {
		w.log.Warn("gossip: memberlist log lines left out", "lines", muted)
	}
	if ok {
		w.log.Log(context.Background(), level, "gossip: "+text)
	}
	return len(line), nil
}

// pass counts a line against the second's share, and hands out how many were left out before.
func (w *logWriter) pass(second int64) (ok bool, muted int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if second != w.second {
		w.second, w.lines = second, 0
		muted, w.muted = w.muted, 0
	}
	if w.lines >= maxLogLines {
		w.muted++
		return false, muted
	}
	w.lines++
	return true, muted
}

// splitLine takes "[WARN] memberlist: text" apart. What memberlist calls an error is mostly a peer that misbehaves: a warning to us.
func splitLine(line string) (slog.Level, string) {
	line = strings.TrimSpace(line)
	level := slog.LevelInfo
	if tag, rest, ok := strings.Cut(line, "] "); ok && strings.HasPrefix(tag, "[") {
		switch tag {
		case "[DEBUG":
			level = slog.LevelDebug
		case "[WARN", "[ERR", "[ERROR":
			level = slog.LevelWarn
		}
		line = rest
	}
	line = strings.TrimPrefix(line, "memberlist: ")
	if len(line) > maxLogLine {
		cut := maxLogLine
		for cut > 0 && !utf8.RuneStart(line[cut]) {
			cut--
		}
		line = line[:cut] + "…"
	}
	return level, line
}
