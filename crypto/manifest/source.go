package manifest

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

const (
	// MaxSourceBytes bounds the URL of an artifact.
	MaxSourceBytes = 512
	// MaxSourceRuleBytes bounds a rule, so that a trust policy of many stays one row.
	MaxSourceRuleBytes = 256
)

// CheckSource accepts the URL of an artifact: https, a lower-case host name with
// an optional port, and a path. What could make two readers fetch two things is
// refused: user, query, fragment, escapes, a second spelling, dots that climb.
func CheckSource(text string) error {
	u, err := checkURL(text, MaxSourceBytes)
	if err != nil {
		return err
	}
	if strings.HasSuffix(u.Path, "/") {
		return fmt.Errorf("source %.80q: it names a directory, no artifact", text)
	}
	return nil
}

// CheckSourceRule accepts a rule: like a source, but its path ends in "/". It
// allows the sources on exactly that host and port whose path begins with its own.
func CheckSourceRule(text string) error {
	u, err := checkURL(text, MaxSourceRuleBytes)
	if err != nil {
		return err
	}
	if !strings.HasSuffix(u.Path, "/") {
		return fmt.Errorf("source %.80q: a rule ends in a slash, such as https://models.example/ or https://models.example/acme/", text)
	}
	return nil
}

// Allows tells whether a rule allows a source. Both must have passed their checks:
// then one begins with the other's text, and the slash ends host and segment.
func Allows(rule, source string) bool { return strings.HasPrefix(source, rule) }

func checkURL(text string, limit int) (*url.URL, error) {
	fault := func(why string) error { return fmt.Errorf("source %.80q: %s", text, why) }
	if text == "" || len(text) > limit {
		return nil, fmt.Errorf("%d bytes, a source has 1 to %d", len(text), limit)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fault("no URL")
	case u.Scheme != "https" || u.Opaque != "":
		return nil, fault("want https://HOST/PATH")
	case u.User != nil || strings.ContainsAny(text, "?#%"):
		return nil, fault("it has a user, a query, a fragment or an escape")
	case u.String() != text:
		return nil, fault("not its plain spelling, which is " + strconv.Quote(u.String()))
	}
	if err := checkHost(u); err != nil {
		return nil, fault(err.Error())
	}
	if err := checkPath(u); err != nil {
		return nil, fault(err.Error())
	}
	return u, nil
}

// checkHost allows letters, digits, dots and dashes: names and IPv4 addresses.
func checkHost(u *url.URL) error {
	host, port := u.Hostname(), u.Port()
	for i := range len(host) {
		if c := host[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return errors.New("the host has other characters than lower-case letters, digits, dots and dashes")
		}
	}
	if host == "" || host[0] == '.' || host[len(host)-1] == '.' || strings.Contains(host, "..") {
		return errors.New("the host is empty or has empty parts")
	}
	if n, err := strconv.Atoi(port); port != "" && (err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != port || n == 443) {
		return errors.New("the port is none, or the one of https, which is left out")
	}
	if u.Host != host && (port == "" || u.Host != host+":"+port) {
		return errors.New("the host is no name")
	}
	return nil
}

// checkPath allows what a path has without an escape (pchar of RFC 3986 section
// 3.3): an escape is a second spelling.
func checkPath(u *url.URL) error {
	if !strings.HasPrefix(u.Path, "/") {
		return errors.New("it has no path")
	}
	for i := range len(u.Path) {
		if c := u.Path[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("/-._~!$&'()*+,;=:@", rune(c)) {
			return errors.New("the path has characters that need an escape")
		}
	}
	segments := strings.Split(u.Path[1:], "/")
	for i, segment := range segments {
		if segment == "" && i < len(segments)-1 || segment == "." || segment == ".." {
			return errors.New("the path has empty segments, or dots that climb")
		}
	}
	return nil
}
