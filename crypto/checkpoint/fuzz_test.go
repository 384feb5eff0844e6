package checkpoint

import (
	"bytes"
	"testing"
)

// FuzzParse: what is accepted prints as it was read, and nothing panics.
func FuzzParse(f *testing.F) {
	a, b := testKey(1), testKey(2)
	set := testSet(f, a, b)
	cp := tree(5).Checkpoint(testOrigin)
	note := noteBy(cp, a, 7, a, b)
	f.Add(note)
	f.Add(set.Text())
	f.Add(SignedSet{Set: set, Signatures: []Signature{set.Sign(a)}}.Encode())
	f.Add(Bundle{Record: []byte("x"), Index: 3, Note: note}.Encode())
	f.Add([]byte(testOrigin.String()))
	f.Add([]byte(testOrigin.String() + "-0011223344556677"))
	var edge Frontier
	edge.Append(LeafHash([]byte("x")))
	data, _ := edge.MarshalBinary()
	f.Add(data)
	f.Fuzz(func(t *testing.T, in []byte) {
		if o, err := ParseOrigin(string(in)); err == nil && o.String() != string(in) {
			t.Errorf("origin %q", in)
		}
		if c, err := ParseText(in); err == nil && !bytes.Equal(c.Text(), in) {
			t.Errorf("text %q", in)
		}
		if n, err := ParseNote(in); err == nil {
			if again, err := ParseNote(n.Encode()); err != nil || again.Checkpoint != n.Checkpoint || len(again.Signatures) != len(n.Signatures) {
				t.Errorf("note %q: %v", in, err)
			}
		}
		if s, err := ParseSet(in); err == nil && !bytes.Equal(s.Encode(), in) {
			t.Errorf("set %q", in)
		}
		if s, err := ParseSetText(in); err == nil && !bytes.Equal(s.Text(), in) {
			t.Errorf("set text %q", in)
		}
		if b, err := ParseBundle(in); err == nil && !bytes.Equal(b.Encode(), in) {
			t.Errorf("bundle %q", in)
		}
		var fr Frontier
		if fr.UnmarshalBinary(in) == nil {
			if out, _ := fr.MarshalBinary(); !bytes.Equal(out, in) {
				t.Errorf("frontier %x", in)
			}
		}
		if o, err := set.OpenFinal(in); err == nil && o.Checkpoint != cp {
			t.Errorf("a forged note: %q", in)
		}
	})
}
