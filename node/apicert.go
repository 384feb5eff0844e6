package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/edgecoder/edgecoder/crypto/keyfile"
)

// maxCertBytes bounds a certificate file: a chain is a few KiB.
const maxCertBytes = 1 << 20

// loadAPICertificate reads the operator's certificate chain and its key, both
// PEM, and refuses a pair that clients would not take at now. The files are
// the operator's, so the key may lie there unencrypted; others may not read it.
func loadAPICertificate(certFile, keyFile string, now time.Time) (*tls.Certificate, error) {
	if certFile == "" || keyFile == "" {
		return nil, fmt.Errorf("%s and %s belong together: give both, or neither", Setting("api-cert"), Setting("api-key"))
	}
	chain, certErr := readCertFile(certFile)
	if certErr != nil {
		certErr = fmt.Errorf("%s: %w", Setting("api-cert"), certErr)
	}
	key, keyErr := keyfile.ReadPrivate(keyFile)
	if keyErr != nil {
		keyErr = fmt.Errorf("%s: %w", Setting("api-key"), keyErr)
	}
	if err := errors.Join(certErr, keyErr); err != nil {
		return nil, err
	}
	defer clear(key)
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%s %s with %s %s: %w", Setting("api-cert"), certFile, Setting("api-key"), keyFile, err)
	}
	switch leaf := pair.Leaf; {
	case now.After(leaf.NotAfter):
		return nil, fmt.Errorf("%s %s: the certificate expired at %s: renew it", Setting("api-cert"), certFile, leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return nil, fmt.Errorf("%s %s: the certificate begins only at %s", Setting("api-cert"), certFile, leaf.NotBefore.UTC().Format(time.RFC3339))
	case len(leaf.DNSNames) == 0:
		return nil, fmt.Errorf("%s %s: the certificate names no host, so no client would ever be shown it", Setting("api-cert"), certFile)
	}
	return &pair, nil
}

func readCertFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxCertBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxCertBytes {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxCertBytes)
	}
	return text, nil
}

// ReloadAPICertificate reads the operator's certificate of the API, from files
// that may be others than before; two empty names end its use. New connections
// get it at once. When it is refused the one in use stays.
func (n *Node) ReloadAPICertificate(certFile, keyFile string) error {
	if certFile == "" && keyFile == "" {
		n.creds.apiCert.Store(nil)
		n.apiFiles.Store(nil)
		return nil
	}
	files := &apiFiles{cert: certFile, key: keyFile, stamp: stampOf(certFile) + stampOf(keyFile)}
	pair, err := loadAPICertificate(certFile, keyFile, n.cfg.now())
	if err != nil {
		return err
	}
	n.creds.apiCert.Store(pair)
	n.apiFiles.Store(files)
	return nil
}

// apiFiles are the files of the certificate in use. Replaced, never changed.
type apiFiles struct{ cert, key, stamp string }

// apiCertPause is how often these files are looked at: whatever renews them does
// so days ahead, and need not know how to signal a server.
const apiCertPause = 30 * time.Second

// apiCertLoop takes up the operator's certificate when its files change. Half of a
// pair, as it is while they are written, is refused and read again.
func (n *Node) apiCertLoop(ctx context.Context) {
	told := ""
	for pause(ctx, apiCertPause) {
		told = n.followAPICertificate(told)
	}
}

// followAPICertificate reads files that changed. told is the change that was
// refused last, which is said once.
func (n *Node) followAPICertificate(told string) string {
	files := n.apiFiles.Load()
	if files == nil {
		return ""
	}
	now := stampOf(files.cert) + stampOf(files.key)
	if now == files.stamp {
		return ""
	}
	err := n.ReloadAPICertificate(files.cert, files.key)
	switch {
	case err == nil:
		n.log.Info("the API's certificate changed and is taken up", "file", files.cert)
	case now != told:
		n.log.Error("the API's certificate changed and is refused, the old one stays", "error", err)
	}
	return now
}

// stampOf tells one writing of a file from the next; "" if there is none.
func stampOf(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%d bytes of %s;", info.Size(), info.ModTime().Format(time.RFC3339Nano))
}

// getAPICertificate picks what the API shows: the operator's certificate to a
// client that names a host of it, else the cluster's own. A client that calls
// an address names none, so whoever trusts the cluster CA is served as ever.
func (c *credentials) getAPICertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if own := c.apiCert.Load(); own != nil && hello.ServerName != "" && own.Leaf.VerifyHostname(hello.ServerName) == nil {
		return own, nil
	}
	return c.face.Load(), nil
}
