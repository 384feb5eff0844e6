package cmd

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/golden"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
	"github.com/edgecoder/edgecoder/node"
)

const (
	firstPass  = "correct horse"
	secondPass = "battery staple"
)

// bundleVector is the golden bundle of EdgeCoder (WIRE 17).
type bundleVector struct {
	Passphrase string `json:"passphrase"`
	Encrypted  struct {
		Ciphertext string `json:"ciphertext"`
		Salt       string `json:"salt"`
		Nonce      string `json:"nonce"`
		Tag        string `json:"tag"`
	} `json:"encrypted"`
}

// file writes the vector as a bundle file.
func (v bundleVector) file(t *testing.T) string {
	t.Helper()
	text, err := json.Marshal(v.Encrypted)
	if err != nil {
		t.Fatal(err)
	}
	return writeTemp(t, "bundle.json", string(text))
}

func loadBundleVector(t *testing.T) bundleVector {
	t.Helper()
	var all struct {
		EncryptedKeyBundle bundleVector `json:"encryptedKeyBundle"`
	}
	golden.Load(t, &all)
	return all.EncryptedKeyBundle
}

// keyDir is a directory with the two passphrases in files.
func keyDir(t *testing.T) (dir, first, second string) {
	t.Helper()
	cleanEnv(t)
	cheapKeys(t)
	return t.TempDir(), writeTemp(t, "first", firstPass+"\n"), writeTemp(t, "second", secondPass+"\n")
}

func inspect(t *testing.T, args ...string) inspectedView {
	t.Helper()
	r := runArgs(t, "", append([]string{"keys", "inspect", "--format", "json"}, args...)...)
	wantStatus(t, r, exitDone)
	var view inspectedView
	if err := json.Unmarshal([]byte(r.out), &view); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(r.out+r.err, "BEGIN PRIVATE") {
		t.Errorf("inspect prints the private key:\n%s%s", r.out, r.err)
	}
	return view
}

func TestKeysGenerateThenInspect(t *testing.T) {
	dir, first, _ := keyDir(t)
	for _, tt := range []struct {
		name, keyType, purpose string
		more                   []string
		format                 keyfile.Format
		cost                   int
	}{
		{"signing", typeEd25519, agentKeyPurpose, nil, keyfile.FormatSealed, keyfile.MinIterations},
		{"dearer", typeEd25519, agentKeyPurpose, []string{"--cost", "100001"}, keyfile.FormatSealed, 100_001},
		{"envelope", typeX25519, encryptionKeyPurpose, nil, keyfile.FormatSealed, keyfile.MinIterations},
		{"bundle", typeEd25519, "", []string{"--bundle"}, keyfile.FormatBundle, keyfile.BundleIterations},
		{"plain", typeX25519, "", []string{"--plaintext"}, keyfile.FormatPrivatePEM, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, tt.name)
			r := runArgs(t, "", append([]string{"keys", "generate", "--type", tt.keyType, "--out", path, "--passphrase-file", first, "--format", "json"}, tt.more...)...)
			wantStatus(t, r, exitDone)
			var made keyView
			if err := json.Unmarshal([]byte(r.out), &made); err != nil || made.KeyType != tt.keyType || made.FileFormat != tt.format || made.Encrypted == (tt.cost == 0) {
				t.Fatalf("%v, %+v", err, made)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info.Mode(), err)
			}
			closed := inspect(t, path)
			if closed.Format != tt.format || closed.Iterations != tt.cost || closed.Purpose != tt.purpose || closed.Opened || closed.Encrypted != made.Encrypted {
				t.Errorf("closed: %+v", closed)
			}
			if known := tt.format != keyfile.FormatBundle; known != (closed.KeyType == tt.keyType) || (closed.Key != nil) == made.Encrypted {
				t.Errorf("closed: %+v", closed)
			}
			open := inspect(t, path, "--open", "--passphrase-file", first)
			if open.Key == nil || *open.Key != made.publicKey || open.Opened != made.Encrypted {
				t.Errorf("open: %+v, made %+v", open, made)
			}
			public := inspect(t, writeTemp(t, "public.pem", made.PublicKey))
			if public.Format != keyfile.FormatPublicPEM || public.Key == nil || *public.Key != made.publicKey || public.Encrypted {
				t.Errorf("public: %+v", public)
			}
		})
	}
}

