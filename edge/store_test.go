package edge

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

// walk is a list that grows by steps which verify, for stores: one cosigner.
type walk struct {
	key crypto.PrivateKey
	at  Position
	v   *View
}

const testCluster = "00112233445566778899aabbccddeeff"

var testSeal = sealKey(strings.Repeat("k", 32))

func newWalk(t testing.TB) *walk {
	t.Helper()
	key := newReplicaKey()
	set, err := checkpoint.NewSet(testCluster, 1, 1, crypto.Hash{}, []crypto.PublicKey{crypto.PublicOf(key)})
	if err != nil {
		t.Fatal(err)
	}
	return &walk{key: key, at: NewPosition(checkpoint.SignedSet{Set: set, Signatures: []checkpoint.Signature{set.Sign(key)}}), v: emptyView()}
}

// step makes the next n bans and the position behind them.
func (w *walk) step(t testing.TB, n int) (from uint64, changes []Change) {
	t.Helper()
	from = w.at.Head.Size
	next := w.at
	for i := range n {
		seq := from + uint64(i) + 1
		next.Frontier.Append(checkpoint.LeafHash(fmt.Appendf(nil, "event %d", seq)))
		changes = append(changes, Change{Key: KeyOf(fmt.Sprintf("agent-%d", seq)), Ban: Ban{Seq: seq, ExpiresMs: int64(seq % 2 * 4e12)}})
	}
	cp := next.Frontier.Checkpoint(checkpoint.Origin{ClusterID: testCluster, Log: checkpoint.LogBlacklist, Epoch: 1})
	next.Note = checkpoint.Note{Checkpoint: cp, Signatures: []checkpoint.Signature{checkpoint.SignLog(w.key, cp), checkpoint.Cosign(w.key, cp, 1)}}.Encode()
	next.Head = Head{Epoch: 1, Size: cp.Size, Root: cp.Root, Chain: crypto.BlacklistGenesis}
	if cp.Size > 0 {
		next.Head.Chain = crypto.Sum(fmt.Append(nil, cp.Size)).String()
	}
	v, err := w.v.with(changes, next.Head, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.at, w.v = next, v
	return from, changes
}

func openStore(t testing.TB, dir string) (*Store, *View, *Position) {
	t.Helper()
	s, v, p, err := OpenStore(dir, testCluster, testSeal)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, v, p
}

// sameList compares what was read with what was written.
func sameList(t testing.TB, v *View, p *Position, w *View, at Position) {
	t.Helper()
	if p == nil || p.Head != at.Head || v.Head != at.Head || v.Len() != w.Len() || string(p.Note) != string(at.Note) {
		t.Fatalf("read %+v with %d bans, wrote %+v with %d", p, v.Len(), at.Head, w.Len())
	}
	for key, ban := range w.all() {
		if got, ok := v.shards[key.shard()].get(key); !ok || got != ban {
			t.Fatalf("ban %d is %+v", ban.Seq, got)
		}
	}
}

func TestStoreKeepsEveryStep(t *testing.T) {
	dir := t.TempDir()
	s, v, p := openStore(t, dir)
	if p != nil || v.Len() != 0 {
		t.Fatal("an empty directory has a list")
	}
	w := newWalk(t)
	for i := range 20 {
		from, changes := w.step(t, i%4)
		if err := s.Step(from, w.at, changes, w.v); err != nil {
			t.Fatal(err)
		}
		_, v, p := openStore(t, dir)
		sameList(t, v, p, w.v, w.at)
	}
	if err := s.Replace(w.at, w.v); err != nil {
		t.Fatal(err)
	}
	_, v, p = openStore(t, dir)
	sameList(t, v, p, w.v, w.at)
	if files := len(s.stepFiles()); files != 1 {
		t.Errorf("%d files of steps", files)
	}
}

// Wherever the process ends while it appends, a start finds the position before or after.
func TestStoreSurvivesACrashAnywhere(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := openStore(t, dir)
	w := newWalk(t)
	var ends []int64 // of the file of steps, at each position
	var heads []Head
	for i := range 4 {
		from, changes := w.step(t, 3)
		if err := s.Step(from, w.at, changes, w.v); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			ends = append(ends, s.stepsBytes)
		} else {
			ends = append(ends, 0) // the first went into the list
		}
		heads = append(heads, w.at.Head)
	}
	steps, err := os.ReadFile(s.stepsPath())
	if err != nil {
		t.Fatal(err)
	}
	for cut := 0; cut <= len(steps); cut += 1 + cut%41 {
		at := t.TempDir()
		copyFile(t, s.path(fileList), filepath.Join(at, fileList))
		if err := os.WriteFile(filepath.Join(at, filepath.Base(s.stepsPath())), steps[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, p := openStore(t, at)
		want := heads[0]
		for i, end := range ends {
			if int64(cut) >= end {
				want = heads[i]
			}
		}
		if p.Head != want {
			t.Fatalf("cut at %d: size %d, want %d", cut, p.Head.Size, want.Size)
		}
	}
}

// Where the power went before a step was on disk, the file may have grown all the same, by zeros.
func TestStoreSurvivesZerosAtTheEnd(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := openStore(t, dir)
	w := newWalk(t)
	for range 2 {
		from, changes := w.step(t, 3)
		if err := s.Step(from, w.at, changes, w.v); err != nil {
			t.Fatal(err)
		}
	}
	kept, view, whole := w.at, w.v, s.stepsBytes
	from, changes := w.step(t, 30)
	if err := s.Step(from, w.at, changes, w.v); err != nil {
		t.Fatal(err)
	}
	steps, err := os.ReadFile(s.stepsPath())
	if err != nil {
		t.Fatal(err)
	}
	for written := whole; written < int64(len(steps))-rowBytes; written += 1 + (written-whole)%97 {
		for _, more := range []int{0, 700, 9000} {
			at := t.TempDir()
			copyFile(t, s.path(fileList), filepath.Join(at, fileList))
			torn := make([]byte, len(steps)+more)
			copy(torn, steps[:written])
			if err := os.WriteFile(filepath.Join(at, filepath.Base(s.stepsPath())), torn, 0o600); err != nil {
				t.Fatal(err)
			}
			_, v, p := openStore(t, at)
			sameList(t, v, p, view, kept)
			again, _, p := openStore(t, at)
			if p.Head != kept.Head || again.stepsBytes != whole {
				t.Fatalf("after %d bytes and zeros: size %d, %d bytes of steps", written-whole, p.Head.Size, again.stepsBytes)
			}
		}
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A crash between a new list and the end of the old steps costs nothing.
func TestStoreOldStepsAreLeftBehind(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := openStore(t, dir)
	w := newWalk(t)
	for range 3 {
		from, changes := w.step(t, 3)
		if err := s.Step(from, w.at, changes, w.v); err != nil {
			t.Fatal(err)
		}
	}
	old := s.stepsPath()
	kept := filepath.Join(t.TempDir(), "steps")
	copyFile(t, old, kept)
	if err := s.Replace(w.at, w.v); err != nil {
		t.Fatal(err)
	}
	copyFile(t, kept, old)
	_, v, p := openStore(t, dir)
	sameList(t, v, p, w.v, w.at)
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Error("the old steps are still there")
	}
}

// Every byte of every file counts.
func TestStoreRefusesDamage(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := openStore(t, dir)
	w := newWalk(t)
	for range 2 {
		from, changes := w.step(t, 3)
		if err := s.Step(from, w.at, changes, w.v); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{s.path(fileList), s.stepsPath()} {
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(good); at += 1 + at%41 {
			bad := append([]byte(nil), good...)
			bad[at] ^= 0x10
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			other, _, p, err := OpenStore(dir, testCluster, testSeal)
			var damage *Damage
			switch {
			case err == nil:
				_ = other.Close()
				// A length that promises more than is there looks like a step that broke off.
				if path != s.stepsPath() || at < 16 || at >= 20 {
					t.Fatalf("%s: byte %d is wrong, read as size %d", filepath.Base(path), at, p.Head.Size)
				}
			case !errors.As(err, &damage) || damage.File != path || !strings.Contains(err.Error(), "fetches the whole list again"):
				t.Fatalf("byte %d: %v", at, err)
			}
			if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Truncate(s.path(fileList), 100); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := OpenStore(dir, testCluster, testSeal); err == nil {
		t.Error("a list that was cut is read")
	}
	if err := os.Remove(s.path(fileList)); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := OpenStore(dir, testCluster, testSeal); err == nil {
		t.Error("steps without their list are passed over")
	}
}

func TestStoreOfAnotherCluster(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := openStore(t, dir)
	w := newWalk(t)
	from, changes := w.step(t, 1)
	if err := s.Step(from, w.at, changes, w.v); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := OpenStore(dir, "ffffffffffffffffffffffffffffffff", testSeal); err == nil {
		t.Error("taken over")
	}
}

// A burst of events is written once as steps, and at most twice more in lists.
func TestStoreWriteAmplification(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := openStore(t, dir)
	w := newWalk(t)
	lists, steps := int64(0), int64(0)
	for range 200 {
		from, changes := w.step(t, 50)
		before, generation := s.stepsBytes, s.generation
		if err := s.Step(from, w.at, changes, w.v); err != nil {
			t.Fatal(err)
		}
		if s.generation != generation {
			lists += s.listBytes
		} else {
			steps += s.stepsBytes - before
		}
	}
	if steps == 0 || lists > 3*steps {
		t.Errorf("%d bytes of steps, %d of lists", steps, lists)
	}
}

func listWriter(w *walk) func(io.Writer) error {
	return func(to io.Writer) error {
		_, err := writeList(to, testSeal, testCluster, 1, w.at, w.v)
		return err
	}
}

func FuzzReadList(f *testing.F) {
	w := newWalk(f)
	_, _ = w.step(f, 3)
	path := filepath.Join(f.TempDir(), "list")
	if _, err := writeFile(path, listWriter(w)); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		if l, err := readList(strings.NewReader(string(data)), testSeal); err == nil && l.view.Len() > len(data)/rowBytes {
			t.Errorf("%d bans in %d bytes", l.view.Len(), len(data))
		}
	})
}

func FuzzReadSteps(f *testing.F) {
	w := newWalk(f)
	before, view := w.at, w.v
	from, changes := w.step(f, 3)
	step, _, err := encodeStep(testSeal, crypto.Hash{}, from, w.at, changes)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(stepsHead(1), step...))
	f.Fuzz(func(t *testing.T, data []byte) {
		at, whole, err := readSteps(strings.NewReader(string(data)), testSeal, 1, reached{view: view, position: &before})
		if err == nil && (whole > int64(len(data)) || at.position.Head.Size < before.Head.Size) {
			t.Errorf("%d of %d bytes, size %d", whole, len(data), at.position.Head.Size)
		}
	})
}
