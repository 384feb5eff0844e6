package api

import (
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/fsm"
)

// checkpointed returns how many records the newest checkpoint of the ledger holds, as
// this node has it: it was verified when it was taken, and a node whose own records
// contradict it does not serve.
func (s *Server) checkpointed() uint64 {
	_, size := s.ledgerNote()
	return size
}

// ledgerNote returns that checkpoint's note and how many records it holds; none yet is
// of none.
func (s *Server) ledgerNote() (text []byte, size uint64) {
	text, err := s.node.Checkpoint(checkpoint.LogLedger)
	if err != nil {
		return nil, 0
	}
	note, err := checkpoint.ParseNote(text)
	if err != nil {
		return nil, 0
	}
	return text, note.Checkpoint.Size
}

// sealedIndex returns the log index up to which the records of every entry are in the
// newest checkpoint, 0 if none are or a recovery is about to count anew.
func (s *Server) sealedIndex() uint64 {
	size := s.checkpointed()
	if size == 0 {
		return 0
	}
	records, err := s.node.Records(fsm.StreamLedger, size, 2)
	if err != nil || len(records) == 0 {
		return 0
	}
	last := records[0].Index
	switch {
	case len(records) == 1 || records[1].Index > last:
		return last
	case records[1].Index == last:
		return last - 1 // that entry goes on behind the checkpoint
	}
	return 0
}

// wireResults are the answers to operations, reports or confirmations. One that took
// effect in an earlier call may be in a checkpoint by now: whoever wants to know asks
// again with the same id.
func (c *call) wireResults(results []fsm.LedgerResult, id func(i int) string) []client.LedgerResult {
	sealed, asked := uint64(0), false
	out := make([]client.LedgerResult, len(results))
	for i, r := range results {
		c.index = max(c.index, r.Index)
		out[i] = wireLedgerResult(id(i), r)
		if r.Code != fsm.CodeOK || !r.Repeated {
			continue
		}
		if !asked {
			sealed, asked = c.s.sealedIndex(), true
		}
		out[i].Finality = finality(r.Index, sealed)
	}
	return out
}

// finality labels what rests on the records up to one, of a checkpoint of so many; or
// on those of the log up to an index, see sealedIndex.
func finality(upTo, checkpointed uint64) string {
	if upTo > 0 && upTo <= checkpointed {
		return client.FinalityCheckpointed
	}
	return client.FinalityCommitted
}
