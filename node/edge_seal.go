package node

import (
	"crypto/hkdf"
	"crypto/sha256"
)

// listKeyLabel tells the key from others that may be made of the same secret.
const listKeyLabel = "edge list v1"

// listKey returns what an edge seals its list with (HKDF, RFC 5869, of the signing key's seed): the key file is under the passphrase, the list beside
// it is not. Clear it after use.
func (id *identity) listKey() ([]byte, error) {
	return hkdf.Key(sha256.New, id.Signing, []byte(id.ClusterID), listKeyLabel, sha256.Size)
}
