package crypto

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
)

// SignText signs a statement of one of our own formats. The label names kind and version of the statement
// ("member card v1"); it is part of the signed bytes, so a signature made under one label is worthless under
// another. Parts are length-prefixed, so no two lists of parts have the same bytes. Labels are constants of the
// program: one that is empty or holds anything but printable ASCII panics.
func SignText(priv PrivateKey, label string, parts ...[]byte) []byte {
	return ed25519.Sign(priv, statementText(label, parts))
}

// VerifyText checks a signature of [SignText] by the rule of [Verify].
func VerifyText(pub PublicKey, sig []byte, label string, parts ...[]byte) bool {
	return Verify(pub, statementText(label, parts), sig)
}

// statementText is "edgecoder " label "\n", then for each part its length as eight bytes, big-endian, and the
// part. The byte after the newline is always zero, which sets these texts apart from [EnrollProofText].
func statementText(label string, parts [][]byte) []byte {
	checkLabel(label)
	size := len("edgecoder \n") + len(label)
	for _, part := range parts {
		size += 8 + len(part)
	}
	text := make([]byte, 0, size)
	text = append(text, "edgecoder "...)
	text = append(text, label...)
	text = append(text, '\n')
	for _, part := range parts {
		text = binary.BigEndian.AppendUint64(text, uint64(len(part)))
		text = append(text, part...)
	}
	return text
}

func checkLabel(label string) {
	for i := range len(label) {
		if label[i] < ' ' || label[i] > '~' {
			panic(fmt.Sprintf("crypto: statement label %q is not printable ASCII", label))
		}
	}
	if label == "" {
		panic("crypto: statement without a label")
	}
}
