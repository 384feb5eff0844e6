package node

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
	"github.com/edgecoder/edgecoder/fsm"
)

// Files of a data directory.
const (
	fileKeys  = "node.keys"  // identity and private keys, encrypted
	fileCA    = "ca.pem"     // the cluster CA's certificate, for clients; rewritten at each start
	filePeers = "peers.json" // where other coordinators were last seen
	fileRaft  = "raft.db"    // log and stable store
	fileLock  = "lock"
)

const keysPurpose = "node-keys"

// identity is who this node is for ever, and its secrets. It lives in one
// encrypted, authenticated file, so ids and keys can never part.
type identity struct {
	ClusterID  string   `cbor:"1,keyasint"` // empty while a join is under way
	NodeID     string   `cbor:"2,keyasint"`
	Role       fsm.Role `cbor:"3,keyasint"`
	Bootstrap  bool     `cbor:"4,keyasint"` // this node started the cluster
	CACert     []byte   `cbor:"5,keyasint"` // DER
	CAKey      []byte   `cbor:"6,keyasint"` // PKCS#8; empty on observers
	Signing    []byte   `cbor:"7,keyasint"` // Ed25519 seed
	Encryption []byte   `cbor:"8,keyasint"` // X25519 private key
	TLSKey     []byte   `cbor:"9,keyasint"` // PKCS#8
	TLSCert    []byte   `cbor:"10,keyasint"`
	PoolKeys   [][]byte `cbor:"11,keyasint"`           // gossip keys, the first is primary
	AdminToken string   `cbor:"13,keyasint,omitempty"` // the first one, from before genesis until it was shown
	Started    bool     `cbor:"12,keyasint"`           // a raft log was begun: without it this id has forgotten its votes
	Resync     bool     `cbor:"14,keyasint,omitempty"` // the next start throws the state away and fetches the others'
	Undo       uint64   `cbor:"15,keyasint,omitempty"` // the next start takes back the restore of this epoch, which the cluster went on without
}

// newIdentity makes the parts that a node chooses for itself. The id is random,
// so an empty data directory never takes up an old one.
func newIdentity() (*identity, error) {
	id, err := crypto.NewUUID(rand.Reader)
	if err != nil {
		return nil, err
	}
	signing, err := crypto.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	encryption, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	tlsKey, err := newTLSKey()
	if err != nil {
		return nil, err
	}
	return &identity{NodeID: id, Signing: signing.Seed(), Encryption: encryption.Bytes(), TLSKey: tlsKey}, nil
}

func (id *identity) signingKey() crypto.PrivateKey { return ed25519.NewKeyFromSeed(id.Signing) }

func (id *identity) publicKey() crypto.PublicKey { return crypto.PublicOf(id.signingKey()) }

func (id *identity) encryptionPublic() ([]byte, error) {
	key, err := ecdh.X25519().NewPrivateKey(id.Encryption)
	if err != nil {
		return nil, fmt.Errorf("X25519 key of this node: %w", err)
	}
	return key.PublicKey().Bytes(), nil
}

// loadIdentity opens the key file, or returns nil if the directory has none.
func loadIdentity(dir string, passphrase []byte) (*identity, error) {
	path := filepath.Join(dir, fileKeys)
	data, err := keyfile.ReadPrivate(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	plain, err := keyfile.Open(passphrase, keysPurpose, data)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	defer clear(plain)
	var id identity
	if err := fsm.Decode(plain, &id); err != nil {
		return nil, fmt.Errorf("key file %s: it opens but does not parse: %w", path, err)
	}
	if len(id.Signing) != ed25519.SeedSize {
		return nil, fmt.Errorf("key file %s: signing key of %d bytes", path, len(id.Signing))
	}
	return &id, nil
}

func (id *identity) save(dir string, passphrase []byte) error {
	plain, err := fsm.Encode(id)
	if err != nil {
		return err
	}
	defer clear(plain)
	data, err := keyfile.Seal(rand.Reader, passphrase, keysPurpose, plain, keyfile.Params{})
	if err != nil {
		return err
	}
	return keyfile.WriteAtomic(filepath.Join(dir, fileKeys), data)
}

// writeCA leaves the CA certificate where clients are told to find it.
func (id *identity) writeCA(dir string) error {
	path := filepath.Join(dir, fileCA)
	text := certPEM(id.CACert)
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, text) {
		return nil
	}
	return keyfile.WriteAtomic(path, text)
}
