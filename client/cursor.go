package client

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
)

// DeltaCursor is a place in the chain, for who serves deltas; to who asks for them a cursor is a text as it came. It travels as "1-EPOCH-SEQ-CHECK". The check is of
// the event there, which holds the hash of the one before, so equal cursors mean equal pasts.
type DeltaCursor struct {
	Epoch, Seq uint64
	check      [8]byte
}

// maxDeltaCursor bounds the text of a cursor: two numbers of 62 bits and the check.
const maxDeltaCursor = 64

// CursorAt is behind an event whose hash is given; at 0 it is crypto.BlacklistGenesis.
func CursorAt(epoch, seq uint64, hash string) DeltaCursor {
	sum := crypto.Sum([]byte("edgecoder delta cursor v1\n" + hash))
	return DeltaCursor{Epoch: epoch, Seq: seq, check: [8]byte(sum[:8])}
}

// String implements fmt.Stringer.
func (d DeltaCursor) String() string { return fmt.Sprintf("1-%d-%d-%x", d.Epoch, d.Seq, d.check) }

// ParseCursor reads the one spelling of a cursor; its error is an *Error of CodeInvalid.
func ParseCursor(text string) (d DeltaCursor, err error) {
	bad := &Error{Code: CodeInvalid, Field: "cursor", Detail: fmt.Sprintf("%.80q is no cursor: give one as it came, or none to begin with an empty list", text)}
	parts := strings.Split(text, "-")
	if len(text) > maxDeltaCursor || len(parts) != 4 || parts[0] != "1" {
		return d, bad
	}
	for i, n := range []*uint64{&d.Epoch, &d.Seq} {
		if *n, err = strconv.ParseUint(parts[i+1], 10, 62); err != nil {
			return d, bad
		}
	}
	check, err := hex.DecodeString(parts[3])
	if err != nil || len(check) != len(d.check) {
		return d, bad
	}
	copy(d.check[:], check)
	if d.String() != text {
		return d, bad // one place has one cursor
	}
	return d, nil
}

// Page tells of the events that follow a cursor, of each agent the last. They are in order, and nothing is looked up or verified.
func (d DeltaCursor) Page(events []crypto.BlacklistEvent) BlacklistDelta {
	out := BlacklistDelta{New: []Ban{}, Deleted: []string{}, Cursor: d.String()}
	last := map[string]int{}
	for i := range events {
		last[events[i].AgentID] = i
	}
	for i := range events {
		if e := &events[i]; last[e.AgentID] == i {
			out.add(d.Seq+uint64(i)+1, e)
		}
	}
	if n := len(events); n > 0 {
		out.Cursor = CursorAt(d.Epoch, d.Seq+uint64(n), events[n-1].EventHash).String()
	}
	return out
}

// add adds what an event does to the list. An event that ended when it began is a lift.
func (out *BlacklistDelta) add(seq uint64, e *crypto.BlacklistEvent) {
	if e.EndsBeforeItBegins() {
		out.Deleted = append(out.Deleted, e.AgentID)
		return
	}
	ban := Ban{AgentID: e.AgentID, EventID: e.EventID, EventHash: e.EventHash, Seq: seq, ReasonCode: e.ReasonCode, TimestampMs: e.TimestampMs}
	if e.ExpiresAtMs != nil {
		ban.ExpiresAtMs = *e.ExpiresAtMs
	}
	out.New = append(out.New, ban)
}
