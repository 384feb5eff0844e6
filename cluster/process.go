package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// process is a server that this process started. Servers of earlier commands
// are known by pid only.
type process struct {
	pid  int
	gone chan struct{} // closed when it ended and was reaped
	err  error         // how it ended; read after gone
}

// spawn starts a server with its output appended to its log.
func spawn(binary string, args, env []string, logFile string, detach bool) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY|noFollow, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	defer log.Close() // the server has its own copy
	fmt.Fprintf(log, "--- %s %s %s\n", time.Now().UTC().Format(time.RFC3339), binary, strings.Join(args, " "))
	c := exec.Command(binary, args...)
	c.Stdout, c.Stderr, c.Env, c.SysProcAttr = log, log, env, ownGroup(detach)
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", binary, err)
	}
	p := &process{pid: c.Process.Pid, gone: make(chan struct{})}
	go func() {
		p.err = c.Wait() // reaps it, so that its pid is not kept by a zombie
		close(p.gone)
	}()
	return p, nil
}

// ended tells whether the process ended.
func (p *process) ended() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// isServer tells whether pid is our user's server of dataDir. Pids are reused,
// so a recorded one is trusted only as far as its owner and its command line
// agree.
func isServer(pid int, dataDir string) bool { return isServerOf(os.Geteuid(), pid, dataDir) }

func isServerOf(uid, pid int, dataDir string) bool {
	if pid <= 0 || !exists(pid) {
		return false
	}
	proc := "/proc/" + strconv.Itoa(pid)
	args, err := os.ReadFile(proc + "/cmdline")
	if errors.Is(err, os.ErrNotExist) && !hasProc() {
		out, _ := exec.Command("ps", "-ww", "-o", "uid=", "-o", "command=", "-p", strconv.Itoa(pid)).Output() // a failure prints nothing
		owner, command, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
		return owner == strconv.Itoa(uid) && strings.Contains(command+" ", " --data-dir="+dataDir+" ")
	}
	status, _ := os.ReadFile(proc + "/status") // a failure has no uid
	if !effectiveUID(status, uid) {
		return false
	}
	for arg := range bytes.SplitSeq(args, []byte{0}) { // a zombie has none
		if string(arg) == "--data-dir="+dataDir {
			return true
		}
	}
	return false
}

// effectiveUID tells whether a /proc/PID/status is that of a process of uid.
func effectiveUID(status []byte, uid int) bool {
	for line := range bytes.Lines(status) {
		if ids, ok := bytes.CutPrefix(line, []byte("Uid:")); ok {
			fields := bytes.Fields(ids) // real, effective, saved, file system
			return len(fields) == 4 && string(fields[1]) == strconv.Itoa(uid)
		}
	}
	return false
}

func hasProc() bool {
	_, err := os.Stat("/proc/self/cmdline")
	return err == nil
}

// waitGone waits until the server of dataDir is no longer pid, and holds none of
// its files any more.
func waitGone(ctx context.Context, pid int, dataDir string) error {
	return poll(ctx, 20*time.Millisecond, func() (bool, error) { return !isServer(pid, dataDir) && !isDying(pid), nil })
}

// isDying tells whether a process is on its way out: it has no command line any
// more, and still has its files open, with the lock of its data directory.
func isDying(pid int) bool {
	stat, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat") // without one it is gone, or this is not Linux
	return saysDying(stat)
}

// saysDying reads a /proc/PID/stat (proc_pid_stat(5)).
func saysDying(stat []byte) bool {
	const exiting = 0x4 // PF_EXITING
	_, rest, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
	fields := strings.Fields(string(rest)) // from the third on: state, ..., flags (9), ..., num_threads (20)
	if len(fields) < 18 {
		return false
	}
	flags, _ := strconv.ParseUint(fields[6], 10, 64)
	// A zombie is gone but for its parent, unless other threads of it are still ending.
	return flags&exiting != 0 && (fields[0] != "Z" || fields[17] != "1")
}

// Tail returns the last lines of a server's log, for error messages.
func Tail(logFile string, lines int) string {
	const most = 32 << 10
	f, err := os.Open(logFile)
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	defer f.Close()
	buf := make([]byte, most)
	size := int64(0)
	if info, err := f.Stat(); err == nil {
		size = info.Size()
	}
	n, _ := f.ReadAt(buf, max(0, size-most)) // io.EOF at the end is what we want
	all := strings.Split(strings.TrimRight(string(buf[:n]), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
