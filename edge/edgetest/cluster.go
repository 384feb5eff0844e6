// Package edgetest is a cluster for tests of edges: coordinators in one place that sign events, checkpoints and cosigner sets as real
// ones do, and can be made to lie. No sockets, no clock of its own.
package edgetest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/edge"
)

// ClusterID is that of every cluster here.
const ClusterID = "00112233445566778899aabbccddeeff"

// Seal is what edges here seal their files with.
var Seal = bytes.Repeat([]byte{7}, 32)

// Cluster is a log with its cosigners. All methods may be called from any goroutine.
type Cluster struct {
	mu     sync.Mutex
	nowS   func() int64
	keys   []crypto.PrivateKey // of who cosigns now
	ever   []crypto.PublicKey  // that signed events, or may have
	sets   []checkpoint.SignedSet
	epoch  uint64
	events []crypto.BlacklistEvent
	tree   checkpoint.Frontier
	bans   map[string]string // event hash of the ban in force
	note   []byte
}

// New returns a cluster of n coordinators with a checkpoint of nothing. nowS is the wall clock of all of them, Unix seconds.
func New(n int, nowS func() int64) *Cluster {
	c := &Cluster{nowS: nowS, epoch: 1, bans: map[string]string{}}
	for i := range n {
		c.keys = append(c.keys, Key(i))
	}
	c.ever = publics(c.keys)
	set := must(checkpoint.NewSet(ClusterID, 1, 1, crypto.Hash{}, publics(c.keys)))
	c.sets = []checkpoint.SignedSet{sign(set, c.keys)}
	c.note = c.cosigned(len(c.keys), c.tree.Checkpoint(c.origin()))
	return c
}

// Key returns the signing key of the i-th coordinator.
func Key(i int) crypto.PrivateKey {
	return ed25519.NewKeyFromSeed(binary.BigEndian.AppendUint64(make([]byte, 24), uint64(i)+1))
}

func publics(keys []crypto.PrivateKey) (out []crypto.PublicKey) {
	for _, k := range keys {
		out = append(out, crypto.PublicOf(k))
	}
	return out
}

func sign(set checkpoint.Set, by []crypto.PrivateKey) checkpoint.SignedSet {
	s := checkpoint.SignedSet{Set: set}
	for _, k := range by {
		s.Signatures = append(s.Signatures, set.Sign(k))
	}
	return s
}

func (c *Cluster) origin() checkpoint.Origin {
	return checkpoint.Origin{ClusterID: ClusterID, Log: checkpoint.LogBlacklist, Epoch: c.epoch}
}

// Pinned is the position of an edge that joins now and knows nothing but the cosigners.
func (c *Cluster) Pinned() edge.Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	return edge.NewPosition(c.sets[len(c.sets)-1])
}

// Ban appends n bans, on agents prefix-0 and so on; expiresMs 0: permanent.
func (c *Cluster) Ban(prefix string, n int, expiresMs int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range n {
		c.append(fmt.Sprintf("%s-%d", prefix, i), expiresMs)
	}
}

func (c *Cluster) append(agent string, expiresMs int64) {
	e := c.event(agent)
	if expiresMs != 0 {
		e.ExpiresAtMs = &expiresMs
	}
	c.link(e)
	c.bans[agent] = c.events[len(c.events)-1].EventHash
}

func (c *Cluster) event(agent string) crypto.BlacklistEvent {
	return crypto.BlacklistEvent{EventID: fmt.Sprintf("event-%d-%d", c.epoch, len(c.events)), AgentID: agent, ReasonCode: crypto.ReasonManualReview,
		Reason: "a test", EvidenceHashSHA256: crypto.Sum([]byte(agent)).String(), ReporterID: "tester", ReportedBy: "tester", TimestampMs: c.nowS() * 1000}
}

func (c *Cluster) link(e crypto.BlacklistEvent) {
	head := crypto.BlacklistGenesis
	if n := len(c.events); n > 0 {
		head = c.events[n-1].EventHash
	}
	e.Link(head, c.keys[len(c.events)%len(c.keys)])
	c.events = append(c.events, e)
	c.tree.Append(checkpoint.LeafHash(e.WireJSON()))
}

// Lift appends the lift of a ban that is in force.
func (c *Cluster) Lift(agent string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.event(agent)
	at := e.TimestampMs - 1
	e.ExpiresAtMs, e.EvidenceHashSHA256 = &at, c.bans[agent]
	c.link(e)
	delete(c.bans, agent)
}

// Size is how many events there are.
func (c *Cluster) Size() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return uint64(len(c.events))
}

// Epoch is the recovery epoch.
func (c *Cluster) Epoch() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch
}

// Cosign has the first n coordinators vouch for what there is, and serves that from now on.
func (c *Cluster) Cosign(n int) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note = c.cosigned(n, c.tree.Checkpoint(c.origin()))
	return c.note
}

// Forge returns a checkpoint of any root, cosigned by the first n.
func (c *Cluster) Forge(n int, size uint64, root crypto.Hash) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cosigned(n, checkpoint.Checkpoint{Origin: c.origin(), Size: size, Root: root})
}

// Serve has the cluster serve a checkpoint, true or not.
func (c *Cluster) Serve(note []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note = note
}

// Note is the checkpoint that is served.
func (c *Cluster) Note() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.note
}

