package crypto

import (
	"bytes"
	"testing"
)

// TestSuccessionBindsEverything: an order and a proof are for one statement and
// one purpose, and no bit of either may change.
func TestSuccessionBindsEverything(t *testing.T) {
	key := func(b byte) PrivateKey { return testKey(t, b) }
	old, next := key(1), key(2)
	s := Succession{ClusterID: "c", Subject: "agent/a", Predecessor: PublicOf(old), Successor: PublicOf(next), NotBeforeMs: 5, SignedMs: 7}
	order, proof := s.Order(old), s.Prove(next)
	if !s.Ordered(order) || !s.Proven(proof) {
		t.Fatal("a good statement is refused")
	}
	if s.Ordered(proof) || s.Proven(order) || s.Ordered(s.Order(next)) || s.Proven(s.Prove(old)) {
		t.Error("a signature counts for the other purpose, or by the other key")
	}
	for name, change := range map[string]func(*Succession){
		"cluster":     func(s *Succession) { s.ClusterID = "d" },
		"subject":     func(s *Succession) { s.Subject = "agent/b" },
		"moved":       func(s *Succession) { s.ClusterID, s.Subject = "cagent", "/a" },
		"predecessor": func(s *Succession) { s.Predecessor = PublicOf(key(3)) },
		"successor":   func(s *Succession) { s.Successor = PublicOf(key(3)) },
		"begin":       func(s *Succession) { s.NotBeforeMs++ },
		"time":        func(s *Succession) { s.SignedMs++ },
		"digits":      func(s *Succession) { s.NotBeforeMs, s.SignedMs = 57, 0 },
	} {
		other := s
		change(&other)
		if other.Ordered(order) || other.Proven(proof) {
			t.Errorf("%s: the signature is good for another statement", name)
		}
	}
	for i := range order {
		bad := bytes.Clone(order)
		bad[i] ^= 1
		if s.Ordered(bad) {
			t.Errorf("byte %d of the order may change", i)
		}
	}
}

// TestSuccessionGolden: what stands in logs verifies for ever.
func TestSuccessionGolden(t *testing.T) {
	old := testKey(t, 1)
	s := Succession{ClusterID: "c", Subject: "agent/a", Predecessor: PublicOf(old), Successor: PublicOf(testKey(t, 2)), NotBeforeMs: 5, SignedMs: 7}
	const want = "7f13827639c9c5bcb54d74abfd576ae79133fadc506cdd6698217b0237baa2c5"
	if got := Sum(s.Order(old)).String(); got != want {
		t.Errorf("the order hashes to %s, stored ones to %s", got, want)
	}
}
