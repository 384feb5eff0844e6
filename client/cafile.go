package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"
)

// caFileLook is how often the CA file is looked at, at most: a rotation leaves
// clients days to notice.
const caFileLook = time.Second

// followed trusts the CAs of a file as it is now. A cluster rotates its CA: the
// server rewrites its ca.pem, and programs that run on must not end with the old
// one. A file that cannot be read, or has no certificate while it is being
// written, changes nothing.
type followed struct {
	path string
	now  func() time.Time

	mu        sync.Mutex // guards what follows
	looked    time.Time
	stamp     fileStamp
	transport *http.Transport
}

// fileStamp tells one writing of a file from the next.
type fileStamp struct {
	modified time.Time
	size     int64
}

func newFollowed(path string) (*followed, error) {
	f := &followed{path: path, now: time.Now}
	f.looked = f.now()
	stamp, transport, err := f.load()
	if err != nil {
		return nil, err
	}
	f.stamp, f.transport = stamp, transport
	return f, nil
}

// load makes a transport that trusts what the file holds. The stamp is taken
// first: what is written in between is read once more.
func (f *followed) load() (fileStamp, *http.Transport, error) {
	stamp, err := stampOf(f.path)
	if err != nil {
		return stamp, nil, fmt.Errorf("read the cluster CA: %w", err)
	}
	pem, err := os.ReadFile(f.path)
	if err != nil {
		return stamp, nil, fmt.Errorf("read the cluster CA: %w", err)
	}
	roots, err := rootsOf(pem)
	if err != nil {
		return stamp, nil, err
	}
	return stamp, transportOf(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots}), nil
}

func stampOf(path string) (fileStamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return fileStamp{}, err
	}
	return fileStamp{info.ModTime(), info.Size()}, nil
}

func rootsOf(pem []byte) (*x509.CertPool, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("the cluster CA holds no PEM certificate: give the ca.pem that `cluster up` or the server wrote")
	}
	return roots, nil
}

// current returns the transport for the file as it is now. Connections made with
// the one before end once nobody uses them.
func (f *followed) current() *http.Transport {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.now(); now.Sub(f.looked) >= caFileLook {
		f.looked = now
		if stamp, err := stampOf(f.path); err == nil && stamp != f.stamp {
			if stamp, transport, err := f.load(); err == nil {
				f.transport.CloseIdleConnections()
				f.stamp, f.transport = stamp, transport
			}
		}
	}
	return f.transport
}

// RoundTrip implements http.RoundTripper.
func (f *followed) RoundTrip(req *http.Request) (*http.Response, error) {
	return f.current().RoundTrip(req)
}

// CloseIdleConnections is what http.Client looks for.
func (f *followed) CloseIdleConnections() { f.current().CloseIdleConnections() }
