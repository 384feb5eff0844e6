package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// caPEM returns the cluster's CAs: what our link leads to, or what a server wrote
// while there is none yet or it leads to one that was wiped.
func (c *Cluster) caPEM() ([]byte, error) {
	pem, err := os.ReadFile(c.path(caName))
	if !errors.Is(err, fs.ErrNotExist) {
		return pem, err
	}
	return os.ReadFile(c.firstCA())
}

// firstCA is what the first server wrote that wrote any: one may have been wiped.
func (c *Cluster) firstCA() string {
	nodes := c.Record().Nodes
	for _, n := range nodes {
		if path := filepath.Join(n.DataDir, caName); written(path) {
			return path
		}
	}
	return filepath.Join(nodes[0].DataDir, caName)
}

func written(path string) bool { _, err := os.Stat(path); return err == nil }

// linkCA makes the CA file that users are told of: a link to the one that the
// first server keeps up to date, since CAs are rotated. Where there are no links
// it is a copy, good until the next rotation's overlap ends.
func (c *Cluster) linkCA() error {
	target, err := filepath.Rel(c.dir, c.firstCA())
	if err != nil {
		return err
	}
	temp := c.path("." + caName + ".new")
	if err := remove(temp); err != nil {
		return err
	}
	if err := os.Symlink(target, temp); err == nil {
		return os.Rename(temp, c.path(caName))
	}
	pem, err := os.ReadFile(c.firstCA())
	if err != nil {
		return fmt.Errorf("read the cluster's CA: %w", err)
	}
	return writeFile(c.path(caName), pem)
}
