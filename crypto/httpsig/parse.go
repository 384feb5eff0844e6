package httpsig

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dunglas/httpsfv"

	"github.com/edgecoder/edgecoder/crypto"
)

// Read reads the signature of a request in whichever profile it has: an HTTP message signature with our tag, else
// the five headers. target is the path, with "?" and the query where there is one; under the five headers it is
// what was signed, to the byte. header returns the value of a lower-case name, or ""; of a field in several lines
// their values joined by ", ". The error is [crypto.ErrMissingHeaders] or [crypto.ErrMalformed] with the field and
// the rule. Neither times nor signature are checked here.
func Read(method, target string, header func(name string) string) (crypto.SignedRequest, error) {
	input := header(HeaderSignatureInput)
	if input == "" && header(HeaderSignature) == "" {
		return crypto.ParseSignedRequest(method, target, header)
	}
	if five := firstOfFive(header); five != "" {
		d, err := dictionary(HeaderSignatureInput, trimmed(input))
		if err == nil && len(tagged(d)) == 0 {
			return crypto.ParseSignedRequest(method, target, header) // the message signatures are those of others
		}
		return crypto.SignedRequest{}, malformed(HeaderSignatureInput,
			fmt.Errorf("beside %s: a request is signed by the five headers or by HTTP message signatures, two readers might take different ones", five))
	}
	return Parse(method, target, header)
}

func firstOfFive(header func(string) string) string {
	for _, name := range [...]string{crypto.HeaderAgentID, crypto.HeaderTimestamp, crypto.HeaderNonce, crypto.HeaderBodySHA256, crypto.HeaderSignature} {
		if header(name) != "" {
			return name
		}
	}
	return ""
}

// Parse reads an HTTP message signature of our profile; see [Read] for its arguments and errors.
func Parse(method, target string, header func(name string) string) (crypto.SignedRequest, error) {
	m := message{method: method, target: target, host: header(HeaderHost),
		digest: trimmed(header(HeaderContentDigest)), input: trimmed(header(HeaderSignatureInput))}
	signature := trimmed(header(HeaderSignature))
	if err := m.missing(signature); err != nil {
		return crypto.SignedRequest{}, err
	}
	r, label, err := m.read()
	if err != nil {
		return crypto.SignedRequest{}, err
	}
	d, err := dictionary(HeaderSignature, signature)
	if err != nil {
		return crypto.SignedRequest{}, err
	}
	member, _ := d.Get(label)
	raw, ok := plainBytes(member)
	if !ok || len(raw) != crypto.SignatureSize {
		return crypto.SignedRequest{}, malformed(HeaderSignature,
			fmt.Errorf("no byte sequence of %d bytes under the label %q of %s", crypto.SignatureSize, cut(label), HeaderSignatureInput))
	}
	copy(r.Signature[:], raw)
	return r, nil
}

// message is a request as its signature sees it, but for the signature.
type message struct{ method, target, host, digest, input string }

func (m *message) missing(signature string) error {
	var missing []string
	for _, h := range [...][2]string{
		{HeaderSignatureInput, m.input}, {HeaderSignature, signature}, {HeaderContentDigest, m.digest}, {HeaderHost, m.host},
	} {
		if h[1] == "" {
			missing = append(missing, h[0])
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", crypto.ErrMissingHeaders, strings.Join(missing, ", "))
}

// read returns all of the request but the signature, and the label that it stands under.
func (m *message) read() (r crypto.SignedRequest, label string, err error) {
	if err := crypto.CheckMethod(m.method); err != nil {
		return r, "", malformed("method", err)
	}
	path, query, err := splitTarget(m.target)
	if err != nil {
		return r, "", err
	}
	authority, err := Authority(trimmed(m.host))
	if err != nil {
		return r, "", err
	}
	body, err := ParseContentDigest(m.digest)
	if err != nil {
		return r, "", err
	}
	label, list, serialised, err := m.ours()
	if err != nil {
		return r, "", err
	}
	p, err := readParams(list.Params)
	if err != nil {
		return r, "", malformed(HeaderSignatureInput, err)
	}
	lines, err := covered(list.Items, [...]string{m.method, authority, path, query, m.digest})
	if err != nil {
		return r, "", malformed(HeaderSignatureInput, err)
	}
	if query == "?" { // none, or an empty one: a "?" at the end of another belongs to it
		query = ""
	}
	return crypto.SignedRequest{
		AgentID: p.agentID, TimestampMs: p.created * 1000, Nonce: p.nonce,
		Method: m.method, Path: path + query, BodySHA256: body,
		Message: &crypto.MessageSignature{Authority: authority, KeyID: p.keyID, ExpiresMs: p.expires * 1000, Base: signatureBase(lines, serialised)},
	}, label, nil
}

// ours returns the one signature with our tag, and its text.
func (m *message) ours() (label string, list httpsfv.InnerList, serialised string, err error) {
	d, err := dictionary(HeaderSignatureInput, m.input)
	if err != nil {
		return "", list, "", err
	}
	labels := tagged(d)
	switch len(labels) {
	case 0:
		return "", list, "", fmt.Errorf("%w: %s has no signature with the tag %q", crypto.ErrMissingHeaders, HeaderSignatureInput, Tag)
	case 1:
	default:
		return "", list, "", malformed(HeaderSignatureInput, errors.New("two signatures with our tag: two readers might take different ones"))
	}
	label = labels[0]
	member, _ := d.Get(label)
	list = member.(httpsfv.InnerList)
	if len(d.Names()) == 1 { // the field is canonical, so is its one member
		return label, list, m.input[len(label)+len("="):], nil
	}
	serialised, err = httpsfv.Marshal(list)
	return label, list, serialised, err
}

// HasOurs tells whether a Signature-Input holds a signature that one of [Sign] could not stand beside: with our
// tag or label, or nothing that can be read.
func HasOurs(input string) bool {
	d, err := dictionary(HeaderSignatureInput, trimmed(input))
	if err != nil {
		return true
	}
	_, taken := d.Get(Label)
	return taken || len(tagged(d)) > 0
}

// tagged returns the labels of the signatures with our tag.
func tagged(d *httpsfv.Dictionary) (labels []string) {
	for _, label := range d.Names() {
		member, _ := d.Get(label)
		if list, ok := member.(httpsfv.InnerList); ok {
			if tag, _ := list.Params.Get("tag"); tag == Tag {
				labels = append(labels, label)
			}
		}
	}
	return labels
}
