package node

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// A node that was away knows the others by TLS keys that they may show no more, and no
// entry tells it so until it has met one of them. So a certificate says itself how its
// key came: the order for it, which a signing key of the node signed, and how that key
// came after those before it. Whoever knows one of these verifies the rest; no CA and
// no other node is believed in it. It counts only where the log cannot have told, and
// takes back nothing that it told: an order that is older than what is on record, or of
// a time that the record knows, and a key that was revoked there, prove nothing.

// proofScheme is the scheme of the URI name (RFC 3986, opaque) that holds a proof.
const proofScheme = "edgecoder-succession"

// maxProofBytes bounds one in a certificate: a ring of signing keys and one order, with
// some 250 bytes each.
const maxProofBytes = 4 << 10

// tlsProof is how a TLS key came to be its node's. The zero value proves nothing: the
// node joined with the key.
type tlsProof struct {
	Signing []keyLink `cbor:"1,keyasint"` // in the order in which they came
	TLS     keyLink   `cbor:"2,keyasint"`
}

// keyLink is one crypto.Succession and its order.
type keyLink struct {
	_           struct{} `cbor:",toarray"`
	Public      crypto.PublicKey
	Predecessor crypto.PublicKey
	Signer      crypto.PublicKey // whose signature it is, of a TLS key; else the predecessor
	NotBeforeMs int64
	SignedMs    int64
	Signature   []byte
}

func linkOf(k fsm.Key) keyLink {
	p := k.Succession
	return keyLink{Public: k.Public, Predecessor: p.Predecessor, Signer: p.Signer, NotBeforeMs: p.NotBeforeMs, SignedMs: p.SignedMs, Signature: p.Signature}
}

func (l keyLink) by(signer crypto.PublicKey, clusterID string, of fsm.Subject) bool {
	return crypto.Succession{ClusterID: clusterID, Subject: of.String(), Predecessor: l.Predecessor, Successor: l.Public,
		NotBeforeMs: l.NotBeforeMs, SignedMs: l.SignedMs}.OrderedBy(signer, l.Signature)
}

// proofOf makes the proof of a TLS key that is on record.
func proofOf(c fsm.Coordinator, key crypto.Hash) (p tlsProof, ok bool) {
	i := slices.IndexFunc(c.TLSKeys, func(k fsm.Key) bool { return crypto.Hash(k.Public) == key })
	if i < 0 || c.TLSKeys[i].Succession == nil {
		return p, false
	}
	p.TLS = linkOf(c.TLSKeys[i])
	for _, k := range c.Keys {
		if k.Succession != nil { // who was away does not know of revocations either
			p.Signing = append(p.Signing, linkOf(k))
		}
	}
	return p, true
}

// uri is the name in a certificate.
func (p tlsProof) uri() (*url.URL, error) {
	data, err := fsm.Encode(p)
	if err != nil {
		return nil, err
	}
	return &url.URL{Scheme: proofScheme, Opaque: base64.RawURLEncoding.EncodeToString(data)}, nil
}

// proofIn reads the proof in a certificate; without one it is nil.
func proofIn(leaf *x509.Certificate) (*tlsProof, error) {
	for _, u := range leaf.URIs {
		if u.Scheme != proofScheme {
			continue
		}
		p, err := parseProof(u.Opaque)
		if err != nil {
			return nil, fmt.Errorf("the succession in the certificate: %w", err)
		}
		return p, nil
	}
	return nil, nil
}

// parseProof reads the text of a proof: base64url without padding, of CBOR.
func parseProof(text string) (*tlsProof, error) {
	if len(text) > maxProofBytes {
		return nil, fmt.Errorf("%d bytes, at most %d", len(text), maxProofBytes)
	}
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	p := &tlsProof{}
	if err := fsm.Decode(data, p); err != nil {
		return nil, err
	}
	if len(p.Signing) > fsm.MaxRingKeys {
		return nil, fmt.Errorf("%d signing keys, at most %d", len(p.Signing), fsm.MaxRingKeys)
	}
	return p, nil
}

// proves tells whether a node of whom an older record is known has the key by now: by
// orders that were signed at a time, Unix milliseconds, or later.
func (p *tlsProof) proves(clusterID string, have fsm.Coordinator, key crypto.Hash, oldestMs int64) bool {
	if p == nil || crypto.Hash(p.TLS.Public) != key {
		return false
	}
	for _, k := range have.TLSRing() {
		if crypto.Hash(k.Public) == key || k.Succession != nil && k.Succession.SignedMs >= p.TLS.SignedMs {
			return false // the record tells about it, or was made after it
		}
	}
	signers := slices.Clone(have.Ring())
	ordered := func(l keyLink, of fsm.Subject) bool {
		signer := l.Signer
		if signer.IsZero() {
			signer = l.Predecessor
		}
		i := signers.Place(signer)
		return i >= 0 && l.SignedMs >= oldestMs && signs(signers[i], l.SignedMs) && l.by(signer, clusterID, of)
	}
	for _, l := range p.Signing {
		if signers.Place(l.Public) < 0 && ordered(l, fsm.CoordinatorSubject(have.ID)) {
			signers = append(signers, fsm.Key{Public: l.Public, NotBeforeMs: max(l.NotBeforeMs, l.SignedMs)})
		}
	}
	return !p.TLS.Signer.IsZero() && ordered(p.TLS, fsm.CertificateSubject(have.ID))
}

// signs tells whether a key may have signed at a time by its owner's clock, which is up
// to the widest window off.
func signs(k fsm.Key, atMs int64) bool {
	return !k.Public.IsZero() && k.RevokedAt == 0 && atMs >= k.NotBeforeMs-fsm.MaxSkewMs && (k.NotAfterMs == 0 || atMs <= k.NotAfterMs+fsm.MaxSkewMs)
}
