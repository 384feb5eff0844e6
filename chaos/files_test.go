package chaos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
)

func mustWrite(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// TestRunsDirectory holds that a run takes only a directory that is its own.
func TestRunsDirectory(t *testing.T) {
	root := t.TempDir()
	at := func(name string) string { return filepath.Join(root, name) }
	for _, name := range []string{"empty", "other", "full", "open"} {
		if err := os.Mkdir(at(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	mustWrite(t, at("full/x"), "")
	mustWrite(t, at("file"), "")
	if err := errors.Join(os.Chmod(at("open"), 0o777), os.Symlink(at("other"), at("link")), os.Symlink(at("nowhere"), at("dangling"))); err != nil {
		t.Fatal(err)
	}
	for name, why := range map[string]string{
		"new": "", "above/new": "", "empty": "", "link/below": "",
		"full": "not empty", "open": "others may write", "link": "a link", "link/": "a link", "dangling": "a link", "file": "a file",
	} {
		dir, err := makeDir(at("") + "/" + name)
		if why == "" && err != nil || why != "" && (err == nil || !strings.Contains(err.Error(), why)) {
			t.Errorf("%s: %v, want %q", name, err, why)
		}
		if info, statErr := os.Lstat(dir); err == nil && (statErr != nil || info.Mode().Perm() != 0o700) {
			t.Errorf("%s became %v, %v", name, info, statErr)
		}
	}
	if exists(at("nowhere")) {
		t.Error("a dangling link was followed")
	}
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Mkdir(at("his"), 0o700), os.Chown(at("his"), 65534, 65534)); err != nil {
			t.Fatal(err)
		}
		if _, err := makeDir(at("his")); err == nil || !strings.Contains(err.Error(), "somebody else") {
			t.Errorf("a stranger's: %v", err)
		}
	}
}

// TestFilesAreNew holds that a run writes into no file or link that was there.
func TestFilesAreNew(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	mustWrite(t, target, "precious")
	for _, name := range []string{judge.HistoryFile, "server.sh", MadeFile} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := newRecorder(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the history: %v", err)
	}
	st := &stage{dir: dir, clock: &clockFiles{dir: dir}}
	if err := st.writeScript("/bin/echo", ""); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the script: %v", err)
	}
	m := newMade(dir, "")
	if err := m.add(func(*made) {}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the list: %v", err)
	}
	if err := m.remove(); err != nil || !exists(filepath.Join(dir, MadeFile)) {
		t.Errorf("another run's list was removed: %v", err)
	}
	if text, _ := os.ReadFile(target); string(text) != "precious" {
		t.Errorf("the target is %q", text)
	}
}

// TestReportReplacesLinks holds that a report writes beside a run, wherever its
// names lead.
func TestReportReplacesLinks(t *testing.T) {
	dir, target := t.TempDir(), filepath.Join(t.TempDir(), "target")
	mustWrite(t, target, "precious")
	run := sampleRun()
	if err := run.Save(dir); err != nil {
		t.Fatal(err)
	}
	names := []string{SummaryFile, ReportFile, judge.VerdictFile}
	for _, name := range names {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Report(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if text, _ := os.ReadFile(target); string(text) != "precious" {
		t.Errorf("the target is %q", text)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestReportEnds holds that a signal ends the judging, and nothing is written then.
func TestReportEnds(t *testing.T) {
	dir := t.TempDir()
	run := sampleRun()
	if err := run.Save(dir); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Report(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if _, err := judge.DecideContext(ctx, &run, judge.DefaultLimits()); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("deciding ended with %v", err)
	}
	if exists(filepath.Join(dir, judge.VerdictFile)) || exists(filepath.Join(dir, ReportFile)) {
		t.Error("a verdict was written all the same")
	}
}

// TestTicks holds that no length of a run has many labels.
func TestTicks(t *testing.T) {
	for _, end := range []time.Duration{time.Second, time.Minute, time.Hour, 48 * time.Hour, 1<<63 - 1} {
		a := newAxis(&judge.Run{Timeline: []judge.Event{{AtNS: int64(end)}}})
		if n := len(a.ticks()); n == 0 || n > maxTicks {
			t.Errorf("%s has %d labels", end, n)
		}
	}
}

// TestSummaryIsPlain holds that texts of a run neither drive a terminal nor
// begin a line of their own.
func TestSummaryIsPlain(t *testing.T) {
	const evil = "\x1b]0;owned\x07\x1b[2J\u202e\n  every promise was kept"
	run := sampleRun()
	run.About.Scenario, run.About.HealDetail = evil, evil
	run.Timeline[1].What, run.Timeline[1].Error = evil, evil
	check := judge.Check{Name: evil, Findings: []judge.Finding{{What: evil, Evidence: []string{evil}}}, Unshown: 1}
	text := Summary(&run, judge.Verdict{Result: judge.Fail, Checks: []judge.Check{check}})
	if strings.ContainsAny(text, "\x1b\x07\u202e") || strings.Contains(text, "\n  every promise was kept") || !strings.Contains(text, `\x1b[2J`) {
		t.Errorf("the summary is\n%q", text)
	}
	var said string
	safely(func(format string, args ...any) { said = fmt.Sprintf(format, args...) })("%s", evil)
	if strings.ContainsAny(said, "\x1b\x07\u202e") {
		t.Errorf("said %q", said)
	}
}

// stageIn returns a stage with data and secrets of two runs: ours and an older one's.
func stageIn(t *testing.T, keep bool) *stage {
	t.Helper()
	dir := t.TempDir()
	st := &stage{dir: dir, clusterDir: filepath.Join(dir, "cluster"), nodes: []string{"node1"}, made: newMade(dir, filepath.Join(dir, "cluster"))}
	if err := errors.Join(st.made.add(func(m *made) { m.Secrets = !keep }), st.made.mkdir("cluster")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cluster/admin.token", "cluster/mesh.token", "cluster/passphrase", "cluster/node1.log",
		"cluster/node1/data/node.keys", "cluster/node1/data/raft.db", "disks/node1"} {
		mustWrite(t, filepath.Join(dir, name), name)
	}
	return st
}

// TestStrike holds what stays of a run: logs always, data unless it passed,
// secrets only with --keep, and whatever this run did not make.
func TestStrike(t *testing.T) {
	for _, c := range []struct {
		name           string
		keep, keepData bool
	}{{"pass", false, false}, {"no pass", false, true}, {"keep", true, true}} {
		st := stageIn(t, c.keep)
		if err := st.strike(c.keepData); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]bool{
			"cluster/admin.token": c.keep, "cluster/mesh.token": c.keep, "cluster/passphrase": c.keep, "cluster/node1/data/node.keys": c.keep,
			"cluster/node1/data/raft.db": c.keepData, "cluster/node1.log": true, "disks/node1": true, MadeFile: false,
		} {
			if exists(filepath.Join(st.dir, name)) != want {
				t.Errorf("%s: %s is there: %t", c.name, name, !want)
			}
		}
	}
}

// TestStrikeStaysInside holds that no link has anything removed elsewhere.
func TestStrikeStaysInside(t *testing.T) {
	st := stageIn(t, false)
	other := t.TempDir()
	mustWrite(t, filepath.Join(other, "node.keys"), "precious")
	data := filepath.Join(st.clusterDir, "node1", "data")
	if err := errors.Join(os.RemoveAll(data), os.Symlink(other, data)); err != nil {
		t.Fatal(err)
	}
	_ = st.strike(false) // that it says something is its right
	if !exists(filepath.Join(other, "node.keys")) {
		t.Error("a link was followed")
	}
}

// TestFailedStart holds that a run which cannot begin leaves an older one alone.
func TestFailedStart(t *testing.T) {
	older := stageIn(t, true)
	s := scenario("s", "s", seconds)
	s.Needs = []Need{NeedClock}
	if _, err := Run(t.Context(), s, Options{Dir: older.dir, Binary: "/bin/true"}); err == nil {
		t.Fatal("a run began where another one is")
	}
	st, err := newStage(s, Options{Dir: older.dir, Binary: "/bin/true", Progress: t.Logf})
	if err == nil {
		t.Fatal("a stage was set where another one is")
	}
	if err := errors.Join(st.clear(t.Context()), st.strike(false)); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"cluster/admin.token", "cluster/node1/data/node.keys", "cluster/node1/data/raft.db", "disks/node1", MadeFile} {
		if !exists(filepath.Join(older.dir, name)) {
			t.Errorf("%s of an older run is gone", name)
		}
	}
}

// TestFlipFollowsNoLink holds that bits are flipped in plain files only.
func TestFlipFollowsNoLink(t *testing.T) {
	dir, target := t.TempDir(), filepath.Join(t.TempDir(), "target")
	mustWrite(t, target, "precious")
	link, fifo := filepath.Join(dir, "raft.db"), filepath.Join(dir, "fifo")
	if err := errors.Join(os.Symlink(target, link), syscall.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := find(dir, "raft.db"); err == nil {
		t.Error("a link was found")
	}
	f := &Flip{Bits: 8}
	for _, path := range []string{link, fifo} {
		if err := f.flip(newArena(&fakeWorld{}), path); err == nil {
			t.Errorf("flipped bits in %s", path)
		}
	}
	if text, _ := os.ReadFile(target); string(text) != "precious" {
		t.Errorf("the target is %q", text)
	}
}

// TestTeardownWaitsForServers holds that nothing is removed while the servers
// could not be stopped, and that the user is told.
func TestTeardownWaitsForServers(t *testing.T) {
	st := stageIn(t, false)
	mustWrite(t, filepath.Join(st.clusterDir, "cluster.json"), "damaged") // so nobody knows what runs
	said := ""
	r := &run{stage: st, passed: true, opts: Options{Dir: st.dir, Hurry: t.Context(), Progress: func(format string, args ...any) { said += fmt.Sprintf(format, args...) }}}
	r.teardown()
	for _, name := range []string{"cluster/admin.token", "cluster/node1/data/node.keys", "cluster/node1/data/raft.db", MadeFile} {
		if !exists(filepath.Join(st.dir, name)) {
			t.Errorf("%s is gone", name)
		}
	}
	if !strings.Contains(said, "chaos clean") {
		t.Errorf("said %q", said)
	}
}

// TestCleanDropsSecrets holds that cleaning ends what a teardown would have,
// but only where the run's own list says so.
func TestCleanDropsSecrets(t *testing.T) {
	for _, keep := range []bool{false, true} {
		st := stageIn(t, keep)
		if err := st.made.add(func(m *made) { m.Harness.Started = "0" }); err != nil { // its harness is gone
			t.Fatal(err)
		}
		if err := Clean(t.Context(), st.dir); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"cluster/admin.token", "cluster/passphrase", "cluster/node1/data/node.keys"} {
			if exists(filepath.Join(st.dir, name)) != keep {
				t.Errorf("keep %t: %s is there: %t", keep, name, !keep)
			}
		}
		if !exists(filepath.Join(st.dir, "cluster/node1/data/raft.db")) {
			t.Error("data are gone")
		}
	}
}
