package gossip

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/edgecoder/edgecoder/crypto"
)

// The kinds of a news message.
const (
	kindNews    = 1
	kindHead    = 2
	kindGoodbye = 3 // body empty: the origin leaves on purpose
	kindReport  = 4 // a head, for the one member that it was sent to
	kindAcks    = 5 // acksVersion, then the AckIDs of the keys that the origin holds
	kindHeld    = 6 // the same, for the one member that it was sent to
)

const stateVersion = 1

// errMalformed is what everything from the network that does not parse ends in; it is counted, not logged.
var errMalformed = errors.New("gossip: malformed")

// message is what travels as a memberlist user message: a CBOR array with one spelling.
type message struct {
	_    struct{} `cbor:",toarray"`
	Kind uint64
	From string // node id of the origin: a claim
	AtMs int64  // when the origin sent it; makes two goodbyes different, decides nothing
	Body []byte
}

func (m *message) check() error {
	limit := 0
	switch m.Kind {
	case kindNews:
		limit = MaxNews
	case kindHead, kindReport:
		limit = MaxHead
	case kindAcks, kindHeld:
		limit = maxAckBytes
	case kindGoodbye:
	default:
		return fmt.Errorf("%w: kind %d", errMalformed, m.Kind)
	}
	if len(m.Body) > limit || (limit > 0 && len(m.Body) == 0) || m.AtMs < 0 || m.AtMs >= 1<<53 {
		return fmt.Errorf("%w: body of %d bytes", errMalformed, len(m.Body))
	}
	if err := crypto.CheckID(m.From); err != nil {
		return fmt.Errorf("%w: from: %v", errMalformed, err)
	}
	return nil
}

func (m *message) encode() ([]byte, error) {
	if m.Body == nil {
		m.Body = []byte{}
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	return encMode.Marshal(m)
}

func parseMessage(b []byte) (message, error) {
	var m message
	if len(b) > udpBufferSize {
		return m, fmt.Errorf("%w: %d bytes", errMalformed, len(b))
	}
	if err := decMode.Unmarshal(b, &m); err != nil {
		return message{}, fmt.Errorf("%w: %v", errMalformed, err)
	}
	again, err := m.encode()
	if err != nil {
		return message{}, err
	}
	if !bytes.Equal(again, b) {
		return message{}, fmt.Errorf("%w: not in canonical form", errMalformed)
	}
	return m, nil
}

// id is what makes two messages the same. For news it is the payload alone, so that two members with the same news spread it once;
// a head is bound to its owner, a goodbye to its moment.
func (m *message) id() crypto.Hash {
	if m.Kind == kindNews {
		return crypto.Sum(m.Body)
	}
	unsent := *m
	if m.Kind == kindHead || m.Kind == kindReport {
		unsent.AtMs = 0
	}
	b, err := unsent.encode()
	if err != nil {
		panic("gossip: id of a message that was never checked: " + err.Error())
	}
	return crypto.Sum(b)
}

// headOf is one line of the state that push/pull carries beside memberlist's own.
type headOf struct {
	_    struct{} `cbor:",toarray"`
	Node string
	Head []byte
}

type stateWire struct {
	_       struct{} `cbor:",toarray"`
	Version uint64
	Heads   []headOf
}

func encodeState(heads []headOf) []byte {
	if heads == nil {
		heads = []headOf{}
	}
	b, err := encMode.Marshal(stateWire{Version: stateVersion, Heads: heads})
	if err != nil {
		panic("gossip: state: " + err.Error()) // strings and bytes only
	}
	return b
}

func parseState(b []byte) ([]headOf, error) {
	if len(b) > maxStateBytes {
		return nil, fmt.Errorf("%w: state of %d bytes", errMalformed, len(b))
	}
	var w stateWire
	if err := decMode.Unmarshal(b, &w); err != nil {
		return nil, fmt.Errorf("%w: %v", errMalformed, err)
	}
	if w.Version != stateVersion || len(w.Heads) > maxStateHeads {
		return nil, fmt.Errorf("%w: state version %d with %d heads", errMalformed, w.Version, len(w.Heads))
	}
	for _, h := range w.Heads {
		if len(h.Head) == 0 || len(h.Head) > MaxHead || crypto.CheckID(h.Node) != nil {
			return nil, fmt.Errorf("%w: head", errMalformed)
		}
	}
	return w.Heads, nil
}
