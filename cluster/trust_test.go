//go:build unix

package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// plant writes a record by hand.
func plant(t *testing.T, dir string, r Record) {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, readyName), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func plantedNode(mend func(n *Node)) Record {
	n := Node{Name: "node1", API: "https://127.0.0.1:1", Joined: true}
	if mend != nil {
		mend(&n)
	}
	return Record{Nodes: []Node{n}}
}

// give hands a file to another user, or says that only root can.
func give(t *testing.T, path string) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return false
	}
	if err := os.Lchown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	return true
}

// refused checks that no command touches dir, and that the user is told how to mend it.
func refused(t *testing.T, what, dir, want string) {
	t.Helper()
	_, loadErr := Load(dir)
	_, upErr := Up(t.Context(), Options{Dir: dir, Nodes: 1})
	for _, err := range []error{loadErr, upErr} {
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--data") {
			t.Errorf("%s: got %v, want %q", what, err, want)
		}
	}
}

func TestDirectoriesOfOthersAreRefused(t *testing.T) {
	dir := newDir(t)
	plant(t, dir, plantedNode(nil))
	if _, err := Load(dir); err != nil {
		t.Fatal(err)
	}
	theirs := "/" // root's, unless we are root
	if give(t, dir) {
		theirs = dir
	}
	refused(t, "a stranger's directory", theirs, "chown")
}

func TestDirectoriesThatOthersMayWriteAreRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o720, 0o702, 0o777 | os.ModeSticky} {
		dir := newDir(t)
		plant(t, dir, plantedNode(nil))
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		refused(t, mode.String(), dir, "chmod go-w "+dir)
	}
}

func TestRecordsOfOthersAreRefused(t *testing.T) {
	fresh := func() (dir, record string) {
		dir = newDir(t)
		plant(t, dir, plantedNode(nil))
		return dir, filepath.Join(dir, readyName)
	}
	dir, record := fresh()
	if err := os.Chmod(record, 0o666); err != nil {
		t.Fatal(err)
	}
	refused(t, "a record that others may write", dir, "chmod go-w "+record)
	if dir, record := fresh(); give(t, record) {
		refused(t, "a stranger's record", dir, "chown")
	}
	dir, record = fresh()
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := errors.Join(os.Rename(record, elsewhere), os.Symlink(elsewhere, record)); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a link was followed to the record")
	}
	if err := errors.Join(os.Remove(record), syscall.Mkfifo(record, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "is no file") {
		t.Errorf("a pipe: %v", err)
	}
	dir, record = fresh()
	if err := os.Truncate(record, maxRecordBytes+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("a huge record: %v", err)
	}
}

func TestALinkOfAnotherUserIsNotFollowed(t *testing.T) {
	dir := newDir(t)
	plant(t, dir, plantedNode(nil))
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	c, err := Load(link)
	if err != nil || c.Dir() != dir {
		t.Fatalf("our own link: %v", err)
	}
	if give(t, link) {
		refused(t, "a stranger's link", link, "chown -h")
	}
}

