package envelope

import (
	"crypto/cipher"
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
)

// Reader opens a stream. It is not for concurrent use and holds two chunks in memory.
type Reader struct {
	src     io.Reader
	aead    cipher.AEAD
	header  []byte
	next    uint64                    // number of the next chunk
	in      [sealedChunkSize + 1]byte // a sealed chunk, and the first byte of what follows it
	carried int                       // 1 if that byte was read with the chunk before, and is in[0]
	out     [ChunkSize]byte
	plain   []byte // of out: verified, not yet handed out
	err     error  // what comes after plain; io.EOF only behind the last chunk
}

// NewReader reads the header of a stream that is sealed to the key. Neither it nor the header proves anything yet: the
// first chunk does.
func NewReader(src io.Reader, key *ecdh.PrivateKey) (*Reader, error) {
	header, enc, err := readHeader(src, key.PublicKey())
	if err != nil {
		return nil, fmt.Errorf("envelope: open stream: %w", err)
	}
	context, err := newRecipient(key, enc, streamInfo(key.PublicKey()))
	if err != nil {
		return nil, fmt.Errorf("envelope: open stream: %w", err)
	}
	aead, err := streamKey(context)
	if err != nil {
		return nil, fmt.Errorf("envelope: open stream: %w", err)
	}
	return &Reader{src: src, aead: aead, header: header}, nil
}

// Read hands out bytes of chunks that verified, and no others. Until it returns io.EOF the stream may still prove to
// be cut off or altered further on: whoever cannot take back what it did with the beginning must wait.
func (r *Reader) Read(p []byte) (int, error) {
	for len(r.plain) == 0 && r.err == nil && len(p) > 0 {
		r.plain, r.err = r.chunk()
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	clear(r.out[:])
	return 0, r.err
}

// chunk reads and opens the next chunk. With the last one comes io.EOF.
func (r *Reader) chunk() ([]byte, error) {
	n, err := io.ReadFull(r.src, r.in[r.carried:])
	sealed := r.in[:r.carried+n]
	last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) // one that src invents does not verify
	if err != nil && !last {
		return nil, fmt.Errorf("envelope: open stream: %w", err)
	}
	if !last {
		sealed = sealed[:sealedChunkSize]
	}
	plain, err := r.open(sealed, last)
	if err != nil {
		return nil, fmt.Errorf("envelope: open stream: chunk %d: %w", r.next, err)
	}
	if last {
		return plain, io.EOF
	}
	r.next++
	r.in[0], r.carried = r.in[sealedChunkSize], 1
	return plain, nil
}

// open verifies a chunk as the last one or not, and if it does not verify finds out what can be told.
func (r *Reader) open(sealed []byte, last bool) ([]byte, error) {
	if r.next == maxChunks {
		return nil, fmt.Errorf("%w: more than %d chunks", ErrMalformed, uint64(maxChunks))
	}
	if len(sealed) < tagSize {
		return nil, ErrTruncated
	}
	plain, err := r.aead.Open(r.out[:0], chunkNonce(r.next, last), sealed, r.header)
	switch {
	case err == nil && len(plain) == 0 && r.next > 0:
		return nil, fmt.Errorf("%w: an empty chunk at the end", ErrMalformed) // another spelling of the same file
	case err == nil:
		return plain, nil
	}
	_, err = r.aead.Open(r.out[:0], chunkNonce(r.next, !last), sealed, r.header)
	clear(r.out[:])
	switch {
	case err == nil && last:
		return nil, fmt.Errorf("%w after it", ErrTruncated)
	case err == nil:
		return nil, fmt.Errorf("%w: something stands behind the end", ErrNotAuthentic)
	case len(sealed) < sealedChunkSize:
		return nil, fmt.Errorf("%w: altered, or cut off in it", ErrNotAuthentic)
	}
	return nil, fmt.Errorf("%w: altered, or not in its place", ErrNotAuthentic)
}
