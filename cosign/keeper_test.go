package cosign

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/fsm"
)

// memoryLog is a log in memory that a test may tamper with.
type memoryLog struct{ records [][]byte }

func (l *memoryLog) TreeSize() uint64 { return uint64(len(l.records)) }

func (l *memoryLog) TreeRoot(size uint64) (crypto.Hash, error) {
	if size > l.TreeSize() {
		return crypto.Hash{}, errors.New("not so many")
	}
	var f checkpoint.Frontier
	for _, r := range l.records[:size] {
		f.Append(checkpoint.LeafHash(r))
	}
	return f.Root(), nil
}

func (l *memoryLog) Read(from uint64, limit int) (out []fsm.Record, err error) {
	for seq := from; seq <= l.TreeSize() && len(out) < limit; seq++ {
		out = append(out, fsm.Record{Seq: seq, Index: seq, Data: l.records[seq-1]})
	}
	return out, nil
}

func logOf(n int) *memoryLog {
	l := &memoryLog{}
	for i := range n {
		l.records = append(l.records, fmt.Appendf(nil, "record %d", i+1))
	}
	return l
}

func key(n byte) crypto.PrivateKey {
	priv, err := crypto.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{n}, 32)))
	if err != nil {
		panic(err)
	}
	return priv
}

var origin = checkpoint.Origin{ClusterID: "c", Log: checkpoint.LogBlacklist, Epoch: 1}

type bench struct {
	t   *testing.T
	dir string
	log *memoryLog
	*Keeper
	set     checkpoint.Set
	checked []uint64 // records that were checked, in order
	bad     uint64   // the record that is not sound; 0: all are
}

func newBench(t *testing.T, n int) *bench {
	b := &bench{t: t, dir: t.TempDir(), log: logOf(n)}
	set, err := checkpoint.NewSet("c", 1, 0, crypto.Hash{}, []crypto.PublicKey{crypto.PublicOf(key(1)), crypto.PublicOf(key(2)), crypto.PublicOf(key(3))})
	if err != nil {
		t.Fatal(err)
	}
	b.set = set
	b.open()
	return b
}

