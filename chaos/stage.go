package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/edgecoder/edgecoder/cluster"
)

// stage is what a run prepares around the cluster before it starts: namespaces,
// file systems, and the files that hold clock offsets. Servers are started
// through a small shell script of its own, so that package cluster need not
// know any of it.
type stage struct {
	dir        string
	clusterDir string
	binary     string // what the cluster starts
	missing    map[Need]string
	nodes      []string
	members    int // so many of the nodes are in the cluster at the start
	net        *netns
	disk       *loopDisks
	clock      *clockFiles
	made       *made
	cluster    *cluster.Cluster // once it is up
}

// newStage returns a stage that is to be struck, also when it fails.
func newStage(s Scenario, o Options) (*stage, error) {
	st := &stage{dir: o.Dir, clusterDir: filepath.Join(o.Dir, "cluster"), binary: o.Binary, missing: map[Need]string{}, members: cmp.Or(s.Members, s.Nodes)}
	for i := range s.Nodes {
		st.nodes = append(st.nodes, fmt.Sprintf("node%d", i+1)) // the names that package cluster gives
	}
	st.made = newMade(o.Dir, st.clusterDir)
	if err := st.made.add(func(m *made) { m.Secrets = !o.Keep }); err != nil {
		return st, err
	}
	if err := st.made.mkdir("cluster"); err != nil {
		return st, err
	}
	for _, n := range s.Needs {
		if st.missing[n] = st.lacks(n, o); st.missing[n] != "" {
			o.Progress("without %s: %s", n, st.missing[n])
			continue
		}
		if err := st.prepare(n); err != nil {
			return st, fmt.Errorf("prepare the %s: %w", n, err)
		}
	}
	return st, st.writeScript(o.Binary, s.Timing)
}

// lacks says why the machine cannot give a facility, or "".
func (st *stage) lacks(n Need, o Options) string {
	switch n {
	case NeedNetwork, NeedDisk:
		if !o.Netns {
			return "not asked for: run as root with --netns"
		}
		if os.Geteuid() != 0 {
			return "needs root"
		}
		tools := map[Need][]string{NeedNetwork: {"ip"}, NeedDisk: {"losetup", "mkfs.ext4", "mount", "umount", "fsfreeze"}}
		for _, tool := range tools[n] {
			if _, err := exec.LookPath(tool); err != nil {
				return "needs the program " + tool
			}
		}
		if _, err := os.Stat("/dev/net/tun"); n == NeedNetwork && err != nil {
			return "needs /dev/net/tun"
		}
		return ""
	case NeedClock:
		return lacksClock(o.Binary)
	}
	return "nobody knows how to prepare it"
}

func (st *stage) prepare(n Need) (err error) {
	switch n {
	case NeedNetwork:
		st.net, err = newNetns(st.nodes, st.made)
	case NeedDisk:
		st.disk, err = newLoopDisks(st.dir, st.clusterDir, st.nodes, st.made)
	case NeedClock:
		st.clock, err = newClockFiles(st.made, st.nodes)
	}
	return err
}

// writeScript writes what the cluster starts instead of the binary, when
// anything has to be different from a plain start.
func (st *stage) writeScript(binary, timing string) error {
	if st.net == nil && st.clock == nil && timing == "" {
		return nil
	}
	var b strings.Builder
	b.WriteString("#!/bin/sh\n# Starts a server of this chaos run: made and removed by the run.\n")
	b.WriteString("for a in \"$@\"; do case $a in --name=*) name=${a#--name=};; esac; done\n")
	if st.clock != nil {
		fmt.Fprintf(&b, "set -- \"$@\" --clock-offset-file=%s/\"$name\"\n", shellWord(st.clock.dir))
	}
	if timing != "" {
		fmt.Fprintf(&b, "set -- \"$@\" --timing=%s\n", shellWord(timing))
	}
	prefix := ""
	if st.net != nil {
		b.WriteString(st.net.rewrite())
		prefix = "ip netns exec " + st.net.prefix + "\"$name\" "
	}
	fmt.Fprintf(&b, "exec %s%s \"$@\"\n", prefix, shellWord(binary))
	st.binary = filepath.Join(st.dir, "server.sh")
	return writeNew(st.binary, []byte(b.String()), 0o700)
}

