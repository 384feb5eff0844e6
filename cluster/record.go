package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Record is cluster.json: where everything is (CONTRACT.md "Command line").
type Record struct {
	ClusterID      string `json:"cluster_id"`
	CAFile         string `json:"ca_file"`
	AdminTokenFile string `json:"admin_token_file"`
	MeshTokenFile  string `json:"mesh_token_file"`
	PassphraseFile string `json:"passphrase_file"`
	Binary         string `json:"binary"` // what restarts use, so that they need not be told
	Nodes          []Node `json:"nodes"`
}

// Node is one server of the cluster.
type Node struct {
	Name    string `json:"name"`
	API     string `json:"api"`    // https URL
	Raft    string `json:"raft"`   // host:port; empty: that of the API
	Gossip  string `json:"gossip"` // host:port
	PID     int    `json:"pid"`    // 0 while stopped
	DataDir string `json:"data_dir"`
	Log     string `json:"log"`
	Joined  bool   `json:"joined"` // was a voter once: its data directory is all it needs to start
}

// The two names of the record. Whoever waits for a cluster waits for
// cluster.json, so it must not exist while the cluster is not ready.
const (
	readyName    = "cluster.json"
	startingName = "starting.json"
)

// errNoCluster says that a directory holds no record.
var errNoCluster = errors.New("there is no cluster")

// readRecord returns the record of dir and whether the cluster became ready.
func readRecord(dir string) (r Record, ready bool, err error) {
	if err := checkDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Record{}, false, err
	}
	for _, name := range []string{readyName, startingName} {
		text, err := readOurs(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Record{}, false, fmt.Errorf("read the cluster's record: %w", err)
		}
		r, err := parseRecord(dir, text)
		if err != nil {
			return Record{}, false, fmt.Errorf("%s is damaged: %w", filepath.Join(dir, name), err)
		}
		return r, name == readyName, nil
	}
	return Record{}, false, fmt.Errorf("%w in %s: make one with `edgecoder cluster up --data %s`", errNoCluster, dir, dir)
}

// parseRecord reads a record. Where things are follows from dir and the nodes'
// names; what the text says about that is for its other readers.
func parseRecord(dir string, text []byte) (Record, error) {
	var r Record
	dec := json.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&r); err != nil {
		return Record{}, err
	}
	if len(r.Nodes) == 0 || len(r.Nodes) > MaxNodes {
		return Record{}, fmt.Errorf("%d nodes, want 1 to %d", len(r.Nodes), MaxNodes)
	}
	for i, n := range r.Nodes {
		if n.Name != nodeName(i) || n.API == "" {
			return Record{}, fmt.Errorf("node %q: want the name %s, and an API", n.Name, nodeName(i))
		}
	}
	r.place(dir)
	return r, nil
}

// nodeName is the name of node i, from 0. Paths are made of names, so no
// others are allowed.
func nodeName(i int) string { return fmt.Sprintf("node%d", i+1) }

// place fills in where everything is.
func (r *Record) place(dir string) {
	at := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	r.CAFile, r.AdminTokenFile, r.MeshTokenFile, r.PassphraseFile = at(caName), at(adminTokenName), at(meshTokenName), at(passphraseName)
	for i := range r.Nodes {
		n := &r.Nodes[i]
		n.DataDir, n.Log = at(n.Name, "data"), at(n.Name+".log")
	}
}

// writeRecord stores the record under one of its two names and removes the other.
func writeRecord(dir string, r Record, ready bool) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	name, other := startingName, readyName
	if ready {
		name, other = other, name
	}
	if err := writeFile(filepath.Join(dir, name), append(text, '\n')); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, other)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// writeFile replaces a private file in one step: readers see all of it or none.
func writeFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails once it was renamed
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(tmp.Name(), path)
}
