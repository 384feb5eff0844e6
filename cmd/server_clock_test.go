package cmd

import (
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
)

// TestHiddenFlagsTakeNoVariables: nothing in an environment, or in a file of
// variables that somebody sources, may shift a server's clock.
func TestHiddenFlagsTakeNoVariables(t *testing.T) {
	cleanEnv(t)
	hidden := 0
	for _, f := range serverFlags() {
		if f, ok := f.(*cli.StringFlag); ok && f.Hidden {
			hidden++
			if len(f.EnvVars) > 0 {
				t.Errorf("--%s takes %s", f.Name, f.EnvVars)
			}
		}
	}
	if hidden == 0 {
		t.Error("there are no hidden flags")
	}
	t.Setenv("EDGECODER_PASSPHRASE", "long enough")
	t.Setenv("EDGECODER_CLOCK_OFFSET_FILE", writeTemp(t, "offset", "1"))
	s, r := checkConfig(t, "--data-dir", t.TempDir(), "--name", "n")
	wantStatus(t, r, exitDone)
	if s.ClockOffsetFile != "" {
		t.Error("a variable shifts the clock")
	}
}

func TestClockOffsetFile(t *testing.T) {
	const tenYears = 10 * 365 * 24 * 3600 * 1000
	file := filepath.Join(t.TempDir(), "offset")
	for text, want := range map[string]time.Duration{
		"0\n": 0, "-1500": -1500 * time.Millisecond, " 20 \n": 20 * time.Millisecond,
		strconv.Itoa(tenYears): maxClockOffset, strconv.Itoa(-tenYears): -maxClockOffset,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readClockOffset(file); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "1 2", "1e3", strconv.Itoa(tenYears + 1), strconv.Itoa(-tenYears - 1), strconv.Itoa(math.MaxInt64), strconv.Itoa(math.MinInt64), strings.Repeat(" ", maxOffsetBytes) + "1"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readClockOffset(file); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestClockOffsetFilesOfOthersAreRefused(t *testing.T) {
	bad := map[string]string{t.TempDir(): "not a regular file", os.DevNull: "not a regular file", "/nowhere": "no such file"}
	for _, mode := range []os.FileMode{0o620, 0o602} {
		file := writeTemp(t, "offset", "1")
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		bad[file] = "others may write it"
	}
	if file := writeTemp(t, "offset", "1"); os.Geteuid() == 0 {
		if err := os.Chown(file, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		bad[file] = "belongs to another user"
	} else {
		bad["/etc/passwd"] = "belongs to another user"
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(writeTemp(t, "offset", "1"), link); err != nil {
		t.Fatal(err)
	}
	bad[link] = "symbolic link"
	for file, want := range bad {
		if _, err := readClockOffset(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
}

func TestCheckConfigShowsAShiftedClock(t *testing.T) {
	cleanEnv(t)
	t.Setenv("EDGECODER_PASSPHRASE", "long enough")
	file := writeTemp(t, "offset", "1000")
	args := []string{"--data-dir", t.TempDir(), "--name", "n", "--clock-offset-file", file}
	s, r := checkConfig(t, args...)
	wantStatus(t, r, exitDone)
	if s.ClockOffsetFile != file {
		t.Errorf("%+v", s)
	}
	r = runArgs(t, "", append([]string{"server", "--check-config"}, args...)...)
	if r.status != exitDone || !strings.Contains(r.out, "SHIFTED") {
		t.Errorf("%+v", r)
	}
	if err := os.WriteFile(file, []byte("soon"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{append([]string{"--check-config"}, args...), args} {
		if r = runArgs(t, "", append([]string{"server"}, args...)...); r.status != exitUsage || !strings.Contains(r.err, file) {
			t.Errorf("a bad file: %+v", r)
		}
	}
	config := writeTemp(t, "c.yaml", "clock_offset_file: "+file)
	if _, r = checkConfig(t, "--config", config); r.status != exitUsage || !strings.Contains(r.err, "clock_offset_file") {
		t.Errorf("the settings' file may shift the clock: %+v", r)
	}
}

// sharedText is a log that is read while it is written.
type sharedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *sharedText) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *sharedText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func TestShiftedClockFollowsItsFile(t *testing.T) {
	var out sharedText
	file := writeTemp(t, "offset", "3600000")
	now, err := shiftedClock(t.Context(), slog.New(slog.NewTextHandler(&out, nil)), file)
	if err != nil {
		t.Fatal(err)
	}
	away := func() time.Duration { return time.Until(now()).Round(time.Minute) }
	if away() != time.Hour || !strings.Contains(out.String(), "level=WARN") || !strings.Contains(out.String(), file) {
		t.Errorf("shifted by %s, log %q", away(), out.String())
	}
	write := func(text string) {
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	within := func(what string, ok func() bool) {
		t.Helper()
		for range 200 {
			if ok() {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatalf("%s: shifted by %s, log %q", what, away(), out.String())
	}
	write("-7200000")
	within("a new offset", func() bool { return away() == -2*time.Hour })
	write("rubbish")
	within("rubbish", func() bool { return strings.Contains(out.String(), "keeps its last offset") })
	if away() != -2*time.Hour {
		t.Errorf("after rubbish: %s", away())
	}
	write("0")
	within("a good one again", func() bool { return away() == 0 })
	if n := strings.Count(out.String(), "keeps its last offset"); n != 1 {
		t.Errorf("told %d times", n)
	}
}
