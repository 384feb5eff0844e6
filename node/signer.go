package node

import (
	"crypto/ed25519"
	"slices"
	"sync"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// signer holds this node's signing keys in memory: that of before a rotation and
// that of after it, and the next one once it is announced. Whoever signs as this
// coordinator asks it for the key of the moment.
type signer struct {
	mu    sync.Mutex
	seeds map[crypto.PublicKey][]byte // guarded by mu
	first crypto.PublicKey            // of the oldest; guarded by mu
}

// hold takes the keys of an identity, and wipes what is not among them any more.
func (s *signer) hold(seeds [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := map[crypto.PublicKey][]byte{}
	for i, seed := range seeds {
		key := ed25519.NewKeyFromSeed(seed)
		held[crypto.PublicOf(key)] = slices.Clone(seed)
		if i == 0 {
			s.first = crypto.PublicOf(key)
		}
		clear(key)
	}
	for _, seed := range s.seeds {
		clear(seed)
	}
	s.seeds = held
}

func (s *signer) holds(key crypto.PublicKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seeds[key] != nil
}

func (s *signer) oldest() crypto.PublicKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first
}

// private returns a copy of a key: clear it after use. It is nil if the key is not
// held.
func (s *signer) private(key crypto.PublicKey) crypto.PrivateKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	seed := s.seeds[key]
	if seed == nil {
		return nil
	}
	return ed25519.NewKeyFromSeed(seed)
}

// signingKey returns a copy of the key that this node signs with now, as its own
// replica has it: clear it after use. There is none once all were revoked.
func (n *Node) signingKey() (crypto.PrivateKey, error) {
	pub, ok := n.signingPublic()
	if !ok {
		return nil, errNoSigningKey()
	}
	return n.signer.private(pub), nil
}

// signingPublic returns the public half of the key to sign with. Before this node
// is on record it is the one that it joins with.
func (n *Node) signingPublic() (key crypto.PublicKey, ok bool) {
	var ring fsm.Ring
	var clock int64
	n.machine.Read(func(s *fsm.State) {
		if c, known := s.Coordinator(n.id.NodeID); known {
			ring = c.Ring()
		}
		clock = s.ClockMs()
	})
	if ring == nil {
		return n.signer.oldest(), true
	}
	if k, good := ring.Signing(clock); good && n.signer.holds(k.Public) {
		return k.Public, true
	}
	for _, k := range slices.Backward(ring) { // a key file that was put back lacks the newest
		if ring.Verifies(k.Public, clock) && n.signer.holds(k.Public) {
			return k.Public, true
		}
	}
	return key, false
}

// publicKey is the key by which this node is known now.
func (n *Node) publicKey() crypto.PublicKey {
	if key, ok := n.signingPublic(); ok {
		return key
	}
	var key crypto.PublicKey
	n.machine.Read(func(s *fsm.State) {
		c, _ := s.Coordinator(n.id.NodeID)
		key = c.KeyAt(s.ClockMs())
	})
	return key
}

func errNoSigningKey() error {
	return &client.Error{Code: client.CodeUnavailable, Reason: "signing_key",
		Detail: "no signing key of this coordinator verifies: it was revoked, or its key file is older than its keys (edgecoder keys show coordinator/NODE)"}
}
