package envelope

import (
	"bytes"
	"io"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// FuzzOpenV1: what opens was sealed by somebody who derived the key, and has the payload that was sealed. Changes of
// spelling and metadata are free in version 1.
func FuzzOpenV1(f *testing.F) {
	v := versions(f)[0]
	text, _, _, result := v.exchange(f)
	fuzzTask(f, v, text, result)
}

// FuzzOpenV2: nothing opens but the very text that was sealed, and what parses prints as it was. The text is a fixed
// one, because every process of a fuzzing run would seal another.
func FuzzOpenV2(f *testing.F) {
	fuzzTask(f, versions(f)[1], testdata(f, "task.v2.json"), testdata(f, "result.v2.json"))
}

func fuzzTask(f *testing.F, v version, text, result []byte) {
	opened, err := v.open(text)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(result)
	f.Add([]byte(`{"subtaskId":"","ephemeralPublicKey":"","encryptedPayload":"","nonce":"","tag":"","metadata":{}}`))
	f.Add([]byte(`{"v":2,"direction":"result","subtaskId":"a","recipient":"","sender":"","nonce":"","payload":""}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if o, err := v.open(data); err == nil && (!bytes.Equal(o.Payload, opened.Payload) || v.name == "v2" && !bytes.Equal(data, text)) {
			t.Errorf("opened %q", data)
		}
		if e, err := parseTaskV2(data); err == nil && !bytes.Equal(e.json(), data) {
			t.Errorf("%q prints as %q", data, e.json())
		}
		session := Session{bytes.Clone(opened.key), opened.format} // one for each input, for it is used up
		if got, err := session.OpenResult(data); err == nil && (string(got) != "result" || v.name == "v2" && !bytes.Equal(data, result)) {
			t.Errorf("opened the result %q", data)
		}
		o := Opened{Payload: data}
		if task, err := o.Task(); err == nil {
			if again, err := (&Opened{Payload: task.JSON()}).Task(); err != nil || again != task {
				t.Errorf("%q: %+v became %+v, %v", data, task, again, err)
			}
		}
		if r, err := ParseResult(data); err == nil {
			text, err := r.JSON()
			if again, err2 := ParseResult(text); err != nil || err2 != nil || again != r {
				t.Errorf("%q: %+v became %+v, %v, %v", data, r, again, err, err2)
			}
		}
	})
}

// FuzzStream: the input is applied to a stream as what to keep, what to put in and what to go on with. Whatever comes
// out is a beginning of the file, and all of it only if the stream is what was sealed.
func FuzzStream(f *testing.F) {
	plain := pattern(ChunkSize + 100)
	key := testKey(f, 1)
	sealed := sealAll(f, plain)
	id := crypto.Sum(key.PublicKey().Bytes())
	f.Add(uint32(0), []byte("edgecoder-stream\x01"), uint32(len(sealed)))
	f.Add(uint32(17), id[:8], uint32(25))
	f.Add(uint32(len(sealed)), []byte{}, uint32(len(sealed)))
	f.Add(uint32(HeaderSize), []byte{}, uint32(HeaderSize+sealedChunkSize))
	f.Add(uint32(HeaderSize+sealedChunkSize), []byte{1}, uint32(len(sealed)))
	f.Fuzz(func(t *testing.T, keep uint32, put []byte, from uint32) {
		keep, from = min(keep, uint32(len(sealed))), min(from, uint32(len(sealed)))
		stream := append(append(bytes.Clone(sealed[:keep]), put...), sealed[from:]...)
		r, err := NewReader(bytes.NewReader(stream), key)
		if err != nil {
			return
		}
		got, err := io.ReadAll(r)
		if !bytes.HasPrefix(plain, got) || err == nil && !bytes.Equal(stream, sealed) {
			t.Errorf("%d kept, %q, from %d: released %d bytes, %v", keep, put, from, len(got), err)
		}
	})
}