// TestEveryNameOfADirectoryIsTheSameCluster: a server that was started by one
// name must not be taken for stopped by another.
func TestEveryNameOfADirectoryIsTheSameCluster(t *testing.T) {
	dir := newDir(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	byLink := up(t, Options{Dir: link, Nodes: 1})
	c, err := Load(dir)
	if err != nil || !c.Record().Nodes[0].Running() {
		t.Fatalf("%v: node1 is not seen running", err)
	}
	if err := c.Down(t.Context()); err != nil || byLink.Record().Nodes[0].Running() {
		t.Fatalf("down: %v, or the server runs still", err)
	}
}

func TestNamesMustBeOurs(t *testing.T) {
	for _, name := range []string{"../victim", "node0", "node2", "node1/..", "node1\n", ""} {
		dir := newDir(t)
		plant(t, dir, plantedNode(func(n *Node) { n.Name = name }))
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "want the name node1") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestPathsComeFromTheDirectoryAlone(t *testing.T) {
	dir, victim := newDir(t), filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := plantedNode(func(n *Node) { n.DataDir, n.Log = victim, victim })
	r.CAFile, r.AdminTokenFile, r.MeshTokenFile, r.PassphraseFile = victim, victim, victim, victim
	plant(t, dir, r)
	c, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := c.Record()
	for _, path := range []string{got.CAFile, got.AdminTokenFile, got.MeshTokenFile, got.PassphraseFile, got.Nodes[0].DataDir, got.Nodes[0].Log} {
		if !strings.HasPrefix(path, dir+"/") {
			t.Errorf("%s is not in %s", path, dir)
		}
	}
	if err := c.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(victim); err != nil {
		t.Errorf("purge left the directory: %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("purge left its own directory")
	}
}

func TestALogIsNoLink(t *testing.T) {
	dir := t.TempDir()
	log, target := filepath.Join(dir, "node1.log"), filepath.Join(dir, "target")
	if err := os.Symlink(target, log); err != nil {
		t.Fatal(err)
	}
	if _, err := spawn("/bin/true", nil, nil, log, false); err == nil {
		t.Error("the log was opened")
	}
	if _, err := os.Stat(target); err == nil {
		t.Error("a link was followed")
	}
}

// sleeper runs a process that looks like the server of a data directory.
func sleeper(t *testing.T, dataDir string) int {
	t.Helper()
	c := exec.Command("sh", "-c", "sleep 30; :", "sh", "--data-dir="+dataDir)
	c.SysProcAttr = ownGroup(false)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		_ = c.Wait()
	})
	for deadline := time.Now().Add(20 * time.Second); !isServer(c.Process.Pid, dataDir); { // the kernel tells its arguments a moment after it began
		if time.Now().After(deadline) {
			t.Fatal("the process does not show its arguments")
		}
		select {
		case <-t.Context().Done():
		case <-time.After(time.Millisecond):
		}
	}
	return c.Process.Pid
}

func TestServersOfOtherClustersAreLeftAlone(t *testing.T) {
	const other = "/var/lib/edgecoder"
	dir := newDir(t)
	pid := sleeper(t, other)
	plant(t, dir, plantedNode(func(n *Node) { n.DataDir, n.PID = other, pid }))
	c, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context(), "node1", true); err != nil {
		t.Fatal(err)
	}
	if !isServer(pid, other) {
		t.Fatal("the stranger was killed")
	}
}

func TestServersOfOtherUsersAreLeftAlone(t *testing.T) {
	pid := sleeper(t, "/x/node1/data")
	me := os.Geteuid()
	if !isServerOf(me, pid, "/x/node1/data") {
		t.Error("our own server is not known")
	}
	if isServerOf(me+1, pid, "/x/node1/data") || isServerOf(me, pid, "/x/node1") || isServerOf(me, pid, "/x/node1/data2") {
		t.Error("another user's, or of another directory")
	}
	status := []byte("Name:\tsh\nUid:\t1\t2\t3\t4\nGid:\t5\t5\t5\t5\n")
	if !effectiveUID(status, 2) || effectiveUID(status, 1) || effectiveUID(status, 5) || effectiveUID(nil, 0) {
		t.Error("the effective uid is the second")
	}
}

