package api

import (
	"errors"
	"fmt"
	"strings"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/httpsig"
)

// admissionBody is a decoded admission request. It is read by hand: this is
// the hot path, and reflection would cost more than the rest of the decoding.
type admissionBody struct {
	method, path string
	headers      signedHeaders
	bodySHA256   string
	claimID      string
	given        uint8 // which members were there
}

// Bits of admissionBody.given.
const (
	gaveMethod = 1 << iota
	gavePath
	gaveHeaders
	gaveBodySHA256
	gaveClaimID
)

// signedHeaders is the headers of either signature profile. Others are ignored,
// so that a service may pass on all that it got.
type signedHeaders struct {
	five    [fiveHeaders]string
	given   uint8           // which of the five
	odd     string          // a name that is one of the five in another case
	message *messageHeaders // nil without any of its own: most requests have none
}

// messageHeaders is what an HTTP message signature needs of the headers.
type messageHeaders struct {
	values [len(headerNames) - fiveHeaders]string
	given  uint8
	odd    string
}

// headerNames are the headers that are looked at, the five first.
var headerNames = [...]string{
	crypto.HeaderAgentID, crypto.HeaderTimestamp, crypto.HeaderNonce, crypto.HeaderBodySHA256, crypto.HeaderSignature,
	httpsig.HeaderSignatureInput, httpsig.HeaderSignature, httpsig.HeaderContentDigest, httpsig.HeaderHost,
}

const fiveHeaders = 5

// headerIndex returns the place of a name in headerNames, or -1.
func headerIndex(name string) int {
	switch name {
	case crypto.HeaderAgentID:
		return 0
	case crypto.HeaderTimestamp:
		return 1
	case crypto.HeaderNonce:
		return 2
	case crypto.HeaderBodySHA256:
		return 3
	case crypto.HeaderSignature:
		return 4
	case httpsig.HeaderSignatureInput:
		return 5
	case httpsig.HeaderSignature:
		return 6
	case httpsig.HeaderContentDigest:
		return 7
	case httpsig.HeaderHost:
		return 8
	}
	return -1
}

func (h *signedHeaders) get(name string) string {
	i := headerIndex(name)
	switch {
	case i >= fiveHeaders && h.message != nil:
		return h.message.values[i-fiveHeaders]
	case i >= 0 && i < fiveHeaders:
		return h.five[i]
	}
	return ""
}

// set takes one header and tells whether it was given before.
func (h *signedHeaders) set(i int, value string) (twice bool) {
	if i < fiveHeaders {
		twice = h.given&(1<<i) != 0
		h.given |= 1 << i
		h.five[i] = value
		return twice
	}
	if h.message == nil {
		h.message = &messageHeaders{}
	}
	i -= fiveHeaders
	twice = h.message.given&(1<<i) != 0
	h.message.given |= 1 << i
	h.message.values[i] = value
	return twice
}

// note remembers a name that is one of ours in another case.
func (h *signedHeaders) note(name string) {
	for i, known := range headerNames {
		switch {
		case len(name) != len(known) || !strings.EqualFold(name, known):
		case i < fiveHeaders:
			h.odd = name
		default:
			if h.message == nil {
				h.message = &messageHeaders{}
			}
			h.message.odd = name
		}
	}
}

// oddName returns a name that its reader would have to mend. What an HTTP
// message signature needs is passed over where the five headers are the
// signature: there "Host" was always ignored.
func (h *signedHeaders) oddName() string {
	if h.odd != "" || h.message == nil {
		return h.odd
	}
	if h.given != 0 && h.get(httpsig.HeaderSignatureInput) == "" && h.get(httpsig.HeaderSignature) == "" {
		return ""
	}
	return h.message.odd
}

// decodeAdmission parses the body of POST /v1/admissions.
func decodeAdmission(text string) (admissionBody, error) {
	r := &jsonReader{text: text}
	var a admissionBody
	f := r.admission(&a)
	if f == nil {
		f = r.end()
	}
	if f != nil {
		return a, f.apiError()
	}
	return a, nil
}

