package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// MaxNodes bounds a cluster on one machine; more voters only make it slower.
const MaxNodes = 7

const (
	defaultNodes = 3
	// upTimeout bounds Up. Nodes are promoted only after they stayed healthy
	// for a while, and this must hold on a busy two-core machine too.
	upTimeout = 3 * time.Minute
	// joinTokenLife is longer than Up may take, and not much longer.
	joinTokenLife = 15 * time.Minute
)

// Options says what cluster to bring up.
type Options struct {
	Dir        string
	Nodes      int    // 1..MaxNodes; 0: three, or as many as the directory's cluster has
	Members    int    // so many of a new cluster's nodes are in it at first, the others join when they are started; 0: all
	BasePort   int    // node i gets BasePort+10*i and the two after it, i from 0; 0: free ports
	Binary     string // the edgecoder binary; empty: this very program
	Passphrase []byte // of the servers' key files; nil: random
	SharePort  bool   // raft shares the API's port, as a server has it by default; of new clusters
	Detach     bool   // servers outlive this process's terminal session
	Progress   func(format string, args ...any)
}

func (o *Options) check() (err error) {
	if o.Dir == "" {
		return errors.New("no directory for the cluster: give --data DIR")
	}
	if o.Nodes < 0 || o.Nodes > MaxNodes {
		return fmt.Errorf("%d nodes: want 1 to %d", o.Nodes, MaxNodes)
	}
	if o.Members < 0 || o.Members > o.Nodes {
		return fmt.Errorf("%d members of %d nodes: want 1 to all, or 0 for all", o.Members, o.Nodes)
	}
	if last := o.BasePort + 10*MaxNodes; o.BasePort < 0 || last > 65_535 {
		return fmt.Errorf("base port %d: want 1 to %d", o.BasePort, 65_535-10*MaxNodes)
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return err
	}
	if o.Binary == "" {
		o.Binary, err = os.Executable()
	} else {
		o.Binary, err = filepath.Abs(o.Binary)
	}
	return err
}

// Up brings the cluster of a directory up: a new one, or the stopped servers
// of an old one with their old data. It returns when every node is a voter and
// knows the leader; if that fails it stops what it started.
func Up(ctx context.Context, o Options) (*Cluster, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if o.Dir, err = resolve(o.Dir); err != nil {
		return nil, err
	}
	c := newCluster(o.Dir, o.Progress)
	c.detach, c.given = o.Detach, o.Binary
	l, err := acquire(ctx, o.Dir, c.note)
	if err != nil {
		return nil, err
	}
	defer l.release()
	if err := c.open(o); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	nodes := c.Record().Nodes
	if o.Members > 0 {
		nodes = nodes[:o.Members]
	}
	if err := c.bringUp(ctx, nodes); err != nil {
		return nil, errors.Join(err, c.undo(o.Dir))
	}
	return c, nil
}

// open takes the directory's record, or makes one.
func (c *Cluster) open(o Options) error {
	switch err := c.reload(); {
	case errors.Is(err, errNoCluster):
		return c.create(o)
	case err != nil:
		return err
	case o.Nodes != 0 && o.Nodes != len(c.rec.Nodes):
		return fmt.Errorf("%s holds a cluster of %d nodes, not %d: leave --nodes out, or choose another directory", o.Dir, len(c.rec.Nodes), o.Nodes)
	}
	running := 0
	for _, n := range c.rec.Nodes {
		if n.Running() {
			running++
		}
	}
	if running == len(c.rec.Nodes) && c.ready {
		return fmt.Errorf("the cluster in %s is running already: use it with `. %s`, or stop it with `edgecoder cluster down --data %s`",
			o.Dir, quote(c.path(envName)), quote(o.Dir))
	}
	c.rec.Binary = o.Binary
	return c.settle(false)
}

// create writes the record of a new cluster.
func (c *Cluster) create(o Options) error {
	n := o.Nodes
	if n == 0 {
		n = defaultNodes
	}
	if entries, err := os.ReadDir(filepath.Join(o.Dir, nodeName(0), "data")); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s has a node's data but no cluster.json: choose another directory", o.Dir)
	}
	ports, err := choosePorts(n, o.BasePort)
	if err != nil {
		return err
	}
	c.ports = ports
	c.rec = Record{Binary: o.Binary}
	for i := range n {
		n := Node{Name: nodeName(i), API: "https://" + ports.API(i), Raft: ports.Raft(i), Gossip: ports.Gossip(i)}
		if o.SharePort {
			n.Raft = ""
		}
		c.rec.Nodes = append(c.rec.Nodes, n)
	}
	c.rec.place(o.Dir)
	if err := c.writePassphrase(o.Passphrase); err != nil {
		return err
	}
	return c.settle(false)
}

