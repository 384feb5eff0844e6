package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/edgecoder/edgecoder/client"
)

// Cluster is a handle on the cluster of one directory. Several handles, in
// several processes, may exist: each change takes the directory's lock and
// starts from the record on disk.
type Cluster struct {
	dir    string
	note   func(format string, args ...any)
	detach bool
	given  string // the binary that Up was given
	ports  *Ports // of a cluster that this process made: nobody else gets them while it lasts; set by Up alone
	next   string // the binary that a restart moves to, while it lasts; set by Restart alone

	mu    sync.Mutex // guards what follows
	rec   Record
	ready bool                // the record lies under its final name
	procs map[string]*process // servers that this process started, by name
}

// Load returns the cluster of a directory, running or not.
func Load(dir string) (*Cluster, error) {
	dir, err := resolve(dir)
	if err != nil {
		return nil, err
	}
	c := newCluster(dir, nil)
	if err := c.reload(); err != nil {
		return nil, err
	}
	return c, nil
}

func newCluster(dir string, note func(string, ...any)) *Cluster {
	c := &Cluster{dir: dir, procs: map[string]*process{}}
	c.Progress(note)
	return c
}

// Progress has whatever takes more than a moment told to note; nil is silence.
func (c *Cluster) Progress(note func(format string, args ...any)) {
	if note == nil {
		note = func(string, ...any) {}
	}
	c.note = note
}

// Detach makes servers that are started from now on outlive this process's
// terminal session.
func (c *Cluster) Detach(on bool) { c.detach = on }

// Dir returns the cluster's directory, an absolute path without links.
func (c *Cluster) Dir() string { return c.dir }

// Record returns a copy of the cluster's record.
func (c *Cluster) Record() Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	rec := c.rec
	rec.Nodes = append([]Node(nil), c.rec.Nodes...)
	return rec
}

// Node returns a node by name.
func (c *Cluster) Node(name string) (Node, error) {
	var names []string
	for _, n := range c.Record().Nodes {
		if n.Name == name {
			return n, nil
		}
		names = append(names, n.Name)
	}
	return Node{}, fmt.Errorf("there is no node %q in %s: it has %s", name, c.dir, strings.Join(names, ", "))
}

// Running tells whether the server of n is alive.
func (n Node) Running() bool { return isServer(n.PID, n.DataDir) }

// Client returns a client of the named nodes, or of all, with the admin token.
func (c *Cluster) Client(names ...string) (*client.Client, error) {
	token, err := os.ReadFile(c.path(adminTokenName))
	if err != nil {
		return nil, fmt.Errorf("read the admin token: %w", err)
	}
	return c.clientAs(string(token), names...)
}

func (c *Cluster) clientAs(token string, names ...string) (*client.Client, error) {
	var addrs []string
	if len(names) == 0 {
		for _, n := range c.Record().Nodes {
			addrs = append(addrs, n.API)
		}
	}
	for _, name := range names {
		n, err := c.Node(name)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, n.API)
	}
	ca, err := c.caPEM()
	if err != nil {
		return nil, err
	}
	return client.New(client.Config{Addrs: addrs, CAPEM: ca, Token: token})
}

// Names of the files of a cluster's directory, see the package comment.
const (
	adminTokenName = "admin.token"
	meshTokenName  = "mesh.token"
	passphraseName = "passphrase"
	caName         = "ca.pem"
	envName        = "env"
	lockName       = "lock"
)

func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }

// reload reads the record: another command may have changed it.
func (c *Cluster) reload() error {
	rec, ready, err := readRecord(c.dir)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.rec, c.ready = rec, ready
	c.mu.Unlock()
	return nil
}

// locked runs change under the cluster's lock, on the record on disk.
func (c *Cluster) locked(ctx context.Context, change func() error) error {
	l, err := acquire(ctx, c.dir, c.note)
	if err != nil {
		return err
	}
	defer l.release()
	if err := c.reload(); err != nil {
		return err
	}
	return change()
}

// update changes a node in the record and stores it; the lock must be held.
func (c *Cluster) update(name string, change func(n *Node)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.rec.Nodes {
		if c.rec.Nodes[i].Name == name {
			change(&c.rec.Nodes[i])
		}
	}
	return writeRecord(c.dir, c.rec, c.ready)
}

// settle stores the record as ready or not; the lock must be held.
func (c *Cluster) settle(ready bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ready = ready
	return writeRecord(c.dir, c.rec, ready)
}
