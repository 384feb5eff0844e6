package store

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

func keyOf(name string) crypto.PrivateKey {
	seed := crypto.Sum([]byte("store test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// sampleDir has everything: a snapshot taken here, entries behind it, a vote.
func sampleDir(t testing.TB, before, after int) string {
	r := newRig(t, rigOptions())
	r.tokens(before)
	r.snapshot()
	r.tokens(after)
	for _, err := range []error{r.s.Stable.SetUint64([]byte("CurrentTerm"), 7), r.s.Stable.SetUint64([]byte("LastVoteTerm"), 7),
		r.s.Stable.Set([]byte("LastVoteCand"), []byte("0123456789abcdef"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r.close()
	return r.dir
}

// filesOf lists the files of a directory, with slashes.
func filesOf(t testing.TB, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			files = append(files, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// usedPages tells which pages of a bbolt file are reachable.
func usedPages(t testing.TB, path string) (used func(at int) bool) {
	t.Helper()
	meta := currentMeta(t, path)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := &pageCheck{file: f, meta: meta, used: map[uint64]uint64{}}
	if _, err := c.root(); err != nil {
		t.Fatal(err)
	}
	return func(at int) bool {
		page := uint64(at / meta.pageSize)
		return page < 2 && at%meta.pageSize < pageHeader+metaSize || page < meta.high && c.used[page/64]&(1<<(page%64)) != 0
	}
}

// fault opens a directory with one damaged file and judges the outcome.
func fault(t *testing.T, dir, file, what string, want contents) (found bool) {
	t.Helper()
	got, err := readAll(dir)
	var d *Damage
	switch {
	case err == nil:
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %s: it opens and is not what was written", file, what)
		}
		return false
	case !errors.As(err, &d):
		t.Errorf("%s: %s: no Damage: %v", file, what, err)
	case d.File != file && !(strings.HasSuffix(file, fileSum) && strings.HasSuffix(d.File, fileMeta)): // who of the two is wrong cannot be told
		t.Errorf("%s: %s: the damage names %s: %v", file, what, d.File, err)
	}
	return true
}

// sampled picks the bytes to try: all of them would take minutes.
func sampled(file string, at int, used, zero bool) bool {
	switch {
	case testing.Short() && at%17 != 0:
		return false
	case strings.HasSuffix(file, fileState):
		return at%15 == 0
	case !strings.HasSuffix(file, ".db"):
		return true
	case !used:
		return at%1999 == 0
	case zero:
		return at%97 == 0
	}
	return at%4096 < 64 || at%7 == 0
}

// TestFlippedBytes changes bytes of every file, one at a time.
func TestFlippedBytes(t *testing.T) {
	dir := sampleDir(t, 6, 4)
	work := filepath.Join(t.TempDir(), "work")
	copyDir(t, dir, work)
	want := mustRead(t, work)
	for _, file := range filesOf(t, dir) {
		t.Run(strings.ReplaceAll(file, "/", "_"), func(t *testing.T) {
			data := slurp(t, under(dir, file))
			used := func(int) bool { return true }
			if strings.HasSuffix(file, ".db") {
				used = usedPages(t, under(dir, file))
			}
			tried, found := 0, 0
			for at := range data {
				if !sampled(file, at, used(at), data[at] == 0) {
					continue
				}
				broken := append([]byte(nil), data...)
				broken[at] ^= 1 << (at % 8)
				writeAll(t, under(work, file), broken)
				tried++
				if fault(t, work, file, fmt.Sprintf("byte %d", at), want) {
					found++
					continue
				}
				for _, f := range filesOf(t, dir) { // it was open: bbolt wrote
					writeAll(t, under(work, f), slurp(t, under(dir, f)))
				}
			}
			for _, f := range filesOf(t, dir) {
				writeAll(t, under(work, f), slurp(t, under(dir, f)))
			}
			t.Logf("%d of %d flips found", found, tried)
		})
	}
}

// TestCutOff cuts files off at many lengths. bbolt's files have room at the end
// that is not in use yet; nothing is lost with that.
func TestCutOff(t *testing.T) {
	dir := sampleDir(t, 6, 4)
	work := filepath.Join(t.TempDir(), "work")
	copyDir(t, dir, work)
	want := mustRead(t, work)
	for _, file := range filesOf(t, dir) {
		data := slurp(t, under(dir, file))
		step := max(1, len(data)/25)
		for n := 0; n < len(data); n += step {
			for _, f := range filesOf(t, dir) {
				writeAll(t, under(work, f), slurp(t, under(dir, f)))
			}
			writeAll(t, under(work, file), data[:n])
			if !fault(t, work, file, fmt.Sprintf("cut to %d of %d bytes", n, len(data)), want) && !strings.HasSuffix(file, ".db") {
				t.Errorf("%s cut to %d of %d bytes: not found", file, n, len(data))
			}
		}
		writeAll(t, under(work, file), data)
	}
}

// TestMissingFiles: each file that is gone is missed.
func TestMissingFiles(t *testing.T) {
	for _, file := range []string{fileRaft, fileHistory, fileMeta, fileState} {
		dir := sampleDir(t, 3, 3)
		for _, f := range filesOf(t, dir) {
			if filepath.Base(f) == file {
				if err := os.Remove(under(dir, f)); err != nil {
					t.Fatal(err)
				}
			}
		}
		_, err := readAll(dir)
		var d *Damage
		if !errors.As(err, &d) || filepath.Base(d.File) != file {
			t.Errorf("without %s: %v", file, err)
		}
	}
}
