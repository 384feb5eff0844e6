package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/edge"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
)

// startGossip joins the pool.
func (e *Edge) startGossip() (err error) {
	card := gossip.Card{ClusterID: e.id.ClusterID, NodeID: e.id.NodeID, Name: e.cfg.Name, Role: string(fsm.RoleEdge), Gossip: e.cfg.GossipAddr, IssuedMs: time.Now().UnixMilli()}
	key := e.id.signingKey()
	err = card.Sign(key)
	clear(key)
	if err != nil {
		return err
	}
	e.pool, err = gossip.Start(gossip.Config{
		ClusterID: e.id.ClusterID, Card: card, BindAddr: e.cfg.GossipAddr, PoolKeys: e.shared.Load().ring, Seeds: e.seeds, Profile: e.cfg.Timing.Gossip,
		OnStream: e.pages.Deliver, Trust: e.trustCard, OnHead: e.acceptHead, OnNews: e.acceptNews, Log: e.log.With("part", "gossip"),
	})
	if err == nil {
		e.moved(e.sync.Status().Position)
	}
	return err
}

// trustCard: a coordinator is whom a coordinator named when this edge joined, by that key alone, or who cosigns. Edges' keys are the coordinators' to know; that a member holds the
// pool key is enough for the place where pages may be asked for, which a certificate and the checkpoint decide over.
func (e *Edge) trustCard(c gossip.Card) bool {
	known, _, member := e.book.recordOf(c.NodeID)
	var trusted bool
	switch ring := known.ring(); {
	case member && len(ring) > 0:
		if trusted = slices.ContainsFunc(ring, func(k fsm.Key) bool { return k.Public == c.Key }); !trusted {
			e.strange.Store(true) // it may have changed its key
		}
	case c.Role == string(fsm.RoleEdge):
		trusted = true
	default:
		trusted = e.sync.Status().Position.Trusted.Has(c.Key)
	}
	if trusted {
		e.heard[c.NodeID] = c // gossip bounds its members
		if c.Role == string(fsm.RoleCoordinator) {
			e.book.hear(c.NodeID, peerAddress{Name: c.Name, API: c.API, Raft: c.Raft, Gossip: c.Gossip})
		}
	} else {
		delete(e.heard, c.NodeID)
	}
	return trusted
}

// acceptHead takes a coordinator's head for a hint. Edges tell theirs to coordinators alone, and whether they are edges at all nobody here knows.
func (e *Edge) acceptHead(from string, data []byte) bool {
	h, err := parseHead(data)
	card, known := e.heard[from]
	if err != nil || !known || card.Role == string(fsm.RoleEdge) || h.Size > checkpoint.MaxSize || !crypto.VerifyText(card.Key, h.Signature, headLabel, h.parts(e.id.ClusterID, from)...) || !e.heads.rises(from, h) {
		return false
	}
	e.sync.Hint(edge.Hint{Epoch: h.Epoch, Size: h.Size})
	return true
}

// acceptNews takes a checkpoint that spreads by itself. Only one that is final, not behind this edge's own and no other spelling of an earlier one goes on to others.
func (e *Edge) acceptNews(_ string, payload []byte) bool {
	at := e.sync.Status().Position
	o, err := at.Trusted.OpenFinal(payload)
	if err != nil || o.Origin.Log != checkpoint.LogBlacklist || o.Origin.Epoch < at.Head.Epoch || o.Origin.Epoch == at.Head.Epoch && o.Size < at.Head.Size || !e.noted.rises(o) {
		return false
	}
	e.sync.Hint(edge.Hint{Epoch: o.Origin.Epoch, Size: o.Size, Note: slices.Clone(payload)})
	return true
}

// membersEvery is how often an edge looks where the coordinators are.
const membersEvery = 5 * time.Second

func (e *Edge) membersLoop(ctx context.Context) {
	for pause(ctx, membersEvery) {
		e.refreshAdmitter()
	}
}

// refreshAdmitter makes a client of the coordinators that are known now.
func (e *Edge) refreshAdmitter() {
	var addrs []string
	for _, a := range e.coordinators() {
		addrs = append(addrs, apiURL(a.API))
	}
	cas := certPEM(e.shared.Load().certs()...)
	all := strings.Join(append(addrs, string(cas)), ",")
	if len(addrs) == 0 || all == e.addrs {
		return
	}
	c, err := client.New(client.Config{Addrs: addrs, CAPEM: cas, Token: e.id.Credential})
	if err != nil {
		e.log.Warn("cannot reach the coordinators' API", "addresses", all, "error", err)
		return
	}
	e.addrs = all
	if old := e.admit.Swap(c); old != nil {
		old.Close()
	}
}

// coordinators returns where coordinators listen, those first that gossip sees alive.
func (e *Edge) coordinators() []namedAddress {
	alive := e.aliveMembers()
	var out []namedAddress
	for id, a := range e.book.coordinatorAddresses() {
		out = append(out, namedAddress{id, a, alive[id]})
	}
	slices.SortFunc(out, func(a, b namedAddress) int {
		if a.alive != b.alive {
			return map[bool]int{true: -1, false: 1}[a.alive]
		}
		return strings.Compare(a.id, b.id)
	})
	return out
}

