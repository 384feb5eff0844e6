package node

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
)

// TestEdgeKnowsItsSeeds: by a CA that it trusts, or by the TLS key on record of a coordinator; whoever made the certificate else.
func TestEdgeKnowsItsSeeds(t *testing.T) {
	t.Parallel()
	key, err := newTLSKey()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := parseSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := tlsPublic(key)
	if err != nil {
		t.Fatal(err)
	}
	var cas [2]authority
	for i := range cas {
		if cas[i].Cert, cas[i].Key, err = newCA("c"); err != nil {
			t.Fatal(err)
		}
	}
	shown := func(by authority, cluster, id string, role fsm.Role) tls.ConnectionState {
		der, err := by.issueLeaf(cluster, id, role, signer.Public(), nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		leaf, _ := x509.ParseCertificate(der)
		ca, _ := x509.ParseCertificate(by.Cert)
		return tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf, ca}}
	}
	e := &Edge{id: &identity{ClusterID: "c"}, book: openAddressBook(t.TempDir(), slog.New(slog.DiscardHandler))}
	e.shared.Store(&sharedSet{cas: cas[:1]})
	e.book.record(memberFile{Index: 1, Members: map[string]peerAddress{
		"known": {Role: fsm.RoleCoordinator, TLSKey: crypto.Sum(public)}, "other": {Role: fsm.RoleCoordinator, TLSKey: crypto.Sum(nil)},
		"observer": {Role: fsm.RoleObserver, TLSKey: crypto.Sum(public)}}})
	for name, tc := range map[string]struct {
		state tls.ConnectionState
		want  bool
	}{
		"of its CA":                      {shown(cas[0], "c", "new", fsm.RoleCoordinator), true},
		"of another CA, its key known":   {shown(cas[1], "c", "known", fsm.RoleCoordinator), true},
		"of another CA, a stranger":      {shown(cas[1], "c", "new", fsm.RoleCoordinator), false},
		"of another CA, another key":     {shown(cas[1], "c", "other", fsm.RoleCoordinator), false},
		"of another CA, an observer":     {shown(cas[1], "c", "observer", fsm.RoleObserver), false},
		"of another CA, another cluster": {shown(cas[1], "d", "known", fsm.RoleCoordinator), false},
		"nobody":                         {tls.ConnectionState{}, false},
	} {
		if err := e.checkKnown(tc.state); (err == nil) != tc.want || err != nil && !errors.Is(err, errWrongSeed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEdgeLagsBehind: an edge asks when coordinators that are here hold other keys than it does, or none is here.
func TestEdgeLagsBehind(t *testing.T) {
	t.Parallel()
	e := &Edge{}
	e.shared.Store(&sharedSet{cas: []authority{{Cert: []byte("ca")}}, ring: [][]byte{poolKeyOf("a")}})
	have := e.shared.Load().acks()
	next := ackOf(poolKeyID(poolKeyOf("b")))
	member := func(role fsm.Role, state string, holds ...gossip.AckID) gossip.Member {
		return gossip.Member{Card: gossip.Card{Role: string(role)}, State: state, Holds: holds}
	}
	for name, tc := range map[string]struct {
		members []gossip.Member
		want    bool
	}{
		"the same":                       {[]gossip.Member{member(fsm.RoleCoordinator, gossip.StateAlive, have...)}, false},
		"nobody said anything":           {[]gossip.Member{member(fsm.RoleCoordinator, gossip.StateAlive)}, false},
		"one has a new key":              {[]gossip.Member{member(fsm.RoleCoordinator, gossip.StateAlive, have...), member(fsm.RoleCoordinator, gossip.StateSuspect, append(have[:len(have):len(have)], next)...)}, true},
		"an old key is over":             {[]gossip.Member{member(fsm.RoleCoordinator, gossip.StateAlive, have[0])}, true},
		"an edge has a new key":          {[]gossip.Member{member(fsm.RoleCoordinator, gossip.StateAlive, have...), member(fsm.RoleEdge, gossip.StateAlive, next)}, false},
		"a dead coordinator has another": {[]gossip.Member{member(fsm.RoleCoordinator, gossip.StateAlive, have...), member(fsm.RoleCoordinator, gossip.StateDead, next)}, false},
		"alone among edges":              {[]gossip.Member{member(fsm.RoleEdge, gossip.StateAlive, have...)}, true},
	} {
		if got := e.lagsBehind(tc.members); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func poolKeyOf(name string) []byte { h := crypto.Sum([]byte(name)); return h[:] }
