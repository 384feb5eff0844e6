package cmd

import (
	"fmt"
	"iter"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/ledger"
)

// Whether records are missing at the end of an export. A truncated file is as
// consistent as a whole one: a checkpoint that a majority cosigned, or a head that was
// noted elsewhere, must be met on the way.

// exportEnd is what an export is held to besides its own records.
type exportEnd struct {
	cluster string // "": any
	seq     uint64 // of the noted head
	hash    string // "": none was noted
	met     bool
	trust   *trust      // nil: nobody is believed about checkpoints
	note    []byte      // of --checkpoint; nil: the one that the file carries
	tree    *signedTree // with trust: of the checkpoint
}

func exportEndOf(c *cli.Context) (end exportEnd, err error) {
	end.cluster = c.String("cluster")
	if end.seq, end.hash, err = headFlag(c); err != nil {
		return end, err
	}
	path, trusted := c.String("checkpoint"), c.String("trust")
	switch {
	case trusted != "":
		end.trust, err = readTrust(trusted)
	case path != "":
		err = usagef("--checkpoint needs --trust FILE: whom to believe about it")
	}
	if err != nil || path == "" {
		return end, err
	}
	text, err := readSmall(path, checkpoint.MaxNoteBytes)
	if err != nil {
		return end, usagef("--checkpoint %s: %w", path, err)
	}
	end.note = []byte(text)
	return end, nil
}

// begin looks at what stands before the records.
func (end *exportEnd) begin(e *ledger.Export, view *ledgerView) error {
	if end.cluster != "" && end.cluster != e.ClusterID() {
		return &ledger.RecordError{Code: ledger.FaultHead, Detail: fmt.Sprintf("the file is of the ledger of cluster %s, not %s", e.ClusterID(), end.cluster)}
	}
	if end.trust == nil {
		return nil
	}
	note := end.note
	if note == nil {
		note = e.Note()
	}
	if len(note) == 0 {
		return &ledger.RecordError{Code: faultNotSigned, Detail: "the file carries no checkpoint: give --checkpoint FILE (edgecoder ledger checkpoint --out FILE), or export it again once there is one"}
	}
	o, version, err := end.trust.openLog(note, checkpoint.LogLedger)
	if err != nil {
		return &ledger.RecordError{Code: faultNotSigned, Detail: "the checkpoint is not verified: " + err.Error()}
	}
	vouched := viewOf(o, version, end.trust.from, note)
	view.Checkpoint, view.HeadFrom = &vouched, headFromCheckpoint
	end.tree = &signedTree{want: o}
	return nil
}

// watch passes records on and notes what it meets.
func (end *exportEnd) watch(records iter.Seq2[[]byte, error]) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		at := uint64(0)
		for data, err := range records {
			if at++; err == nil && at == end.seq {
				got, err := ledger.HashOf(data)
				end.met = err == nil && got.String() == end.hash
			}
			if err == nil && end.tree != nil {
				end.tree.add(data)
			}
			if !yield(data, err) {
				return
			}
		}
	}
}

// check tells whether all was met, after the last of good records.
func (end *exportEnd) check(good uint64) error {
	if end.hash != "" && !end.met {
		return &ledger.RecordError{Seq: good, Code: ledger.FaultHead,
			Detail: fmt.Sprintf("record %d with the hash %s is not there: the end is missing, or it is another past", end.seq, end.hash)}
	}
	if end.tree == nil {
		return nil
	}
	if why := end.tree.missing("records", good); why != "" { // those behind it are told of: exports run ahead of their checkpoint
		return &ledger.RecordError{Seq: good, Code: faultNotSigned, Detail: why}
	}
	return nil
}

// headFlag reads the head that somebody noted.
func headFlag(c *cli.Context) (seq uint64, hash string, err error) {
	text := c.String("head")
	if text == "" {
		return 0, "", nil
	}
	if n, err := fmt.Sscanf(text, "%d:%64s", &seq, &hash); n != 2 || err != nil || seq == 0 || len(hash) != 64 {
		return 0, "", usagef("--head %q: want SEQ:HASH, as `edgecoder ledger status` and `ledger history` tell them", text)
	}
	return seq, hash, nil
}
