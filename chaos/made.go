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
)

// MadeFile names the list of what a run made outside its directory. It is gone
// once all of that is.
const MadeFile = "made.json"

// made is that list, on disk before a killed harness could leave anything behind.
type made struct {
	Harness    process     `json:"harness"`
	Cluster    string      `json:"cluster"` // its directory
	Namespaces []namespace `json:"namespaces,omitempty"`
	Loops      []loop      `json:"loops,omitempty"`
	Mounts     []mount     `json:"mounts,omitempty"`

	dir string
	mu  sync.Mutex
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

// add notes something down at once.
func (m *made) add(change func(*made)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(m.dir, MadeFile), append(text, '\n'))
}

func loadMade(dir string) (*made, error) {
	m := &made{dir: dir}
	text, err := os.ReadFile(filepath.Join(dir, MadeFile))
	if err != nil {
		return nil, err
	}
	return m, json.Unmarshal(text, m)
}

// remove takes everything away that is still what was made, newest first, and
// then the list itself.
func (m *made) remove() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, x := range slices.Backward(m.Mounts) {
		if mountedAt(x.Dir) == x.Device {
			_ = sh("fsfreeze", "--unfreeze", x.Dir) // it most likely is not frozen
			errs = append(errs, sh("umount", x.Dir))
		}
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
	if err := os.Remove(filepath.Join(m.dir, MadeFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
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
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && unescape(f[1]) == dir {
			device = f[0]
		}
	}
	return device
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
