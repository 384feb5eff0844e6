package chaos

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// diskSize of a node's file system: room for a run of an hour, and quickly full.
const diskSize = 256 << 20

// loopDisks give each node an ext4 file system of its own in a file, mounted
// as its data directory: it can be filled and frozen without harm to others.
type loopDisks struct {
	images string
	mounts map[string]string // by node
	loops  map[string]string

	mu     sync.Mutex
	frozen map[string]bool
}

func newLoopDisks(dir, clusterDir string, nodes []string) (*loopDisks, error) {
	d := &loopDisks{images: filepath.Join(dir, "disks"), mounts: map[string]string{}, loops: map[string]string{}, frozen: map[string]bool{}}
	if err := os.MkdirAll(d.images, 0o700); err != nil {
		return d, err
	}
	for _, n := range nodes {
		if err := d.mount(n, filepath.Join(clusterDir, n, "data")); err != nil {
			d.close(false)
			return nil, err
		}
	}
	return d, nil
}

func (d *loopDisks) mount(node, at string) error {
	image := filepath.Join(d.images, node)
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return err
	}
	if err := errors.Join(os.Truncate(image, diskSize), os.MkdirAll(at, 0o700)); err != nil {
		return err
	}
	out, err := exec.Command("losetup", "--find", "--show", image).Output()
	if err != nil {
		return fmt.Errorf("losetup %s: %w", image, err)
	}
	d.loops[node] = strings.TrimSpace(string(out))
	if err := sh("mkfs.ext4", "-q", "-m", "0", d.loops[node]); err != nil {
		return err
	}
	if err := sh("mount", d.loops[node], at); err != nil {
		return err
	}
	d.mounts[node] = at
	// An empty data directory is how a server knows that it is new.
	return errors.Join(os.Remove(filepath.Join(at, "lost+found")), os.Chmod(at, 0o700))
}

func (d *loopDisks) ballast(node string) string { return filepath.Join(d.mounts[node], "ballast") }

// Fill implements Disk: a file takes all the room that is left.
func (d *loopDisks) Fill(node string) error {
	f, err := os.OpenFile(d.ballast(node), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, zeros{}) // ends with "no space left"
	if err == nil {
		err = errors.New("the disk does not fill up")
	} else {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// zeros is an endless file.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Free implements Disk.
func (d *loopDisks) Free(node string) error {
	err := os.Remove(d.ballast(node))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Freeze implements Disk: every write hangs until Thaw.
func (d *loopDisks) Freeze(node string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.frozen[node] {
		return nil
	}
	d.frozen[node] = true
	return sh("fsfreeze", "--freeze", d.mounts[node])
}

// Thaw implements Disk.
func (d *loopDisks) Thaw(node string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.frozen[node] {
		return nil
	}
	d.frozen[node] = false
	return sh("fsfreeze", "--unfreeze", d.mounts[node])
}

// close unmounts. Kept images can be mounted again to look at the data.
func (d *loopDisks) close(keep bool) {
	for node, at := range d.mounts {
		_ = d.Thaw(node)
		_ = sh("umount", at) // a mount that is left behind shows in `mount`
	}
	for _, loop := range d.loops {
		_ = sh("losetup", "--detach", loop)
	}
	if !keep {
		_ = os.RemoveAll(d.images)
	}
}
