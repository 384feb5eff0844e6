package store

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

const rigStart = int64(1_767_225_600_000)

// rig is a data directory with a machine on top, fed as raft would.
type rig struct {
	t       testing.TB
	dir     string
	s       *Store
	machine *fsm.Machine
	index   uint64
	term    uint64
}

func rigOptions() Options { return Options{Keep: 3} }

func newRig(t testing.TB, o Options) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), term: 1}
	r.open(o)
	r.do(fsm.Actor{}, rigGenesis())
	return r
}

func rigGenesis() fsm.Genesis {
	return fsm.Genesis{
		ClusterID: "00112233445566778899aabbccddeeff", CACert: []byte("ca"),
		AdminToken: fsm.TokenCreate{ID: "admin", Hash: crypto.Sum([]byte("admin")), Role: fsm.RoleAdmin, Uses: -1},
		Coordinator: fsm.Coordinator{ID: "n0", Name: "name-n0", Role: fsm.RoleCoordinator, SigningKey: signingKey("n0"),
			EncryptionKey: bytes.Repeat([]byte{7}, 32), API: "127.0.0.1:1", Raft: "127.0.0.1:2", Gossip: "127.0.0.1:3", Level: 1, Version: "test"},
		Level: 1,
	}
}

func (r *rig) open(o Options) {
	r.t.Helper()
	s, err := Open(r.dir, o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.s = s
	r.machine = fsm.NewMachine(s.History, nil)
	r.t.Cleanup(func() { _ = s.Close() })
}

// restart closes and opens the directory, restores the newest snapshot and
// plays the log, as raft does.
func (r *rig) restart(o Options) {
	r.t.Helper()
	r.close()
	r.open(o)
	r.replay()
}

func (r *rig) restore() uint64 {
	r.t.Helper()
	metas, err := r.s.Snapshots.List()
	if err != nil || len(metas) == 0 {
		return 0
	}
	_, in, err := r.s.Snapshots.Open(metas[0].ID)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.machine.Restore(in); err != nil {
		r.t.Fatal(err)
	}
	return metas[0].Index
}

func (r *rig) close() {
	r.t.Helper()
	if err := r.s.Close(); err != nil {
		r.t.Fatal(err)
	}
}

// do stores commands in the log in one write and applies them.
func (r *rig) do(actor fsm.Actor, bodies ...any) {
	r.t.Helper()
	var logs []*raft.Log
	for _, body := range bodies {
		r.index++
		l, err := logOf(r.index, r.term, actor, body)
		if err != nil {
			r.t.Fatal(err)
		}
		logs = append(logs, l)
	}
	if err := r.s.Logs.StoreLogs(logs); err != nil {
		r.t.Fatal(err)
	}
	for _, l := range logs {
		if res := r.machine.Apply(l).(fsm.Result); !res.OK() {
			r.t.Fatalf("entry %d: %+v", l.Index, res)
		}
	}
}

// logOf is the log entry of a command, stamped by its index.
func logOf(index, term uint64, actor fsm.Actor, body any) (*raft.Log, error) {
	cmd, err := fsm.New(actor, body)
	if err != nil {
		return nil, err
	}
	cmd.AtMs = rigStart + int64(index)
	data, err := fsm.EncodeCommand(cmd)
	return &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: data, AppendedAt: time.UnixMilli(cmd.AtMs)}, err
}

// tokens makes n admin records.
func (r *rig) tokens(n int) {
	r.t.Helper()
	var bodies []any
	for i := range n {
		id := fmt.Sprintf("token-%d", r.index+uint64(i))
		bodies = append(bodies, fsm.TokenCreate{ID: id, Hash: crypto.Sum([]byte(id)), Role: fsm.RoleViewer, Uses: -1})
	}
	r.do(fsm.Actor{TokenID: "admin"}, bodies...)
}

func (r *rig) flush() {
	r.t.Helper()
	if err := r.s.History.Flush(); err != nil {
		r.t.Fatal(err)
	}
}

