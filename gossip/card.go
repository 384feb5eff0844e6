package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"

	"github.com/edgecoder/edgecoder/crypto"
)

// cardForm is a version of cards: the first element of the encoding, and the domain of the signature.
type cardForm struct {
	version uint64
	label   string
}

// Servers from before recoveries had ids know the first form alone: a card without a recovery has it, or an upgrade server by
// server would split the pool.
var (
	plainCard     = cardForm{1, "member card v1"}
	recoveredCard = cardForm{2, "member card v2"} // with the recovery
)

func (c *Card) form() cardForm {
	if c.Recovery == "" {
		return plainCard
	}
	return recoveredCard
}

// ErrCard is in the chain of every error about a card that is malformed, forged, too large or of another cluster.
var ErrCard = errors.New("gossip: bad member card")

// Card is how a member introduces itself: who it is and where its doors are, signed by its own key. That the key belongs to the
// node id is not in the card: Config.Trust decides that from enrolled keys.
//
// On the wire it is a CBOR array of at most MaxCard bytes, with exactly one spelling.
type Card struct {
	NodeID, Name, Role, API, Raft, Gossip string

	Key       crypto.PublicKey
	IssuedMs  int64  // grows with every card a node issues; an older one is a replay
	Recovery  string // id of the recovery that the node's state came through, "" without one
	Signature []byte

	// ClusterID is part of what is signed, never of what is sent: set it before Sign; ParseCard sets it. It makes
	// a card worthless in another cluster.
	ClusterID string
}

// plainWire is the encoded form of a card without a recovery, in this order.
type plainWire struct {
	_                                     struct{} `cbor:",toarray"`
	Version                               uint64
	NodeID, Name, Role, API, Raft, Gossip string
	Key                                   []byte
	IssuedMs                              int64
	Signature                             []byte
}

// cardWire is the encoded form of a card with a recovery.
type cardWire struct {
	_                                     struct{} `cbor:",toarray"`
	Version                               uint64
	NodeID, Name, Role, API, Raft, Gossip string
	Key                                   []byte
	IssuedMs                              int64
	Recovery                              string
	Signature                             []byte
}

// signed lists the parts under the signature, which SignText prefixes with their lengths.
func (c *Card) signed() [][]byte {
	parts := [][]byte{
		[]byte(c.ClusterID), []byte(c.NodeID), []byte(c.Name), []byte(c.Role), []byte(c.API), []byte(c.Raft), []byte(c.Gossip),
		c.Key[:], []byte(strconv.FormatInt(c.IssuedMs, 10)),
	}
	if c.Recovery != "" {
		parts = append(parts, []byte(c.Recovery))
	}
	return parts
}

// Sign sets Key and Signature. It fails, and leaves the card unsigned, if a field is out of bounds or the card too large.
func (c *Card) Sign(priv crypto.PrivateKey) error {
	c.Signature = nil
	if c.ClusterID == "" || len(c.ClusterID) > MaxClusterID {
		return fmt.Errorf("%w: ClusterID must be 1 to %d bytes", ErrCard, MaxClusterID)
	}
	c.Key = crypto.PublicOf(priv)
	signed := *c
	signed.Signature = crypto.SignText(priv, c.form().label, c.signed()...)
	if _, err := signed.Encode(); err != nil {
		return err
	}
	c.Signature = signed.Signature
	return nil
}

// Verify says whether the card was signed by its own key for its ClusterID.
func (c Card) Verify() bool {
	return c.ClusterID != "" && len(c.Signature) == 64 && crypto.VerifyText(c.Key, c.Signature, c.form().label, c.signed()...)
}

// Encode returns the wire form, checked against every bound; it does not verify the signature.
func (c Card) Encode() ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	b, err := encMode.Marshal(c.wire())
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCard, err)
	}
	if len(b) > MaxCard {
		return nil, fmt.Errorf("%w: %d bytes encoded, at most %d", ErrCard, len(b), MaxCard)
	}
	return b, nil
}

func (c *Card) wire() any {
	w := cardWire{
		Version: c.form().version, NodeID: c.NodeID, Name: c.Name, Role: c.Role, API: c.API, Raft: c.Raft, Gossip: c.Gossip,
		Key: c.Key[:], IssuedMs: c.IssuedMs, Recovery: c.Recovery, Signature: c.Signature,
	}
	if c.Recovery != "" {
		return w
	}
	return plainWire{
		Version: w.Version, NodeID: w.NodeID, Name: w.Name, Role: w.Role, API: w.API, Raft: w.Raft, Gossip: w.Gossip,
		Key: w.Key, IssuedMs: w.IssuedMs, Signature: w.Signature,
	}
}

