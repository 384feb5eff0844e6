package store

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/edgecoder/edgecoder/durable"
	"github.com/edgecoder/edgecoder/fsm"
)

// A batch of an import is committed in one transaction.
const (
	importRecords = 4096
	importBytes   = 4 << 20
	// importSync bytes are synced together while a history is built: all at the end
	// would be one write of gigabytes, which a watchdog takes for a hung disk. At a
	// slow disk's 4 MiB/s they take 16 s, and the watchdog waits for 60.
	importSync = 64 << 20
)

// Import implements fsm.History. Records of the same epoch are added in batches,
// each in one transaction; after a crash the same import goes on where it was.
// Another epoch's history is built beside the file and takes its name at the
// end; the file before it stays as history-epoch-N.db. A full disk is an error:
// raft's loop waits for an import, and whoever sends a snapshot sends it again.
func (h *History) Import(epoch uint64, totals fsm.Totals, records iter.Seq2[fsm.Record, error], take func(place func() error) error) error {
	h.writer.Lock()
	defer h.writer.Unlock()
	if err := h.FlushNow(); err != nil { // nothing waits while we are the writer
		return fmt.Errorf("%s: it is not taken while entries before it wait for the disk: %w", fileHistory, err)
	}
	if take == nil {
		take = func(place func() error) error { return place() }
	}
	h.mu.Lock()
	have := h.epoch
	h.mu.Unlock()
	if have != epoch {
		return h.replace(epoch, totals, records, take)
	}
	if err := h.extend(totals, records); err != nil {
		return err
	}
	return take(func() error { return nil })
}

// importer writes the records of an import to a file, in batches.
type importer struct {
	h     head                   // with what waits
	known func(fsm.Record) error // holds a record against one that is there
	store func(rows []row, h head) error
	rows  []row
	size  int
	seen  map[fsm.Stream]uint64
}

// run takes all records and holds their number against totals.
func (im *importer) run(totals fsm.Totals, records iter.Seq2[fsm.Record, error]) error {
	im.seen = map[fsm.Stream]uint64{}
	for r, err := range records {
		if err == nil {
			err = im.add(r)
		}
		if err != nil {
			return err
		}
	}
	for s, n := range totals {
		if im.seen[s] != n {
			return fmt.Errorf("store: history stream %d: %d records imported, %d were announced", s, im.seen[s], n)
		}
	}
	return im.flush()
}

func (im *importer) add(r fsm.Record) error {
	if r.Seq != im.seen[r.Stream]+1 {
		return fmt.Errorf("store: history stream %d: record %d imported after %d: a gap", r.Stream, r.Seq, im.seen[r.Stream])
	}
	im.seen[r.Stream] = r.Seq
	end := im.h.tails[r.Stream]
	if r.Seq <= end.seq {
		return im.known(r)
	}
	end = tail{r.Seq, end.sum + fsm.FrameSize(r)}
	im.h.tails[r.Stream] = end
	im.rows = append(im.rows, row{r, end.sum})
	if im.size += len(r.Data); len(im.rows) >= importRecords || im.size >= importBytes {
		return im.flush()
	}
	return nil
}

func (im *importer) flush() error {
	if len(im.rows) == 0 {
		return nil
	}
	err := im.store(im.rows, im.h.clone())
	im.rows, im.size = nil, 0
	return err
}

// extend adds what is missing. The records that are there are read in chunks.
func (h *History) extend(totals fsm.Totals, records iter.Seq2[fsm.Record, error]) error {
	h.mu.Lock()
	im := importer{h: h.disk.clone()}
	h.mu.Unlock()
	var chunk []row
	im.known = func(r fsm.Record) error {
		if len(chunk) == 0 || chunk[0].Stream != r.Stream || chunk[0].Seq != r.Seq {
			var err error
			if chunk, _, err = h.read(r.Stream, r.Seq, chunkRecords, chunkBytes); err != nil {
				return err
			}
			if len(chunk) == 0 {
				return short(r.Stream, r.Seq)
			}
		}
		if !same(chunk[0].Record, r) {
			return differs(r)
		}
		chunk = chunk[1:]
		return nil
	}
	im.store = func(rows []row, next head) error {
		h.file.RLock()
		defer h.file.RUnlock()
		h.w.at("import/batch")
		if err := h.w.must(WriteHistory, func() error { return writeRows(h.db, rows, next) }); err != nil {
			return fmt.Errorf("%s: %w", fileHistory, err)
		}
		h.w.at("import/batch done")
		h.tell(func() { h.disk = next })
		return h.learnTrees()
	}
	return im.run(totals, records)
}