// choosePorts returns those that somebody chose, if they are free, or free ones.
func choosePorts(nodes, base int) (*Ports, error) {
	if base == 0 {
		return FreePorts(nodes)
	}
	p := &Ports{Base: base}
	return p, p.check(nodes)
}

func (c *Cluster) writePassphrase(given []byte) error {
	if given == nil {
		secret := make([]byte, 32)
		rand.Read(secret) // never fails
		defer clear(secret)
		given = hex.AppendEncode(nil, secret)
		defer clear(given)
	}
	text := append(given[:len(given):len(given)], '\n')
	defer clear(text)
	return writeFile(c.path(passphraseName), text)
}

// bringUp starts what does not run of the given nodes and waits until the
// cluster is whole.
func (c *Cluster) bringUp(ctx context.Context, nodes []Node) error {
	first := nodes[0]
	if !first.Joined {
		// Nobody else can join before there is a cluster to join.
		c.note("starting %s, which makes a new cluster", first.Name)
		if err := c.launch(ctx, first.Name); err != nil {
			return err
		}
		if err := c.waitAnswer(ctx, first, mustBeReady); err != nil {
			return err
		}
		if !c.waitToken(ctx) {
			return fmt.Errorf("%s runs, but its first admin token was lost in an interrupted start: begin anew with `edgecoder cluster down --purge --data %s`", first.Name, quote(c.dir))
		}
	}
	if err := c.each(ctx, nodes, func(ctx context.Context, n Node) error { return c.launch(ctx, n.Name) }); err != nil {
		return err
	}
	c.note("waiting until all %d nodes are voters and know the leader", len(nodes))
	if err := c.waitWhole(ctx, nodes); err != nil {
		return err
	}
	return c.finishUp(ctx, len(nodes))
}

// tokenGrace is for the first admin token: the server answers a moment before it
// writes the file.
const tokenGrace = 3 * time.Second

// waitToken tells whether the first admin token is there.
func (c *Cluster) waitToken(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, tokenGrace)
	defer cancel()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		if _, err := os.Stat(c.path(adminTokenName)); !errors.Is(err, fs.ErrNotExist) {
			return true
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return false
		}
	}
}

// finishUp makes what users of the cluster need, cluster.json last. The first
// nodes are its members.
func (c *Cluster) finishUp(ctx context.Context, members int) error {
	if err := c.linkCA(); err != nil {
		return err
	}
	api, err := c.Client()
	if err != nil {
		return err
	}
	defer api.Close()
	status, err := api.Status(ctx)
	if err != nil {
		return fmt.Errorf("ask for the cluster id: %w", err)
	}
	if _, err := os.Stat(c.path(meshTokenName)); errors.Is(err, fs.ErrNotExist) {
		token, err := api.CreateToken(ctx, client.TokenRequest{Role: "mesh", Uses: -1, Label: "cluster up"})
		if err != nil {
			return fmt.Errorf("make the mesh token: %w", err)
		}
		if err := writeFile(c.path(meshTokenName), []byte(token.Token+"\n")); err != nil {
			return err
		}
	}
	c.mu.Lock()
	c.rec.ClusterID = status.ClusterID
	for i := range members {
		c.rec.Nodes[i].Joined = true
	}
	c.mu.Unlock()
	if err := writeFile(c.path(envName), envFile(c.dir, c.Record())); err != nil {
		return err
	}
	return c.settle(true)
}

// undo stops what a failed Up started; what ran before goes on.
func (c *Cluster) undo(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	c.mu.Lock()
	var mine []Node
	for _, n := range c.rec.Nodes {
		if c.procs[n.Name] != nil {
			mine = append(mine, n)
		}
	}
	c.mu.Unlock()
	c.note("stopping what was started; logs are in %s", dir)
	return c.all(mine, func(n Node) error { return c.halt(ctx, n, orKill) })
}

// all runs f for all nodes at once and joins the errors.
func (c *Cluster) all(nodes []Node, f func(n Node) error) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = f(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// each runs f for all nodes at once. The first failure ends the others, whose
// own errors would only hide it.
func (c *Cluster) each(ctx context.Context, nodes []Node, f func(ctx context.Context, n Node) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var first error
	var once sync.Once
	_ = c.all(nodes, func(n Node) error {
		err := f(ctx, n)
		if err != nil {
			once.Do(func() { first = err })
			cancel()
		}
		return err
	})
	return first
}