// snapshot takes one, as raft does, and returns its id.
func (r *rig) snapshot() string {
	r.t.Helper()
	id, err := r.trySnapshot()
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

func (r *rig) trySnapshot() (string, error) {
	snap, err := r.machine.Snapshot()
	if err != nil {
		return "", err
	}
	sink, err := createSink(r.s, r.index, r.term)
	if err != nil {
		return "", err
	}
	if err := snap.Persist(sink); err != nil {
		_ = sink.Cancel()
		return "", err
	}
	return sink.ID(), sink.Close()
}

func createSink(s *Store, index, term uint64) (raft.SnapshotSink, error) {
	_, trans := raft.NewInmemTransport("n0")
	conf := raft.Configuration{Servers: []raft.Server{{ID: "n0", Address: "n0"}}}
	return s.Snapshots.Create(1, index, term, conf, 1, trans)
}

// install writes a whole snapshot into a store, as raft does when one arrives.
func install(s *Store, index, term uint64, size int64, in io.Reader) (string, error) {
	sink, err := createSink(s, index, term)
	if err != nil {
		return "", err
	}
	n, err := io.Copy(sink, in)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes arrived, %d were announced", n, size)
	}
	if err != nil {
		_ = sink.Cancel()
		return "", err
	}
	return sink.ID(), sink.Close()
}

// contents is all that can be read from a directory.
type contents struct {
	Logs      []raft.Log
	Stable    map[string]string
	Epoch     uint64
	History   map[fsm.Stream][]fsm.Record
	Snapshots map[string]string // by id: meta and bytes
}

func contentsOf(s *Store) (c contents, err error) {
	first, err := s.Logs.FirstIndex()
	if err != nil {
		return c, err
	}
	last, err := s.Logs.LastIndex()
	if err != nil {
		return c, err
	}
	for i := first; i <= last && i > 0; i++ {
		var l raft.Log
		if err := s.Logs.GetLog(i, &l); err == raft.ErrLogNotFound {
			continue
		} else if err != nil {
			return c, err
		}
		l.AppendedAt = l.AppendedAt.UTC().Round(0)
		c.Logs = append(c.Logs, l)
	}
	c.Stable = map[string]string{}
	for _, k := range stableKeys {
		if v, err := s.Stable.Get([]byte(k)); err == nil {
			c.Stable[k] = string(v)
		} else if err.Error() != "not found" {
			return c, err
		}
	}
	c.History = map[fsm.Stream][]fsm.Record{}
	var totals fsm.Totals
	c.Epoch, totals = s.History.Totals()
	for r, err := range s.History.UpTo(totals) {
		if err != nil {
			return c, err
		}
		c.History[r.Stream] = append(c.History[r.Stream], r)
	}
	c.Snapshots = map[string]string{}
	metas, err := s.Snapshots.List()
	if err != nil {
		return c, err
	}
	for _, m := range metas {
		meta, in, err := s.Snapshots.Open(m.ID)
		if err != nil {
			return c, err
		}
		data, err := io.ReadAll(in)
		if err != nil {
			return c, err
		}
		if int64(len(data)) != meta.Size {
			return c, fmt.Errorf("%d bytes, announced %d", len(data), meta.Size)
		}
		c.Snapshots[m.ID] = fmt.Sprintf("%+v %x", *meta, crypto.Sum(data))
		_ = in.Close()
	}
	return c, nil
}

// readAll opens a directory, reads it and closes it.
func readAll(dir string) (contents, error) {
	s, err := Open(dir, rigOptions())
	if err != nil {
		return contents{}, err
	}
	c, err := contentsOf(s)
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	return c, err
}

func mustRead(t testing.TB, dir string) contents {
	t.Helper()
	c, err := readAll(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantSame(t testing.TB, what string, got, want contents) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: what is read is not what was written:\n got %.2000v\nwant %.2000v", what, got, want)
	}
}

func copyDir(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func signingKey(name string) crypto.PublicKey {
	return crypto.PublicOf(keyOf(name))
}

func writeAll(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func slurp(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func under(dir string, names ...string) string {
	return filepath.Join(append([]string{dir}, names...)...)
}
