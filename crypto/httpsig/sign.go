package httpsig

import (
	"crypto/ed25519"
	"fmt"

	"github.com/dunglas/httpsfv"

	"github.com/edgecoder/edgecoder/crypto"
)

// Label is what [Sign] files its signature under; readers go by the tag.
const Label = "edgecoder"

// Params are the signature parameters that whoever signs chooses.
type Params struct {
	AgentID string
	Created int64  // Unix seconds
	Expires int64  // Unix seconds, 1 to MaxLifetime after Created
	Nonce   string // fresh for each request: a UUID, say
}

// Request is what is signed of a request.
type Request struct {
	Method    string // upper case
	Authority string // of the URL or the Host header
	Target    string // path, with "?" and the query where there is one, percent-encoded as it is sent
	// ContentDigest is the header that the request has already; "" for that of BodySHA256 alone. It must name the
	// same body.
	ContentDigest string
	BodySHA256    crypto.Hash
}

// Signed is a signed request with the headers that it takes.
type Signed struct {
	Request                                  crypto.SignedRequest
	ContentDigest, SignatureInput, Signature string // field values
}

// Headers returns the headers as pairs of lower-case name and value. The request needs them and its own host.
func (s *Signed) Headers() [][2]string {
	return [][2]string{{HeaderContentDigest, s.ContentDigest}, {HeaderSignatureInput, s.SignatureInput}, {HeaderSignature, s.Signature}}
}

// Sign signs a request. What [Parse] would refuse is refused here, with the same error.
func Sign(priv crypto.PrivateKey, p Params, r Request) (Signed, error) {
	if len(priv) != ed25519.PrivateKeySize {
		return Signed{}, fmt.Errorf("sign request: private key of %d bytes, want %d", len(priv), ed25519.PrivateKeySize)
	}
	input, err := signatureInput(p, crypto.PublicOf(priv))
	if err != nil {
		return Signed{}, malformed(HeaderSignatureInput, err)
	}
	digest := trimmed(r.ContentDigest)
	if digest == "" {
		digest = ContentDigest(r.BodySHA256)
	}
	m := message{method: r.Method, target: r.Target, host: r.Authority, digest: digest, input: input}
	out := Signed{ContentDigest: digest, SignatureInput: input}
	if out.Request, _, err = m.read(); err != nil {
		return Signed{}, err
	}
	if out.Request.BodySHA256 != r.BodySHA256 {
		return Signed{}, malformed(HeaderContentDigest, fmt.Errorf("it names another body than the one of SHA-256 %s", r.BodySHA256))
	}
	copy(out.Request.Signature[:], ed25519.Sign(priv, out.Request.Canonical()))
	out.Signature = byteSequence(Label, out.Request.Signature[:])
	return out, nil
}

func signatureInput(p Params, pub crypto.PublicKey) (string, error) {
	list := httpsfv.InnerList{Params: httpsfv.NewParams()}
	for _, name := range components {
		list.Items = append(list.Items, httpsfv.NewItem(name))
	}
	list.Params.Add("created", p.Created)
	list.Params.Add("expires", p.Expires)
	list.Params.Add("nonce", p.Nonce)
	list.Params.Add("keyid", KeyID(p.AgentID, pub))
	list.Params.Add("tag", Tag)
	d := httpsfv.NewDictionary()
	d.Add(Label, list)
	return httpsfv.Marshal(d)
}