// TestAgentKeygenIsKeysGenerate: the two commands print and write the same kind of thing.
func TestAgentKeygenIsKeysGenerate(t *testing.T) {
	dir, first, _ := keyDir(t)
	for name, words := range map[string][]string{"a": {"agent", "keygen"}, "b": {"keys", "generate", "--type", "ed25519"}} {
		path := filepath.Join(dir, name)
		r := runArgs(t, "", append(words, "--out", path, "--passphrase-file", first)...)
		wantStatus(t, r, exitDone)
		if lines := strings.Split(r.out, "\n"); len(lines) != 5 || !strings.HasPrefix(lines[0], "key id  ") || lines[1] != "-----BEGIN PUBLIC KEY-----" {
			t.Errorf("%q: %q", words, r.out)
		}
		if view := inspect(t, path); view.Purpose != agentKeyPurpose {
			t.Errorf("%q: %+v", words, view)
		}
	}
}

func TestKeysGenerateUsage(t *testing.T) {
	dir, first, _ := keyDir(t)
	taken := writeTemp(t, "taken", "precious")
	out := filepath.Join(dir, "k")
	for _, tt := range []struct{ args, says string }{
		{"", "--type is missing"},
		{"--type rsa --out " + out, `--type "rsa"`},
		{"--type x25519", "--out is missing"},
		{"--type x25519 --out " + taken, "exists"},
		{"--type x25519 --out " + out + " --cost 1", "100000 to 10000000"},
		{"--type x25519 --out " + out + " --cost 0", "--cost 0"},
		{"--type x25519 --out " + out + " --cost 99999999", "100000 to 10000000"},
		{"--type ed25519 --out " + out + " --bundle --cost 200000", "always 600000"},
		{"--type ed25519 --out " + out + " --plaintext --bundle", "--plaintext"},
		{"--type ed25519 --out " + out + " --plaintext --cost 200000", "--plaintext"},
		{"--type ed25519 --out " + out + " --valid 30d", "--valid"},
		{"--type ed25519 --out " + out + " --bundle --valid soon", "--valid"},
		{"--type ed25519 --out " + out + " --passphrase-file " + dir + "/none", "no such file"},
		{"--type ed25519 --out " + out + " --passphrase-file " + writeTemp(t, "short", "short"), "at least 8"},
		{"--type ed25519 --out " + out + " extra", "unexpected argument"},
		{"--type ed25519 --out " + out + " --format xml", "--format"},
	} {
		r := runArgs(t, "", append([]string{"keys", "generate"}, strings.Fields(tt.args)...)...)
		if r.status != exitUsage || !strings.Contains(r.err, tt.says) || r.out != "" {
			t.Errorf("%s: %+v", tt.args, r)
		}
	}
	if text, err := os.ReadFile(taken); err != nil || string(text) != "precious" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a refused command wrote the file")
	}
	wantStatus(t, runArgs(t, "", "keys", "generate", "--type", "x25519", "--out", taken, "--force", "--passphrase-file", first), exitDone)
}

// TestKeysPassphrase changes passphrase and cost of each format in place.
func TestKeysPassphrase(t *testing.T) {
	dir, first, second := keyDir(t)
	for _, tt := range []struct {
		name   string
		make   []string
		change []string
		cost   int
	}{
		{"sealed", nil, nil, keyfile.MinIterations},
		{"sealed, dearer", nil, []string{"--cost", "100002"}, 100_002},
		{"bundle", []string{"--bundle"}, nil, keyfile.BundleIterations},
	} {
		path := filepath.Join(dir, tt.name)
		wantStatus(t, runArgs(t, "", append([]string{"keys", "generate", "--type", "ed25519", "--out", path, "--passphrase-file", first}, tt.make...)...), exitDone)
		before := inspect(t, path, "--open", "--passphrase-file", first)
		r := runArgs(t, "", append([]string{"keys", "passphrase", path, "--passphrase-file", first, "--new-passphrase-file", second, "--format", "json"}, tt.change...)...)
		wantStatus(t, r, exitDone)
		var view resealedView
		if err := json.Unmarshal([]byte(r.out), &view); err != nil || view.Iterations != tt.cost || !strings.Contains(r.err, "old passphrase") {
			t.Errorf("%s: %v, %+v, %s", tt.name, err, view, r.err)
		}
		after := inspect(t, path, "--open", "--passphrase-file", second)
		if *after.Key != *before.Key || after.Iterations != tt.cost || after.Purpose != before.Purpose {
			t.Errorf("%s: %+v, was %+v", tt.name, after, before)
		}
		if r := runArgs(t, "", "keys", "inspect", path, "--open", "--passphrase-file", first); r.status != exitUsage || !strings.Contains(r.err, "wrong passphrase") {
			t.Errorf("%s: the old passphrase: %+v", tt.name, r)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", tt.name, info.Mode(), err)
		}
	}
}

