package api

import (
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
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

// finality labels what rests on the records up to one, of a checkpoint of so many.
func finality(record, checkpointed uint64) string {
	if record > 0 && record <= checkpointed {
		return client.FinalityCheckpointed
	}
	return client.FinalityCommitted
}
