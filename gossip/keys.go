package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// Rotation is install everywhere, use everywhere, remove everywhere; the replicated key schedule drives it. Whoever installed a key says
// so with Acknowledge, so that nobody seals with one that another cannot open yet.

// ErrKey is in the chain of every error about a pool key.
var ErrKey = errors.New("gossip: pool key")

func checkKey(key []byte) error {
	if len(key) != KeyBytes {
		return fmt.Errorf("%w: %d bytes, not %d", ErrKey, len(key), KeyBytes)
	}
	return nil
}

// InstallKey lets the pool read what is sealed with the key. Installing it twice is no error.
func (p *Pool) InstallKey(key []byte) error { return p.install(key, maxKeys) }

func (p *Pool) install(key []byte, most int) error {
	if err := checkKey(key); err != nil {
		return err
	}
	p.keys.Lock()
	defer p.keys.Unlock()
	ring := p.ring.GetKeys()
	for _, k := range ring {
		if bytes.Equal(k, key) {
			return nil
		}
	}
	if len(ring) >= most {
		return fmt.Errorf("%w: %d installed already", ErrKey, len(ring))
	}
	return p.ring.AddKey(bytes.Clone(key))
}

// UseKey seals with the key from now on. It must be installed.
func (p *Pool) UseKey(key []byte) error {
	p.keys.Lock()
	defer p.keys.Unlock()
	if err := p.ring.UseKey(key); err != nil {
		return fmt.Errorf("%w: not installed", ErrKey)
	}
	return nil
}

// RemoveKey forgets a key, which must not be the one in use. Removing one that is not there is no error.
func (p *Pool) RemoveKey(key []byte) error {
	p.keys.Lock()
	defer p.keys.Unlock()
	ring := p.ring.GetKeys()
	if bytes.Equal(ring[0], key) {
		return fmt.Errorf("%w: in use", ErrKey)
	}
	at := -1
	for i, k := range ring {
		if bytes.Equal(k, key) {
			at = i
		}
	}
	if at < 0 {
		return nil
	}
	// memberlist shifts the slice in which packets are being deciphered, unless the key is the last. UseKey makes a new slice with its key in
	// front, so use each key behind ours once, then the primary again; a packet sealed in between is at worst lost.
	primary := ring[0]
	for _, k := range ring[at+1:] {
		if err := p.ring.UseKey(k); err != nil {
			return err
		}
	}
	if err := p.ring.UseKey(primary); err != nil {
		return err
	}
	return p.ring.RemoveKey(key)
}

// SetKeys makes the ring hold just these keys, and seals with the first from now on. It is install, use and remove in this order, so it
// may be called again, and from whatever ring: what both have is readable throughout, and for a moment both rings are held. Whoever gets
// its first key only now missed a rotation, and looks for the others at once.
func (p *Pool) SetKeys(keys [][]byte) error {
	if len(keys) == 0 || len(keys) > maxKeys {
		return fmt.Errorf("%w: a ring of %d, must be 1 to %d", ErrKey, len(keys), maxKeys)
	}
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			return err
		}
	}
	held := slices.ContainsFunc(p.ring.GetKeys(), func(k []byte) bool { return bytes.Equal(k, keys[0]) })
	for _, key := range keys {
		if err := p.install(key, 2*maxKeys); err != nil {
			return err
		}
	}
	if err := p.UseKey(keys[0]); err != nil {
		return err
	}
	for _, old := range p.ring.GetKeys()[1:] {
		if slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, old) }) {
			continue
		}
		if err := p.RemoveKey(old); err != nil {
			return err
		}
	}
	if !held {
		select {
		case p.rekeyed <- struct{}{}:
		default: // it is looking already
		}
	}
	return nil
}