func TestTheRecordedBinaryMustBeOurs(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	script := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ours, theirs := script("ours", 0o755), script("theirs", 0o757)
	bad := []string{theirs, script("group", 0o775), filepath.Join(dir, "gone"), "ours", "", dir}
	open := filepath.Join(dir, "open")
	inside, link := filepath.Join(open, "inside"), filepath.Join(open, "link")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777), os.WriteFile(inside, nil, 0o700), os.Symlink(ours, link)); err != nil {
		t.Fatal(err)
	}
	bad = append(bad, inside, link)
	if stranger := script("stranger", 0o755); give(t, stranger) {
		bad = append(bad, stranger)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	runs := func(recorded, given string) string {
		c := newCluster(dir, nil)
		c.rec.Binary, c.given = recorded, given
		got, err := c.binary()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, path := range bad {
		if got := runs(path, ""); got != self {
			t.Errorf("record says %q: runs %s", path, got)
		}
	}
	if got := runs(ours, ""); got != ours {
		t.Errorf("our own binary: runs %s", got)
	}
	current := filepath.Join(dir, "current")
	if err := errors.Join(os.Symlink(ours, current), os.Chmod(open, 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{current: ours, link: ours, inside: inside} {
		if got := runs(name, ""); got != want {
			t.Errorf("%s: runs %s, want %s", name, got, want)
		}
	}
	if got := runs(theirs, theirs); got != theirs { // who called Up may choose
		t.Errorf("the binary that Up was given: runs %s", got)
	}
}

func TestStartDoesNotRunWhatOthersCanWrite(t *testing.T) {
	dir := newDir(t)
	c := up(t, Options{Dir: dir, Nodes: 1})
	if err := c.Stop(t.Context(), "node1", true); err != nil {
		t.Fatal(err)
	}
	evil, ran := filepath.Join(t.TempDir(), "evil"), filepath.Join(t.TempDir(), "ran")
	if err := errors.Join(os.WriteFile(evil, []byte("#!/bin/sh\n: > "+ran+"\n"), 0o700), os.Chmod(evil, 0o777)); err != nil {
		t.Fatal(err)
	}
	r := c.Record()
	r.Binary = evil
	plant(t, dir, r)
	other, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(t.Context(), "node1"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("it ran")
	}
}

// TestOneHolderThoughPurgeRemovesTheLock: whoever waited for a lock file that is
// gone must not hold it beside the owner of the new one.
func TestOneHolderThoughPurgeRemovesTheLock(t *testing.T) {
	path := filepath.Join(newDir(t), lockName)
	old, err := lockFile(path)
	if err != nil {
		t.Fatal(err)
	}
	waiter, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer waiter.Close()
	if err := remove(path); err != nil {
		t.Fatal(err)
	}
	old.Close()
	if err := tryLock(waiter); err != nil || liesAt(waiter, path) {
		t.Fatalf("the waiter takes a removed file for the lock: %v", err)
	}
	holder, err := lockFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	if liesAt(waiter, path) || !liesAt(holder, path) {
		t.Error("the lock is not the file that the path names")
	}
	if _, err := lockFile(path); !errors.Is(err, errLocked) {
		t.Errorf("a third: %v", err)
	}
}

// TestWaitersSurvivePurge is the same with real commands.
func TestWaitersSurvivePurge(t *testing.T) {
	dir := newDir(t)
	plant(t, dir, plantedNode(nil))
	c, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	holder, err := acquire(t.Context(), dir, c.note)
	if err != nil {
		t.Fatal(err)
	}
	waiter, purge := make(chan error), make(chan error)
	go func() { purge <- c.Purge(t.Context()) }()
	go func() { waiter <- c.Stop(t.Context(), "node1", true) }()
	time.Sleep(150 * time.Millisecond) // both are waiting
	holder.release()
	if err := <-purge; err != nil {
		t.Errorf("purge: %v", err)
	}
	if err := <-waiter; err != nil && !errors.Is(err, errNoCluster) {
		t.Errorf("the other command: %v", err)
	}
}

// TestDyingServersHoldTheirFiles: a process that was killed loses its command line
// before its files, and with them the lock of its data directory.
func TestDyingServersHoldTheirFiles(t *testing.T) {
	t.Parallel()
	stat := func(state string, flags, threads int) []byte {
		return fmt.Appendf(nil, "42 (edge) coder) %s 1 42 42 0 -1 %d 9 9 9 9 9 9 9 9 20 0 %d 0 99", state, flags, threads)
	}
	for _, c := range []struct {
		stat  []byte
		dying bool
	}{
		{stat("S", 0x400000, 9), false},
		{stat("R", 0x400004, 9), true},
		{stat("D", 0x40000c, 1), true},
		{stat("Z", 0x40000c, 2), true},
		{stat("Z", 0x40000c, 1), false},
		{nil, false},
		{[]byte("42 (x) R"), false},
	} {
		if got := saysDying(c.stat); got != c.dying {
			t.Errorf("%s: dying %t", c.stat, got)
		}
	}
	if isDying(os.Getpid()) {
		t.Error("this process is dying")
	}
}
