package api

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// The streams of history that events come from, in the order in which records
// of one log index are told.
var eventStreams = [...]fsm.Stream{fsm.StreamBlacklist, fsm.StreamAdmin}

// place is how far somebody has read both streams: the sequence of the last
// record of each, 0 for none, and its digest.
type place struct {
	seen [len(eventStreams)]uint64
	sums [len(eventStreams)]crypto.Hash
}

// mark is a place as it travels in the id of an event: "1-EPOCH-CHAIN-ADMIN-CHECK".
// The epoch tells an id of a lost future from one that this replica has not
// reached; the check tells whether two histories agree up to there.
type mark struct {
	epoch uint64
	seen  [len(eventStreams)]uint64
	check [8]byte
}

// maxMark bounds the text of a mark: three numbers of 64 bits and the check.
const maxMark = 96

// passed is the place behind a record.
func (p place) passed(stream int, r fsm.Record) place {
	p.seen[stream], p.sums[stream] = r.Seq, recordSum(r)
	return p
}

// recordSum names a record. Events hold the hash of the one before and the
// records of actions their log index and time, so equal sums mean equal pasts.
func recordSum(r fsm.Record) crypto.Hash {
	text := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(r.Data)), r.Index)
	return crypto.Sum(append(text, r.Data...))
}

func (p place) mark(epoch uint64) mark {
	text := []byte("edgecoder event place v1\n")
	for i := range p.sums {
		text = append(text, p.sums[i][:]...)
	}
	sum := crypto.Sum(text)
	return mark{epoch: epoch, seen: p.seen, check: [8]byte(sum[:8])}
}

// String implements fmt.Stringer.
func (m mark) String() string {
	return fmt.Sprintf("1-%d-%d-%d-%x", m.epoch, m.seen[0], m.seen[1], m.check)
}

// parseMark reads the id of an event.
func parseMark(text string) (m mark, err error) {
	bad := invalid("last_event_id", quote(text)+" is no id of an event: give one as it came, "+
		strconv.Quote(client.EventStart)+" for the beginning, or none for what comes from now on")
	parts := strings.Split(text, "-")
	if len(text) > maxMark || len(parts) != 5 || parts[0] != "1" {
		return m, bad
	}
	for i, n := range []*uint64{&m.epoch, &m.seen[0], &m.seen[1]} {
		if *n, err = strconv.ParseUint(parts[i+1], 10, 62); err != nil {
			return m, bad
		}
	}
	check, err := hex.DecodeString(parts[4])
	if err != nil || len(check) != len(m.check) {
		return m, bad
	}
	copy(m.check[:], check)
	if m.String() != text {
		return m, bad // one place has one id
	}
	return m, nil
}
