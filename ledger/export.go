package ledger

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/edgecoder/edgecoder/crypto"
)

// An export is a file that holds the records of a ledger from the first on: the line
// exportMagic, then frames, each a uvarint length and that many bytes: the cluster
// id, a checkpoint's note or nothing, the records, an empty frame, the head (32 bytes).
// Nothing follows. The head is that of the file: whether the cluster's is the same, the
// checkpoint tells whoever knows the cosigners; here it is opaque.
const exportMagic = "edgecoder ledger export v1\n"

// MaxExportNote bounds the note of a checkpoint, in bytes (crypto/checkpoint.MaxNoteBytes).
const MaxExportNote = 64 << 10

// ErrExport is wrapped by every refusal of a file that is no whole export.
var ErrExport = errors.New("ledger: bad export")

// WriteExport writes an export of records in their order, with the head that the
// last one hashes to. The note is of a checkpoint of the first of them, or empty.
func WriteExport(out io.Writer, clusterID string, note []byte, records iter.Seq2[[]byte, error], head crypto.Hash) error {
	if err := crypto.CheckID(clusterID); err != nil {
		return fmt.Errorf("ledger: export: cluster: %w", err)
	}
	w := bufio.NewWriterSize(out, 1<<16)
	frame := func(data []byte) error {
		var room [binary.MaxVarintLen64]byte
		if _, err := w.Write(room[:binary.PutUvarint(room[:], uint64(len(data)))]); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
	_, err := w.WriteString(exportMagic)
	if err == nil {
		err = errors.Join(frame([]byte(clusterID)), frame(note))
	}
	if err != nil {
		return err
	}
	for data, err := range records {
		if err == nil {
			err = frame(data)
		}
		if err != nil {
			return err
		}
	}
	if err := errors.Join(frame(nil), frame(head[:])); err != nil {
		return err
	}
	return w.Flush()
}

// Export reads an export front to back.
type Export struct {
	in        *bufio.Reader
	clusterID string
	note      []byte
	head      crypto.Hash
}

// ReadExport reads the beginning of an export.
func ReadExport(in io.Reader) (*Export, error) {
	e := &Export{in: bufio.NewReaderSize(in, 1<<16)}
	magic := make([]byte, len(exportMagic))
	if _, err := io.ReadFull(e.in, magic); err != nil || string(magic) != exportMagic {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrExport, exportMagic)
	}
	id, err := e.frame(crypto.MaxIDBytes)
	if err == nil {
		err = crypto.CheckID(string(id))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: cluster: %w", ErrExport, err)
	}
	e.clusterID = string(id)
	if e.note, err = e.frame(MaxExportNote); err != nil {
		return nil, fmt.Errorf("%w: checkpoint: %w", ErrExport, err)
	}
	return e, nil
}

// ClusterID returns the cluster that the export says it is of. Reports are signed for one cluster.
func (e *Export) ClusterID() string { return e.clusterID }

// Note returns the checkpoint's note that the export carries; it is empty without one.
// It is as true as who signed it.
func (e *Export) Note() []byte { return e.note }

// Head returns the head that the export claims, once all records were read.
func (e *Export) Head() crypto.Hash { return e.head }

// Records yields the bytes of each record, which the caller may keep. The file was
// whole if it ends without an error, the last thing it yields.
func (e *Export) Records() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for {
			data, err := e.frame(MaxRecordBytes)
			if err == nil && len(data) == 0 {
				if err = e.end(); err == nil {
					return
				}
			}
			if err != nil {
				yield(nil, fmt.Errorf("%w: %w", ErrExport, err))
				return
			}
			if !yield(data, nil) {
				return
			}
		}
	}
}

func (e *Export) end() error {
	head, err := e.frame(crypto.HashSize)
	if err != nil {
		return err
	}
	if len(head) != crypto.HashSize {
		return fmt.Errorf("a head of %d bytes, it has %d", len(head), crypto.HashSize)
	}
	if _, err := e.in.Peek(1); !errors.Is(err, io.EOF) {
		return errors.Join(errors.New("the file goes on behind the head"), err)
	}
	e.head = crypto.Hash(head)
	return nil
}

func (e *Export) frame(most uint64) ([]byte, error) {
	n, err := binary.ReadUvarint(e.in)
	if errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	if n > most {
		return nil, fmt.Errorf("a frame of %d bytes, at most %d", n, most)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(e.in, data); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	return data, nil
}

// VerifyExport verifies an export on one processor, and returns what it comes to.
// The error is ErrExport for a file that is not whole, else a *[RecordError].
// progress is called after each record, unless it is nil.
func VerifyExport(in io.Reader, progress func(seq uint64)) (*Verifier, error) {
	e, err := ReadExport(in)
	if err != nil {
		return nil, err
	}
	v := NewVerifier(e.clusterID)
	for data, err := range e.Records() {
		if err == nil {
			err = v.Add(data)
		}
		if err != nil {
			return v, err
		}
		if progress != nil {
			progress(v.Seq())
		}
	}
	return v, v.Finish(v.Seq(), e.head)
}