func TestKeysPassphraseSources(t *testing.T) {
	dir, first, second := keyDir(t)
	path := filepath.Join(dir, "k")
	wantStatus(t, runArgs(t, "", "keys", "generate", "--type", "ed25519", "--out", path, "--passphrase-file", first), exitDone)
	t.Setenv("EDGECODER_PASSPHRASE", firstPass)
	t.Setenv("EDGECODER_NEW_PASSPHRASE", secondPass)
	wantStatus(t, runArgs(t, "", "keys", "passphrase", path), exitDone)
	inspect(t, path, "--open", "--passphrase-file", second)
	os.Unsetenv("EDGECODER_NEW_PASSPHRASE")
	// The cost alone.
	wantStatus(t, runArgs(t, "", "keys", "passphrase", path, "--passphrase-file", second, "--keep-passphrase", "--cost", "100003"), exitDone)
	if view := inspect(t, path, "--open", "--passphrase-file", second); view.Iterations != 100_003 {
		t.Errorf("%+v", view)
	}
	for _, tt := range []struct {
		args string
		says string
	}{
		{path + " --passphrase-file - --new-passphrase-file -", "both passphrases from standard input"},
		{path + " --passphrase-file " + second + " --new-passphrase-file " + second, "nothing was changed"},
		{path + " --passphrase-file " + second + " --keep-passphrase", "without --cost"},
		{path + " --passphrase-file " + second + " --cost 5", "100000 to 10000000"},
		{path + " --passphrase-file " + second + " --new-passphrase-file " + writeTemp(t, "short", "short"), "less than 8"},
		{path + " --passphrase-file " + second + " --new-passphrase-file " + dir + "/none", "no such file"},
		{path + " --passphrase-file " + second, "--new-passphrase-file"},
		{path + " --passphrase-file " + first + " --new-passphrase-file " + second, "wrong passphrase"},
		{dir + "/none", "no such file"},
		{"", "FILE is missing"},
	} {
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		r := runArgs(t, "", append([]string{"keys", "passphrase"}, strings.Fields(tt.args)...)...)
		if r.status != exitUsage || !strings.Contains(r.err, tt.says) || r.out != "" {
			t.Errorf("%s: %+v", tt.args, r)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: the file changed", tt.args)
		}
	}
}

