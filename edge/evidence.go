package edge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

// fileEvidence holds two checkpoints that contradict each other. While it stands in the data directory the edge does not go on.
const fileEvidence = "fork-evidence.txt"

// maxEvidenceBytes bounds what is read of it.
const maxEvidenceBytes = 4 * checkpoint.MaxNoteBytes

// fork keeps the proof that cosigners showed two lists, and stops the edge for good: nobody can tell which of them is right but people.
func (s *Syncer) fork(note []byte, o checkpoint.Opened, st *Status) error {
	err := fmt.Errorf("two checkpoints of size %d of epoch %d are final: this list has root %s, a source shows %s", o.Size, o.Origin.Epoch, s.position.Head.Root, o.Root)
	if keepErr := s.cfg.Store.keepEvidence(s.position, note); keepErr != nil {
		err = errors.Join(err, keepErr)
	}
	st.Halted = err.Error()
	s.cfg.Alarm(AlarmForked, fmt.Sprintf("%v; both, and the cosigners, are in %s", err, fileEvidence))
	return err
}

func (s *Store) keepEvidence(at Position, other []byte) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Two final checkpoints of one size with two roots. Show them to the operators of the cluster. Remove this file once it is\nclear which list is right, and the files of the list with it if it is the other one.\n")
	for _, part := range []struct {
		title string
		note  []byte
	}{{"the checkpoint that this edge had", at.Note}, {"the checkpoint that it was shown", other}, {"the cosigners that it trusts", at.Trusted.Encode()}} {
		fmt.Fprintf(&b, "\n== %s\n%s", part.title, part.note)
	}
	_, err := writeFile(s.path(fileEvidence), func(w io.Writer) error { _, err := w.Write(b.Bytes()); return err })
	return err
}

// EvidencePath is where Evidence reads it.
func (s *Store) EvidencePath() string { return s.path(fileEvidence) }

// Evidence returns what an earlier run kept of a fork, nil if there was none.
func (s *Store) Evidence() ([]byte, error) {
	f, err := os.Open(s.path(fileEvidence))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxEvidenceBytes))
}