// replace builds the history of another epoch and puts it in the old one's
// place. The records may come from the old one, so that stays open meanwhile.
func (h *History) replace(epoch uint64, totals fsm.Totals, records iter.Seq2[fsm.Record, error], take func(place func() error) error) error {
	fresh := h.path + suffixNew
	defer os.Remove(fresh) // gone already if all went well
	next, err := h.build(fresh, epoch, totals, records)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(fresh), err)
	}
	h.w.at("import/built")
	return take(func() error { return h.place(fresh, epoch, next) })
}

// place puts a history that was built in the place of the one that is open.
func (h *History) place(fresh string, epoch uint64, next head) error {
	h.file.Lock()
	defer h.file.Unlock()
	err := h.db.Close()
	if err == nil {
		err = h.swap(fresh)
	}
	var trees map[fsm.Stream]uint64
	if err == nil {
		h.db, err = bbolt.Open(h.path, 0o600, historyOptions())
	}
	if err == nil {
		trees, err = treesOf(h.db)
	}
	if err != nil {
		return h.broken(err)
	}
	h.tell(func() { h.disk, h.trees, h.epoch, h.swaps = next, trees, epoch, h.swaps+1 })
	h.w.at("import/swapped")
	return nil
}

// broken: after a swap that failed half way nothing is open.
func (h *History) broken(err error) error {
	err = fmt.Errorf("%s: replacing it: %w", fileHistory, err)
	h.tell(func() { h.failed = err })
	h.report(err)
	return err
}

// build writes a whole history into a new file.
func (h *History) build(path string, epoch uint64, totals fsm.Totals, records iter.Seq2[fsm.Record, error]) (head, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return head{}, err
	}
	db, err := bbolt.Open(path, 0o600, historyOptions())
	if err != nil {
		return head{}, err
	}
	db.NoSync = true // it has no name yet: a sync now and then is enough
	im := importer{h: newHead()}
	im.h.epoch, im.h.base = epoch, epoch
	im.known = func(r fsm.Record) error {
		return fmt.Errorf("store: history stream %d: record %d came twice", r.Stream, r.Seq)
	}
	unsynced := int64(0)
	im.store = func(rows []row, next head) error {
		h.w.at("import/build")
		if err := h.w.must(WriteHistory, func() error { return writeRows(db, rows, next) }); err != nil {
			return err
		}
		for _, r := range rows {
			unsynced += fsm.FrameSize(r.Record)
		}
		if unsynced < h.syncEvery {
			return nil
		}
		unsynced = 0
		return h.w.must(SyncHistory, func() error { return syncBolt(db) })
	}
	if err = createTrees(db, h.keptTrees()); err == nil {
		err = im.run(totals, records)
	}
	if err == nil {
		err = h.w.must(SyncHistory, func() error { return errors.Join(writeRows(db, nil, im.h), syncBolt(db)) })
	}
	return im.h, errors.Join(err, db.Close())
}

// swap gives the new file the name of the old one, in one rename. The old one
// keeps a second name as evidence; only the newest such file is kept.
func (h *History) swap(fresh string) error {
	dir := filepath.Dir(h.path)
	h.mu.Lock()
	epoch, had := h.disk.epoch, len(h.disk.totals())
	h.mu.Unlock()
	if had > 0 {
		old := filepath.Join(dir, fmt.Sprintf(evidencePattern, epoch))
		if err := keepEvidence(dir, h.path, old); err != nil {
			h.log.Warn("the history of the epoch before is not kept", "err", err)
		}
		h.w.at("import/evidence")
	}
	if err := os.Rename(fresh, h.path); err != nil {
		return err
	}
	h.w.at("import/renamed")
	return durable.SyncDir(dir)
}

func keepEvidence(dir, path, old string) error {
	before, err := filepath.Glob(filepath.Join(dir, evidenceGlob))
	if err != nil {
		return err
	}
	for _, name := range before {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	return os.Link(path, old)
}