// TestKeyFilesThatDoNotOpen: each fault is named with its file and what to do,
// by every command that reads a key.
func TestKeyFilesThatDoNotOpen(t *testing.T) {
	dir, first, second := keyDir(t)
	made := filepath.Join(dir, "made")
	wantStatus(t, runArgs(t, "", "keys", "generate", "--type", "ed25519", "--out", made, "--passphrase-file", first), exitDone)
	sealed, err := os.ReadFile(made)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(sealed)
	damaged[len(damaged)/2] ^= 1
	bundle := loadBundleVector(t)
	short := bundle
	short.Encrypted.Tag = bundle.Encrypted.Tag[:8]
	flipped := bundle
	flipped.Encrypted.Tag = "00" + bundle.Encrypted.Tag[2:]
	vectorPass := writeTemp(t, "vector", bundle.Passphrase)
	for _, tt := range []struct {
		name, file, pass string
		says             []string
		looked           int // status of inspect without opening
	}{
		{"wrong passphrase", made, second, []string{"wrong passphrase", "--passphrase-file"}, exitDone},
		{"damaged", writeTemp(t, "damaged", string(damaged)), first, []string{"damaged", "backup"}, exitRefused},
		{"absurd cost", writeTemp(t, "absurd", absurd(sealed)), first, []string{"unacceptable parameters"}, exitRefused},
		{"junk", writeTemp(t, "junk", "junk"), first, []string{"key file"}, exitRefused},
		{"bundle, either", flipped.file(t), vectorPass, []string{"wrong passphrase, or the bundle is damaged"}, exitDone},
		{"bundle, short tag", short.file(t), vectorPass, []string{"unacceptable parameters", "tag"}, exitRefused},
		{"bundle, cut", writeTemp(t, "cut", `{"ciphertext":`), vectorPass, []string{"not a bundle"}, exitRefused},
	} {
		for _, words := range [][]string{
			{"sign", "--agent", "a", "GET", "/", "--key", tt.file},
			{"keys", "convert", tt.file, "--out", filepath.Join(dir, "converted")},
			{"keys", "passphrase", tt.file, "--new-passphrase-file", first},
		} {
			r := runArgs(t, "", append(words, "--passphrase-file", tt.pass)...)
			for _, says := range append(tt.says, tt.file) {
				if r.status != exitUsage || !strings.Contains(r.err, says) || r.out != "" {
					t.Errorf("%s, %s: %+v, want %q", tt.name, words[:2], r, says)
				}
			}
		}
		r := runArgs(t, "", "keys", "inspect", tt.file)
		if r.status != tt.looked || (tt.looked == exitRefused && !strings.Contains(r.err, tt.file)) {
			t.Errorf("%s: inspect: %+v", tt.name, r)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "converted")); err == nil {
		t.Error("converted what does not open")
	}
}

// absurd is a sealed file whose header asks for four thousand million iterations, with a checksum that fits.
func absurd(sealed []byte) string {
	bad := bytes.Clone(sealed)
	copy(bad[len("edgekey\n")+2:], []byte{0xff, 0xff, 0xff, 0xff})
	sum := crypto.Sum(bad[:len(bad)-crypto.HashSize])
	copy(bad[len(bad)-crypto.HashSize:], sum[:])
	return string(bad)
}

func TestKeysInspectBundle(t *testing.T) {
	cleanEnv(t)
	v := loadBundleVector(t)
	pass := writeTemp(t, "vector", v.Passphrase+"\n")
	path := v.file(t)
	view := inspect(t, path, "--open", "--passphrase-file", pass)
	if view.Bundle == nil || view.Bundle.KeyID != "c0ffee00-0000-4000-8000-000000000001" || view.Bundle.Expired || view.Bundle.RotationDue || view.Bundle.Previous != nil ||
		view.Bundle.ExpiresMs != 1_775_001_600_000 || view.Key == nil || !strings.HasPrefix(view.Key.KeyID, "4b9fb869d484") {
		t.Errorf("%+v %+v", view.Bundle, view.Key)
	}
	r := runArgs(t, "", "keys", "inspect", path, "--open", "--passphrase-file", pass)
	wantStatus(t, r, exitDone)
	for _, want := range []string{"2026-04-01 00:00:00Z", "good", "600000 iterations", typeEd25519} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s", want, r.out)
		}
	}
	// The key of a bundle signs like any other.
	wantStatus(t, runArgs(t, "", "sign", "--key", path, "--agent", "a", "GET", "/", "--passphrase-file", pass), exitDone)
}