func (c *Cluster) cosigned(n int, cp checkpoint.Checkpoint) []byte {
	note := checkpoint.Note{Checkpoint: cp, Signatures: []checkpoint.Signature{checkpoint.SignLog(c.keys[0], cp)}}
	for _, k := range c.keys[:n] {
		note.Signatures = append(note.Signatures, checkpoint.Cosign(k, cp, c.nowS()))
	}
	return note.Encode()
}

// Recover begins a new epoch that keeps the first n events.
func (c *Cluster) Recover(keep int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	c.events, c.tree = c.events[:keep:keep], checkpoint.Frontier{}
	for _, e := range c.events {
		c.tree.Append(checkpoint.LeafHash(e.WireJSON()))
	}
	c.note = c.cosigned(len(c.keys), c.tree.Checkpoint(c.origin()))
}

// Rewind forgets all cosigner sets behind the first n, and who was in them: a recovery from a copy.
func (c *Cluster) Rewind(n int, by ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sets, c.keys = c.sets[:n:n], nil
	for _, i := range by {
		c.keys = append(c.keys, Key(i))
	}
}

// Replace makes others the coordinators, by the signatures of the first n so far.
func (c *Cluster) Replace(n int, by ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.sets[len(c.sets)-1]
	var keys []crypto.PrivateKey
	for _, i := range by {
		keys = append(keys, Key(i))
	}
	next := must(checkpoint.NewSet(ClusterID, last.Version+1, c.epoch, last.Hash(), publics(keys)))
	c.sets = append(c.sets, sign(next, c.keys[:n]))
	c.keys = keys
	c.ever = append(c.ever, publics(keys)...)
}

// Member is one way to the cluster, as an edge.Source. Once somebody may ask, its fields are changed by Change alone.
type Member struct {
	ID      string
	Edge    bool // an edge, not a coordinator
	Cluster *Cluster
	Before  func(ctx context.Context, what string) error // called before each answer: delay, failure
	Tamper  func(seq uint64, record []byte) []byte       // changes what is served
	Upto    uint64                                       // serves no later event; 0: all
	Skip    uint64                                       // leaves out this event; 0: none
	Stuck   []byte                                       // the checkpoint that it serves; nil: the newest
	Most    int                                          // events in a page; 0: as many as are asked for
	Tell    func([]crypto.PublicKey) []crypto.PublicKey  // changes which keys it tells
	Asked   func(what string, bytes int)                 // told of each answer

	mu sync.Mutex // guards the fields above
}

// Change changes how a member behaves while others ask it.
func (m *Member) Change(f func(*Member)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m)
}

// Name implements edge.Source.
func (m *Member) Name() string { return m.ID }

// Coordinator implements edge.Source.
func (m *Member) Coordinator() bool { return !m.Edge }

func (m *Member) answer(ctx context.Context, what string) error {
	m.mu.Lock()
	before := m.Before
	m.mu.Unlock()
	if before != nil {
		if err := before(ctx, what); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (m *Member) tell(what string, bytes int) {
	m.mu.Lock()
	asked := m.Asked
	m.mu.Unlock()
	if asked != nil {
		asked(what, bytes)
	}
}

// Checkpoint implements edge.Source.
func (m *Member) Checkpoint(ctx context.Context) ([]byte, error) {
	if err := m.answer(ctx, "checkpoint"); err != nil {
		return nil, err
	}
	note := m.Cluster.Note()
	if m.Stuck != nil {
		note = m.Stuck
	}
	m.tell("checkpoint", len(note))
	return note, nil
}

// Cosigners implements edge.Source.
func (m *Member) Cosigners(ctx context.Context, from uint64) (notes [][]byte, err error) {
	if err := m.answer(ctx, "cosigners"); err != nil {
		return nil, err
	}
	m.Cluster.mu.Lock()
	defer m.Cluster.mu.Unlock()
	for _, s := range m.Cluster.sets {
		if s.Version >= from {
			notes = append(notes, s.Encode())
		}
	}
	return notes, nil
}

// Events implements edge.Source.
func (m *Member) Events(ctx context.Context, from uint64, limit int) (events [][]byte, err error) {
	if err := m.answer(ctx, "events"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	tamper, upto, skip := m.Tamper, m.Upto, m.Skip
	if m.Most > 0 {
		limit = min(limit, m.Most)
	}
	m.mu.Unlock()
	m.Cluster.mu.Lock()
	defer m.Cluster.mu.Unlock()
	bytes := 0
	for seq := from; seq <= uint64(len(m.Cluster.events)) && len(events) < limit && (upto == 0 || seq <= upto); seq++ {
		if seq == skip {
			continue
		}
		record := m.Cluster.events[seq-1].WireJSON()
		if tamper != nil {
			record = tamper(seq, record)
		}
		events = append(events, record)
		bytes += len(record)
	}
	m.tell("events", bytes)
	return events, nil
}

// Keys implements edge.Source.
func (m *Member) Keys(ctx context.Context) ([]crypto.PublicKey, error) {
	if err := m.answer(ctx, "keys"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	tell := m.Tell
	m.mu.Unlock()
	m.Cluster.mu.Lock()
	defer m.Cluster.mu.Unlock()
	keys := append([]crypto.PublicKey(nil), m.Cluster.ever...)
	if tell != nil {
		keys = tell(keys)
	}
	return keys, nil
}

// ErrDown is what a member answers that is down.
var ErrDown = errors.New("the member is down")

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
