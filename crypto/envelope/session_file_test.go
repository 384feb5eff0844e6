package envelope

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// TestKeptKeys: a key that was kept opens and seals as the one in memory does, for its own side only, and only once.
func TestKeptKeys(t *testing.T) {
	reader, err := crypto.GenerateEncryptionKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := crypto.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	head := Clear{SubtaskID: "s-1"}
	v1, s1, err1 := SealV1(rand.Reader, reader.PublicKey(), head, []byte("task"))
	v2, s2, err2 := SealV2(signer, reader.PublicKey(), head, []byte("task"))
	o1, errO1 := OpenV1(reader, v1)
	o2, errO2 := OpenV2(reader, []crypto.PublicKey{crypto.PublicOf(signer)}, v2)
	if err := errors.Join(err1, err2, errO1, errO2); err != nil {
		t.Fatal(err)
	}
	for version, c := range map[int]struct {
		s *Session
		o *Opened
	}{1: {s1, o1}, 2: {s2, o2}} {
		opens, errS := c.s.Keep()
		seals, errO := c.o.KeepResultKey()
		if errS != nil || errO != nil {
			t.Fatal(errS, errO)
		}
		for name, err := range map[string]error{"opens": second(ParseSession(seals)), "seals": second(ParseResultSealer(opens))} {
			if !errors.Is(err, ErrWrongKey) || bytes.Contains([]byte(err.Error()), []byte("key\":")) {
				t.Errorf("version %d: the other side %s: %v", version, name, err)
			}
		}
		o, errO := ParseResultSealer(seals)
		s, errS := ParseSession(opens)
		if errS != nil || errO != nil || o.Clear.SubtaskID != "s-1" {
			t.Fatal(errS, errO)
		}
		text, err := o.SealResult(rand.Reader, []byte("done"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.OpenResult(text); err != nil || string(got) != "done" {
			t.Errorf("version %d: %q, %v", version, got, err)
		}
		if _, err := s.Keep(); !errors.Is(err, ErrUsed) {
			t.Errorf("version %d: a used session is kept: %v", version, err)
		}
		if _, err := o.KeepResultKey(); !errors.Is(err, ErrUsed) {
			t.Errorf("version %d: a used key is kept: %v", version, err)
		}
		for i := range opens {
			if _, err := ParseSession(opens[:i]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("version %d, %d bytes of it: %v", version, i, err)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }
