package client

import (
	"crypto/tls"
	"errors"
	"net/http"
	"time"
)

// newTransport trusts the cluster's own CA and nothing else: a public CA has
// no say in who is a coordinator.
func newTransport(cfg Config, needTLS bool) (http.RoundTripper, error) {
	switch {
	case len(cfg.CAPEM) > 0:
		roots, err := rootsOf(cfg.CAPEM)
		if err != nil {
			return nil, err
		}
		return transportOf(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots}), nil
	case cfg.CAFile != "":
		return newFollowed(cfg.CAFile)
	case cfg.CAPin != "":
		return newPinned(cfg.CAPin)
	case needTLS:
		return nil, errors.New("no cluster CA for an https address: give its file (--ca or EDGECODER_CA)")
	}
	return transportOf(&tls.Config{MinVersion: tls.VersionTLS13}), nil
}

func transportOf(conf *tls.Config) *http.Transport {
	return &http.Transport{
		TLSClientConfig: conf, Proxy: http.ProxyFromEnvironment,
		TLSHandshakeTimeout: 5 * time.Second, IdleConnTimeout: time.Minute, ExpectContinueTimeout: 5 * time.Second,
		MaxIdleConnsPerHost: 256, MaxResponseHeaderBytes: 64 << 10,
	}
}
