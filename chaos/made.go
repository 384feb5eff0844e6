package chaos

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/edgecoder/edgecoder/chaos/judge"
)

// MadeFile names the list of what a run made that may have to be taken away: all
// outside its directory, and the directories in it. It is gone once what is
// outside is.
const MadeFile = "made.json"

// made is that list, on disk before a killed harness could leave anything behind.
type made struct {
	Harness    process     `json:"harness"`
	Cluster    string      `json:"cluster"` // its directory
	Namespaces []namespace `json:"namespaces,omitempty"`
	Loops      []loop      `json:"loops,omitempty"`
	Mounts     []mount     `json:"mounts,omitempty"`
	Dirs       []string    `json:"dirs,omitempty"`         // in the run's directory
	Secrets    bool        `json:"drop_secrets,omitempty"` // of the cluster go with it; an older list does not say so

	dir     string
	mu      sync.Mutex // guards all of it
	written bool       // the list on disk is this one
}

// process is one for ever: pids are used again.
type process struct {
	PID     int    `json:"pid"`
	Started string `json:"started"` // in ticks since the machine started
}

// namespace is a named network namespace; the inode tells it from another of
// the same name.
type namespace struct {
	Name  string `json:"name"`
	Inode uint64 `json:"inode"`
}

type loop struct {
	Device string `json:"device"`
	Image  string `json:"image"`
}

type mount struct {
	Device string `json:"device"`
	Dir    string `json:"dir"`
}

func newMade(dir, clusterDir string) *made {
	return &made{Harness: processOf(os.Getpid()), Cluster: clusterDir, dir: dir}
}

// add notes something down at once. The first list must not take the place of
// another run's.
func (m *made) add(change func(*made)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(m.dir, MadeFile)
	if m.written {
		return replaceFile(path, append(text, '\n'))
	}
	err = writeNew(path, append(text, '\n'), 0o600)
	m.written = err == nil
	return err
}

// mkdir makes a directory in the run's. One that was there is not ours.
func (m *made) mkdir(name string) error {
	if err := os.Mkdir(filepath.Join(m.dir, name), 0o700); err != nil {
		return err
	}
	return m.add(func(m *made) { m.Dirs = append(m.Dirs, name) })
}

func (m *made) has(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.Dirs, name)
}

func loadMade(dir string) (*made, error) {
	m := &made{dir: dir, written: true}
	text, err := judge.ReadPlain(filepath.Join(dir, MadeFile))
	if err != nil {
		return nil, err
	}
	return m, json.Unmarshal(text, m)
}

// thaw has no file system keep us waiting.
func (m *made) thaw() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, x := range m.Mounts {
		if mountedAt(x.Dir) == x.Device {
			_ = sh("fsfreeze", "--unfreeze", x.Dir) // it most likely is not frozen
		}
	}
}

// remove takes everything away that is still what was made, newest first, and
// then the list itself. While something stays mounted all else stays too.
func (m *made) remove() error {
	m.thaw()
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, x := range slices.Backward(m.Mounts) {
		if mountedAt(x.Dir) == x.Device {
			errs = append(errs, sh("umount", x.Dir))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, x := range slices.Backward(m.Loops) {
		if imageOf(x.Device) == x.Image {
			errs = append(errs, sh("losetup", "--detach", x.Device))
		}
	}
	for _, x := range slices.Backward(m.Namespaces) {
		if inode, err := inodeOf(x.Name); err == nil && inode == x.Inode {
			errs = append(errs, sh("ip", "netns", "del", x.Name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if !m.written {
		return nil
	}
	if err := os.Remove(filepath.Join(m.dir, MadeFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// secrets are the files of the cluster that are worth nothing once it is gone,
// except to a thief.
var secrets = []string{"cluster/admin.token", "cluster/mesh.token", "cluster/passphrase", "cluster/node*/data/node.keys"}

// dropSecrets removes them while the data are still mounted. No link leads out
// of the run's directory.
func (m *made) dropSecrets() error {
	if !m.Secrets || !m.has("cluster") {
		return nil
	}
	root, err := os.OpenRoot(m.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	var errs []error
	for _, pattern := range secrets {
		found, err := fs.Glob(root.FS(), pattern)
		errs = append(errs, err)
		for _, name := range found {
			errs = append(errs, root.Remove(name))
		}
	}
	return errors.Join(errs...)
}

// removeDir removes a directory below one that this run made, unless something
// is mounted in it.
func (m *made) removeDir(name string) error {
	top, _, _ := strings.Cut(name, "/")
	if !m.has(top) {
		return nil
	}
	if at := mountedBelow(filepath.Join(m.dir, name)); at != "" {
		return fmt.Errorf("%s is still mounted", at)
	}
	root, err := os.OpenRoot(m.dir)
	if err != nil {
		return err
	}
	return errors.Join(root.RemoveAll(name), root.Close())
}

// processOf reads when a process started; nothing when there is none.
func processOf(pid int) process {
	p := process{PID: pid}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p
	}
	const startTime = 22 - 3 // proc(5), counted from the state, which follows the name
	afterName := string(text[bytes.LastIndexByte(text, ')')+1:])
	if fields := strings.Fields(afterName); len(fields) > startTime {
		p.Started = fields[startTime]
	}
	return p
}

// alive tells whether the very same process still runs.
func (p process) alive() bool { return p.Started != "" && processOf(p.PID) == p }

func inodeOf(ns string) (uint64, error) {
	info, err := os.Stat("/var/run/netns/" + ns)
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, errors.New("this machine has no inodes")
	}
	return st.Ino, nil
}

// mountedAt returns the device of the newest mount on a directory, or "".
func mountedAt(dir string) (device string) {
	for _, x := range mounted() {
		if x.Dir == dir {
			device = x.Device
		}
	}
	return device
}

// mountedBelow returns where something is mounted at or below a directory, or "".
func mountedBelow(dir string) string {
	for _, x := range mounted() {
		if x.Dir == dir || strings.HasPrefix(x.Dir, dir+"/") {
			return x.Dir
		}
	}
	return ""
}

// mounted lists what is mounted, oldest first.
func mounted() []mount {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil // no Linux, so nothing of ours
	}
	var all []mount
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 {
			all = append(all, mount{f[0], unescape(f[1])})
		}
	}
	return all
}

// unescape reads the \040 and its like of /proc/mounts.
func unescape(s string) string {
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if b, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out = append(out, byte(b))
				i += 3
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

// imageOf returns the file behind a loop device, or "".
func imageOf(device string) string {
	text, err := os.ReadFile("/sys/block/" + filepath.Base(device) + "/loop/backing_file")
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(text), "\n")
}
