package chaos

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/cluster"
)

// askTimeout bounds one attempt. Servers give up after 3 s, so a longer
// silence means that nobody is there.
const askTimeout = 4 * time.Second

// field is the cluster under test.
type field struct {
	cluster *cluster.Cluster
	token   string
	roots   *x509.CertPool
	nodes   []string          // all there may be, in the order of their names
	addrs   map[string]string // API URL by node
	dialer  func(node string) dialer

	observers []string // replicas beside the nodes, at a Site

	mu     sync.Mutex
	absent map[string]bool // nodes that are not to be in the cluster, as its operator decided; guarded by mu
}

// dialer connects to a node; nil is the usual way.
type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// openField learns how to reach the nodes of a cluster that is up; the first of
// them are its members.
func openField(c *cluster.Cluster, members int, dial func(node string) dialer) (*field, error) {
	rec := c.Record()
	token, err := os.ReadFile(rec.AdminTokenFile)
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(rec.CAFile)
	if err != nil {
		return nil, err
	}
	f := &field{cluster: c, token: strings.TrimSpace(string(token)), roots: x509.NewCertPool(), addrs: map[string]string{}, dialer: dial}
	if !f.roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s holds no certificate", rec.CAFile)
	}
	for i, n := range rec.Nodes {
		f.nodes = append(f.nodes, n.Name)
		f.Enlist(n.Name, i < members)
		f.addrs[n.Name] = n.API
	}
	return f, nil
}

// Members implements Admin.
func (f *field) Members() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.nodes), func(n string) bool { return f.absent[n] })
}

// replicas are all that must hold the same: members and observers.
func (f *field) replicas() []string { return append(f.Members(), f.observers...) }

// Enlist implements Admin.
func (f *field) Enlist(node string, in bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.absent == nil {
		f.absent = map[string]bool{}
	}
	f.absent[node] = !in
}

// client returns a client of one node that tries once: each attempt is one
// operation of the history.
func (f *field) client(node string) (*client.Client, error) {
	return client.New(client.Config{Addrs: []string{f.addrs[node]}, Token: f.token, Timeout: askTimeout, Attempts: 1, Transport: f.transport(node)})
}

// transport is that of package client but for the dialer.
func (f *field) transport(node string) http.RoundTripper {
	return &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: f.roots},
		DialContext:     f.dialer(node), TLSHandshakeTimeout: askTimeout, IdleConnTimeout: time.Minute,
	}
}

// clients returns a client for each node.
func (f *field) clients() (map[string]*client.Client, error) {
	out := map[string]*client.Client{}
	for _, n := range slices.Concat(f.nodes, f.observers) {
		c, err := f.client(n)
		if err != nil {
			return nil, err
		}
		out[n] = c
	}
	return out, nil
}

// patient returns a client of one node that retries, for preparations.
func (f *field) patient() (*client.Client, error) {
	node := f.nodes[0]
	return client.New(client.Config{Addrs: []string{f.addrs[node]}, Token: f.token, Timeout: 30 * time.Second, Attempts: 20, Transport: f.transport(node)})
}

// Start implements Processes. A server that runs is left alone: several faults
// may want the same one back.
func (f *field) Start(ctx context.Context, node string) error {
	n, err := f.cluster.Node(node)
	if err != nil {
		return err
	}
	if n.Running() {
		return nil
	}
	return f.cluster.Start(ctx, node)
}

// Stop implements Processes.
func (f *field) Stop(ctx context.Context, node string, kill bool) error {
	return f.cluster.Stop(ctx, node, kill)
}

// Kill implements Processes.
func (f *field) Kill(nodes ...string) error { return f.cluster.Kill(nodes...) }

// Signal implements Processes.
func (f *field) Signal(node string, sig os.Signal) error {
	n, err := f.cluster.Node(node)
	if err != nil {
		return err
	}
	if !n.Running() {
		return fmt.Errorf("%s does not run", node)
	}
	p, err := os.FindProcess(n.PID)
	if err != nil {
		return err
	}
	return p.Signal(sig)
}

// DataDir implements Processes.
func (f *field) DataDir(node string) string {
	n, _ := f.cluster.Node(node) // targets are picked from its nodes
	return n.DataDir
}

// Belongs implements Processes.
func (f *field) Belongs(node string) bool {
	n, _ := f.cluster.Node(node)
	return n.Belongs()
}
