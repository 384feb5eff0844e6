package node

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// KeyFilePurpose is the purpose in the header of a server's key file.
const KeyFilePurpose = keysPurpose

// KeyFileInfo is what may be shown of a server's key file.
type KeyFileInfo struct {
	NodeID          string   `json:"node_id"`
	ClusterID       string   `json:"cluster_id"` // empty while a join is under way
	Role            fsm.Role `json:"role"`
	SigningKey      string   `json:"signing_key"` // PEM SPKI
	SigningKeyID    string   `json:"signing_key_id"`
	PeerID          string   `json:"peer_id"`
	EncryptionKeyID string   `json:"encryption_key_id"`
	HoldsCAKey      bool     `json:"holds_ca_key"`
}

// OpenKeyFile opens the bytes of a server's key file to tell whose it is.
// Errors are those of keyfile.Open.
func OpenKeyFile(passphrase, data []byte) (KeyFileInfo, error) {
	id, err := openIdentity(passphrase, data)
	if err != nil {
		return KeyFileInfo{}, err
	}
	defer id.clear()
	raw, err := id.encryptionPublic()
	if err != nil {
		return KeyFileInfo{}, err
	}
	encryption, err := crypto.NewEncryptionPublicKey(raw)
	if err != nil {
		return KeyFileInfo{}, fmt.Errorf("X25519 key of this node: %w", err)
	}
	seeds := id.signingSeeds()
	pub := publicOfSeed(seeds[len(seeds)-1]) // the newest: whether it is active already the cluster knows
	return KeyFileInfo{NodeID: id.NodeID, ClusterID: id.ClusterID, Role: id.Role, SigningKey: pub.PEM(), SigningKeyID: pub.KeyID(),
		PeerID: pub.CoordinatorID(), EncryptionKeyID: crypto.EncryptionKeyID(encryption), HoldsCAKey: len(id.CAKey) > 0}, nil
}

// LockKeyFile keeps servers away from the data directory of a key file until
// unlock: a running one would write the file again, under the passphrase that
// it was started with. A copy of the file elsewhere has no server.
func LockKeyFile(path string) (unlock func() error, err error) {
	none := func() error { return nil }
	if filepath.Base(path) != fileKeys {
		return none, nil
	}
	unlock, err = takeLock(filepath.Dir(path), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return none, nil
	}
	return unlock, err
}
