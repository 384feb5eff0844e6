package httpsig

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
)

// maxHostBytes bounds a host name as DNS does (RFC 1035 section 2.3.4).
const maxHostBytes = 253

// Authority returns the value of "@authority" for a Host header or the authority of a URL: in lower case, without
// a default port (RFC 9421 section 2.2.3). Who reads a Host header behind a proxy does not know the scheme, so both
// default ports are left out; two services can be taken for each other only if they are on one host, one at port
// 80 and one at 443.
func Authority(host string) (string, error) {
	name, port := strings.ToLower(host), ""
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, ']') {
		name, port = name[:i], name[i+1:]
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port || n == 0 {
			return "", malformed(HeaderHost, fmt.Errorf("port %q is not a number of 1 to 65535", cut(port)))
		}
	}
	if err := checkHost(name); err != nil {
		return "", malformed(HeaderHost, err)
	}
	if port == "" || port == "80" || port == "443" {
		return name, nil
	}
	return name + ":" + port, nil
}

// checkHost accepts names, IPv4 addresses, and IPv6 addresses in brackets.
func checkHost(name string) error {
	if name == "" || len(name) > maxHostBytes {
		return fmt.Errorf("a host of %d bytes, want 1 to %d", len(name), maxHostBytes)
	}
	allowed := "abcdefghijklmnopqrstuvwxyz0123456789-._"
	inside := name
	if v6, ok := strings.CutPrefix(name, "["); ok {
		if inside, ok = strings.CutSuffix(v6, "]"); !ok {
			return errors.New("a bracket without its other half")
		}
		allowed = "0123456789abcdef:."
	}
	if inside == "" || strings.ContainsFunc(inside, func(r rune) bool { return !strings.ContainsRune(allowed, r) }) {
		return fmt.Errorf("%q is no host name or address", cut(name))
	}
	return nil
}

// splitTarget returns the values of "@path" and "@query" of a request target (RFC 9421 sections 2.2.6 and 2.2.7),
// percent-encoded as they came. A query that is empty and none at all are the same.
func splitTarget(target string) (path, query string, err error) {
	switch {
	case target == "" || target[0] != '/':
		return "", "", malformed("path", fmt.Errorf("%q does not begin with a slash", cut(target)))
	case len(target) > crypto.MaxPathBytes:
		return "", "", malformed("path", fmt.Errorf("%d bytes with its query, at most %d", len(target), crypto.MaxPathBytes))
	}
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c > '~' || c == '#' {
			return "", "", malformed("path", fmt.Errorf("%q: byte %#02x must be percent-encoded", cut(target), c))
		}
	}
	path, query, _ = strings.Cut(target, "?")
	return path, "?" + query, nil
}
