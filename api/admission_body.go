package api

import (
	"errors"
	"fmt"
	"strings"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
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

// signedHeaders is the five headers of a signed request. Others are ignored,
// so that a service may pass on all that it got.
type signedHeaders struct {
	values [len(headerNames)]string
	given  uint8
	odd    string // a name that is one of the five in another case
}

var headerNames = [...]string{
	crypto.HeaderAgentID, crypto.HeaderTimestamp, crypto.HeaderNonce, crypto.HeaderBodySHA256, crypto.HeaderSignature,
}

func (h *signedHeaders) get(name string) string {
	for i, n := range headerNames {
		if n == name {
			return h.values[i]
		}
	}
	return ""
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
		for i, known := range headerNames {
			if len(name) != len(known) || !strings.EqualFold(name, known) {
				continue
			}
			if name != known {
				h.odd = name
				return nil
			}
			if h.given&(1<<i) != 0 {
				return r.fault("given twice").under(name)
			}
			h.given |= 1 << i
			h.values[i] = value
		}
		return nil
	})
}

// signed parses what the agent signed. On failure code is the verdict and
// detail says why.
func (a *admissionBody) signed() (req crypto.SignedRequest, code, detail string) {
	if a.headers.odd != "" {
		return req, client.VerdictMalformed, fmt.Sprintf("header name %s is not in lower case", quote(a.headers.odd))
	}
	req, err := crypto.ParseSignedRequest(a.method, a.path, a.headers.get)
	switch {
	case errors.Is(err, crypto.ErrMissingHeaders):
		return req, client.VerdictMissingHeaders, err.Error()
	case err != nil:
		return req, client.VerdictMalformed, err.Error()
	}
	// The signature covers another body than the one that arrived: for this
	// request it is no signature (CONTRACT.md leaves the code open).
	if a.given&gaveBodySHA256 != 0 && a.bodySHA256 != a.headers.get(crypto.HeaderBodySHA256) {
		return req, client.VerdictInvalidSignature, "body_sha256 differs from the signed x-body-sha256: the body was swapped"
	}
	return req, "", ""
}
