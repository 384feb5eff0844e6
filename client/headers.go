package client

import (
	"net/http"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/httpsig"
)

// fiveHeaders are the headers of the five-header profile.
var fiveHeaders = []string{crypto.HeaderAgentID, crypto.HeaderTimestamp, crypto.HeaderNonce, crypto.HeaderBodySHA256, crypto.HeaderSignature}

// messageHeaders are those of an HTTP message signature, host apart. All are
// lists, so several lines are one value (RFC 9110 section 5.3).
var messageHeaders = []string{httpsig.HeaderSignatureInput, httpsig.HeaderSignature, httpsig.HeaderContentDigest}

// headerOf returns the headers of a request as package httpsig asks for them,
// with the given host.
func headerOf(h http.Header, host string) func(name string) string {
	return func(name string) string {
		if name == httpsig.HeaderHost {
			return host
		}
		values := h.Values(name)
		if len(values) == 1 {
			return values[0]
		}
		return strings.Join(values, ", ")
	}
}

// twice returns a header that stands in several lines and is no list.
func twice(h http.Header) string {
	for _, name := range fiveHeaders {
		if len(h.Values(name)) > 1 {
			return name
		}
	}
	return ""
}
