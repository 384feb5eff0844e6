// Package walk verifies the records of a ledger on all processors: hashes and
// signatures, which take the time, in any order, and the rules in theirs.
package walk

import (
	"context"
	"io"
	"iter"
	"runtime"

	"github.com/edgecoder/edgecoder/ledger"
)

// chunkRecords is how many records one processor checks at a time: enough that
// handing them over costs nothing, little enough that a chunk is 100 KiB.
const chunkRecords = 512

// chunk is a run of records on its way through a checker.
type chunk struct {
	data    [][]byte
	checked chan []ledger.Checked // buffered: a checker never waits for the reader
	err     error                 // of reading, after the records
}

// Records verifies records from the first on, on all processors, and returns what they
// come to. The error is of the records' source, of ctx, or a *ledger.RecordError that
// names the first bad record; a Verifier comes with each. Where the records should end
// is for Verifier.Finish. progress is told now and then how many are good, unless it is nil.
func Records(ctx context.Context, origin string, records iter.Seq2[[]byte, error], progress func(good uint64)) (*ledger.Verifier, error) {
	v := ledger.NewVerifier(origin)
	return v, More(ctx, v, runtime.GOMAXPROCS(0), records, progress)
}

// More is Records for those that follow what a Verifier has seen, on so many
// processors. After an error of the source or of ctx it can go on from where it is.
func More(ctx context.Context, v *ledger.Verifier, checkers int, records iter.Seq2[[]byte, error], progress func(good uint64)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	order := make(chan *chunk, 2*checkers) // as many chunks as are in memory
	work := make(chan *chunk, 2*checkers)
	go func() {
		defer close(order)
		defer close(work)
		read(ctx, records, func(c *chunk) bool {
			for _, to := range []chan *chunk{work, order} {
				select {
				case to <- c:
				case <-ctx.Done():
					return false
				}
			}
			return true
		})
	}()
	for range checkers {
		go check(ctx, work)
	}
	for c := range order {
		var checked []ledger.Checked
		select {
		case checked = <-c.checked:
		case <-ctx.Done():
			return ctx.Err()
		}
		for _, r := range checked {
			if err := v.AddChecked(r); err != nil {
				return err
			}
		}
		if c.err != nil {
			return c.err
		}
		if progress != nil {
			progress(v.Seq())
		}
	}
	return ctx.Err()
}

// read cuts the records into chunks until they end or nobody takes them.
func read(ctx context.Context, records iter.Seq2[[]byte, error], put func(*chunk) bool) {
	fresh := func() *chunk {
		return &chunk{data: make([][]byte, 0, chunkRecords), checked: make(chan []ledger.Checked, 1)}
	}
	c := fresh()
	for data, err := range records {
		if err != nil {
			c.err = err
			break
		}
		if c.data = append(c.data, data); len(c.data) < chunkRecords {
			continue
		}
		if ctx.Err() != nil || !put(c) {
			return
		}
		c = fresh()
	}
	if len(c.data) > 0 || c.err != nil {
		put(c)
	}
}

func check(ctx context.Context, work <-chan *chunk) {
	for c := range work {
		out := make([]ledger.Checked, 0, len(c.data))
		for _, data := range c.data {
			if ctx.Err() != nil {
				return
			}
			out = append(out, ledger.CheckRecord(data))
		}
		c.checked <- out
	}
}

// Export is Records for an export file, up to the end that the file claims.
func Export(ctx context.Context, in io.Reader, progress func(good uint64)) (*ledger.Verifier, error) {
	e, err := ledger.ReadExport(in)
	if err != nil {
		return nil, err
	}
	v, err := Records(ctx, e.ClusterID(), e.Records(), progress)
	if err != nil {
		return v, err
	}
	return v, v.Finish(v.Seq(), e.Head())
}
