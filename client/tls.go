package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// newTransport trusts the cluster's own CA and nothing else: a public CA has
// no say in who is a coordinator.
func newTransport(cfg Config, needTLS bool) (http.RoundTripper, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS13}
	pem, err := caPEM(cfg)
	switch {
	case err != nil:
		return nil, err
	case pem != nil:
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("the cluster CA holds no PEM certificate: give the ca.pem that `cluster up` or the server wrote")
		}
	case cfg.CAPin != "":
		return newPinned(cfg.CAPin)
	case needTLS:
		return nil, errors.New("no cluster CA for an https address: give its file (--ca or EDGECODER_CA)")
	}
	return transportOf(conf), nil
}

func transportOf(conf *tls.Config) *http.Transport {
	return &http.Transport{
		TLSClientConfig: conf, Proxy: http.ProxyFromEnvironment,
		TLSHandshakeTimeout: 5 * time.Second, IdleConnTimeout: time.Minute, ExpectContinueTimeout: 5 * time.Second,
		MaxIdleConnsPerHost: 256, MaxResponseHeaderBytes: 64 << 10,
	}
}

func caPEM(cfg Config) ([]byte, error) {
	if len(cfg.CAPEM) > 0 || cfg.CAFile == "" {
		return cfg.CAPEM, nil
	}
	pem, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the cluster CA: %w", err)
	}
	return pem, nil
}