// TestBundleHalvesBelongTogether: a bundle that says one key and holds another is no use to anybody honest.
func TestBundleHalvesBelongTogether(t *testing.T) {
	dir, first, _ := keyDir(t)
	one, err := newKeyPair(rand.Reader, typeEd25519)
	if err != nil {
		t.Fatal(err)
	}
	two, err := newKeyPair(rand.Reader, typeEd25519)
	if err != nil {
		t.Fatal(err)
	}
	good := keyfile.BundleKey{PrivatePEM: one.pem, PublicPEM: one.PublicKey, EndMs: 1}
	mixed := keyfile.BundleKey{PrivatePEM: one.pem, PublicPEM: two.PublicKey, EndMs: 1}
	for name, b := range map[string]*keyfile.Bundle{
		"current": {KeyID: "x", Current: mixed}, "previous": {KeyID: "x", Current: good, Previous: &mixed},
		"no key": {KeyID: "x", Current: keyfile.BundleKey{PrivatePEM: []byte("x"), PublicPEM: one.PublicKey}},
	} {
		if err := checkBundle(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	file, err := keyfile.SealBundle(rand.Reader, []byte(firstPass), &keyfile.Bundle{KeyID: "x", Current: good, Previous: &good})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "bundle")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	r := runArgs(t, "", "keys", "inspect", path, "--open", "--passphrase-file", first)
	wantStatus(t, r, exitDone)
	if !strings.Contains(r.err, "expired") || !strings.Contains(r.out, "previous key id") || !strings.Contains(r.out, "no longer verifies") {
		t.Errorf("%+v", r)
	}
}

func TestKeysConvert(t *testing.T) {
	dir, first, _ := keyDir(t)
	v := loadVectors(t)
	plain := writeTemp(t, "agent.pem", v.Keys.Ed25519["agent1"].PrivateKeyPem)
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, words := range [][]string{
		{plain, "--out", at("sealed")},
		{at("sealed"), "--out", at("bundle"), "--bundle", "--valid", "30d"},
		{at("bundle"), "--out", at("again"), "--cost", "100004"},
		{at("again"), "--out", at("plain"), "--plaintext"},
	} {
		wantStatus(t, runArgs(t, "", append(append([]string{"keys", "convert"}, words...), "--passphrase-file", first)...), exitDone)
	}
	if text, err := os.ReadFile(at("plain")); err != nil || string(text) != v.Keys.Ed25519["agent1"].PrivateKeyPem {
		t.Errorf("%v\n%s", err, text)
	}
	if view := inspect(t, at("bundle"), "--open", "--passphrase-file", first); view.Bundle.ExpiresMs-view.Bundle.ActivatedMs != 30*24*3_600_000 || view.Bundle.ActivatedMs != testNowMs {
		t.Errorf("%+v", view.Bundle)
	}
	for _, tt := range []struct{ args, says string }{
		{"", "FILE is missing"},
		{plain, "--out is missing"},
		{plain + " --out " + at("sealed"), "exists"},
		{writeTemp(t, "public.pem", v.Keys.Ed25519["agent1"].PublicKeyPem) + " --out " + at("x"), "private key"},
		{sealedFor(t, "something else") + " --out " + at("x"), "something else"},
	} {
		r := runArgs(t, "", append([]string{"keys", "convert", "--passphrase-file", first}, strings.Fields(tt.args)...)...)
		if r.status != exitUsage || !strings.Contains(r.err, tt.says) {
			t.Errorf("%s: %+v", tt.args, r)
		}
	}
}

func sealedFor(t *testing.T, purpose string) string {
	t.Helper()
	file, err := keyfile.Seal(rand.Reader, []byte(firstPass), purpose, []byte("secret"), keyfile.Params{Iterations: keyfile.MinIterations})
	if err != nil {
		t.Fatal(err)
	}
	return writeTemp(t, "sealed", string(file))
}

// TestKeysInspectOpenToOthers: what others may read is not opened, and said so.
func TestKeysInspectOpenToOthers(t *testing.T) {
	_, first, _ := keyDir(t)
	path := sealedFor(t, agentKeyPurpose)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	r := runArgs(t, "", "keys", "inspect", path)
	wantStatus(t, r, exitDone)
	if !strings.Contains(r.err, "chmod 600 "+path) {
		t.Errorf("%+v", r)
	}
	for _, words := range [][]string{{"keys", "inspect", "--open", path}, {"keys", "passphrase", path}, {"keys", "convert", path, "--out", path + "2"}} {
		if r := runArgs(t, "", append(words, "--passphrase-file", first)...); r.status != exitUsage || !strings.Contains(r.err, "chmod 600") {
			t.Errorf("%q: %+v", words, r)
		}
	}
	public := writeTemp(t, "public.pem", loadVectors(t).Keys.Ed25519["agent1"].PublicKeyPem)
	if err := os.Chmod(public, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := runArgs(t, "", "keys", "inspect", public); r.status != exitDone || r.err != "" {
		t.Errorf("%+v", r)
	}
	pass := writeTemp(t, "pass", firstPass)
	if err := os.Chmod(pass, 0o640); err != nil {
		t.Fatal(err)
	}
	if r := runArgs(t, "", "agent", "keygen", "--out", path+"3", "--passphrase-file", pass); r.status != exitUsage || !strings.Contains(r.err, "chmod 600 "+pass) {
		t.Errorf("%+v", r)
	}
}

// TestKeysPassphraseThatCannotBeWritten: the old file stays, whole.
func TestKeysPassphraseThatCannotBeWritten(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Log("as root, the directory is made unfit by a link instead of by its mode")
	}
	dir, first, second := keyDir(t)
	path := filepath.Join(dir, "k")
	wantStatus(t, runArgs(t, "", "keys", "generate", "--type", "ed25519", "--out", path, "--passphrase-file", first), exitDone)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	target := link // WriteAtomic does not write through links
	if os.Geteuid() != 0 {
		target = path
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.Chmod(dir, 0o700) }() // for the removal of the directory
	}
	r := runArgs(t, "", "keys", "passphrase", target, "--passphrase-file", first, "--new-passphrase-file", second)
	if r.status != exitRefused || !strings.Contains(r.err, target) {
		t.Errorf("%+v", r)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file changed: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// TestKeysPassphraseOfAServer: a copy of node.keys, and one whose server runs.
func TestKeysPassphraseOfAServer(t *testing.T) {
	dir, first, second := keyDir(t)
	file, err := os.ReadFile(sealedFor(t, node.KeyFilePurpose))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "node.keys")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	change := func() ran {
		return runArgs(t, "", "keys", "passphrase", path, "--passphrase-file", first, "--new-passphrase-file", second)
	}
	if err := os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	unlock, err := node.LockKeyFile(path) // as a running server holds it
	if err != nil {
		t.Fatal(err)
	}
	if r := change(); r.status != exitRefused || !strings.Contains(r.err, "stop the server first") {
		t.Errorf("%+v", r)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(file, after) {
		t.Errorf("the file changed: %v", err)
	}
	wantStatus(t, change(), exitDone)
	if view := inspect(t, path); view.Purpose != node.KeyFilePurpose {
		t.Errorf("%+v", view)
	}
	if err := os.Remove(filepath.Join(dir, "lock")); err != nil {
		t.Fatal(err)
	}
	first, second = second, first
	wantStatus(t, change(), exitDone) // a copy, which has no lock beside it
	// What is in it is no identity, which opening tells.
	if r := runArgs(t, "", "keys", "inspect", path, "--open", "--passphrase-file", second); r.status != exitUsage || !strings.Contains(r.err, "does not parse") {
		t.Errorf("%+v", r)
	}
}

// TestReadEncryptionKey: an X25519 key opens by its purpose, and no other key does.
func TestReadEncryptionKey(t *testing.T) {
	dir, first, _ := keyDir(t)
	for _, keyType := range []string{typeX25519, typeEd25519} {
		for _, more := range [][]string{nil, {"--bundle"}, {"--plaintext"}} {
			path := filepath.Join(dir, fmt.Sprint(keyType, more))
			r := runArgs(t, "", append([]string{"keys", "generate", "--type", keyType, "--out", path, "--passphrase-file", first, "--format", "json"}, more...)...)
			wantStatus(t, r, exitDone)
			var made keyView
			if err := json.Unmarshal([]byte(r.out), &made); err != nil {
				t.Fatal(err)
			}
			p := testProgram()
			key, err := p.readEncryptionKey("key", path, first)
			if keyType == typeX25519 && (err != nil || crypto.EncryptionKeyID(key.PublicKey()) != made.KeyID) {
				t.Errorf("%s: %v", path, err)
			}
			if keyType == typeEd25519 && (err == nil || exitStatus(err) != exitUsage || !strings.Contains(err.Error(), path)) {
				t.Errorf("%s: %v", path, err)
			}
			if _, err := p.readKey("key", path, first); (err == nil) != (keyType == typeEd25519) {
				t.Errorf("%s as a signing key: %v", path, err)
			}
		}
	}
	if _, err := testProgram().readEncryptionKey("key", "", ""); err == nil || !strings.Contains(err.Error(), "--key is missing") {
		t.Errorf("%v", err)
	}
}
