package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
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
		if err := trustPin(conf, cfg.CAPin); err != nil {
			return nil, err
		}
	case needTLS:
		return nil, errors.New("no cluster CA for an https address: give its file (--ca or EDGECODER_CA)")
	}
	return &http.Transport{
		TLSClientConfig: conf, Proxy: http.ProxyFromEnvironment,
		TLSHandshakeTimeout: 5 * time.Second, IdleConnTimeout: time.Minute,
		MaxIdleConnsPerHost: 256, MaxResponseHeaderBytes: 64 << 10,
	}, nil
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

// trustPin accepts a chain whose CA has the pinned hash: the server must send
// its CA, which is then the only root. What the standard library would check
// is checked here, because its own check needs the root beforehand.
func trustPin(conf *tls.Config, text string) error {
	pin, err := crypto.ParseHash(strings.ToLower(text))
	if err != nil {
		return fmt.Errorf("CA pin: %w", err)
	}
	conf.InsecureSkipVerify = true // VerifyConnection does it
	conf.VerifyConnection = func(cs tls.ConnectionState) error { return verifyPinned(cs, pin) }
	return nil
}

func verifyPinned(cs tls.ConnectionState, pin crypto.Hash) error {
	roots, rest := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, cert := range cs.PeerCertificates {
		if crypto.Sum(cert.Raw) == pin {
			roots.AddCert(cert)
			found = true
			continue
		}
		rest.AddCert(cert)
	}
	if !found {
		return fmt.Errorf("the server's chain has no CA with pin %s: it belongs to another cluster, or does not send its CA", pin)
	}
	_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: rest, DNSName: cs.ServerName})
	return err
}
