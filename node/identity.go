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

	"github.com/fxamacker/cbor/v2"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
	"github.com/edgecoder/edgecoder/fsm"
)

// Files of a data directory.
const (
	fileKeys  = "node.keys"  // identity and private keys, encrypted
	fileCA    = "ca.pem"     // the cluster CA's certificate, the certificates of the CAs that count, for clients; rewritten when they change
	filePeers = "peers.json" // where other coordinators were last seen
	fileRaft  = "raft.db"    // log and stable store
	fileLock  = "lock"
)

const keysPurpose = "node-keys"

// maxIdentityBytes is far more than an identity takes; a longer one would be
// saved all the same, only not wiped as well.
const maxIdentityBytes = 64 << 10

// identity is who this node is for ever, and its secrets. It lives in one
// encrypted, authenticated file, so ids and keys can never part.
type identity struct {
	ClusterID  string   `cbor:"1,keyasint"` // empty while a join is under way
	NodeID     string   `cbor:"2,keyasint"`
	Role       fsm.Role `cbor:"3,keyasint"`
	Bootstrap  bool     `cbor:"4,keyasint"` // this node started the cluster
	CACert     []byte   `cbor:"5,keyasint"` // DER, of the active CA
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
	Credential string   `cbor:"16,keyasint,omitempty"` // of an edge: the text of its own token
	Cosigners  []byte   `cbor:"17,keyasint,omitempty"` // of an edge: the cosigner set that a list begins with, a signed note
	JoinedBy   string   `cbor:"18,keyasint,omitempty"` // of an edge: id of the join token whose cosigners its list goes by
	// LaterSigning are the seeds of signing keys that came after Signing, which goes
	// when it is over; the file holds all that verify, and the next one.
	LaterSigning [][]byte `cbor:"19,keyasint,omitempty"`

	MoreCAs    []authority `cbor:"20,keyasint,omitempty"` // trusted beside CACert, while the CA is rotated
	SharedAsOf uint64      `cbor:"21,keyasint,omitempty"` // log index as of which CAs and gossip keys are right
	// LaterTLS are TLS keys (PKCS#8) that came after TLSKey, as LaterSigning are. TLSCert
	// is for the one that was shown last.
	LaterTLS [][]byte `cbor:"22,keyasint,omitempty"`

	iterations int // cost of the key file that this was read from, which whoever changed it wants kept; 0: the default
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
	defer clear(signing)
	encryption, err := crypto.GenerateEncryptionKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	tlsKey, err := newTLSKey()
	if err != nil {
		return nil, err
	}
	return &identity{NodeID: id, Signing: signing.Seed(), Encryption: encryption.Bytes(), TLSKey: tlsKey}, nil
}

// signingKey returns a copy of the oldest key, which this node joins with: clear it after use.
func (id *identity) signingKey() crypto.PrivateKey { return ed25519.NewKeyFromSeed(id.Signing) }

func (id *identity) publicKey() crypto.PublicKey { return publicOfSeed(id.Signing) }

// signingSeeds returns all signing keys, the oldest first, in a list of its own.
func (id *identity) signingSeeds() [][]byte { return append([][]byte{id.Signing}, id.LaterSigning...) }

func publicOfSeed(seed []byte) crypto.PublicKey {
	key := ed25519.NewKeyFromSeed(seed)
	defer clear(key)
	return crypto.PublicOf(key)
}

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
	id, err := openIdentity(passphrase, data)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return id, nil
}

func openIdentity(passphrase, data []byte) (*identity, error) {
	plain, err := keyfile.Open(passphrase, keysPurpose, data)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	header, err := keyfile.Inspect(data)
	if err != nil {
		return nil, err
	}
	id := identity{iterations: header.Iterations}
	if err := fsm.Decode(plain, &id); err != nil {
		id.clear()
		return nil, fmt.Errorf("it opens but does not parse: %w", err)
	}
	for _, seed := range id.signingSeeds() {
		if len(seed) != ed25519.SeedSize {
			id.clear()
			return nil, fmt.Errorf("signing key of %d bytes", len(seed))
		}
	}
	return &id, nil
}

// clear wipes the secrets of an identity that is not needed any more. What the
// standard library made of them (TLS signers, ciphers) stays until collected.
func (id *identity) clear() {
	secrets := [][]byte{id.CAKey, id.Encryption, id.TLSKey}
	for _, a := range id.MoreCAs {
		secrets = append(secrets, a.Key)
	}
	for _, some := range [][][]byte{secrets, id.signingSeeds(), id.LaterTLS, id.PoolKeys} {
		for _, secret := range some {
			clear(secret)
		}
	}
}

// forgetPassphrase wipes the passphrase of a node that stopped. Whoever would
// still write the key file is refused rather than left to seal it under zeros.
func (n *Node) forgetPassphrase() {
	n.idMu.Lock()
	defer n.idMu.Unlock()
	clear(n.cfg.Passphrase)
	n.cfg.Passphrase = nil
}

// secretEncoding writes what fsm.Decode reads.
var secretEncoding = func() cbor.UserBufferEncMode {
	m, err := cbor.CoreDetEncOptions().UserBufferEncMode()
	if err != nil {
		panic(err)
	}
	return m
}()

func (id *identity) save(dir string, passphrase []byte) error {
	// A buffer of our own, large enough never to be copied: the pool of the encoder would keep the text.
	plain := bytes.NewBuffer(make([]byte, 0, maxIdentityBytes))
	defer func() { clear(plain.Bytes()) }()
	if err := secretEncoding.MarshalToBuffer(id, plain); err != nil {
		return err
	}
	data, err := keyfile.Seal(rand.Reader, passphrase, keysPurpose, plain.Bytes(), keyfile.Params{Iterations: id.iterations})
	if err != nil {
		return err
	}
	return keyfile.WriteAtomic(filepath.Join(dir, fileKeys), data)
}