// readWire tells the forms apart by their number of elements; that the version fits is for whoever writes it again.
func readWire(b []byte) (w cardWire, err error) {
	const arrayOfTen = 0x8a
	if len(b) == 0 || b[0] != arrayOfTen {
		err = decMode.Unmarshal(b, &w)
		return w, err
	}
	var p plainWire
	err = decMode.Unmarshal(b, &p)
	return cardWire{
		Version: p.Version, NodeID: p.NodeID, Name: p.Name, Role: p.Role, API: p.API, Raft: p.Raft, Gossip: p.Gossip,
		Key: p.Key, IssuedMs: p.IssuedMs, Signature: p.Signature,
	}, err
}

// ParseCard reads the wire form of a card of the given cluster: strict, bounded, one spelling only. It does not verify the signature.
func ParseCard(clusterID string, b []byte) (Card, error) {
	if len(b) > MaxCard {
		return Card{}, fmt.Errorf("%w: %d bytes, at most %d", ErrCard, len(b), MaxCard)
	}
	w, err := readWire(b)
	if err != nil {
		return Card{}, fmt.Errorf("%w: %v", ErrCard, err)
	}
	c := Card{
		NodeID: w.NodeID, Name: w.Name, Role: w.Role, API: w.API, Raft: w.Raft, Gossip: w.Gossip,
		IssuedMs: w.IssuedMs, Recovery: w.Recovery, Signature: w.Signature, ClusterID: clusterID,
	}
	if w.Version != c.form().version {
		return Card{}, fmt.Errorf("%w: version %d", ErrCard, w.Version)
	}
	if len(w.Key) != len(c.Key) {
		return Card{}, fmt.Errorf("%w: key of %d bytes", ErrCard, len(w.Key))
	}
	copy(c.Key[:], w.Key)
	again, err := c.Encode()
	if err != nil {
		return Card{}, err
	}
	if !bytes.Equal(again, b) {
		return Card{}, fmt.Errorf("%w: not in canonical form", ErrCard)
	}
	return c, nil
}

// check holds every bound of a signed card's fields.
func (c *Card) check() error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", ErrCard, what) }
	if err := crypto.CheckID(c.NodeID); err != nil {
		return fmt.Errorf("%w: node id: %v", ErrCard, err)
	}
	switch {
	case len(c.Name) > 64 || !plain(c.Name):
		return bad("name must be at most 64 bytes of UTF-8 without control characters")
	case !roleName(c.Role):
		return bad("role must be 1 to 16 of a-z, 0-9, _ and -")
	case !addressText(c.API) || !addressText(c.Raft) || !addressText(c.Gossip):
		return bad("addresses must be at most 128 bytes of printable ASCII without space")
	case c.IssuedMs < 0 || c.IssuedMs >= 1<<53:
		return bad("issue time out of range")
	case len(c.Recovery) > 16 || strings.Trim(c.Recovery, "0123456789abcdef") != "":
		return bad("the id of a recovery must be at most 16 hex digits")
	case len(c.Signature) != 64:
		return bad("not signed")
	}
	if err := crypto.CheckPublicKey(c.Key); err != nil {
		return fmt.Errorf("%w: key: %v", ErrCard, err)
	}
	return nil
}

// equal compares everything a card says, the signature included.
func (c *Card) equal(o *Card) bool {
	return c.NodeID == o.NodeID && c.Name == o.Name && c.Role == o.Role && c.API == o.API && c.Raft == o.Raft && c.Gossip == o.Gossip &&
		c.Key == o.Key && c.IssuedMs == o.IssuedMs && c.Recovery == o.Recovery && c.ClusterID == o.ClusterID && bytes.Equal(c.Signature, o.Signature)
}

func plain(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < 0x20 || (r >= 0x7f && r < 0xa0) {
			return false
		}
	}
	return true
}

func roleName(s string) bool {
	if s == "" || len(s) > 16 {
		return false
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' && r != '-' {
			return false
		}
	}
	return true
}

func addressText(s string) bool {
	if len(s) > 128 {
		return false
	}
	for i := range len(s) {
		if s[i] <= 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// encMode and decMode are the room's one way to write and read CBOR: shortest form, definite lengths, no tags, little depth.
// What is read is also written again and compared, so there is one spelling.
var (
	encMode = must(cbor.CoreDetEncOptions().EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		UTF8:              cbor.UTF8RejectInvalid,
		MaxNestedLevels:   4,
		MaxArrayElements:  maxStateHeads,
		MaxMapPairs:       16,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
