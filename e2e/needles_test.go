package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// secret is something that must never lie on a disk in the clear.
type secret struct {
	name  string
	bytes []byte
}

// forms are the spellings in which a secret could have slipped out. Each needle
// is what stands in a file wherever the secret begins in it: base64 depends on
// what is before and behind, so only the characters that it alone decides count.
func (s secret) forms() map[string][]byte {
	quoted := strconv.Quote(string(s.bytes))
	forms := map[string][]byte{
		"raw": s.bytes, "hex": []byte(hex.EncodeToString(s.bytes)), "upper-case hex": []byte(strings.ToUpper(hex.EncodeToString(s.bytes))),
		"%v": []byte(strings.Trim(fmt.Sprint(s.bytes), "[]")), "%q": []byte(quoted[1 : len(quoted)-1]),
	}
	for name, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
		for before := range 3 {
			forms[fmt.Sprintf("%s at %d", name, before)] = decidedBase64(encoding, s.bytes, before)
		}
	}
	return forms
}

// decidedBase64 returns the characters of base64 that depend on nothing but data
// when it is preceded by before bytes, modulo three. Padding is a neighbour too.
func decidedBase64(encoding *base64.Encoding, data []byte, before int) []byte {
	text := encoding.EncodeToString(slices.Concat(make([]byte, before), data))
	text = text[(8*before+5)/6:] // characters that mix in bits of what is before
	if (before+len(data))%3 != 0 {
		text = text[:len(text)-1] // the last one has room for bits of what is behind
	}
	return []byte(text)
}

// findSecrets looks through every file below the roots and says what it found.
func findSecrets(t *testing.T, secrets []secret, roots ...string) (found []string, files int) {
	t.Helper()
	type needle struct {
		what string
		text []byte
	}
	var needles []needle
	for _, s := range secrets {
		if len(s.bytes) < 16 {
			t.Fatalf("%s of %d bytes: shorter ones stand in files by chance", s.name, len(s.bytes))
		}
		for form, text := range s.forms() {
			needles = append(needles, needle{s.name + " as " + form, text})
		}
	}
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			files++
			for _, n := range needles {
				if bytes.Contains(data, n.text) {
					found = append(found, path+": "+n.what)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found, files
}

// TestSecretsAreFound: the search below is worth something only if it finds each
// form, wherever it stands.
func TestSecretsAreFound(t *testing.T) {
	key := []byte("\x00\xfb\xff\xfe0123456789abcdef\"\\\n89abcd\x01\x02") // with what base64 spells differently, and what is quoted
	wanted := secret{"key", key}
	encodings := map[string]*base64.Encoding{"base64": base64.StdEncoding, "base64url": base64.URLEncoding, "raw base64": base64.RawStdEncoding, "raw base64url": base64.RawURLEncoding}
	plants := map[string]string{
		"raw": string(key), "hex": fmt.Sprintf("%x", key), "upper-case hex": fmt.Sprintf("%X", key), "%v": fmt.Sprint(key), "%q": fmt.Sprintf("%q", key),
	}
	for name, encoding := range encodings {
		for before := range 4 {
			for behind := range 4 {
				embedded := slices.Concat([]byte("\xa5\x5a\xc3\x3c")[:before], key, []byte("\xff\x00\xff\x00")[:behind])
				plants[fmt.Sprintf("%s, %d before, %d behind", name, before, behind)] = encoding.EncodeToString(embedded)
			}
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "data", "deep", "raft.db")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range plants {
		page := slices.Concat(bytes.Repeat([]byte{0xee}, 5000), []byte(text), bytes.Repeat([]byte("padding "), 100))
		if err := os.WriteFile(file, page, 0o600); err != nil {
			t.Fatal(err)
		}
		if found, _ := findSecrets(t, []secret{wanted}, dir); len(found) == 0 {
			t.Errorf("not found: %s", name)
		}
		page[5000+len(text)/2] ^= 1 // almost the secret is not the secret
		if err := os.WriteFile(file, page, 0o600); err != nil {
			t.Fatal(err)
		}
		if found, files := findSecrets(t, []secret{wanted}, dir); len(found) != 0 || files != 1 {
			t.Errorf("%s: found although it is not there: %v in %d files", name, found, files)
		}
	}
}
