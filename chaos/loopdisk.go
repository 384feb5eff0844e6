package chaos

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// diskSize of a node's file system: room for a run of an hour, and quickly full.
const diskSize = 256 << 20

// loopDisks give each node an ext4 file system of its own in a file, mounted
// as its data directory: it can be filled and frozen without harm to others.
type loopDisks struct {
	images string
	made   *made
	mounts map[string]string // by node

	mu     sync.Mutex
	frozen map[string]bool
}

// newLoopDisks leaves it to the list of what was made to take them away again.
func newLoopDisks(dir, clusterDir string, nodes []string, m *made) (*loopDisks, error) {
	d := &loopDisks{images: filepath.Join(dir, "disks"), made: m, mounts: map[string]string{}, frozen: map[string]bool{}}
	if err := m.mkdir("disks"); err != nil {
		return d, err
	}
	for _, n := range nodes {
		if err := d.mount(n, filepath.Join(clusterDir, n, "data")); err != nil {
			return d, err
		}
	}
	return d, nil
}

func (d *loopDisks) mount(node, at string) error {
	image := filepath.Join(d.images, node)
	if err := writeNew(image, nil, 0o600); err != nil {
		return err
	}
	if err := errors.Join(os.Truncate(image, diskSize), os.MkdirAll(at, 0o700)); err != nil {
		return err
	}
	out, err := command("losetup", "--find", "--show", image).Output()
	if err != nil {
		return fmt.Errorf("losetup %s: %w", image, err)
	}
	device := strings.TrimSpace(string(out))
	if err := d.made.add(func(m *made) { m.Loops = append(m.Loops, loop{device, image}) }); err != nil {
		return err
	}
	if err := sh("mkfs.ext4", "-q", "-m", "0", device); err != nil {
		return err
	}
	if err := d.made.add(func(m *made) { m.Mounts = append(m.Mounts, mount{device, at}) }); err != nil {
		return err
	}
	if err := sh("mount", device, at); err != nil {
		return err
	}
	d.mounts[node] = at
	// An empty data directory is how a server knows that it is new.
	return errors.Join(os.Remove(filepath.Join(at, "lost+found")), os.Chmod(at, 0o700))
}

func (d *loopDisks) ballast(node string) string { return filepath.Join(d.mounts[node], "ballast") }

// Fill implements Disk: a file takes all the room that is left.
func (d *loopDisks) Fill(node string) error {
	f, err := os.OpenFile(d.ballast(node), os.O_CREATE|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, zeros{}) // goes on until something is wrong
	if errors.Is(err, syscall.ENOSPC) {
		err = nil
	} else {
		err = fmt.Errorf("the disk does not fill up: %w", err)
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
	err := sh("fsfreeze", "--freeze", d.mounts[node])
	d.frozen[node] = err == nil
	return err
}

// Thaw implements Disk.
func (d *loopDisks) Thaw(node string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.frozen[node] {
		return nil
	}
	err := sh("fsfreeze", "--unfreeze", d.mounts[node])
	d.frozen[node] = err != nil // then it is tried again
	return err
}
