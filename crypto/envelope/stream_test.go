package envelope

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/edgecoder/edgecoder/crypto"
)

// pattern is n bytes of which no chunk is like another.
func pattern(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(i) ^ byte(i>>8) ^ byte(i>>16)
	}
	return out
}

func sealAll(t testing.TB, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, testKey(t, 1).PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := w.Write(plain); err != nil || n != len(plain) {
		t.Fatalf("%d, %v", n, err)
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func openAll(t testing.TB, sealed []byte) ([]byte, error) {
	t.Helper()
	r, err := NewReader(bytes.NewReader(sealed), testKey(t, 1))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestStreamRoundTrip(t *testing.T) {
	for _, size := range []int{0, 1, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2 * ChunkSize, 2*ChunkSize + 1, 5*ChunkSize + 12345} {
		plain := pattern(size)
		sealed := sealAll(t, plain)
		chunks := max(1, (size+ChunkSize-1)/ChunkSize)
		if want := HeaderSize + size + chunks*tagSize; len(sealed) != want {
			t.Errorf("%d bytes became %d, want %d", size, len(sealed), want)
		}
		got, err := openAll(t, sealed)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: %d came back, %v", size, len(got), err)
		}
	}
}

// TestStreamPieces: how the bytes are cut on their way in and out does not matter.
func TestStreamPieces(t *testing.T) {
	plain := pattern(2*ChunkSize + 100)
	var out bytes.Buffer
	w, err := NewWriter(&out, testKey(t, 1).PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	for rest, step := plain, 1; len(rest) > 0; step = step*3 + 1 {
		n, err := w.Write(rest[:min(step, len(rest))])
		if err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, src := range map[string]io.Reader{
		"halves":         iotest.HalfReader(bytes.NewReader(out.Bytes())),
		"end with data":  iotest.DataErrReader(bytes.NewReader(out.Bytes())),
		"byte by byte":   iotest.OneByteReader(bytes.NewReader(out.Bytes())),
		"as it is there": bytes.NewReader(out.Bytes()),
	} {
		r, err := NewReader(src, testKey(t, 1))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(iotest.OneByteReader(r)); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// TestStreamFlipEveryBit: of a stream of three chunks every bit of the header, of the tags and around them counts, and
// of what lies between every hundredth; of a short one every bit.
func TestStreamFlipEveryBit(t *testing.T) {
	short := sealAll(t, []byte("a short file"))
	flip(short, func(bit int, changed []byte) {
		if got, err := openAll(t, changed); err == nil || len(got) > 0 {
			t.Errorf("bit %d of byte %d: released %q, %v", bit%8, bit/8, got, err)
		}
	})
	plain := pattern(2*ChunkSize + 10)
	sealed := sealAll(t, plain)
	for at := 0; at < len(sealed); at++ {
		inChunk := (at - HeaderSize) % sealedChunkSize
		if at >= HeaderSize && inChunk > 2 && inChunk < ChunkSize-2 && at%3001 != 0 {
			continue
		}
		sealed[at] ^= 1 << (at % 8)
		got, err := openAll(t, sealed)
		whole := max(0, at-HeaderSize) / sealedChunkSize * ChunkSize // of the chunks before
		if err == nil || !bytes.Equal(got, plain[:whole]) {
			t.Errorf("byte %d: released %d bytes, want %d; %v", at, len(got), whole, err)
		}
		sealed[at] ^= 1 << (at % 8)
	}
}

// TestStreamTampered: chunks that are lost, moved, doubled or added are refused, and what is released is a beginning of
// the file.
func TestStreamTampered(t *testing.T) {
	plain := pattern(3 * ChunkSize)
	sealed := sealAll(t, plain)
	header := sealed[:HeaderSize]
	a, b, c := sealed[HeaderSize:][:sealedChunkSize], sealed[HeaderSize+sealedChunkSize:][:sealedChunkSize], sealed[HeaderSize+2*sealedChunkSize:]
	other := sealAll(t, plain)
	for name, tt := range map[string]struct {
		stream []byte
		whole  int // chunks released
		want   error
	}{
		"last chunk cut":          {slices.Concat(header, a, b), 1, ErrTruncated},
		"two chunks cut":          {slices.Concat(header, a), 0, ErrTruncated},
		"all chunks cut":          {header, 0, ErrTruncated},
		"cut in a chunk":          {sealed[:len(sealed)-1], 2, ErrNotAuthentic},
		"cut after a byte":        {slices.Concat(header, a, b[:1]), 1, ErrTruncated},
		"cut in a tag":            {slices.Concat(header, a[:15]), 0, ErrTruncated},
		"cut in the header":       {header[:40], 0, ErrTruncated},
		"cut in the magic":        {header[:5], 0, ErrTruncated},
		"nothing":                 {nil, 0, ErrMalformed},
		"first chunk missing":     {slices.Concat(header, b, c), 0, ErrNotAuthentic},
		"middle chunk missing":    {slices.Concat(header, a, c), 1, ErrNotAuthentic},
		"swapped":                 {slices.Concat(header, b, a, c), 0, ErrNotAuthentic},
		"doubled":                 {slices.Concat(header, a, a, b, c), 1, ErrNotAuthentic},
		"a byte added":            {append(slices.Clone(sealed), 0), 2, ErrNotAuthentic},
		"a chunk added":           {slices.Concat(sealed, c), 2, ErrNotAuthentic},
		"another stream added":    {slices.Concat(sealed, other), 2, ErrNotAuthentic},
		"chunk of another stream": {slices.Concat(header, a, other[HeaderSize+sealedChunkSize:]), 1, ErrNotAuthentic},
		"another header":          {slices.Concat(other[:HeaderSize], a, b, c), 0, ErrNotAuthentic},
		"not a stream":            {[]byte("-----BEGIN PUBLIC KEY-----"), 0, ErrMalformed},
		"another version":         {slices.Concat([]byte(streamMagic), []byte{2}, sealed[17:]), 0, ErrMalformed},
	} {
		got, err := openAll(t, tt.stream)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if !bytes.Equal(got, plain[:tt.whole*ChunkSize]) {
			t.Errorf("%s: %d bytes released, want %d chunks", name, len(got), tt.whole)
		}
	}
}

// rawStream seals chunks by hand, as a sealer would that does not keep to the format.
func rawStream(t *testing.T, first uint64, chunks ...[]byte) (*Reader, error) {
	t.Helper()
	key := testKey(t, 1)
	enc, context, err := newSender(key.PublicKey(), streamInfo(key.PublicKey()))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := streamKey(context)
	if err != nil {
		t.Fatal(err)
	}
	stream := newHeader(key.PublicKey(), enc)
	header := slices.Clone(stream)
	for i, chunk := range chunks {
		stream = aead.Seal(stream, chunkNonce(first+uint64(i), i == len(chunks)-1), chunk, header)
	}
	return NewReader(bytes.NewReader(stream), key)
}

// TestStreamOneSpelling: an empty last chunk, a short one in the middle.
func TestStreamOneSpelling(t *testing.T) {
	for name, tt := range map[string]struct {
		chunks [][]byte
		want   error
	}{
		"empty last chunk":      {[][]byte{pattern(ChunkSize), nil}, ErrMalformed},
		"short chunk in middle": {[][]byte{pattern(10), pattern(10)}, ErrNotAuthentic},
		"long last chunk":       {[][]byte{pattern(ChunkSize + 1)}, ErrNotAuthentic},
		"as it should be":       {[][]byte{pattern(ChunkSize), pattern(1)}, nil},
		"empty file":            {[][]byte{nil}, nil},
	} {
		r, err := rawStream(t, 0, tt.chunks...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

// TestStreamBound stands at the last chunk there may be: 256 TiB have passed.
func TestStreamBound(t *testing.T) {
	w, err := NewWriter(io.Discard, testKey(t, 1).PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	w.next = maxChunks - 1
	if n, err := w.Write(pattern(2 * ChunkSize)); err != nil || n != 2*ChunkSize {
		t.Errorf("the last chunk: %d, %v", n, err)
	}
	if err := w.Close(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a chunk beyond: %v", err)
	}
	if err := w.Close(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("and again: %v", err)
	}
	for first, want := range map[uint64]error{maxChunks - 1: nil, maxChunks: ErrMalformed} {
		r, err := rawStream(t, first, pattern(5))
		if err != nil {
			t.Fatal(err)
		}
		r.next = first
		if _, err := io.ReadAll(r); !errors.Is(err, want) {
			t.Errorf("chunk %d: %v, want %v", first, err, want)
		}
	}
	if a, b := chunkNonce(maxChunks-1, false), chunkNonce(maxChunks-1, true); bytes.Equal(a, b) || !bytes.Equal(a[:8], []byte{0, 0, 0, 0, 0, 0, 0, 0xff}) {
		t.Errorf("nonces %x and %x", a, b)
	}
}

func TestStreamWrongKey(t *testing.T) {
	sealed := sealAll(t, []byte("file"))
	if _, err := NewReader(bytes.NewReader(sealed), testKey(t, 2)); !errors.Is(err, ErrWrongKey) {
		t.Errorf("%v", err)
	}
	// A header that says it is for us is not believed.
	id := crypto.Sum(testKey(t, 2).PublicKey().Bytes())
	copy(sealed[len(streamMagic)+1:], id[:keyIDSize])
	r, err := NewReader(bytes.NewReader(sealed), testKey(t, 2))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); !errors.Is(err, ErrNotAuthentic) || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
	copy(sealed[HeaderSize-encSize:], make([]byte, encSize))
	if _, err := NewReader(bytes.NewReader(sealed), testKey(t, 2)); !errors.Is(err, ErrMalformed) || !errors.Is(err, crypto.ErrWeakKey) {
		t.Errorf("zero point: %v", err)
	}
}

// TestStreamFaults: errors of the files come through, stay, and end nothing well.
func TestStreamFaults(t *testing.T) {
	fault := errors.New("bad sector")
	sealed := sealAll(t, pattern(2*ChunkSize))
	for _, at := range []int{0, 20, HeaderSize, HeaderSize + 100, HeaderSize + sealedChunkSize} {
		r, err := NewReader(io.MultiReader(bytes.NewReader(sealed[:at]), iotest.ErrReader(fault)), testKey(t, 1))
		if err == nil {
			_, err = io.ReadAll(r)
			if _, again := r.Read(make([]byte, 1)); !errors.Is(again, fault) {
				t.Errorf("read again: %v", again)
			}
		}
		if !errors.Is(err, fault) {
			t.Errorf("at %d: %v", at, err)
		}
	}
	// A source that calls its own end unexpected cannot make a beginning look whole.
	r, err := NewReader(io.MultiReader(bytes.NewReader(sealed[:HeaderSize+sealedChunkSize]), iotest.ErrReader(io.ErrUnexpectedEOF)), testKey(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); !errors.Is(err, ErrTruncated) || len(got) > 0 {
		t.Errorf("%d bytes, %v", len(got), err)
	}

	for _, room := range []int{0, HeaderSize, HeaderSize + 100} {
		w, err := NewWriter(&full{room: room, err: fault}, testKey(t, 1).PublicKey())
		if err == nil {
			_, err = w.Write(pattern(ChunkSize + 1))
			if again := w.Close(); !errors.Is(again, fault) {
				t.Errorf("closed after a fault: %v", again)
			}
		}
		if !errors.Is(err, fault) {
			t.Errorf("room for %d: %v", room, err)
		}
	}
	w, err := NewWriter(io.Discard, testKey(t, 1).PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := w.Write([]byte("more")); n != 0 || !errors.Is(err, errClosed) {
		t.Errorf("wrote %d after close: %v", n, err)
	}
}

// full is a disk with so much room.
type full struct {
	room int
	err  error
}

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, f.err
	}
	return len(p), nil
}

// window passes what a Writer writes to a Reader and remembers the most that waited in between: what a side holds back
// beyond that would be seen as a growing allocation.
type window struct {
	bytes.Buffer
	most int
}

func (w *window) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	w.most = max(w.most, w.Len())
	return n, err
}

// TestStreamConstantMemory: neither side holds more than its chunks however long the file is. What comes out of the
// Writer never lags more than a chunk, and a chunk more of file costs a reader and a writer a few small allocations,
// none of them of the size of data.
func TestStreamConstantMemory(t *testing.T) {
	var between window
	key := testKey(t, 1)
	w, err := NewWriter(&between, key.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(&between, key)
	if err != nil {
		t.Fatal(err)
	}
	plain, got := pattern(ChunkSize), make([]byte, ChunkSize)
	step := func() {
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		// Two chunks are out when the third goes in; the reader wants a byte of the next before it opens one.
		for between.Len() > sealedChunkSize {
			if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("read: %v", err)
			}
		}
	}
	for range 4 {
		step()
	}
	var before, after runtime.MemStats
	const chunks = 200
	runtime.ReadMemStats(&before)
	for range chunks {
		step()
	}
	runtime.ReadMemStats(&after)
	if size := (after.TotalAlloc - before.TotalAlloc) / chunks; size > ChunkSize/8 { // nonces, and the buffer in between may grow once
		t.Errorf("%d bytes allocated for each chunk of the file", size)
	}
	if between.most > 2*sealedChunkSize {
		t.Errorf("the writer let %d bytes go at once", between.most)
	}
}
