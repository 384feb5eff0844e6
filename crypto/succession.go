package crypto

import "strconv"

// Succession is the statement by which a key names the one that comes after it: whose keys they are, both keys, from
// when the new one is to verify, and when this was signed. It is the predecessor's order, under the label
// "key succession v1", and the successor's proof that somebody holds it, under "key succession proof v1": the parts
// are the same, so neither can be taken for the other. Ids must have passed [CheckID]. Keys that are no Ed25519 keys
// stand in it with the 32 bytes that name them.
type Succession struct {
	ClusterID   string
	Subject     string // such as agent/NAME
	Predecessor PublicKey
	Successor   PublicKey
	NotBeforeMs int64 // Unix milliseconds; 0: at once
	SignedMs    int64 // Unix milliseconds: each order of a subject is newer than the one before
}

const (
	successionLabel = "key succession v1"
	possessionLabel = "key succession proof v1"
)

func (s Succession) parts() [][]byte {
	return [][]byte{[]byte(s.ClusterID), []byte(s.Subject), s.Predecessor[:], s.Successor[:],
		strconv.AppendInt(nil, s.NotBeforeMs, 10), strconv.AppendInt(nil, s.SignedMs, 10)}
}

// Order signs the statement with the predecessor's key.
func (s Succession) Order(predecessor PrivateKey) []byte {
	return SignText(predecessor, successionLabel, s.parts()...)
}

// Prove signs it with the successor's key.
func (s Succession) Prove(successor PrivateKey) []byte {
	return SignText(successor, possessionLabel, s.parts()...)
}

// Ordered checks a signature of [Succession.Order].
func (s Succession) Ordered(sig []byte) bool {
	return s.OrderedBy(s.Predecessor, sig)
}

// OrderedBy checks a signature of [Succession.Order] by another key than the predecessor, where that is no Ed25519 key:
// the one that speaks for the subject.
func (s Succession) OrderedBy(key PublicKey, sig []byte) bool {
	return VerifyText(key, sig, successionLabel, s.parts()...)
}

// Proven checks a signature of [Succession.Prove].
func (s Succession) Proven(sig []byte) bool {
	return VerifyText(s.Successor, sig, possessionLabel, s.parts()...)
}