// shellWord makes one word of a path for the shell, whatever is in it.
func shellWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// up brings the cluster up on the stage.
func (st *stage) up(ctx context.Context, note func(string, ...any)) (err error) {
	o := cluster.Options{Dir: st.clusterDir, Nodes: len(st.nodes), Members: st.members, Binary: st.binary, Progress: note}
	if st.net != nil {
		o.BasePort = st.net.ports.Base
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go st.net.openDoors(ctx, st.clusterDir)
	}
	st.cluster, err = cluster.Up(ctx, o)
	return err
}

// dialer returns how clients connect to a node; nil: as usual.
func (st *stage) dialer(node string) dialer {
	if st.net == nil {
		return nil
	}
	return st.net.dialerFor(node)
}

func (st *stage) network() Network {
	if st.net == nil {
		return nil
	}
	return st.net
}

func (st *stage) networkName() string {
	if st.net == nil {
		return "loopback"
	}
	return "a namespace for each node"
}

func (st *stage) diskOrNil() Disk {
	if st.disk == nil {
		return nil
	}
	return st.disk
}

func (st *stage) clockOrNil() Clock {
	if st.clock == nil {
		return nil
	}
	return st.clock
}

// clear stops the servers.
func (st *stage) clear(ctx context.Context) error {
	if !st.made.has("cluster") {
		return nil // none of ours was started
	}
	if st.cluster == nil { // it did not come up whole
		return st.made.stopServers(ctx)
	}
	st.made.thaw() // servers that hang there could not end
	return stopAll(ctx, st.cluster)
}

// strike takes down what was set up; nothing while something stays mounted. The
// servers' logs always stay.
func (st *stage) strike(keepData bool) error {
	if st.net != nil {
		st.net.close()
		st.net.ports.Release()
	}
	secrets := st.made.dropSecrets()
	if err := st.made.remove(); err != nil || keepData {
		return errors.Join(secrets, err)
	}
	errs := []error{secrets, st.made.removeDir("disks")}
	for _, n := range st.nodes {
		errs = append(errs, st.made.removeDir("cluster/"+n))
	}
	return errors.Join(errs...)
}

// clockFiles hold each server's clock offset in milliseconds.
type clockFiles struct{ dir string }

// lacksClock asks the binary whether it knows the hidden flag.
func lacksClock(binary string) string {
	out, _ := exec.Command(binary, "server", "--clock-offset-file=/dev/null", "--check-config").CombinedOutput() // it always fails: settings are missing
	if strings.Contains(string(out), "clock-offset-file") {
		return "the server does not know --clock-offset-file"
	}
	return ""
}

func newClockFiles(m *made, nodes []string) (*clockFiles, error) {
	c := &clockFiles{dir: filepath.Join(m.dir, "clocks")}
	if err := m.mkdir("clocks"); err != nil {
		return nil, err
	}
	return c, each(nodes, func(n string) error { return c.SetOffset(n, 0) })
}

// SetOffset implements Clock. The file is replaced in one step, since the
// server may be reading it.
func (c *clockFiles) SetOffset(node string, offset time.Duration) error {
	return replaceFile(filepath.Join(c.dir, node), []byte(strconv.FormatInt(offset.Milliseconds(), 10)+"\n"))
}

// command makes a program of the machine's run apart from the terminal: Ctrl-C
// is for us, and we clean up with the likes of it.
func command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return c
}

// sh runs a program and puts what it says into the error.
func sh(name string, args ...string) error {
	out, err := command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(slices.Insert(args, 0, name), " "), err, cmp.Or(strings.TrimSpace(string(out)), "no output"))
	}
	return nil
}
