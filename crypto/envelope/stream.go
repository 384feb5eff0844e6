package envelope

import (
	"bytes"
	"crypto/cipher"
	"crypto/ecdh"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/edgecoder/edgecoder/crypto"
)

const (
	// ChunkSize is how many bytes of the file a chunk holds, but for the last one. It is what a reader must hold to
	// verify before it passes anything on; the 16 bytes of the tag are then 0.02 per cent.
	ChunkSize = 64 << 10
	// HeaderSize is the size of a stream's header in bytes.
	HeaderSize = len(streamMagic) + 1 + keyIDSize + encSize

	sealedChunkSize = ChunkSize + tagSize

	// maxChunks bounds a stream to 256 TiB. The nonce would count further, but with the blocks under one key grows what
	// the best attack on AES-GCM gains (NIST SP 800-38D, appendix B): at the bound, 2^44 blocks, it is below 2^-40, at 1
	// TiB below 2^-56.
	maxChunks = 1 << 32

	streamMagic   = "edgecoder-stream"
	streamVersion = 1
	keyIDSize     = 8 // raw, of the 16 hex digits of crypto.EncryptionKeyID

	infoStream     = "edgecoder stream v1\n"
	keyLabelStream = "edgecoder stream v1 chunks"
)

// exporter is either side of an HPKE context.
type exporter interface {
	Export(exporterContext string, length int) ([]byte, error)
}

// streamKey returns the cipher of the chunks.
func streamKey(context exporter) (cipher.AEAD, error) {
	key, err := context.Export(keyLabelStream, keySize)
	if err != nil {
		return nil, fmt.Errorf("HPKE: %w", err)
	}
	defer clear(key)
	return newGCM(key), nil
}

func streamInfo(to *ecdh.PublicKey) []byte { return append([]byte(infoStream), to.Bytes()...) }

// newHeader makes a header; all of it has a fixed size.
func newHeader(to *ecdh.PublicKey, enc []byte) []byte {
	header := append([]byte(streamMagic), streamVersion)
	id := crypto.Sum(to.Bytes())
	return append(append(header, id[:keyIDSize]...), enc...)
}

// readHeader reads a header for the key and returns it with the encapsulated key.
func readHeader(src io.Reader, to *ecdh.PublicKey) (header, enc []byte, err error) {
	header = make([]byte, HeaderSize)
	n, err := io.ReadFull(src, header)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil, err
	}
	known := append([]byte(streamMagic), streamVersion)
	switch most := min(n, len(known)); {
	case n == 0:
		return nil, nil, fmt.Errorf("%w: it is empty", ErrMalformed)
	case !bytes.Equal(header[:most], known[:most]):
		return nil, nil, fmt.Errorf("%w: no stream of version %d", ErrMalformed, streamVersion)
	case n < HeaderSize:
		return nil, nil, fmt.Errorf("%w in its header", ErrTruncated)
	}
	id, enc := header[len(known):len(known)+keyIDSize], header[len(known)+keyIDSize:]
	if got, own := hex.EncodeToString(id), crypto.EncryptionKeyID(to); got != own {
		return nil, nil, fmt.Errorf("%w: %s, this is %s", ErrWrongKey, got, own)
	}
	return header, enc, nil
}

// chunkNonce is the nonce of STREAM: the chunk's number, and whether it is the last. Fresh keys make it unique.
func chunkNonce(number uint64, last bool) []byte {
	nonce := make([]byte, nonceSize)
	binary.BigEndian.PutUint64(nonce[nonceSize-1-8:], number)
	if last {
		nonce[nonceSize-1] = 1
	}
	return nonce
}
