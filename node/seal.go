package node

import (
	"bytes"
	"crypto/ecdh"
	"crypto/x509"
	"fmt"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/envelope"
)

// Shared secrets travel in the log, sealed to each member's X25519 key (envelope
// version 2) and signed by the coordinator that made them.

// sealingID binds a copy to the key that it is of.
func sealingID(subject string, key crypto.Hash) string { return subject + " " + key.String() }

// sealTo seals a secret for one member.
func sealTo(signer crypto.PrivateKey, encryptionKey []byte, id string, secret []byte) ([]byte, error) {
	to, err := crypto.NewEncryptionPublicKey(encryptionKey)
	if err != nil {
		return nil, fmt.Errorf("X25519 key: %w", err)
	}
	text, _, err := envelope.SealV2(signer, to, envelope.Clear{SubtaskID: id}, secret)
	return text, err
}

// unseal opens this node's copy of a secret, which one of senders must have sealed.
func (id *identity) unseal(senders []crypto.PublicKey, name string, sealed []byte) ([]byte, error) {
	key, err := ecdh.X25519().NewPrivateKey(id.Encryption)
	if err != nil {
		return nil, fmt.Errorf("X25519 key of this node: %w", err)
	}
	opened, err := envelope.OpenV2(key, senders, sealed)
	if err != nil {
		return nil, err
	}
	if opened.Clear.SubtaskID != name {
		return nil, fmt.Errorf("the copy is of %q, not of %q", opened.Clear.SubtaskID, name)
	}
	return opened.Payload, nil
}

// checkAuthority tells whether a key is that of a CA's certificate.
func checkAuthority(a authority) error {
	cert, signer, err := a.parse()
	if err != nil {
		return err
	}
	if signer == nil {
		return errNoCAKey
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return err
	}
	if !bytes.Equal(public, cert.RawSubjectPublicKeyInfo) {
		return fmt.Errorf("the key of CA %s does not fit its certificate", a.id())
	}
	return nil
}
