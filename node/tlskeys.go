package node

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"

	housecrypto "github.com/edgecoder/edgecoder/crypto"
)

// tlsKey is a TLS key that this node holds.
type tlsKey struct {
	name   housecrypto.Hash // by which the state knows it: SHA-256 of public
	public []byte           // PKIX
	signer crypto.Signer
	pkcs8  []byte // as the key file has it
}

func readTLSKey(pkcs8 []byte) (tlsKey, error) {
	signer, err := parseSigner(pkcs8)
	if err != nil {
		return tlsKey{}, fmt.Errorf("TLS key of this node: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	return tlsKey{name: housecrypto.Sum(public), public: public, signer: signer, pkcs8: pkcs8}, err
}

// tlsKeys reads all TLS keys of the file, the oldest first.
func (id *identity) tlsKeys() ([]tlsKey, error) {
	var out []tlsKey
	for _, pkcs8 := range append([][]byte{id.TLSKey}, id.LaterTLS...) {
		key, err := readTLSKey(pkcs8)
		if err != nil {
			return nil, err
		}
		out = append(out, key)
	}
	return out, nil
}

// keyOf finds the key that a certificate is for.
func keyOf(keys []tlsKey, leaf *x509.Certificate) (tlsKey, bool) {
	return keyNamed(keys, housecrypto.Sum(leaf.RawSubjectPublicKeyInfo))
}

func keyNamed(keys []tlsKey, name housecrypto.Hash) (tlsKey, bool) {
	i := slices.IndexFunc(keys, func(k tlsKey) bool { return k.name == name })
	if i < 0 {
		return tlsKey{}, false
	}
	return keys[i], true
}

// certificateFor joins a chain and the key that it is for.
func certificateFor(keys []tlsKey, chain [][]byte) (*tls.Certificate, error) {
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("TLS certificate of this node: %w", err)
	}
	key, held := keyOf(keys, leaf)
	if !held {
		return nil, fmt.Errorf("TLS certificate of this node: it is for the key %s, which the key file lacks", housecrypto.Sum(leaf.RawSubjectPublicKeyInfo))
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key.signer, Leaf: leaf}, nil
}

// tlsCertificate joins a chain and the key of an identity that it is for.
func (id *identity) tlsCertificate(chain [][]byte) (*tls.Certificate, error) {
	keys, err := id.tlsKeys()
	if err != nil {
		return nil, err
	}
	return certificateFor(keys, chain)
}

// hold takes the TLS keys that certificates may be for.
func (c *credentials) hold(id *identity) error {
	keys, err := id.tlsKeys()
	if err == nil {
		c.keys.Store(&keys)
	}
	return err
}

func (c *credentials) held() []tlsKey { return *c.keys.Load() }

// chosen is the key that certificates are asked for: what keyLoop chose, or that of
// the certificate shown.
func (c *credentials) chosen() (tlsKey, error) {
	if k := c.want.Load(); k != nil {
		return *k, nil
	}
	if k, held := keyOf(c.held(), c.cert.Load().Leaf); held {
		return k, nil
	}
	return tlsKey{}, fmt.Errorf("no TLS key of this node is for the certificate that it shows")
}