// open starts the coordinator anew on its data.
func (b *bench) open() {
	b.t.Helper()
	k, err := Open(b.dir, "blacklist", b.log, func(before *fsm.Record, r fsm.Record) error {
		if (before == nil) != (r.Seq == 1) || before != nil && before.Seq != r.Seq-1 {
			b.t.Errorf("record %d was checked after %+v", r.Seq, before)
		}
		b.checked = append(b.checked, r.Seq)
		if r.Seq == b.bad {
			return errors.New("forged")
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.Keeper = k
}

func (b *bench) head() checkpoint.Checkpoint {
	b.t.Helper()
	c, err := b.Head(origin)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *bench) cosign(c checkpoint.Checkpoint) error {
	line, err := b.Cosign(context.Background(), c, origin, key(1), 100)
	if err == nil {
		_, err = checkpoint.VerifyCosignature(c, line, crypto.PublicOf(key(1)))
	}
	return err
}

func (b *bench) note(c checkpoint.Checkpoint, at int64, by ...byte) []byte {
	n := checkpoint.Note{Checkpoint: c, Signatures: []checkpoint.Signature{checkpoint.SignLog(key(1), c)}}
	for _, k := range by {
		n.Signatures = append(n.Signatures, checkpoint.Cosign(key(k), c, at))
	}
	return n.Encode()
}

func isFork(err error) bool {
	f := (*Fork)(nil)
	return errors.As(err, &f)
}

// TestCosignsOnlyItsOwnRecords: what it is asked to sign must be of its own log, of its own epoch, and as it has it.
func TestCosignsOnlyItsOwnRecords(t *testing.T) {
	b := newBench(t, 5)
	good := b.head()
	forged, larger, other, epoch := good, good, good, good
	forged.Root[0] ^= 1
	larger.Size++
	other.Origin.Log, epoch.Origin.Epoch = checkpoint.LogLedger, 2
	for name, c := range map[string]struct {
		head checkpoint.Checkpoint
		want error
	}{"larger": {larger, ErrBehind}, "another log": {other, ErrOrigin}, "another epoch": {epoch, ErrOrigin}} {
		if err := b.cosign(c.head); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.cosign(forged); !isFork(err) {
		t.Errorf("another root: %v", err)
	}
	if err := b.cosign(good); err != nil {
		t.Error(err)
	}
}

// TestCosignsNothingSmaller: not even after a restart.
func TestCosignsNothingSmaller(t *testing.T) {
	b := newBench(t, 5)
	small := b.head()
	b.log.records = append(b.log.records, []byte("more"))
	if err := b.cosign(b.head()); err != nil {
		t.Fatal(err)
	}
	b.open()
	if err := b.cosign(small); !errors.Is(err, ErrSmaller) {
		t.Errorf("a replayed older head: %v", err)
	}
	if err := b.cosign(b.head()); err != nil {
		t.Errorf("the same again: %v", err)
	}
}

// TestChecksEachRecordOnce: what a promise covers is not checked again after a restart; what is not sound is withheld,
// and named, for ever.
func TestChecksEachRecordOnce(t *testing.T) {
	b := newBench(t, 200)
	if err := b.cosign(b.head()); err != nil || len(b.checked) != 200 {
		t.Fatalf("%v, %d checked", err, len(b.checked))
	}
	b.open()
	b.checked = nil
	b.log.records, b.bad = append(b.log.records, []byte("201"), []byte("202")), 202
	for range 2 {
		bad := (*RecordError)(nil)
		if err := b.cosign(b.head()); !errors.As(err, &bad) || bad.Seq != 202 {
			t.Errorf("a record that is not sound: %v", err)
		}
	}
	if len(b.checked) != 3 || b.checked[0] != 201 {
		t.Errorf("checked %v", b.checked)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	b.open()
	b.made, b.bad = nil, 0
	if err := b.CheckTo(ctx, origin, 202); !errors.Is(err, context.Canceled) {
		t.Errorf("without time: %v", err)
	}
}

// TestTamperedHistoryIsCaught: the coordinator whose records were changed, or cut off, under it signs nothing and says
// so, with both heads kept.
func TestTamperedHistoryIsCaught(t *testing.T) {
	for name, tamper := range map[string]func(*memoryLog){
		"changed":   func(l *memoryLog) { l.records[2] = []byte("forged") },
		"cut off":   func(l *memoryLog) { l.records = l.records[:4] },
		"other end": func(l *memoryLog) { l.records = append(l.records[:4], []byte("x"), []byte("y")) },
	} {
		b := newBench(t, 5)
		if err := b.cosign(b.head()); err != nil {
			t.Fatal(err)
		}
		tamper(b.log)
		b.open()
		err := b.Honest(origin, true)
		f := (*Fork)(nil)
		if !errors.As(err, &f) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for try := range 2 { // told twice, kept once
			file, fresh, err := b.KeepEvidence(Evidence{Fork: f, There: []byte("the note")})
			text, _ := os.ReadFile(file)
			if err != nil || fresh != (try == 0) || !bytes.Contains(text, f.Mine.Text()) || !bytes.Contains(text, f.Theirs.Text()) || !bytes.HasSuffix(text, []byte("the note")) {
				t.Errorf("%s: evidence %q, %v", name, text, err)
			}
		}
		if kept, _ := filepath.Glob(filepath.Join(b.dir, "fork-*")); len(kept) != 1 {
			t.Errorf("%s: kept %v", name, kept)
		}
		if err := b.cosign(b.head()); err == nil {
			t.Errorf("%s: it signed a second history", name)
		}
	}
	b := newBench(t, 5)
	if err := b.cosign(b.head()); err != nil {
		t.Fatal(err)
	}
	b.log.records = b.log.records[:2]
	if err := b.Honest(origin, false); err != nil {
		t.Errorf("a replica that is still fetching: %v", err)
	}
}

// TestEvidenceIsBounded: a liar does not fill the disk.
func TestEvidenceIsBounded(t *testing.T) {
	b := newBench(t, 1)
	for i := range maxEvidence + 1 {
		f := &Fork{Mine: b.head(), Theirs: b.head(), What: "a test"}
		f.Theirs.Root = crypto.Sum([]byte{byte(i)})
		if _, _, err := b.KeepEvidence(Evidence{Fork: f}); (err != nil) != (i == maxEvidence) {
			t.Errorf("pair %d: %v", i, err)
		}
	}
}

// TestAdopts: a checkpoint takes the place of another if a majority vouches for it and it is newer; what contradicts
// what is known is a fork, whoever signed it.
func TestAdopts(t *testing.T) {
	b := newBench(t, 5)
	c := b.head()
	adopt := func(note []byte) (bool, error) { return b.Adopt(note, b.set, origin) }
	if _, err := adopt(b.note(c, 10, 1)); !errors.Is(err, checkpoint.ErrNotFinal) {
		t.Errorf("by one coordinator only: %v", err)
	}
	if fresh, err := adopt(b.note(c, 10, 1, 2)); !fresh || err != nil {
		t.Fatal(fresh, err)
	}
	older := logOf(3)
	root, _ := older.TreeRoot(3)
	for name, note := range map[string][]byte{
		"replayed": b.note(c, 10, 1, 2), "staler": b.note(c, 9, 1, 2),
		"smaller": b.note(checkpoint.Checkpoint{Origin: origin, Size: 3, Root: root}, 99, 1, 2, 3),
	} {
		if fresh, err := adopt(note); fresh || err != nil {
			t.Errorf("%s: %t, %v", name, fresh, err)
		}
	}
	for _, note := range [][]byte{b.note(c, 10, 1, 2, 3), b.note(c, 11, 1, 2)} {
		if fresh, err := adopt(note); !fresh || err != nil {
			t.Errorf("a fresher one: %t, %v", fresh, err)
		}
	}
	forged := c
	forged.Root[0] ^= 1
	if _, err := adopt(b.note(forged, 12, 1, 2)); !isFork(err) {
		t.Errorf("another root of the same size: %v", err)
	}
	epoch := c
	epoch.Origin.Epoch++
	if _, err := adopt(b.note(epoch, 12, 1, 2)); !errors.Is(err, ErrOrigin) {
		t.Errorf("another epoch: %v", err)
	}
	b.open()
	if _, _, ok := b.Newest(origin); ok {
		t.Error("it was not loaded yet")
	}
	if err := b.Load(b.set, origin); err != nil {
		t.Error(err)
	}
	if _, held, ok := b.Newest(origin); !ok || held.MajorityAtS() != 11 {
		t.Errorf("after a restart: %+v", held)
	}
}

// TestAdoptsBeforeItsRecords: a checkpoint may come before the records; they are held to it when they are here.
func TestAdoptsBeforeItsRecords(t *testing.T) {
	b := newBench(t, 5)
	c := b.head()
	b.log.records = b.log.records[:3]
	if fresh, err := b.Adopt(b.note(c, 10, 1, 2), b.set, origin); !fresh || err != nil {
		t.Fatal(fresh, err)
	}
	if err := b.Confirm(origin); err != nil {
		t.Errorf("too early: %v", err)
	}
	b.log.records = append(b.log.records, []byte("forged"), []byte("forged"))
	if err := b.Confirm(origin); !isFork(err) {
		t.Errorf("forged records: %v", err)
	}
	b.log.records = logOf(5).records
	if err := b.Confirm(origin); err != nil {
		t.Error(err)
	}
}

// TestClosedKeeperWritesNothing: a call that outlives its node leaves no file behind.
func TestClosedKeeperWritesNothing(t *testing.T) {
	b := newBench(t, 2)
	b.Close()
	if err := b.cosign(b.head()); !errors.Is(err, ErrClosed) {
		t.Errorf("cosign: %v", err)
	}
	if _, err := b.Adopt(b.note(b.head(), 1, 1, 2), b.set, origin); !errors.Is(err, ErrClosed) {
		t.Errorf("adopt: %v", err)
	}
	if left, _ := os.ReadDir(b.dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestPromisesSurvive: of several epochs, in one file that must be sound.
func TestPromisesSurvive(t *testing.T) {
	b := newBench(t, 2)
	var all promises
	for e := range uint64(maxPromises + 5) {
		c := b.head()
		c.Origin.Epoch = e
		all = all.with(c)
	}
	path := filepath.Join(b.dir, "cosigned-blacklist")
	if err := all.write(path); err != nil {
		t.Fatal(err)
	}
	got, err := readPromises(path)
	if err != nil || len(got) != maxPromises || got[len(got)-1] != all[len(all)-1] {
		t.Fatalf("%d promises, %v", len(got), err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{"cut off": string(text[:len(text)-3]), "empty": "", "two newlines": string(text) + "\n", "junk": "x" + string(text),
		"many": strings.Repeat(string(text)+"\n", 2) + string(text)} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(b.dir, "blacklist", b.log, nil); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCosignsNothingBesideAFinalCheckpoint: a node whose promises are gone, and whom a leader that lies feeds other
// records, signs nothing that the final checkpoint it holds contradicts.
func TestCosignsNothingBesideAFinalCheckpoint(t *testing.T) {
	truth := logOf(3)
	root, err := truth.TreeRoot(2)
	if err != nil {
		t.Fatal(err)
	}
	with := func(records *memoryLog) *bench {
		b := newBench(t, 1)
		final := b.head()
		final.Size, final.Root = 2, root
		if _, err := b.Adopt(b.note(final, 100, 2, 3), b.set, origin); err != nil { // before its records are here
			t.Fatal(err)
		}
		b.log.records = records.records
		return b
	}
	lie := func(n int) *memoryLog {
		l := logOf(n)
		l.records[1] = []byte("another second record")
		return l
	}
	f := (*Fork)(nil)
	b := with(lie(2))
	if err := b.cosign(b.head()); !errors.As(err, &f) || f.Mine.Root != root {
		t.Errorf("the same size, another root: %v", err)
	}
	b = with(lie(3))
	if err := b.cosign(b.head()); !errors.As(err, &f) {
		t.Errorf("a larger one over other records: %v", err)
	}
	b = with(logOf(1))
	if err := b.cosign(b.head()); !errors.Is(err, ErrSmaller) {
		t.Errorf("a smaller one: %v", err)
	}
	b = with(truth)
	if err := b.cosign(b.head()); err != nil {
		t.Errorf("what the final one leads to: %v", err)
	}
}
