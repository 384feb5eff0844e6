package store

import (
	"bytes"
	"hash/fnv"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

const walkerPage = 1024

// walkerFile is a small file as bbolt writes it, with a tree of two levels, an
// overflow page, an inline bucket and free pages.
func walkerFile(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: walkerPage})
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string, n, size int) {
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(name))
			for i := 0; i < n && err == nil; i++ {
				err = b.Put([]byte{0, byte(i)}, bytes.Repeat([]byte{1}, size))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put("logs", 200, 40)
	put("conf", 1, 3000)
	put("tiny", 1, 1)
	put("logs", 1, 41)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return slurp(t, path)
}

// resum makes the sums of both meta pages right again.
func resum(d []byte) {
	for _, at := range []int{0, walkerPage} {
		s := fnv.New64a()
		s.Write(d[at+pageHeader : at+pageHeader+metaSize-8])
		native.PutUint64(d[at+pageHeader+metaSize-8:], s.Sum64())
	}
}

// FuzzWalker patches a real file: three bytes are a place and what stands there.
// The walk must not panic, and bbolt not on what the walk lets through: not even
// when it writes.
func FuzzWalker(f *testing.F) {
	base := walkerFile(f)
	f.Add([]byte{0, 0, 0})
	f.Add([]byte{4, 16, 9, 2, 200, 7})
	f.Add([]byte{0, 63, 0xe3, 4, 63, 0xe3}) // the highest byte of the first page not in use
	for page := 2; page < len(base)/walkerPage; page++ {
		at := page * walkerPage
		f.Add([]byte{byte((at + 12) >> 8), 12, 1}) // overflow
		f.Add([]byte{byte((at + 10) >> 8), 10, 0xff, byte((at + 11) >> 8), 11, 0xff})
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, patch []byte) {
		d := bytes.Clone(base)
		for i := 0; i+3 <= len(patch); i += 3 {
			d[(int(patch[i])<<8|int(patch[i+1]))%len(d)] = patch[i+2]
		}
		resum(d)
		if _, err := checkPages(bytes.NewReader(d), int64(len(d)), false, func(_, _, _ []byte) error { return nil }); err != nil {
			return
		}
		path := filepath.Join(dir, "f.db")
		if err := os.WriteFile(path, d, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
		if err != nil {
			return
		}
		_ = db.Update(func(tx *bbolt.Tx) error {
			_ = tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return b.ForEach(func(_, _ []byte) error { return nil }) })
			b, err := tx.CreateBucketIfNotExists([]byte("new"))
			if err != nil {
				return err
			}
			return b.Put([]byte("a"), make([]byte, 5000))
		})
		_ = db.Close()
	})
}

// FuzzMark: whatever stands in raft.mark is read, or is damage.
func FuzzMark(f *testing.F) {
	f.Add(markBytes(7, 9))
	f.Add(markBytes(math.MaxUint64, math.MaxUint32))
	f.Add([]byte{})
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, d []byte) {
		if err := os.WriteFile(filepath.Join(dir, fileMark), d, 0o600); err != nil {
			t.Fatal(err)
		}
		index, sum, err := readMark(dir)
		if err == nil && !bytes.Equal(d, markBytes(index, sum)) {
			t.Errorf("%x is taken for entry %d with the sum %x", d, index, sum)
		}
	})
}

// TestWalkerAllocatesWhatIsThere: a file with holes says that it is huge, or that
// one page of it is, and costs neither memory nor the process.
func TestWalkerAllocatesWhatIsThere(t *testing.T) {
	base := walkerFile(t)
	meta, err := readMetas(bytes.NewReader(base), int64(len(base)))
	if err != nil {
		t.Fatal(err)
	}
	const pages = 1 << 29
	high := func(d []byte, n uint64) {
		for _, at := range []int{0, walkerPage} {
			native.PutUint64(d[at+pageHeader+40:], n)
		}
	}
	overflow := func(d []byte, id uint64) { native.PutUint32(d[int(id)*walkerPage+12:], pages-100) }
	for name, c := range map[string]struct {
		size   int64
		change func(d []byte)
		want   string // "": it is a sound file with a hole behind it
	}{
		"more pages than a number holds": {int64(len(base)), func(d []byte) { high(d, 1<<63+5) }, "cut off"},
		"all pages there are":            {int64(len(base)), func(d []byte) { high(d, math.MaxUint64) }, "cut off"},
		"a hole":                         {pages * walkerPage, func(d []byte) { high(d, pages) }, ""},
		"an endless page":                {pages * walkerPage, func(d []byte) { high(d, pages); overflow(d, meta.root) }, "nothing here takes more"},
		"an endless list":                {pages * walkerPage, func(d []byte) { high(d, pages); overflow(d, meta.freelist) }, "free pages"},
		"an endless list that is full": {pages * walkerPage, func(d []byte) {
			high(d, pages)
			overflow(d, meta.freelist)
			native.PutUint16(d[int(meta.freelist)*walkerPage+10:], 0xFFFF)
			native.PutUint64(d[int(meta.freelist)*walkerPage+pageHeader:], 1<<35)
		}, "free pages"},
	} {
		t.Run(name, func(t *testing.T) {
			d := bytes.Clone(base)
			c.change(d)
			resum(d)
			path := filepath.Join(t.TempDir(), fileRaft)
			writeAll(t, path, d)
			if err := os.Truncate(path, c.size); err != nil {
				t.Skipf("this file system holds no file of %d bytes, sparse or not: %v", c.size, err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := checkBolt(path, false, nil)
			runtime.ReadMemStats(&after)
			if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 2*maxRun {
				t.Errorf("it took %d bytes of memory", got)
			}
			if c.want == "" {
				return
			}
			if got, err := Survey(filepath.Dir(path)); err != nil || len(got.Damage) == 0 {
				t.Errorf("survey: %v %+v", err, got.Damage)
			}
		})
	}
}

// TestSurveyOutlivesAPanic: a look that panics is a damage like others.
func TestSurveyOutlivesAPanic(t *testing.T) {
	v := surveyor{}
	v.guarded(fileHistory, func() { panic("nonsense") })
	if len(v.c.Damage) != 1 || v.c.Damage[0].File != fileHistory || !strings.Contains(v.c.Damage[0].Error, "nonsense") {
		t.Errorf("%+v", v.c.Damage)
	}
}
