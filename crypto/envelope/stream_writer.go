package envelope

import (
	"crypto/cipher"
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
)

var errClosed = errors.New("envelope: write to a stream that was closed")

// Writer seals a stream. It is not for concurrent use and holds one chunk in memory.
type Writer struct {
	dst    io.Writer
	aead   cipher.AEAD
	header []byte
	next   uint64 // number of the next chunk
	buf    []byte // of the file, not yet sealed; at most ChunkSize, with room for the tag
	err    error  // of the first failure, or errClosed
}

// NewWriter writes the header of a stream for the key to dst. The stream is whole only after Close.
func NewWriter(dst io.Writer, to *ecdh.PublicKey) (*Writer, error) {
	enc, context, err := newSender(to, streamInfo(to))
	if err != nil {
		return nil, fmt.Errorf("envelope: seal stream: %w", err)
	}
	aead, err := streamKey(context)
	if err != nil {
		return nil, fmt.Errorf("envelope: seal stream: %w", err)
	}
	w := &Writer{dst: dst, aead: aead, header: newHeader(to, enc), buf: make([]byte, 0, sealedChunkSize)}
	if _, err := dst.Write(w.header); err != nil {
		return nil, fmt.Errorf("envelope: seal stream: %w", err)
	}
	return w, nil
}

// Write seals p. A chunk goes out once a byte behind it is known, so that the last one is never empty.
func (w *Writer) Write(p []byte) (n int, err error) {
	for w.err == nil && n < len(p) {
		if len(w.buf) == ChunkSize {
			w.err = w.seal(false)
			continue
		}
		most := min(ChunkSize-len(w.buf), len(p)-n)
		w.buf = append(w.buf, p[n:n+most]...)
		n += most
	}
	return n, w.err
}

// Close seals the last chunk; it does not close dst. Call it only when all was written: after it, what was written is
// the whole file to every reader. A second call does nothing.
func (w *Writer) Close() error {
	if errors.Is(w.err, errClosed) {
		return nil
	}
	if w.err == nil {
		w.err = w.seal(true)
	}
	clear(w.buf[:cap(w.buf)])
	if w.err != nil {
		return w.err
	}
	w.err = errClosed
	return nil
}

// seal seals the buffer in its place and writes it.
func (w *Writer) seal(last bool) error {
	if w.next == maxChunks {
		return fmt.Errorf("envelope: seal stream: %w: more than %d chunks of %d bytes", ErrTooLarge, uint64(maxChunks), ChunkSize)
	}
	sealed := w.aead.Seal(w.buf[:0], chunkNonce(w.next, last), w.buf, w.header)
	w.next++
	w.buf = w.buf[:0]
	if _, err := w.dst.Write(sealed); err != nil {
		return fmt.Errorf("envelope: seal stream: %w", err)
	}
	return nil
}