// aliveMembers tells whom gossip sees alive, by node id.
func (e *Edge) aliveMembers() map[string]bool {
	alive := map[string]bool{}
	if e.pool != nil {
		for _, m := range e.pool.Members() {
			alive[m.Card.NodeID] = m.State == gossip.StateAlive
		}
	}
	return alive
}

type namedAddress struct {
	id string
	peerAddress
	alive bool // as gossip sees it
}

// edgeSources is how many other edges are among whom one look may ask: they share the load of the coordinators, who alone have the whole chain.
const edgeSources = 2

// sourcesFor implements edge.Config.Sources: coordinators and some other edges.
func (e *Edge) sourcesFor(uint64) []edge.Source {
	var found []foundSource
	add := func(alive bool, s edge.Source, err error) {
		if err != nil {
			e.log.Warn("a member cannot be asked", "error", err)
			return
		}
		found = append(found, foundSource{s, alive})
	}
	for _, a := range e.coordinators() {
		s, err := e.coordinatorSource(a)
		add(a.alive, s, err)
	}
	peers := e.otherEdges()
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	for _, c := range peers[:min(len(peers), edgeSources)] {
		s, err := e.edgeSource(c.NodeID)
		add(true, s, err)
	}
	return askOrder(found)
}

type foundSource struct {
	edge.Source
	alive bool // as gossip sees it
}

// askOrder puts sources in a random order, those that gossip sees alive before all others: to ask one that is dead may take a look sourceTime. Gossip may be
// wrong of the others, so they are asked too.
func askOrder(found []foundSource) (out []edge.Source) {
	rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	for _, alive := range []bool{true, false} {
		for _, s := range found {
			if s.alive == alive {
				out = append(out, s.Source)
			}
		}
	}
	return out
}

// otherEdges returns the cards of other live edges. One that is behind is left for the next source.
func (e *Edge) otherEdges() []gossip.Card {
	var out []gossip.Card
	for _, m := range e.pool.Members() {
		if m.Card.Role == string(fsm.RoleEdge) && m.Card.NodeID != e.id.NodeID && m.State == gossip.StateAlive {
			out = append(out, m.Card)
		}
	}
	return out
}

// sourceTime bounds one question to a member.
const sourceTime = 5 * time.Second

// sourceCache keeps a client for each coordinator, so that connections are kept too.
type sourceCache struct {
	mu      sync.Mutex
	clients map[string]*client.Client // by API address, at most maxSources; guarded by mu
}

// forget has all clients made anew: the CAs that they trust changed.
func (s *sourceCache) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients = nil
}

// maxSources bounds it: coordinators move, and the clients of old addresses go all at once.
const maxSources = 2 * fsm.MaxCoordinators

func (s *sourceCache) of(addr string, make func() (*client.Client, error)) (*client.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.clients[addr]; ok {
		return c, nil
	}
	c, err := make()
	if err != nil {
		return nil, err
	}
	if s.clients == nil || len(s.clients) >= maxSources {
		s.clients = map[string]*client.Client{}
	}
	s.clients[addr] = c
	return c, nil
}

// coordinatorSource asks a coordinator's API by this edge's credential.
func (e *Edge) coordinatorSource(a namedAddress) (edge.Source, error) {
	c, err := e.sources.of(a.API, func() (*client.Client, error) {
		return client.New(client.Config{Addrs: []string{apiURL(a.API)}, CAPEM: certPEM(e.shared.Load().certs()...), Token: e.id.Credential, Timeout: sourceTime, Attempts: 1})
	})
	return edge.ClientSource{ID: a.id, Client: c}, err
}

// edgeSource asks another edge by this edge's certificate.
func (e *Edge) edgeSource(id string) (edge.Source, error) {
	c, err := client.New(client.Config{Addrs: []string{"https://" + id}, Transport: e.ask, Timeout: sourceTime, Attempts: 1})
	return edge.ClientSource{ID: id, Edge: true, Client: c}, err
}

// newPeerTransport returns a transport whose hosts are node ids of edges.
func (e *Edge) newPeerTransport() *http.Transport {
	return &http.Transport{
		DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			id, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return e.dialPeer(ctx, id)
		}, IdleConnTimeout: 30 * time.Second, MaxIdleConnsPerHost: 1, MaxIdleConns: 8}
}

// dialPeer connects to another edge behind its gossip port, and makes sure that it is that one.
func (e *Edge) dialPeer(ctx context.Context, id string) (net.Conn, error) {
	for _, m := range e.pool.Members() {
		if m.Card.NodeID != id {
			continue
		}
		conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "tcp", m.Addr)
		if err != nil {
			return nil, err
		}
		secure := tls.Client(conn, e.creds.dial(protoJoin, id))
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return secure, nil
	}
	return nil, fmt.Errorf("the pool has no member %s", id)
}

// pagesListener lets members in that show a certificate of the cluster.
func (c *credentials) pagesListener(l net.Listener) net.Listener {
	return tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: c.getCertificate, NextProtos: []string{protoJoin},
		ClientAuth:             tls.RequireAnyClientCert, // verify checks the chain
		VerifyConnection:       func(s tls.ConnectionState) error { return c.verify(s, "") },
		SessionTicketsDisabled: true})
}
