package edge

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"github.com/edgecoder/edgecoder/crypto"
)

// Bounds of an allow-list: it is written by hand, for what must never be locked out.
const (
	maxAllowed      = 10_000
	maxAllowedBytes = 2 << 20
)

// AllowList names agents whom the operator of this edge lets act whatever the blacklist says. Load may be called while others ask.
type AllowList struct {
	ids atomic.Pointer[map[string]struct{}]
}

// Has tells whether an agent is on the list.
func (l *AllowList) Has(agentID string) bool {
	ids := l.ids.Load()
	if ids == nil {
		return false
	}
	_, ok := (*ids)[agentID]
	return ok
}

// Len returns how many agents are on the list.
func (l *AllowList) Len() int {
	if ids := l.ids.Load(); ids != nil {
		return len(*ids)
	}
	return 0
}

// Load reads the list from a file: an agent id a line; empty lines, and those that begin with #, are passed over. An error leaves the list as it was.
func (l *AllowList) Load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("allow-list: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxAllowedBytes+1))
	if err == nil && len(text) > maxAllowedBytes {
		err = fmt.Errorf("more than %d bytes", maxAllowedBytes)
	}
	if err != nil {
		return fmt.Errorf("allow-list %s: %w", path, err)
	}
	ids, err := parseAllowed(text)
	if err != nil {
		return fmt.Errorf("allow-list %s: %w", path, err)
	}
	l.ids.Store(&ids)
	return nil
}

func parseAllowed(text []byte) (map[string]struct{}, error) {
	ids := map[string]struct{}{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		id := strings.TrimSpace(lines.Text())
		if id == "" || id[0] == '#' {
			continue
		}
		if err := crypto.CheckID(id); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if ids[id] = struct{}{}; len(ids) > maxAllowed {
			return nil, fmt.Errorf("more than %d agents", maxAllowed)
		}
	}
	return ids, lines.Err()
}
