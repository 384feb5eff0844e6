package audit

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/edgecoder/edgecoder/crypto"
)

// Levels of events, the mildest first (WIRE.md section 11).
const (
	LevelInfo     = "INFO"
	LevelWarn     = "WARN"
	LevelHigh     = "HIGH"
	LevelCritical = "CRITICAL"
)

// Types of lines that the log writes about itself. All other types are its callers'.
const (
	TypeTorn    = "audit_torn_line"     // a crash left half a line, which this line took the place of
	TypeBreak   = "audit_chain_break"   // what stands before does not verify; details say where
	TypeDropped = "audit_files_dropped" // old files made room; details hold the head they ended with
	TypeLost    = "audit_events_lost"   // so many events could not be written
)

// Bounds of an event, so that a line stays under maxLine whatever a caller says.
const (
	maxText    = 256 // bytes of an id, a code or the value of a detail
	maxDetails = 16  // details of one event
)

// kindNode is the kind of the actor of a node's events about itself.
const kindNode = "node"

// Actor is who did something, or tried to.
type Actor struct {
	Kind   string `json:"kind"` // token, agent, node or address
	ID     string `json:"id"`
	Proved bool   `json:"proved"` // by a credential or a signature; else it is the actor's own claim
}

// Event is what happened. Secrets have no place in it: a token is named by its id.
type Event struct {
	Type      string
	Level     string
	Actor     Actor
	Action    string // such as "POST /v1/tokens" or "reject_request"
	RequestID string
	Code      string            // the outcome: "ok", or the code of the refusal
	Index     uint64            // log index that the answer named; 0: none
	Details   map[string]string // at most 16, bounded in length
}

// Line is one line of the log: an event, or the sum of equal ones.
type Line struct {
	Seq       uint64            `json:"seq"`
	Prev      string            `json:"prev"`
	TimeMs    int64             `json:"time_ms"`
	Node      string            `json:"node"`
	Type      string            `json:"type"`
	Level     string            `json:"level"`
	Actor     Actor             `json:"actor"`
	Action    string            `json:"action,omitempty"`
	RequestID string            `json:"request_id,omitempty"`
	Code      string            `json:"code,omitempty"`
	Index     uint64            `json:"index,omitempty"`
	Count     uint64            `json:"count,omitempty"`    // events that this line stands for; absent: 1
	FirstMs   int64             `json:"first_ms,omitempty"` // of them, with count
	LastMs    int64             `json:"last_ms,omitempty"`
	Details   map[string]string `json:"details,omitempty"`
	Hash      string            `json:"hash"`
}

// Events returns how many events the line stands for.
func (l *Line) Events() uint64 { return max(1, l.Count) }

// bounded returns the event with every text cut to its bound.
func (e Event) bounded() Event {
	for _, text := range []*string{&e.Type, &e.Level, &e.Actor.Kind, &e.Actor.ID, &e.Action, &e.RequestID, &e.Code} {
		*text = cut(*text)
	}
	if len(e.Details) == 0 {
		return e
	}
	kept := make(map[string]string, min(len(e.Details), maxDetails))
	for _, name := range slices.Sorted(maps.Keys(e.Details))[:min(len(e.Details), maxDetails)] {
		kept[cut(name)] = cut(e.Details[name])
	}
	e.Details = kept
	return e
}

// cut shortens a text and makes it valid UTF-8, as JSON wants it.
func cut(s string) string {
	if len(s) > maxText {
		s = s[:maxText-len("…")]
		for len(s) > 0 && !utf8.RuneStart(s[len(s)-1]) {
			s = s[:len(s)-1]
		}
		if r, size := utf8.DecodeLastRuneInString(s); r == utf8.RuneError && size == 1 {
			s = s[:len(s)-1]
		}
		s += "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// Head is where a node's log ends.
type Head struct {
	Seq  uint64
	Hash string // 64 lower-case hex digits; zeros before the first line
	File string // name of the file that the line is in
}

func (h Head) String() string { return fmt.Sprintf("%d:%s", h.Seq, h.Hash) }

// isOf tells whether a line is the one that the head names.
func (h Head) isOf(k link) bool { return h.Seq == k.seq && h.Hash == k.hash.String() }

// ParseHead reads what [Head.String] writes: the seq, a colon, the hash.
func ParseHead(text string) (Head, error) {
	number, hash, _ := strings.Cut(text, ":")
	seq, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return Head{}, fmt.Errorf("%q is no head of an audit log: want SEQ:HASH", text)
	}
	if _, err := crypto.ParseHash(hash); err != nil {
		return Head{}, fmt.Errorf("%q is no head of an audit log: the hash: %w", text, err)
	}
	return Head{Seq: seq, Hash: hash}, nil
}
