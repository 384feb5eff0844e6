package store

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// BenchmarkScale shows what a node with that many chain events costs: memory of
// the machine, a local snapshot, a restart, and the installation on an empty
// replica. Only the last may grow with history. Use -benchtime 1x.
func BenchmarkScale(b *testing.B) {
	for _, events := range []int{1_000, 200_000, 2_000_000} {
		b.Run(fmt.Sprintf("events=%d", events), func(b *testing.B) {
			for b.Loop() {
				runScale(b, events)
			}
		})
	}
}

func runScale(b *testing.B, events int) {
	dir := b.TempDir()
	s, m := openMachine(b, dir)
	before := liveHeap()
	feedEvents(b, m, events)
	if err := s.History.Flush(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(liveHeap()-before)/(1<<20), "live-MiB")

	start := time.Now()
	size := takeSnapshot(b, s, m)
	b.ReportMetric(float64(time.Since(start).Microseconds())/1e3, "snapshot-ms")
	b.ReportMetric(float64(size)/(1<<20), "snapshot-MiB")
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}

	start = time.Now()
	s, m = openMachine(b, dir)
	_, in := newestSnapshot(b, s)
	if err := m.Restore(in); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(time.Since(start).Microseconds())/1e3, "restart-ms")

	start = time.Now()
	empty, other := openMachine(b, b.TempDir())
	meta, in := newestSnapshot(b, s)
	sink, err := empty.Snapshots.Create(1, meta.Index, meta.Term, meta.Configuration, meta.ConfigurationIndex, noTransport())
	if err != nil {
		b.Fatal(err)
	}
	n, err := io.Copy(sink, in)
	if err != nil || n != meta.Size {
		b.Fatalf("%d of %d bytes, %v", n, meta.Size, err)
	}
	if err := sink.Close(); err != nil {
		b.Fatal(err)
	}
	if _, in = newestSnapshot(b, empty); other.Restore(in) != nil {
		b.Fatal("the snapshot cannot be restored")
	}
	b.ReportMetric(time.Since(start).Seconds(), "install-s")
	b.ReportMetric(float64(meta.Size)/(1<<20), "install-MiB")
	if _, t := empty.History.Totals(); t[fsm.StreamBlacklist] != uint64(events) {
		b.Fatalf("%v records arrived", t)
	}
	for _, s := range []*Store{s, empty} {
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func openMachine(b *testing.B, dir string) (*Store, *fsm.Machine) {
	b.Helper()
	s, err := Open(dir, Options{Keep: 3})
	if err != nil {
		b.Fatal(err)
	}
	return s, fsm.NewMachine(s.History, nil)
}

// liveHeap is what is left after a collection.
func liveHeap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(min(m.HeapAlloc, math.MaxInt64))
}

// feedEvents applies a genesis and that many bans of a thousand agents, so
// that the live state has one size whatever the history.
func feedEvents(b *testing.B, m *fsm.Machine, events int) {
	b.Helper()
	key, err := crypto.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	index, at := uint64(0), int64(1_800_000_000_000)
	apply := func(actor fsm.Actor, body any) {
		index++
		cmd, err := fsm.New(actor, body)
		if err != nil {
			b.Fatal(err)
		}
		cmd.AtMs = at
		data, err := fsm.EncodeCommand(cmd)
		if err != nil {
			b.Fatal(err)
		}
		if res := m.Apply(&raft.Log{Type: raft.LogCommand, Index: index, Term: 1, Data: data}).(fsm.Result); !res.OK() {
			b.Fatalf("index %d: %+v", index, res)
		}
	}
	id := crypto.PublicOf(key).CoordinatorID()
	apply(fsm.Actor{}, fsm.Genesis{ClusterID: "00112233445566778899aabbccddeeff", CACert: []byte("ca"), Level: 1,
		AdminToken: fsm.TokenCreate{ID: "admin", Hash: crypto.Sum([]byte("admin")), Role: fsm.RoleAdmin, Uses: -1},
		Coordinator: fsm.Coordinator{ID: "n0", Name: "n0", Role: fsm.RoleCoordinator, SigningKey: crypto.PublicOf(key),
			EncryptionKey: bytes.Repeat([]byte{7}, 32), API: "h:1", Raft: "h:2", Gossip: "h:3"}})
	head := crypto.BlacklistGenesis
	for i := range events {
		e := crypto.BlacklistEvent{EventID: fmt.Sprintf("event-%d", i), AgentID: fmt.Sprintf("agent-%d", i%1000), ReasonCode: crypto.ReasonManualReview,
			Reason: "seen to misbehave in a way that takes a sentence to tell", EvidenceHashSHA256: crypto.Sum(fmt.Appendf(nil, "%d", i)).String(),
			ReporterID: "operator", ReportedBy: "operator", SourceCoordinatorID: id, TimestampMs: at}
		e.Link(head, key)
		head = e.EventHash
		apply(fsm.Actor{TokenID: "admin"}, fsm.BlacklistAppend{Event: e})
	}
}

func takeSnapshot(b testing.TB, s *Store, m *fsm.Machine) int64 {
	b.Helper()
	snapshot, err := m.Snapshot()
	if err != nil {
		b.Fatal(err)
	}
	index, _ := m.Index()
	one := raft.Configuration{Servers: []raft.Server{{ID: "n0", Address: "n0"}}}
	sink, err := s.Snapshots.Create(1, index, 1, one, 1, noTransport())
	if err != nil {
		b.Fatal(err)
	}
	counted := &countingSink{SnapshotSink: sink}
	if err := snapshot.Persist(counted); err != nil {
		b.Fatal(err)
	}
	return counted.n
}

// noTransport encodes addresses, which is all that the file store asks of one.
func noTransport() raft.Transport {
	_, t := raft.NewInmemTransport("n0")
	return t
}

type countingSink struct {
	raft.SnapshotSink
	n int64
}

func (s *countingSink) Write(p []byte) (int, error) {
	n, err := s.SnapshotSink.Write(p)
	s.n += int64(n)
	return n, err
}

func newestSnapshot(b testing.TB, s *Store) (*raft.SnapshotMeta, io.ReadCloser) {
	b.Helper()
	all, err := s.Snapshots.List()
	if err != nil || len(all) == 0 {
		b.Fatalf("%d snapshots, %v", len(all), err)
	}
	meta, in, err := s.Snapshots.Open(all[0].ID)
	if err != nil {
		b.Fatal(err)
	}
	return meta, in
}