// decodeAdmissions parses the body of POST /v1/admissions/batch.
func decodeAdmissions(text string) ([]admissionBody, error) {
	r := &jsonReader{text: text}
	out, given := []admissionBody(nil), false
	f := r.object(func(name string) *jsonFault {
		if name != "requests" {
			return r.fault("unknown member").under(name)
		}
		if given {
			return r.fault("given twice").under(name)
		}
		given = true
		return r.admissions(&out)
	})
	if f == nil {
		f = r.end()
	}
	if f == nil && len(out) == 0 {
		f = (&jsonFault{what: fmt.Sprintf("give 1 to %d requests", client.MaxBatch)}).under("requests")
	}
	if f != nil {
		return nil, f.apiError()
	}
	return out, nil
}

func (r *jsonReader) admissions(out *[]admissionBody) *jsonFault {
	f := r.array(func(i int) *jsonFault {
		if i >= client.MaxBatch {
			return &jsonFault{what: fmt.Sprintf("a batch has at most %d requests", client.MaxBatch), tooLarge: true}
		}
		*out = append(*out, admissionBody{})
		if f := r.admission(&(*out)[i]); f != nil {
			return f.under(fmt.Sprintf("[%d]", i))
		}
		return nil
	})
	if f != nil {
		return f.under("requests")
	}
	return nil
}

// admission reads one request object and checks what the asking service itself
// is responsible for. What the agent sent is judged later, by verdicts.
func (r *jsonReader) admission(a *admissionBody) *jsonFault {
	if f := r.object(func(name string) *jsonFault { return r.admissionMember(a, name) }); f != nil {
		return f
	}
	if a.given&gaveMethod == 0 {
		return r.fault("is required").under("method")
	}
	if a.given&gavePath == 0 {
		return r.fault("is required").under("path")
	}
	if a.given&gaveBodySHA256 != 0 {
		if _, err := crypto.ParseHash(a.bodySHA256); err != nil {
			return r.fault("want 64 lower-case hex digits").under("body_sha256")
		}
	}
	if a.given&gaveClaimID != 0 {
		if err := crypto.CheckID(a.claimID); err != nil {
			return r.fault("%v", err).under("claim_id")
		}
	}
	return nil
}

func (r *jsonReader) admissionMember(a *admissionBody, name string) *jsonFault {
	var into *string
	var bit uint8
	switch name {
	case "method":
		into, bit = &a.method, gaveMethod
	case "path":
		into, bit = &a.path, gavePath
	case "headers":
		bit = gaveHeaders
	case "body_sha256":
		into, bit = &a.bodySHA256, gaveBodySHA256
	case "claim_id":
		into, bit = &a.claimID, gaveClaimID
	default:
		return r.fault("unknown member").under(name)
	}
	if a.given&bit != 0 {
		return r.fault("given twice").under(name)
	}
	a.given |= bit
	var f *jsonFault
	if into == nil {
		f = r.signedHeaders(&a.headers)
	} else {
		*into, f = r.str()
	}
	if f != nil {
		return f.under(name)
	}
	return nil
}

func (r *jsonReader) signedHeaders(h *signedHeaders) *jsonFault {
	return r.object(func(name string) *jsonFault {
		value, f := r.str()
		if f != nil {
			return f.under(name)
		}
		i := headerIndex(name)
		if i < 0 {
			h.note(name)
			return nil
		}
		if h.set(i, value) {
			return r.fault("given twice").under(name)
		}
		return nil
	})
}

// signed parses what the agent signed, in whichever profile. On failure code is
// the verdict and detail says why.
func (a *admissionBody) signed() (req crypto.SignedRequest, code, detail string) {
	if odd := a.headers.oddName(); odd != "" {
		return req, client.VerdictMalformed, fmt.Sprintf("header name %s is not in lower case", quote(odd))
	}
	req, err := httpsig.Read(a.method, a.path, a.headers.get)
	switch {
	case errors.Is(err, crypto.ErrMissingHeaders):
		return req, client.VerdictMissingHeaders, err.Error()
	case err != nil:
		return req, client.VerdictMalformed, err.Error()
	}
	// The signature covers another body than the one that arrived: for this
	// request it is no signature (CONTRACT.md leaves the code open).
	if a.given&gaveBodySHA256 == 0 {
		return req, "", ""
	}
	if body, err := crypto.ParseHash(a.bodySHA256); err != nil || body != req.BodySHA256 {
		return req, client.VerdictInvalidSignature, "body_sha256 differs from the one that was signed (x-body-sha256 or content-digest): the body was swapped"
	}
	return req, "", ""
}
