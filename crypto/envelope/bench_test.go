package envelope

import (
	"bytes"
	"io"
	"testing"

	"filippo.io/age"
)

// benchFile is the file of the stream benchmarks; age seals and opens the same.
const benchFile = 64 << 20

// BenchmarkStream seals and opens 64 MiB in memory, and so does age (X25519 and ChaCha20-Poly1305).
func BenchmarkStream(b *testing.B) {
	plain := pattern(benchFile)
	key := testKey(b, 1)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	tools := []struct {
		name string
		seal func(dst io.Writer) (io.WriteCloser, error)
		open func(src io.Reader) (io.Reader, error)
	}{
		{"edgecoder",
			func(dst io.Writer) (io.WriteCloser, error) { return NewWriter(dst, key.PublicKey()) },
			func(src io.Reader) (io.Reader, error) { return NewReader(src, key) }},
		{"age",
			func(dst io.Writer) (io.WriteCloser, error) { return age.Encrypt(dst, identity.Recipient()) },
			func(src io.Reader) (io.Reader, error) { return age.Decrypt(src, identity) }},
	}
	for _, tool := range tools {
		var sealed bytes.Buffer
		benchSeal(b, &sealed, plain, tool.seal)
		b.Run("seal/"+tool.name, func(b *testing.B) {
			b.SetBytes(benchFile)
			b.ReportAllocs()
			for b.Loop() {
				benchSeal(b, io.Discard, plain, tool.seal)
			}
		})
		b.Run("open/"+tool.name, func(b *testing.B) {
			b.SetBytes(benchFile)
			b.ReportAllocs()
			for b.Loop() {
				r, err := tool.open(bytes.NewReader(sealed.Bytes()))
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, r); err != nil || n != benchFile {
					b.Fatal(n, err)
				}
			}
		})
	}
}

func benchSeal(b *testing.B, dst io.Writer, plain []byte, seal func(io.Writer) (io.WriteCloser, error)) {
	b.Helper()
	w, err := seal(dst)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(w, bytes.NewReader(plain)); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkTask is a task of 1 KiB, sealed by the coordinator and opened by the agent.
func BenchmarkTask(b *testing.B) {
	for _, v := range versions(b) {
		payload := pattern(1024)
		text, _, err := v.seal(testClear(), payload)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("seal/"+v.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := v.seal(testClear(), payload); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("open/"+v.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.open(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
