package node

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/edgecoder/edgecoder/crypto/keyfile"
)

// cheapIdentity is a fresh identity whose key file costs little.
func cheapIdentity(t *testing.T) *identity {
	t.Helper()
	id, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	id.iterations = keyfile.MinIterations
	return id
}

// TestKeyFileKeepsItsCost: an operator chose it with `keys passphrase --cost`;
// the server writes the file again and again.
func TestKeyFileKeepsItsCost(t *testing.T) {
	dir, passphrase := t.TempDir(), []byte("correct horse")
	id := cheapIdentity(t)
	id.iterations++
	if err := id.save(dir, passphrase); err != nil {
		t.Fatal(err)
	}
	back, err := loadIdentity(dir, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	if back.NodeID != id.NodeID || !bytes.Equal(back.Encryption, id.Encryption) || back.publicKey() != id.publicKey() {
		t.Error("read back as another identity")
	}
	if err := back.save(dir, passphrase); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, fileKeys))
	if err != nil {
		t.Fatal(err)
	}
	if h, err := keyfile.Inspect(data); err != nil || h.Iterations != keyfile.MinIterations+1 || h.Purpose != KeyFilePurpose {
		t.Errorf("%+v, %v", h, err)
	}
	info, err := OpenKeyFile(passphrase, data)
	if err != nil || info.NodeID != id.NodeID || info.SigningKeyID != id.publicKey().KeyID() || info.PeerID != id.publicKey().CoordinatorID() || info.HoldsCAKey {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := OpenKeyFile([]byte("battery staple"), data); !errors.Is(err, keyfile.ErrPassphrase) {
		t.Errorf("wrong passphrase: %v", err)
	}
}

func TestLockKeyFile(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{fileKeys, "agent.key"} { // nobody made the lock yet
		unlock, err := LockKeyFile(filepath.Join(dir, name))
		if err != nil || unlock() != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("made files: %v, %v", entries, err)
	}
	stop, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LockKeyFile(filepath.Join(dir, fileKeys)); !errors.Is(err, errInUse) {
		t.Errorf("beside a running server: %v", err)
	}
	if unlock, err := LockKeyFile(filepath.Join(dir, "agent.key")); err != nil || unlock() != nil {
		t.Errorf("another file: %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	unlock, err := LockKeyFile(filepath.Join(dir, fileKeys))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDir(dir); !errors.Is(err, errInUse) {
		t.Errorf("a server started meanwhile: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
}

// TestStoppedNodeForgetsItsPassphrase, and then writes no key file that nobody could open.
func TestStoppedNodeForgetsItsPassphrase(t *testing.T) {
	dir, passphrase := t.TempDir(), []byte("correct horse")
	id := cheapIdentity(t)
	id.AdminToken = "shown"
	if err := id.save(dir, passphrase); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(dir, fileKeys))
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{id: id, cfg: Config{DataDir: dir, Passphrase: passphrase}}
	n.forgetPassphrase()
	if bytes.ContainsAny(passphrase, "corecthrs ") {
		t.Errorf("left: %q", passphrase)
	}
	if err := n.ForgetAdminToken(); !errors.Is(err, keyfile.ErrParams) {
		t.Errorf("written without a passphrase: %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, fileKeys)); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the key file changed: %v", err)
	}
}
